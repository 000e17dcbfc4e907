//! Super-packets: frames that a VM hands over whole and that the kernel cuts into segments on their way (GSO).

mod taps;

use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    capture::Capture,
    host::{Host, Vm},
    link,
    overlay::{Both, Lone, SOON, Shape, ip},
    ping, poll_until,
    raw::RawSocket,
    stream,
    super_packet::{Kind, SuperPacket},
    taps::{TapShape, Taps, up_to_fence},
    topology::UNDERLAY_MTU,
};

use taps::{Counted, check_beside, check_far, counted, equal, rx, tx};

const NEEDS: &[Need] = &[Need::Wavnet];
const KINDS: [Kind; 4] = [Kind::Tcp4, Kind::Tcp4Ecn, Kind::Tcp6, Kind::Udp4];

#[test]
fn super_packets_of_a_vm_count_as_the_frames_they_become() {
    lab::run("super_packets_of_a_vm_count_as_the_frames_they_become", NEEDS, |lab| {
        const BYTES: u64 = 8_000_000;
        let net = Both::start(lab, Shape::default())?;
        let before = net.agents[0].port(&net.a.port)?.traffic;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, BYTES)?;
        // A segment carries at most 1460 octets.
        let wanted = BYTES / 1460;
        poll_until("the port's counters", SOON, || {
            let after = net.agents[0].port(&net.a.port)?.traffic;
            let (frames, bytes) = (after.rx_frames - before.rx_frames, after.rx_bytes - before.rx_bytes);
            ensure!(frames >= wanted, "{frames} frames for {BYTES} octets; at least {wanted} were on the wire");
            ensure!(frames < wanted * 2, "{frames} frames for {BYTES} octets are too many");
            // Every segment has headers of its own: 14 + 20 + 20 at least.
            ensure!(bytes >= BYTES + wanted * 54, "{bytes} B for {BYTES} octets: segments' headers are not counted");
            Ok(())
        })
    });
}

/// Super-packets of every kind: many segments, an uneven last one that is yet no shorter than Ethernet has it, and small ones.
fn packets(dst: Mac, tag: Option<u16>) -> impl Iterator<Item = SuperPacket> {
    KINDS.into_iter().flat_map(move |kind| {
        [(30_000, 1400), (2830, 1400), (14_000, 1400), (9000, 536)].map(|(payload, segment)| SuperPacket {
            kind,
            dst,
            src: Taps::NEAR,
            tag,
            payload,
            segment,
        })
    })
}

#[test]
fn super_packets_of_a_tap_cross_the_overlay_as_their_segments() {
    lab::run("super_packets_of_a_tap_cross_the_overlay_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, TapShape::PLAIN)?;
        packets(Taps::FAR, None).try_for_each(|packet| check_far(&net, &packet))
    });
}

/// As when GRO has merged what a NIC received: TC decapsulates super-packets, and the port's device has them segmented.
fn super_packets_arrive_whole(lab: &Lab, hook: &str) -> Result<()> {
    let underlay = &format!("hook = \"{hook}\"");
    let net = Taps::start(lab, TapShape { underlay, ..TapShape::PLAIN })?;
    let wire = RawSocket::open(&net.hosts[1].ns, Host::NIC)?;
    for host in &net.hosts {
        link::offload(
            &host.ns,
            Host::NIC,
            "tx on tso on gso on tx-udp_tnl-segmentation on tx-udp_tnl-csum-segmentation on",
        )?;
    }
    for tag in [None, Some(42)] {
        for packet in packets(Taps::FAR, tag).filter(|p| p.kind != Kind::Udp4) {
            check_far(&net, &packet).with_context(|| format!("{hook}: {packet:?}"))?;
        }
    }
    let whole = wire.drain(|frame| frame.len() > 14 + UNDERLAY_MTU as usize)?;
    ensure!(whole.len() > 10, "{hook}: {} super-packets arrived: the test proves nothing", whole.len());
    Ok(())
}

#[test]
fn super_packets_that_arrive_whole_are_delivered_by_tc() {
    lab::run("super_packets_that_arrive_whole_are_delivered_by_tc", NEEDS, |lab| super_packets_arrive_whole(lab, "tc"));
}

#[test]
fn super_packets_that_arrive_whole_are_delivered_with_generic_xdp() {
    let test = "super_packets_that_arrive_whole_are_delivered_with_generic_xdp";
    lab::run(test, NEEDS, |lab| super_packets_arrive_whole(lab, "generic"));
}

/// What the kernel cannot segment is counted, and its help names the mend.
#[test]
fn super_packets_of_a_tunnel_in_a_container_are_counted() {
    lab::run("super_packets_of_a_tunnel_in_a_container_are_counted", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        for (vm, n) in [(&net.a, 1), (&net.b, 2)] {
            let (local, remote) = (ip(n), ip(3 - n));
            vm.ns.ip(&format!("link add vx type vxlan id 7 local {local} remote {remote} dstport 4789"))?;
            vm.ns.ip(&format!("address add 10.9.9.{n}/24 dev vx"))?;
            vm.ns.ip("link set dev vx up")?;
        }
        let inner = |n| Ipv4Addr::new(10, 9, 9, n);
        ping::once(&net.a.ns, inner(2), 56, SOON)?;
        let send = || stream::bulk(&net.b.ns, inner(2), &net.a.ns, 300_000);
        let words = "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";
        ensure!(Reason::NestedTunnel.help().contains(words));
        // Left to itself it would go on in single frames after a timeout for each super-packet, each longer than the one before.
        std::thread::scope(|scope| {
            let stuck = scope.spawn(send);
            poll_until("a super-packet of the tunnel to be dropped", SOON, || {
                ensure!(net.agents[0].drops(Reason::NestedTunnel)? > 0, "none so far");
                Ok(())
            })?;
            for vm in [&net.a, &net.b] {
                link::offload(&vm.ns, Vm::NIC, words)?;
            }
            stuck.join().map_err(|_| anyhow!("the sender panicked"))?.context("the mend comes while it is stuck")
        })?;
        let before = net.agents[0].drops(Reason::NestedTunnel)?;
        send()?;
        ensure!(net.agents[0].drops(Reason::NestedTunnel)? == before, "dropped in spite of the mend");
        Ok(())
    });
}

#[test]
fn super_packets_between_taps_of_a_host_count_as_their_segments() {
    lab::run("super_packets_between_taps_of_a_host_count_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, TapShape::PLAIN)?;
        for packet in packets(Taps::BESIDE, None).chain(packets(Taps::BESIDE, Some(42))) {
            let got = check_beside(&net, &packet)?;
            equal(&packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
        }
        Ok(())
    });
}

#[test]
fn flooded_super_packets_reach_everybody_as_their_segments() {
    lab::run("flooded_super_packets_reach_everybody_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, TapShape::PLAIN)?;
        let flood = || -> Result<()> {
            for packet in packets(Mac([2, 0, 0, 0, 0, 0x77]), None).chain(packets(Mac::BROADCAST, Some(7))) {
                let counters = || -> Result<Vec<(&str, Counted)>> {
                    let mut all = vec![
                        ("the sender's port", rx(net.agents[0].port(Taps::NEAR_PORT)?.traffic)),
                        ("the port beside it", tx(net.agents[0].port(Taps::BESIDE_PORT)?.traffic)),
                        ("the port of the other host", tx(net.agents[1].port(Taps::FAR_PORT)?.traffic)),
                    ];
                    all.extend(net.agents[0].peers()?.iter().map(|peer| ("a peer", tx(peer.traffic))));
                    Ok(all)
                };
                let before = counters()?;
                let (header, frame) = packet.handed_over();
                net.near.send(&header, &frame)?;
                net.send_fence(packet.dst)?;
                for tap in [&net.beside, &net.far] {
                    let got = up_to_fence(&[tap])?;
                    equal(&packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
                }
                counted(&packet, &before, &counters()?)?;
            }
            Ok(())
        };
        flood().context("to one peer")?;
        // The way by copies.
        net.hosts[1].ns.ip(&format!("address add {}/24 dev {}", Lone::SPARE, Host::NIC))?;
        net.agents[0].cli(&format!("peer add {} --vni 100", Lone::SPARE))?;
        net.agents[0].wait_peers()?;
        flood().context("to two peers")
    });
}

#[test]
fn a_tap_that_takes_super_packets_gets_those_of_its_host_whole() {
    lab::run("a_tap_that_takes_super_packets_gets_those_of_its_host_whole", NEEDS, |lab| {
        let net = Taps::start(lab, TapShape { beside_takes_offloads: true, ..TapShape::PLAIN })?;
        for packet in packets(Taps::BESIDE, None).filter(|p| [Kind::Tcp4, Kind::Tcp6].contains(&p.kind)) {
            let got = check_beside(&net, &packet)?;
            let (header, frame) = packet.handed_over();
            ensure!(got.len() == 1, "{} frames instead of one for {packet:?}", got.len());
            ensure!(got[0].1 == frame, "the super-packet {packet:?} was changed");
            let (got, want) = (got[0].0, (header.flags, header.gso_type, header.gso_size, header.csum_start));
            ensure!((got.flags, got.gso_type, got.gso_size, got.csum_start) == want, "{got:?} instead of {header:?}");
        }
        Ok(())
    });
}

#[test]
fn tagged_super_packets_are_vxlan_with_the_tag_in_every_segment() {
    let needs = [Need::Wavnet, Need::Tool("tcpdump"), Need::Tool("tshark")];
    lab::run("tagged_super_packets_are_vxlan_with_the_tag_in_every_segment", &needs, |lab| {
        let net = Taps::start(lab, TapShape::PLAIN)?;
        let capture = Capture::start(&net.hosts[0].ns, Host::NIC, "udp dst port 4789 and src 172.31.0.1")?;
        let mut segments = 0;
        for tci in [7, 0xe000 | 4094] {
            for packet in packets(Taps::FAR, Some(tci)) {
                check_far(&net, &packet)?;
                segments += packet.segments().len();
            }
        }
        let pcap = capture.stop()?;
        let fields = [
            "ip.checksum.status",
            "vxlan.vni",
            "vxlan.flags",
            "vlan.id",
            "frame.len",
            "ip.len",
            "udp.length",
            "vlan.priority",
        ];
        let packets = pcap.fields("vxlan && vlan", &fields)?;
        ensure!(packets.len() == segments, "{} packets with a tag, not {segments}", packets.len());
        for packet in &packets {
            let number = |i: usize| packet[i].parse::<usize>().with_context(|| format!("{} of {packet:?}", fields[i]));
            ensure!(packet[..3] == ["1", "100", "0x0800"], "{packet:?}");
            let tag = (number(3)?, number(7)?);
            ensure!(tag == (7, 0) || tag == (4094, 7), "another tag: {packet:?}");
            ensure!(number(4)? <= 14 + UNDERLAY_MTU as usize, "longer than the underlay's MTU: {packet:?}");
            ensure!(number(5)? + 14 == number(4)? && number(6)? + 34 == number(4)?, "wrong lengths: {packet:?}");
        }
        let wrong = "_ws.malformed || tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0";
        let wrong = pcap.fields(wrong, &["frame.number", "frame.protocols", "_ws.expert.message"])?;
        ensure!(wrong.is_empty(), "tshark finds packets {wrong:?} wrong");
        Ok(())
    });
}

#[test]
fn sizes_of_segments_are_checked_against_mtus() {
    lab::run("sizes_of_segments_are_checked_against_mtus", NEEDS, |lab| {
        let net = Taps::start(lab, TapShape::PLAIN)?;
        for (dst, reason) in [(Taps::FAR, Reason::ExceedsUnderlayMtu), (Taps::BESIDE, Reason::ExceedsPortMtu)] {
            // 14 + 20 + 32 of headers: 1564 are 1498 of payload to the peer; 1514 are 1448 to the port.
            let fits = if dst == Taps::FAR { 1498 } else { 1448 };
            let packet = |segment| SuperPacket {
                kind: Kind::Tcp4,
                dst,
                src: Taps::NEAR,
                tag: None,
                payload: 3 * segment,
                segment,
            };
            let before = net.agents[0].drops(reason)?;
            let (header, frame) = packet(fits + 1).handed_over();
            net.near.send(&header, &frame)?;
            poll_until("a super-packet with too long segments to be counted", SOON, || {
                let now = net.agents[0].drops(reason)?;
                ensure!(now == before + 1, "{now} drops after {before}");
                Ok(())
            })?;
            ensure!(net.agents[0].drops(reason)? == before + 1);
        }
        let tight = SuperPacket {
            kind: Kind::Tcp4,
            dst: Taps::BESIDE,
            src: Taps::NEAR,
            tag: None,
            payload: 3 * 1448,
            segment: 1448,
        };
        let got = check_beside(&net, &tight)?;
        equal(&tight, &tight.segments(), got.into_iter().map(|f| f.1).collect())?;
        Ok(())
    });
}
