//! Super-packets: frames that a VM hands over whole and that the kernel cuts into segments on their way (GSO).

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::{Agent, sum_of},
    capture::Capture,
    config::AgentConfig,
    frame::{has_mark, marked},
    host::{Host, Vm},
    link,
    overlay::{Both, Lone, SOON, Shape, blue, ip},
    ping, poll_until,
    raw::RawSocket,
    stream,
    super_packet::{Kind, SuperPacket},
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
};
use wavnet_user::api::model::TrafficInfo;

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

/// Two hypervisors whose VMs are tap ports with vnet headers, and nothing else that would send: a sender, a receiver beside it, and one
/// on the other hypervisor.
struct Taps {
    agents: [Agent; 2],
    hosts: [Host; 2],
    sender: VnetTap,
    beside: VnetTap,
    far: VnetTap,
}

/// Frames and bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted(u64, u64);

impl std::ops::Sub for Counted {
    type Output = Counted;
    fn sub(self, old: Counted) -> Counted {
        Counted(self.0 - old.0, self.1 - old.1)
    }
}

fn rx(traffic: TrafficInfo) -> Counted {
    Counted(traffic.rx_frames, traffic.rx_bytes)
}

fn tx(traffic: TrafficInfo) -> Counted {
    Counted(traffic.tx_frames, traffic.tx_bytes)
}

impl Taps {
    const SENDER: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const BESIDE: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const FAR: Mac = Mac([2, 0, 0, 0, 0, 3]);

    /// `offloads`: the receiver beside the sender takes super-packets as they are.
    fn start(lab: &Lab, offloads: bool) -> Result<Taps> {
        Taps::start_with(lab, offloads, "hook = \"auto\"")
    }

    fn start_with(lab: &Lab, offloads: bool, underlay: &str) -> Result<Taps> {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let sender = VnetTap::create(&hosts[0].ns, "tap-s", 1500, false)?;
        let beside = VnetTap::create(&hosts[0].ns, "tap-b", 1500, offloads)?;
        let far = VnetTap::create(&hosts[1].ns, "tap-f", 1500, false)?;
        let start = |i: usize| {
            let config = AgentConfig::new(&[blue()]).port("tap-*", blue()).peer(hosts[1 - i].addr, &[blue()]);
            let config = match i {
                0 => config.static_peer(blue(), Taps::FAR, hosts[1].addr).static_port(blue(), Taps::BESIDE, "tap-b"),
                _ => config.static_port(blue(), Taps::FAR, "tap-f"),
            };
            Agent::start(lab, &hosts[i], &config.underlay(underlay))
        };
        let agents = [start(0)?, start(1)?];
        for agent in &agents {
            agent.wait_ready()?;
            poll_until("all taps to be ports", SOON, || {
                ensure!(agent.status()?.warnings.is_empty(), "{:?}", agent.status()?.warnings);
                Ok(())
            })?;
        }
        Ok(Taps { agents, hosts, sender, beside, far })
    }

    /// What comes out of a tap up to a fence that is sent now.
    fn received(&self, tap: &VnetTap, dst: Mac) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        self.send_fence(dst)?;
        Taps::up_to_fence(tap)
    }

    fn send_fence(&self, dst: Mac) -> Result<()> {
        self.sender.send(&VnetHdr::default(), &marked(dst, Taps::SENDER, "fence"))
    }

    fn up_to_fence(tap: &VnetTap) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        let end = Instant::now() + SOON;
        let mut all = Vec::new();
        loop {
            match tap.recv()? {
                Some((_, frame)) if has_mark(&frame, "fence") => return Ok(all),
                Some(frame) => all.push(frame),
                None => {
                    ensure!(Instant::now() < end, "the fence did not arrive after {} frames", all.len());
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    /// Sends a super-packet to the other hypervisor; its segments must arrive as they should be and be counted everywhere.
    fn check_far(&self, packet: &SuperPacket) -> Result<()> {
        let peer = |i: usize| Ok::<_, anyhow::Error>(self.agents[i].peers()?.first().context("a peer")?.traffic);
        let vni = |i: usize, direction: &str| {
            let (page, labels) = (self.agents[i].metrics()?, ["vni=\"100\"", &format!("direction=\"{direction}\"")]);
            let sum = |what| sum_of(&page, what, &labels).with_context(|| format!("no {what}"));
            Ok::<_, anyhow::Error>(Counted(
                sum("wavnet_vni_frames_total")? as u64,
                sum("wavnet_vni_bytes_total")? as u64,
            ))
        };
        let counters = || -> Result<[(&str, Counted); 6]> {
            Ok([
                ("the sender's port", rx(self.agents[0].port("tap-s")?.traffic)),
                ("the peer it was sent to", tx(peer(0)?)),
                ("the VNI where it was sent", vni(0, "tx")?),
                ("the peer it came from", rx(peer(1)?)),
                ("the VNI where it came", vni(1, "rx")?),
                ("the receiver's port", tx(self.agents[1].port("tap-f")?.traffic)),
            ])
        };
        let before = counters()?;
        let (header, frame) = packet.handed_over();
        self.sender.send(&header, &frame)?;
        let got = self.received(&self.far, Taps::FAR)?;
        equal(packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
        self.counted(packet, &before, &counters()?)
    }

    /// The same to the receiver beside the sender.
    fn check_beside(&self, packet: &SuperPacket) -> Result<Vec<(VnetHdr, Vec<u8>)>> {
        let counters = || -> Result<[(&str, Counted); 2]> {
            Ok([
                ("the sender's port", rx(self.agents[0].port("tap-s")?.traffic)),
                ("the receiver's port", tx(self.agents[0].port("tap-b")?.traffic)),
            ])
        };
        let before = counters()?;
        let (header, frame) = packet.handed_over();
        self.sender.send(&header, &frame)?;
        let got = self.received(&self.beside, Taps::BESIDE)?;
        self.counted(packet, &before, &counters()?)?;
        Ok(got)
    }

    /// The segments, and the fence behind them.
    fn counted(&self, packet: &SuperPacket, before: &[(&str, Counted)], after: &[(&str, Counted)]) -> Result<()> {
        const FENCE: Counted = Counted(1, 60);
        let segments = packet.segments();
        let bytes: usize = segments.iter().map(Vec::len).sum();
        let want = Counted(segments.len() as u64, bytes as u64);
        for ((what, old), (_, new)) in before.iter().zip(after) {
            let grown = *new - *old - FENCE;
            ensure!(grown == want, "{what} counted {grown:?}, not {want:?}, for {packet:?}");
        }
        Ok(())
    }
}

fn equal(packet: &SuperPacket, want: &[Vec<u8>], got: Vec<Vec<u8>>) -> Result<()> {
    ensure!(got.len() == want.len(), "{} frames instead of {} for {packet:?}", got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let at = got.iter().zip(want).position(|(a, b)| a != b);
        ensure!(got == want, "segment {i} of {packet:?} differs from byte {at:?} on:\n{got:02x?}\nnot\n{want:02x?}");
    }
    Ok(())
}

/// Super-packets of every kind: many segments, an uneven last one that is yet no shorter than Ethernet has it, and small ones.
fn packets(dst: Mac, tag: Option<u16>) -> impl Iterator<Item = SuperPacket> {
    KINDS.into_iter().flat_map(move |kind| {
        [(30_000, 1400), (2830, 1400), (14_000, 1400), (9000, 536)].map(|(payload, segment)| SuperPacket {
            kind,
            dst,
            src: Taps::SENDER,
            tag,
            payload,
            segment,
        })
    })
}

#[test]
fn super_packets_of_a_tap_cross_the_overlay_as_their_segments() {
    lab::run("super_packets_of_a_tap_cross_the_overlay_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, false)?;
        packets(Taps::FAR, None).try_for_each(|packet| net.check_far(&packet))
    });
}

/// As when GRO has merged what a NIC received: TC decapsulates super-packets, and the port's device has them segmented.
fn super_packets_arrive_whole(lab: &Lab, hook: &str) -> Result<()> {
    let net = Taps::start_with(lab, false, &format!("hook = \"{hook}\""))?;
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
            net.check_far(&packet).with_context(|| format!("{hook}: {packet:?}"))?;
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
        // Slowly: each super-packet is lost, and sent again in single frames.
        send()?;
        ensure!(
            net.agents[0].drops(Reason::NestedTunnel)? > 0,
            "no super-packet of the tunnel: the test proves nothing"
        );
        let words = "tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off";
        ensure!(Reason::NestedTunnel.help().contains(words));
        for vm in [&net.a, &net.b] {
            link::offload(&vm.ns, Vm::NIC, words)?;
        }
        let before = net.agents[0].drops(Reason::NestedTunnel)?;
        send()?;
        ensure!(net.agents[0].drops(Reason::NestedTunnel)? == before, "dropped in spite of the mend");
        Ok(())
    });
}

#[test]
fn super_packets_between_taps_of_a_host_count_as_their_segments() {
    lab::run("super_packets_between_taps_of_a_host_count_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, false)?;
        for packet in packets(Taps::BESIDE, None).chain(packets(Taps::BESIDE, Some(42))) {
            let got = net.check_beside(&packet)?;
            equal(&packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
        }
        Ok(())
    });
}

#[test]
fn flooded_super_packets_reach_everybody_as_their_segments() {
    lab::run("flooded_super_packets_reach_everybody_as_their_segments", NEEDS, |lab| {
        let net = Taps::start(lab, false)?;
        let flood = || -> Result<()> {
            for packet in packets(Mac([2, 0, 0, 0, 0, 0x77]), None).chain(packets(Mac::BROADCAST, Some(7))) {
                let counters = || -> Result<Vec<(&str, Counted)>> {
                    let mut all = vec![
                        ("the sender's port", rx(net.agents[0].port("tap-s")?.traffic)),
                        ("the port beside it", tx(net.agents[0].port("tap-b")?.traffic)),
                        ("the port of the other host", tx(net.agents[1].port("tap-f")?.traffic)),
                    ];
                    all.extend(net.agents[0].peers()?.iter().map(|peer| ("a peer", tx(peer.traffic))));
                    Ok(all)
                };
                let before = counters()?;
                let (header, frame) = packet.handed_over();
                net.sender.send(&header, &frame)?;
                net.send_fence(packet.dst)?;
                for tap in [&net.beside, &net.far] {
                    let got = Taps::up_to_fence(tap)?;
                    equal(&packet, &packet.segments(), got.into_iter().map(|f| f.1).collect())?;
                }
                net.counted(&packet, &before, &counters()?)?;
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
        let net = Taps::start(lab, true)?;
        for packet in packets(Taps::BESIDE, None).filter(|p| [Kind::Tcp4, Kind::Tcp6].contains(&p.kind)) {
            let got = net.check_beside(&packet)?;
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
        let net = Taps::start(lab, false)?;
        let capture = Capture::start(&net.hosts[0].ns, Host::NIC, "udp dst port 4789 and src 172.31.0.1")?;
        let mut segments = 0;
        for tci in [7, 0xe000 | 4094] {
            for packet in packets(Taps::FAR, Some(tci)) {
                net.check_far(&packet)?;
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
        let net = Taps::start(lab, false)?;
        for (dst, reason) in [(Taps::FAR, Reason::ExceedsUnderlayMtu), (Taps::BESIDE, Reason::ExceedsPortMtu)] {
            // 14 + 20 + 32 of headers: 1564 are 1498 of payload to the peer; 1514 are 1448 to the port.
            let fits = if dst == Taps::FAR { 1498 } else { 1448 };
            let packet = |segment| SuperPacket {
                kind: Kind::Tcp4,
                dst,
                src: Taps::SENDER,
                tag: None,
                payload: 3 * segment,
                segment,
            };
            let before = net.agents[0].drops(reason)?;
            let (header, frame) = packet(fits + 1).handed_over();
            net.sender.send(&header, &frame)?;
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
            src: Taps::SENDER,
            tag: None,
            payload: 3 * 1448,
            segment: 1448,
        };
        let got = net.check_beside(&tight)?;
        equal(&tight, &tight.segments(), got.into_iter().map(|f| f.1).collect())?;
        Ok(())
    });
}
