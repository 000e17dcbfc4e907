//! Frames that are wrong are counted under the right reason, and what is not ours passes untouched.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    frame::{Outer, QINQ, VLAN, has_mark, marked, tagged},
    host::Host,
    overlay::{Lone, SOON, ip, mac, until, vni},
    ping, stream, wait_until,
};

const NEEDS: &[Need] = &[Need::Wavnet];
/// A peer that is a member of another VNI only.
const STRANGER: Ipv4Addr = Lone::SPARE;

/// Packets from the underlay and why each is dropped.
fn wrong_packets(good: &Outer) -> Vec<(&'static str, Vec<u8>, Reason)> {
    let inner = marked(mac(1), mac(0x10), "wrong");
    let with = |change: &dyn Fn(&mut Outer)| {
        let mut outer = good.clone();
        change(&mut outer);
        outer.wrap(&inner)
    };
    let from = |src| marked(mac(1), src, "wrong");
    let mut short = good.wrap(&[]);
    short.truncate(14 + 20 + 8 + 8);
    vec![
        ("VNI that is not configured", with(&|o| o.vni = 999), Reason::UnknownVni),
        ("VNI 0", with(&|o| o.vni = 0), Reason::UnknownVni),
        ("unknown VTEP", with(&|o| o.src = Ipv4Addr::new(172, 31, 0, 77)), Reason::UnknownVtep),
        ("VTEP of another VNI", with(&|o| o.src = STRANGER), Reason::NotMember),
        ("I flag missing", with(&|o| o.flags = 0), Reason::UnknownPayload),
        ("all flags but I", with(&|o| o.flags = 0xf7), Reason::UnknownPayload),
        ("control, and no socket", with(&|o| o.flags = b'W'), Reason::VxlanFlags),
        ("source address of no host", with(&|o| o.src = [0, 0, 0, 4].into()), Reason::OuterSource),
        ("own source address", with(&|o| o.src = o.dst), Reason::OwnSource),
        ("TTL 0", with(&|o| o.ttl = 0), Reason::OuterTtl),
        ("wrong IPv4 checksum", with(&|o| o.corrupt = true), Reason::OuterChecksum),
        ("first fragment", with(&|o| o.fragment = 0x2000), Reason::OuterFragment),
        ("IPv4 options", with(&|o| o.options = vec![1, 1, 1, 0]), Reason::OuterOptions),
        ("UDP length too short", with(&|o| o.udp_length_off = -9), Reason::OuterMalformed),
        ("UDP length too long", with(&|o| o.udp_length_off = 9), Reason::OuterMalformed),
        ("no inner frame", short, Reason::InnerTruncated),
        ("multicast source MAC", good.wrap(&from(Mac([3, 0, 0, 0, 0, 1]))), Reason::BadSourceMac),
        ("broadcast source MAC", good.wrap(&from(Mac::BROADCAST)), Reason::BadSourceMac),
        ("source MAC of zeros", good.wrap(&from(Mac([0; 6]))), Reason::BadSourceMac),
        (
            "spanning tree",
            good.wrap(&marked(Mac([1, 0x80, 0xc2, 0, 0, 0]), mac(0x10), "wrong")),
            Reason::BridgeReserved,
        ),
    ]
}

fn each_is_counted(lab: &Lab, hook: &str) -> Result<()> {
    let red = vni(200);
    let net = Lone::start(lab, &[], |c| c.vni(red).peer(STRANGER, &[red]).underlay(&format!("hook = \"{hook}\"")))?;
    net.fence_in("hello")?;
    // The VM's MAC is known from here on: unicast is delivered, not flooded.
    net.fence_out("hello")?;
    for (what, packet, reason) in wrong_packets(&net.outer()) {
        let before = net.agent.drops(reason)?;
        net.wire.send(&packet)?;
        let at_vm = net.fence_in(&format!("after {what}"))?;
        ensure!(!at_vm.iter().any(|f| has_mark(f, "wrong")), "{hook}: a packet with {what} was delivered");
        wait_until(&format!("{hook}: a packet with {what} to count as {}", reason.label()), SOON, || {
            Ok(net.agent.drops(reason)? == before + 1)
        })
        .with_context(|| net.agent.cli("drops").unwrap_or_default())?;
    }
    // Reserved bits and further flags are ignored on receipt (RFC 7348 section 5).
    let odd = Outer { flags: 0xff, ..net.outer() };
    let mut packet = odd.wrap(&marked(mac(1), mac(0x10), "odd but right"));
    packet[43..46].fill(0xff);
    packet[49] = 0xff;
    net.wire.send(&packet)?;
    until(&net.vm_nic, "odd but right")?;
    Ok(())
}

#[test]
fn every_flaw_has_its_reason_in_xdp() {
    lab::run("every_flaw_has_its_reason_in_xdp", NEEDS, |lab| each_is_counted(lab, "driver"));
}

#[test]
fn every_flaw_has_its_reason_in_tc() {
    lab::run("every_flaw_has_its_reason_in_tc", NEEDS, |lab| each_is_counted(lab, "tc"));
}

#[test]
fn flaws_of_a_vms_frames_are_counted() {
    lab::run("flaws_of_a_vms_frames_are_counted", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        net.fence_out("hello")?;
        let deep = {
            let one = tagged(&marked(Mac::BROADCAST, mac(1), "wrong"), VLAN, 1);
            tagged(&tagged(&one, VLAN, 2), QINQ, 3)
        };
        let cases = [
            ("multicast source", marked(Mac::BROADCAST, Mac([3, 0, 0, 0, 0, 1]), "wrong"), Reason::BadSourceMac),
            ("source of zeros", marked(Mac::BROADCAST, Mac([0; 6]), "wrong"), Reason::BadSourceMac),
            ("LLDP destination", marked(Mac([1, 0x80, 0xc2, 0, 0, 0xe]), mac(1), "wrong"), Reason::BridgeReserved),
            ("own MAC as destination", marked(mac(1), mac(1), "wrong"), Reason::Hairpin),
        ];
        for (what, frame, reason) in cases {
            let before = net.agent.drops(reason)?;
            net.vm_nic.send(&frame)?;
            let out = net.fence_out(&format!("after {what}"))?;
            assert!(!out.iter().any(|f| has_mark(f, "wrong")), "a frame with {what} left the host");
            wait_until(&format!("a frame with {what} to be counted"), SOON, || {
                Ok(net.agent.drops(reason)? == before + 1)
            })?;
        }
        // Three tags: carried whole, or counted; nothing in between.
        let before = net.agent.drops(Reason::VlanStack)?;
        net.vm_nic.send(&deep)?;
        let out = net.fence_out("after three tags")?;
        let carried = out.iter().any(|f| f.ends_with(&deep));
        let mangled = out.iter().any(|f| has_mark(f, "wrong")) && !carried;
        let counted = net.agent.drops(Reason::VlanStack)? == before + 1;
        assert!(!mangled && (carried != counted), "three tags: carried {carried}, counted {counted}");
        Ok(())
    });
}

#[test]
fn what_is_not_ours_passes_untouched() {
    lab::run("what_is_not_ours_passes_untouched", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        let (host, far) = (&net.host, &net.far);
        let second = Ipv4Addr::new(172, 31, 0, 9);
        host.ns.ip(&format!("address add {second}/24 dev {}", Host::NIC))?;
        // UDP to another port, and to the VXLAN port of an address that is not the VTEP's.
        for to in [SocketAddrV4::new(host.addr, 4790), SocketAddrV4::new(second, 4789)] {
            let receiver = host.ns.enter(|| Ok(UdpSocket::bind(to)?))?;
            receiver.set_read_timeout(Some(SOON))?;
            let sender = far.ns.enter(|| Ok(UdpSocket::bind((far.addr, 0))?))?;
            sender.send_to(b"\x08\0\0\0\0\0\x64\0 not a frame", to)?;
            let mut buffer = [0; 64];
            let n = receiver.recv(&mut buffer).with_context(|| format!("UDP to {to}"))?;
            assert_eq!(&buffer[..n], b"\x08\0\0\0\0\0\x64\0 not a frame");
        }
        ping::once(&far.ns, host.addr, 1400, SOON)?;
        stream::bulk(&host.ns, host.addr, &far.ns, 2_000_000)?;
        stream::bulk(&far.ns, far.addr, &host.ns, 2_000_000)?;
        // Fragments of what is not the overlay's: 4000 B over a link of 1600.
        far.ns.run("ping", &["-n", "-q", "-c", "2", "-W", "2", "-s", "4000", &host.addr.to_string()])?;
        let passed = net.agent.metric("wavnet_underlay_passed_frames_total", &[])?;
        assert!(passed > 20.0, "{passed} frames counted as passed");
        for reason in Reason::ALL {
            assert_eq!(net.agent.drops(*reason)?, 0, "{}", reason.label());
        }
        Ok(())
    });
}

#[test]
fn random_packets_do_no_harm() {
    lab::run("random_packets_do_no_harm", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c)?;
        net.fence_out("hello")?;
        let good = net.outer().wrap(&marked(mac(1), mac(0x10), "mutated"));
        // A fixed generator (xorshift64): the same packets every time.
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize
        };
        for i in 0..3000 {
            let mut packet = good.clone();
            for _ in 0..1 + next() % 4 {
                // Not the addresses of the link: those packets would not arrive at all.
                let at = 12 + next() % (packet.len() - 12);
                packet[at] = next() as u8;
            }
            packet.truncate(14 + next() % (packet.len() - 14));
            net.wire.send(&packet).with_context(|| format!("packet {i}"))?;
            let mut frame = marked(mac(0x10), mac(1), "mutated");
            frame[next() % 60] = next() as u8;
            frame.truncate(14 + next() % 46);
            net.vm_nic.send(&frame).with_context(|| format!("frame {i}"))?;
        }
        // The VM's MAC may have been claimed by a packet; the VM says where it is.
        net.fence_out("still out")?;
        net.fence_in("still in")?;
        let status = net.agent.status()?;
        assert!(status.counts.dropped_frames > 100, "{status:?}");
        ping::unreachable(&net.a.ns, ip(9))?;
        let answered = Duration::from_secs(1);
        wait_until("the agent to answer", answered, || Ok(net.agent.ports()?.len() == 1))
    });
}
