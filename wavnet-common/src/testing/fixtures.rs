//! The table of fixtures: what comes in, what must come of it. This half: the underlay.

use std::{format, vec, vec::Vec};

use super::{
    Devices, Fixture, Hook, Stimulus, endpoint_fixtures, express_fixtures,
    frames::{Outer, arp, ethernet, ipv6_udp, tagged, tcp4, udp4},
    port_fixtures,
    world::{self, MAC_FREE_SLOT, MAC_STALE, MAC_STATIC, MAC_UNKNOWN, MAX_FRAME, MAX_JUMBO, mac, remote},
};
use crate::{abi::Count, datapath::Verdict, reason::Reason};

/// Every fixture, for these devices.
pub fn fixtures(devices: &Devices) -> Vec<Fixture> {
    let mut all = Underlay { devices, out: Vec::new() }.all();
    all.extend(port_fixtures::all(devices));
    all.extend(express_fixtures::all(devices));
    all.extend(endpoint_fixtures::all(devices));
    all
}

/// What a frame on the underlay comes to.
pub(super) enum Then {
    /// Not ours.
    Pass,
    /// Dropped wherever it is seen first.
    Drop(Reason),
    /// Dropped by TC, which XDP leaves it to.
    DropByTc(Reason),
    /// To a port: as this frame.
    Deliver(u8, Vec<u8>),
    /// To a port by TC, which XDP leaves it to: as this frame.
    DeliverByTc(u8, Vec<u8>),
    /// To these ports, as this frame, and some drops.
    Flood(Vec<u8>, Vec<u8>, Vec<Reason>),
    /// Answered: as this frame.
    Answer(Vec<u8>),
    /// Consumed, and counted as this.
    Note(Count),
}

pub(super) struct Underlay<'a> {
    pub(super) devices: &'a Devices,
    pub(super) out: Vec<Fixture>,
}

/// TCP, or a fragment of it, in an untagged frame.
fn is_tcp(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.get(23) == Some(&6),
        [0x86, 0xdd] => frame.get(20) == Some(&6) || frame.get(20) == Some(&44) && frame.get(54) == Some(&6),
        _ => false,
    }
}

/// What TC pads short frames to.
fn padded(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.resize(frame.len().max(60), 0);
    frame
}

impl Underlay<'_> {
    /// Adds the frame for both hooks. `counts` are those of TC beyond what `then` implies; XDP's too, if it decides.
    pub(super) fn add_counting(&mut self, name: &str, frame: Vec<u8>, then: &Then, counts: &[(Count, u64)]) {
        let ifindex = |port: u8| self.devices.ports[usize::from(port)];
        for hook in [Hook::UnderlayXdp, Hook::UnderlayTc] {
            let xdp = hook == Hook::UnderlayXdp;
            let mut f = Fixture::new(
                &format!("underlay, {}: {name}", if xdp { "XDP" } else { "TC" }),
                Stimulus::new(hook, frame.clone()),
            );
            f.counts = counts.to_vec();
            match then {
                Then::Pass if xdp => {}
                Then::Pass => f.counts.push((Count::PassedUp, 1)),
                Then::DropByTc(_) if xdp => {}
                Then::Drop(reason) | Then::DropByTc(reason) => {
                    f.verdict = Verdict::Drop(*reason);
                    f.drops.push(*reason);
                }
                Then::Flood(..) if xdp => {}
                Then::Answer(answer) => {
                    f.verdict = Verdict::Answered;
                    f.bytes.clone_from(answer);
                    f.counts.push((Count::PulseAnswered, 1));
                }
                Then::Note(count) => {
                    f.verdict = Verdict::Consumed;
                    f.counts.push((*count, 1));
                }
                // Port 5 takes no redirects from XDP, and TCP goes by GRO.
                Then::Deliver(port, inner) | Then::DeliverByTc(port, inner)
                    if xdp && (*port == 5 || matches!(then, Then::DeliverByTc(..)) || is_tcp(inner)) =>
                {
                    f.verdict = Verdict::HandedOver;
                    f.bytes.clone_from(inner);
                    f.noted = Some((u16::from(*port), 0));
                }
                Then::Deliver(port, inner) | Then::DeliverByTc(port, inner) => {
                    f.verdict = Verdict::ToPort { index: u16::from(*port), ifindex: ifindex(*port) };
                    f.bytes = if xdp { inner.clone() } else { padded(inner) };
                }
                Then::Flood(ports, inner, drops) => {
                    f.verdict = Verdict::Consumed;
                    f.copies = ports.iter().map(|p| (ifindex(*p), padded(inner))).collect();
                    f.drops.clone_from(drops);
                    f.counts.push((Count::Flooded, 1));
                    if !ports.is_empty() {
                        f.counts.push((Count::FloodCopies, ports.len() as u64));
                    }
                }
            }
            self.out.push(f);
        }
    }

    pub(super) fn add(&mut self, name: &str, frame: Vec<u8>, then: Then) {
        self.add_counting(name, frame, &then, &[]);
    }

    fn all(mut self) -> Vec<Fixture> {
        self.not_ours();
        self.outer_flaws();
        self.overlay();
        self.inner_flaws();
        self.delivery();
        self.tcp();
        self.handed_over();
        self.flooding();
        self.learning();
        self.super_packets();
        self.dynamic();
        self.out
    }

    fn not_ours(&mut self) {
        let good = udp4(mac(0), remote(0), 100);
        let ours = Outer::default();
        self.add("ARP", arp(world::next_hop_mac(0)), Then::Pass);
        self.add("IPv6", ipv6_udp(world::UNDERLAY_MAC, world::next_hop_mac(0), 90), Then::Pass);
        self.add("TCP to us", tcp4(world::UNDERLAY_MAC, world::next_hop_mac(0), 90), Then::Pass);
        self.add("TCP to our port", Outer { protocol: 6, ..ours.clone() }.build(&good), Then::Pass);
        self.add("another UDP port", Outer { udp_dst: 4790, ..ours.clone() }.build(&good), Then::Pass);
        self.add("our port as source", Outer { udp_src: 4789, udp_dst: 53, ..ours.clone() }.build(&good), Then::Pass);
        self.add("another address", Outer { dst: [192, 0, 2, 9], ..ours.clone() }.build(&good), Then::Pass);
        self.add("IP version 6 in an IPv4 frame", Outer { version: 6, ..ours.clone() }.build(&good), Then::Pass);
        self.add("outer VLAN tag", tagged(&ours.build(&good), 0x8100, 7), Then::Pass);
        self.add("last fragment", Outer { frag: 0x00b9, ..ours.clone() }.build(&good), Then::Pass);
        self.add("middle fragment", Outer { frag: 0x20b9, ..ours.clone() }.build(&good), Then::Pass);
        let options = vec![1; 4];
        let other_port = Outer { udp_dst: 53, options: options.clone(), ..ours.clone() };
        self.add("IP options, another port", other_port.build(&good), Then::Pass);
        let mut short_ihl = ours.build(&good);
        short_ihl[14] = 0x44;
        self.add("header length 16", short_ihl, Then::Pass);
        self.add("IP options", Outer { options, ..ours.clone() }.build(&good), Then::Drop(Reason::OuterOptions));
        let most = Outer { options: vec![1; 40], ..ours };
        self.add("most IP options", most.build(&good), Then::Drop(Reason::OuterOptions));
    }

    fn outer_flaws(&mut self) {
        let good = udp4(mac(0), remote(0), 100);
        let ours = Outer::default();
        let mut flaw = |name: &str, outer: Outer, reason| self.add(name, outer.build(&good), Then::Drop(reason));
        flaw("first fragment", Outer { frag: 0x2000, ..ours.clone() }, Reason::OuterFragment);
        flaw("TTL 0", Outer { ttl: 0, ..ours.clone() }, Reason::OuterTtl);
        for off_by in [1, 0x100, 0x8000, 0xfffe] {
            let outer = Outer { checksum_off_by: off_by, ..ours.clone() };
            flaw(&format!("IP checksum off by {off_by:#x}"), outer, Reason::OuterChecksum);
        }
        flaw("our own address", Outer { src: world::LOCAL, ..ours.clone() }, Reason::OwnSource);
        flaw("IP longer than UDP", Outer { udp_len: Some(115), ..ours.clone() }, Reason::OuterMalformed);
        flaw("UDP longer than IP", Outer { udp_len: Some(117), ..ours.clone() }, Reason::OuterMalformed);
        flaw("UDP of 0 bytes", Outer { udp_len: Some(0), ..ours.clone() }, Reason::OuterMalformed);
        let of = |udp: u16| Outer { udp_len: Some(udp), total_len: Some(20 + udp), ..Outer::default() };
        flaw("datagram without a VXLAN header", of(15), Reason::OuterMalformed);
        flaw("VXLAN header alone", of(16), Reason::InnerTruncated);
        flaw("inner of 13 bytes", of(29), Reason::InnerTruncated);
        flaw("datagram longer than the frame by 1", of(117), Reason::OuterTruncated);
        flaw("longest datagram", of(65_515), Reason::OuterTruncated);
        flaw("address of no host", Outer { src: [0, 0, 0, 4], ..ours.clone() }, Reason::OuterSource);
        flaw("no I flag", Outer { vxlan_flags: 0, ..ours.clone() }, Reason::UnknownPayload);
        flaw("every flag but I", Outer { vxlan_flags: 0xf7ff_ffff, ..ours }, Reason::UnknownPayload);
        let frame = Outer::default().build(&good);
        for len in 0..frame.len() {
            // Without addresses, or without UDP ports, it cannot be known for ours.
            let then = if len < 42 { Then::Pass } else { Then::Drop(Reason::OuterTruncated) };
            self.add(&format!("cut to {len} bytes"), frame[..len].to_vec(), then);
        }
    }

    fn overlay(&mut self) {
        let good = udp4(mac(0), remote(0), 100);
        let ours = Outer::default();
        let from = |vtep, vni| Outer { src: world::vtep_addr(vtep), vni, ..ours.clone() };
        let cases = [
            ("unknown VNI", from(0, 999), Reason::UnknownVni),
            ("VNI 0", from(0, 0), Reason::UnknownVni),
            ("largest VNI", from(0, 0xff_ffff), Reason::UnknownVni),
            ("unknown VTEP", from(77, 100), Reason::UnknownPath),
            ("unknown VTEP and VNI", from(77, 999), Reason::UnknownVni),
            ("VTEP that is no member", from(1, 200), Reason::NotMember),
        ];
        for (name, outer, reason) in cases {
            self.add(name, outer.build(&good), Then::Drop(reason));
        }
        let deliver = || Then::Deliver(0, good.clone());
        self.add("unicast", ours.build(&good), deliver());
        let odd = Outer { vxlan_flags: 0xffff_ffff, vxlan_reserved: 0xff, ..ours.clone() };
        self.add("reserved bits set", odd.build(&good), deliver());
        self.add("ECN, DSCP, ID, no DF", Outer { tos: 0xff, id: 7, frag: 0, ..ours.clone() }.build(&good), deliver());
        self.add("TTL 1", Outer { ttl: 1, ..ours.clone() }.build(&good), deliver());
        self.add("UDP checksum", Outer { udp_checksum: 0x1234, ..ours.clone() }.build(&good), deliver());
        self.add("trailer", Outer { trailer: vec![0xee; 9], ..ours.clone() }.build(&good), deliver());
        self.add("group as link address", Outer { eth_dst: [0xff; 6], ..ours }.build(&good), deliver());
    }

    fn inner_flaws(&mut self) {
        let ours = Outer::default();
        let mut flaw =
            |name: &str, dst, src, reason| self.add(name, ours.build(&udp4(dst, src, 80)), Then::Drop(reason));
        flaw("multicast source MAC", mac(0), [0x53, 0x54, 0, 0, 1, 0x10], Reason::BadSourceMac);
        flaw("broadcast source MAC", mac(0), [0xff; 6], Reason::BadSourceMac);
        flaw("zero source MAC", mac(0), [0; 6], Reason::BadSourceMac);
        flaw("STP", [1, 0x80, 0xc2, 0, 0, 0], remote(0), Reason::BridgeReserved);
        flaw("LLDP", [1, 0x80, 0xc2, 0, 0, 0x0e], remote(0), Reason::BridgeReserved);
        flaw("stale entry: port of another VNI", MAC_STALE, remote(0), Reason::UnknownPort);
        for (name, i) in [("to a MAC behind a VTEP", 1), ("to a MAC behind the same VTEP", 0)] {
            self.add(name, ours.build(&udp4(remote(i), remote(0), 80)), Then::DropByTc(Reason::SplitHorizon));
        }
        let free = ours.build(&udp4(MAC_FREE_SLOT, remote(0), 80));
        self.add("stale entry: free slot", free, Then::DropByTc(Reason::UnknownPort));
        let tag = |tpid| Outer::default().build(&tagged(&udp4(mac(3), remote(0), 80), tpid, 5));
        self.add("VLAN tag to a port that discards", tag(0x8100), Then::Drop(Reason::VlanTagged));
        self.add("QinQ tag to a port that discards", tag(0x88a8), Then::Drop(Reason::VlanTagged));
    }

    fn delivery(&mut self) {
        let ours = Outer::default();
        let max = MAX_FRAME as usize;
        for (port, len) in
            [(0, 60), (0, 42), (0, max), (4, max + 1), (4, MAX_JUMBO as usize), (5, 100), (1, 59), (3, 61)]
        {
            let inner = udp4(mac(port), remote(0), len);
            self.add(&format!("{len} bytes to port {port}"), ours.build(&inner), Then::Deliver(port, inner.clone()));
        }
        let least = ethernet(mac(0), remote(0), 0x88b5, &[]);
        self.add("header alone", ours.build(&least), Then::Deliver(0, least.clone()));
        let short = Outer { trailer: vec![0xee; 30], ..ours.clone() };
        self.add("short frame with a trailer", short.build(&least), Then::Deliver(0, least.clone()));
        for (port, len) in [(0, max + 1), (4, MAX_JUMBO as usize + 1), (5, max + 1)] {
            let inner = udp4(mac(port), remote(0), len);
            let then = Then::DropByTc(Reason::ExceedsPortMtu);
            self.add(&format!("{len} bytes to port {port}, too many"), ours.build(&inner), then);
        }
        let one = |len| tagged(&udp4(mac(0), remote(0), len), 0x8100, 5);
        self.add("VLAN tag", ours.build(&one(80)), Then::Deliver(0, one(80)));
        self.add("VLAN tag, full", ours.build(&one(max)), Then::Deliver(0, one(max)));
        self.add("VLAN tag, one more", ours.build(&one(max + 1)), Then::DropByTc(Reason::ExceedsPortMtu));
        let two = |len| tagged(&one(len), 0x88a8, 6);
        self.add("QinQ", ours.build(&two(80)), Then::Deliver(0, two(80)));
        self.add("QinQ, full", ours.build(&two(max - 4)), Then::Deliver(0, two(max - 4)));
        self.add("QinQ, one more", ours.build(&two(max - 3)), Then::DropByTc(Reason::ExceedsPortMtu));
        let long = udp4(mac(1), remote(0), 1000);
        for (name, port, then) in [
            ("several buffers to a port that takes one", 1, Then::DeliverByTc(1, long)),
            ("several buffers", 0, Then::Deliver(0, udp4(mac(0), remote(0), 1000))),
        ] {
            self.add(name, ours.build(&udp4(mac(port), remote(0), 1000)), then);
            for f in self.out.iter_mut().rev().take(2) {
                f.stimulus.linear = 500;
                f.host_only = true;
            }
        }
        let v6 = ipv6_udp(mac(1), remote(1), 90);
        let from_1 = Outer { src: world::vtep_addr(1), ..ours };
        self.add("inner IPv6", from_1.build(&v6), Then::Deliver(1, v6.clone()));
    }

    fn flooding(&mut self) {
        let ours = Outer::default();
        let everyone = vec![0, 1, 3, 4, 5];
        let flood =
            |ports: &[u8], inner: &[u8], drops: &[Reason]| Then::Flood(ports.to_vec(), inner.to_vec(), drops.to_vec());
        let request = arp(remote(0));
        self.add("broadcast", ours.build(&request), flood(&everyone, &request, &[]));
        let full = udp4([0xff; 6], remote(0), MAX_FRAME as usize);
        self.add("broadcast, full", ours.build(&full), flood(&everyone, &full, &[]));
        let multicast = udp4([0x01, 0, 0x5e, 0, 0, 1], remote(0), 70);
        self.add("multicast", ours.build(&multicast), flood(&everyone, &multicast, &[]));
        let unknown = udp4(MAC_UNKNOWN, remote(0), 70);
        self.add("unknown unicast", ours.build(&unknown), flood(&everyone, &unknown, &[]));
        let foreign = udp4(mac(2), remote(0), 70);
        self.add("MAC of another VNI", ours.build(&foreign), flood(&everyone, &foreign, &[]));
        let vlan = tagged(&request, 0x8100, 5);
        self.add("broadcast with VLAN tag", ours.build(&vlan), flood(&[0, 1, 4, 5], &vlan, &[Reason::VlanTagged]));
        let jumbo = udp4([0xff; 6], remote(0), MAX_JUMBO as usize);
        self.add("jumbo broadcast", ours.build(&jumbo), flood(&[4], &jumbo, &[Reason::ExceedsPortMtu; 4]));
        let second = Outer { vni: world::vni(1), ..ours.clone() };
        self.add("broadcast in VNI 200", second.build(&request), flood(&[2], &request, &[]));
        let trailing = Outer { trailer: vec![0xee; 30], ..ours };
        self.add("broadcast with a trailer", trailing.build(&request), flood(&everyone, &request, &[]));
    }

    fn learning(&mut self) {
        let ours = Outer::default();
        let from = |src| udp4(mac(0), src, 80);
        let mut learn = |name: &str, src, what| {
            self.add_counting(name, ours.build(&from(src)), &Then::Deliver(0, from(src)), &[(what, 1)]);
        };
        learn("new MAC", MAC_UNKNOWN, Count::Learned);
        learn("MAC of another VNI is new here", mac(2), Count::Learned);
        learn("MAC moves from a port", mac(4), Count::Moved);
        learn("MAC moves from a VTEP", remote(1), Count::Moved);
        learn("static MAC stays", MAC_STATIC, Count::StaticKept);
    }
}
