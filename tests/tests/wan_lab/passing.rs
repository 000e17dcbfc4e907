//! Whatever is a frame passes a link as it is, and what is none is counted.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Need,
    burst::send_cut,
    frame::{QINQ, VLAN, has_mark, marked, tagged},
    link, ping, poll_until,
    programs::Programs,
    raw::RawSocket,
    stream::Stream,
    udp::Udp,
    wan::{Impairment, LinkSpec, Way},
};

use crate::{Ends, MTU, SOON, numbered};

const A: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

#[test]
fn arp_ipv4_ipv6_and_tcp_pass() {
    lab::run("arp_ipv4_ipv6_and_tcp_pass", &[], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::default()))?;
        for (ns, v4, v6) in [(&ends.a, A, "2001:db8::1"), (&ends.b, B, "2001:db8::2")] {
            ns.ip(&format!("address add {v4}/24 dev {}", Ends::NIC))?;
            ns.sysctl(&format!("net/ipv6/conf/{}/disable_ipv6", Ends::NIC), "0")?;
            ns.ip(&format!("address add {v6}/64 dev {} nodad", Ends::NIC))?;
        }
        // The longest that there are; without ARP there would be no first one.
        ping::once(&ends.a, B, MTU - 28, SOON)?;
        ensure!(ends.a.ip(&format!("neigh show {B}"))?.contains("lladdr"), "ARP has not found {B}");
        ends.a.run("ping", &["-6", "-n", "-q", "-c", "1", "-W", "10", "2001:db8::2"])?;
        let stream = Stream::start(&ends.b, B, &ends.a)?;
        stream.wait_progress(SOON)?;
        stream.finish()?;
        for way in Way::BOTH {
            // The last word of a connection may still be on its way.
            poll_until("everything to come out", SOON, || {
                let counts = ends.link.counts(way)?;
                ensure!(counts.out == counts.came && counts.faults() == 0, "{way:?}: {counts:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

#[test]
fn tags_stay_where_they_were() {
    lab::run("tags_stay_where_they_were", &[], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::default()))?;
        let plain = marked(Mac([2, 0, 0, 0, 0, 9]), Mac([2, 0, 0, 0, 0, 1]), "tags");
        let one = tagged(&plain, VLAN, 0xe007);
        for frame in [plain, one.clone(), tagged(&one, QINQ, 5)] {
            ends.tx.send(&frame)?;
            let got = ends.rx.expect("the frame", SOON, |f| has_mark(f, "tags"))?;
            ensure!(got == frame, "{got:02x?} came, sent was {frame:02x?}");
        }
        Ok(())
    });
}

#[test]
fn what_xdp_redirects_into_a_link_passes() {
    lab::run("what_xdp_redirects_into_a_link_passes", &[Need::Object], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::default()))?;
        let vm = lab.netns("vm")?;
        link::veth((&vm, "eth0"), (&ends.a, "port"), MTU, 1)?;
        link::gro_on(&vm, "eth0")?;
        let mut programs = Programs::load()?;
        programs.wire(&ends.a, ["port", Ends::NIC])?;
        let far = RawSocket::open(&vm, "eth0")?;
        for n in 0..100 {
            far.send(&numbered(n, 100))?;
            ends.rx.expect("a frame up", SOON, |f| f == numbered(n, 100))?;
            ends.rx.send(&numbered(n, 200))?;
            far.expect("a frame down", SOON, |f| f == numbered(n, 200))?;
        }
        Ok(())
    });
}

/// The link's own XDP programs see to that: a veth whose other end has one makes no super-packets.
#[test]
fn super_packets_are_cut_apart_even_if_offloads_are_switched_on() {
    lab::run("super_packets_are_cut_apart_even_if_offloads_are_switched_on", &[Need::Object], |lab| {
        let ends = Ends::new(lab, &LinkSpec::both(Impairment::default()))?;
        for (ns, address) in [(&ends.a, A), (&ends.b, B)] {
            ns.ip(&format!("address add {address}/24 dev {}", Ends::NIC))?;
        }
        ping::once(&ends.a, B, 56, SOON)?;
        link::offload(&ends.a, Ends::NIC, "gso on tx-udp-segmentation on")?;
        let (from, to) = (Udp::bind(&ends.a, A, 0)?, Udp::bind(&ends.b, B, 0)?);
        send_cut(&from.socket, to.local, &[0; 3500], 1000)?;
        let datagrams = (0..4).map(|_| Ok(to.receive()?.0.len())).collect::<Result<Vec<_>>>()?;
        ensure!(datagrams == [1000, 1000, 1000, 500], "{datagrams:?}");
        let counts = ends.link.counts(Way::Up)?;
        ensure!(counts.out >= 5 && counts.faults() == 0, "{counts:?}");
        Ok(())
    });
}
