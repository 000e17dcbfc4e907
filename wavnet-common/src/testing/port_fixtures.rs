//! The table of fixtures, other half: ports.

use std::{format, vec::Vec};

use super::{
    Devices, Fixture, Hook, Stimulus, TestPacket,
    frames::{Outer, arp, ethernet, ipv6_udp, tagged, tcp4, udp4},
    world::{
        self, MAC_FREE_SLOT, MAC_FREE_VTEP, MAC_STALE, MAC_STATIC, MAC_UNKNOWN, MAX_FRAME, MAX_INNER, MAX_INNER_SMALL,
        MAX_JUMBO, endpoint, mac, remote,
    },
};
use crate::{
    abi::{Count, Endpoint},
    datapath::{Verdict, flow, source_port},
    reason::Reason,
};

/// Every fixture of the port program.
pub(super) fn all(devices: &Devices) -> Vec<Fixture> {
    let mut ports = Ports { devices, out: Vec::new() };
    ports.drops();
    ports.local();
    ports.encapsulation();
    ports.stale_agent();
    ports.flooding();
    ports.learning();
    ports.beside_the_data();
    ports.out
}

struct Ports<'a> {
    devices: &'a Devices,
    out: Vec<Fixture>,
}

/// The frame as it is on the wire to a VTEP. The source port is that of the code under test: that it is right is a matter of
/// properties (range, equal for a flow), not of a value.
pub(super) fn on_wire(vtep: u8, vni_index: u16, frame: &[u8]) -> Vec<u8> {
    let to = if vtep < 4 { Endpoint::plain(world::vtep_addr(vtep), world::UDP_PORT) } else { endpoint(vtep.into()) };
    Outer {
        eth_dst: world::next_hop_mac(vtep),
        eth_src: world::UNDERLAY_MAC,
        src: world::LOCAL,
        dst: to.addr,
        udp_src: to.source_port.unwrap_or_else(|| source_port(flow(&TestPacket::new(frame)).hash)),
        udp_dst: to.port,
        vxlan_flags: 0x0800_0000 | to.label.get(),
        vni: world::vni(vni_index),
        ..Outer::default()
    }
    .build(frame)
}

impl Ports<'_> {
    fn ifindex(&self, port: u8) -> u32 {
        self.devices.ports[usize::from(port)]
    }

    fn fixture(&self, name: &str, from: usize, frame: &[u8]) -> Fixture {
        Fixture::new(&format!("port: {name}"), Stimulus::new(Hook::Port(from), frame.to_vec()))
    }

    fn drop(&mut self, name: &str, from: usize, frame: &[u8], reason: Reason) {
        let mut f = self.fixture(name, from, frame);
        f.verdict = Verdict::Drop(reason);
        f.drops.push(reason);
        self.out.push(f);
    }

    fn delivered(&mut self, name: &str, from: usize, frame: &[u8], port: u8) {
        let mut f = self.fixture(name, from, frame);
        f.verdict = Verdict::ToPort { index: port.into(), ifindex: self.ifindex(port) };
        self.out.push(f);
    }

    fn encapsulated(&mut self, name: &str, from: usize, frame: &[u8], vtep: u8, vni_index: u16) {
        let mut f = self.fixture(name, from, frame);
        f.verdict = Verdict::ToWire { ifindex: self.devices.underlay };
        f.bytes = on_wire(vtep, vni_index, frame);
        self.out.push(f);
    }

    fn drops(&mut self) {
        let frame = udp4(mac(1), mac(0), 80);
        self.drop("not a port", Devices::STRANGER, &frame, Reason::UnknownPort);
        for len in 0..14 {
            self.drop(&format!("cut to {len} bytes"), 0, &frame[..len], Reason::InnerTruncated);
        }
        let mut flaw = |name: &str, dst, src, reason| self.drop(name, 0, &udp4(dst, src, 80), reason);
        flaw("multicast source MAC", mac(1), [3, 0, 0, 0, 0, 1], Reason::BadSourceMac);
        flaw("zero source MAC", mac(1), [0; 6], Reason::BadSourceMac);
        flaw("STP", [1, 0x80, 0xc2, 0, 0, 0], mac(0), Reason::BridgeReserved);
        flaw("pause", [1, 0x80, 0xc2, 0, 0, 1], mac(0), Reason::BridgeReserved);
        flaw("to itself", mac(0), mac(0), Reason::Hairpin);
        flaw("stale entry: port of another VNI", MAC_STALE, mac(0), Reason::UnknownPort);
        flaw("stale entry: free slot", MAC_FREE_SLOT, mac(0), Reason::UnknownPort);
        flaw("stale entry: VTEP that is gone", MAC_FREE_VTEP, mac(0), Reason::NoRoute);
        flaw("no route", remote(3), mac(0), Reason::NoRoute);
        let vlan = tagged(&udp4(mac(1), mac(3), 80), 0x8100, 9);
        self.drop("VLAN tag from a port that discards", 3, &vlan, Reason::VlanTagged);
        let qinq = tagged(&udp4(mac(1), mac(3), 80), 0x88a8, 9);
        self.drop("QinQ tag from a port that discards", 3, &qinq, Reason::VlanTagged);
        let vlan = tagged(&udp4(mac(3), mac(0), 80), 0x8100, 9);
        self.drop("VLAN tag to a port that discards", 0, &vlan, Reason::VlanTagged);
        self.drop("broadcast of a lone port", 6, &arp(mac(6)), Reason::NoReceiver);
        self.drop("unknown unicast of a lone port", 6, &udp4(mac(0), mac(6), 80), Reason::NoReceiver);
        let long = |dst, len: u32| udp4(dst, mac(0), len as usize + 1);
        self.drop("one more than a port takes", 0, &long(mac(1), MAX_FRAME), Reason::ExceedsPortMtu);
        self.drop("one more than the jumbo port takes", 0, &long(mac(4), MAX_JUMBO), Reason::ExceedsPortMtu);
        self.drop("one more than the underlay takes", 0, &long(remote(0), MAX_INNER), Reason::ExceedsUnderlayMtu);
        self.drop("one more than the path takes", 0, &long(remote(1), MAX_INNER_SMALL), Reason::ExceedsUnderlayMtu);
        let vlan = tagged(&udp4(remote(1), mac(0), MAX_INNER_SMALL as usize - 3), 0x8100, 9);
        self.drop("one more than the path takes, by a tag", 0, &vlan, Reason::ExceedsUnderlayMtu);
    }

    fn local(&mut self) {
        let max = MAX_FRAME as usize;
        for len in [42, 60, max] {
            self.delivered(&format!("{len} bytes to a port"), 0, &udp4(mac(1), mac(0), len), 1);
        }
        self.delivered("jumbo to a jumbo port", 0, &udp4(mac(4), mac(0), MAX_JUMBO as usize), 4);
        self.delivered("to a static MAC", 0, &udp4(MAC_STATIC, mac(0), 80), 1);
        self.delivered("to a port that XDP cannot serve", 0, &udp4(mac(5), mac(0), 80), 5);
        self.delivered("VLAN tag, full", 0, &tagged(&udp4(mac(1), mac(0), max), 0x8100, 9), 1);
        let qinq = tagged(&tagged(&udp4(mac(1), mac(0), 80), 0x8100, 9), 0x88a8, 8);
        self.delivered("QinQ to a port", 0, &qinq, 1);
        self.delivered("header alone and a byte", 0, &ethernet(mac(1), mac(0), 0x88b5, &[1]), 1);
    }

    fn encapsulation(&mut self) {
        let most = MAX_INNER as usize;
        for len in [42, 43, 60, 1514, most - 1, most] {
            self.encapsulated(&format!("{len} bytes to a VTEP"), 0, &udp4(remote(0), mac(0), len), 0, 0);
        }
        let frame = udp4(remote(1), mac(0), MAX_INNER_SMALL as usize);
        self.encapsulated("the most the other half's path takes", 0, &frame, 1, 0);
        self.encapsulated("VNI 200", 2, &udp4(remote(0), mac(2), 90), 0, 1);
        self.encapsulated("TCP", 0, &tcp4(remote(0), mac(0), 90), 0, 0);
        self.encapsulated("IPv6", 0, &ipv6_udp(remote(0), mac(0), 90), 0, 0);
        let mut reply = arp(mac(0));
        reply[..6].copy_from_slice(&remote(0));
        self.encapsulated("unicast ARP", 0, &reply, 0, 0);
        self.encapsulated("unknown ethertype, header and a byte", 0, &ethernet(remote(0), mac(0), 0x88b5, &[1]), 0, 0);
        self.encapsulated("VLAN tag", 0, &tagged(&udp4(remote(0), mac(0), 80), 0x8100, 9), 0, 0);
        let qinq = tagged(&tagged(&udp4(remote(0), mac(0), 80), 0x8100, 9), 0x88a8, 8);
        self.encapsulated("QinQ", 0, &qinq, 0, 0);
        let mut cut = udp4(remote(0), mac(0), 80);
        for len in (15..80).rev() {
            cut.truncate(len);
            self.encapsulated(&format!("inner cut to {len} bytes"), 0, &cut, 0, 0);
        }
    }

    /// Next hops that the agent does not know, or did not say lately.
    fn stale_agent(&mut self) {
        let cases = [
            ("unresolved", remote(2), 2, false),
            ("unresolved, agent gone", remote(2), 2, true),
            ("resolved, agent gone", remote(0), 0, true),
        ];
        for (name, dst, vtep, stale) in cases {
            let mut reply = arp(mac(0));
            reply[..6].copy_from_slice(&dst);
            let vlan = tagged(&udp4(dst, mac(0), 80), 0x8100, 9);
            let frames = [
                ("IPv4", udp4(dst, mac(0), 80)),
                ("IPv6", ipv6_udp(dst, mac(0), 90)),
                ("ARP", reply),
                ("VLAN tag", vlan),
            ];
            for (kind, frame) in frames {
                let mut f = self.fixture(&format!("{name}: {kind}"), 0, &frame);
                f.stimulus.stale_agent = stale;
                f.verdict = Verdict::ToNeighbour { ifindex: self.devices.underlay };
                f.bytes = on_wire(vtep, 0, &frame);
                if vtep == 2 {
                    f.bytes[..6].fill(0);
                }
                f.counts.push((Count::KernelNextHop, 1));
                self.out.push(f);
            }
        }
        self.drop("no route, agent gone", 0, &udp4(remote(3), mac(0), 80), Reason::NoRoute);
        if let Some(f) = self.out.last_mut() {
            f.stimulus.stale_agent = true;
        }
    }

    fn flood(&mut self, name: &str, frame: &[u8], ports: &[u8], vteps: &[u8], drops: &[Reason]) {
        let mut f = self.fixture(name, 0, frame);
        f.verdict = Verdict::Consumed;
        f.copies = ports.iter().map(|p| (self.ifindex(*p), frame.to_vec())).collect();
        f.copies.extend(vteps.iter().map(|v| (self.devices.underlay, on_wire(*v, 0, frame))));
        f.drops.extend_from_slice(drops);
        f.counts.extend([(Count::Flooded, 1), (Count::FloodCopies, (ports.len() + vteps.len()) as u64)]);
        self.out.push(f);
    }

    fn flooding(&mut self) {
        use Reason::{ExceedsPortMtu, ExceedsUnderlayMtu, NeighbourUnresolved, NoRoute, VlanTagged};
        let unreachable = [NeighbourUnresolved, NoRoute];
        let everyone = [1, 3, 4, 5];
        self.flood("broadcast", &arp(mac(0)), &everyone, &[0, 1], &unreachable);
        self.flood(
            "broadcast of 15 bytes",
            &ethernet([0xff; 6], mac(0), 0x88b5, &[1]),
            &everyone,
            &[0, 1],
            &unreachable,
        );
        self.flood("multicast", &udp4([1, 0, 0x5e, 0, 0, 1], mac(0), 70), &everyone, &[0, 1], &unreachable);
        self.flood("unknown unicast", &udp4(MAC_UNKNOWN, mac(0), 70), &everyone, &[0, 1], &unreachable);
        self.flood("unicast to a MAC of another VNI", &udp4(mac(2), mac(0), 70), &everyone, &[0, 1], &unreachable);
        let drops = [VlanTagged, NeighbourUnresolved, NoRoute];
        self.flood("broadcast with VLAN tag", &tagged(&arp(mac(0)), 0x8100, 9), &[1, 4, 5], &[0, 1], &drops);
        let frame = udp4([0xff; 6], mac(0), 1514);
        let drops = [ExceedsUnderlayMtu, NeighbourUnresolved, NoRoute];
        self.flood("full broadcast", &frame, &everyone, &[0], &drops);
        let frame = udp4([0xff; 6], mac(0), MAX_JUMBO as usize);
        let drops = [ExceedsPortMtu, ExceedsPortMtu, ExceedsPortMtu, ExceedsUnderlayMtu, ExceedsUnderlayMtu]
            .into_iter()
            .chain([ExceedsUnderlayMtu, NoRoute])
            .collect::<Vec<_>>();
        self.flood("jumbo broadcast", &frame, &[4], &[], &drops);
        if let Some(f) = self.out.last_mut() {
            f.counts = [(Count::Flooded, 1), (Count::FloodCopies, 1)].to_vec();
        }

        // One VTEP: no copy is made, and the kernel's next hop can serve.
        let frame = arp(mac(2));
        self.encapsulated("broadcast to one VTEP", 2, &frame, 0, 1);
        let one = [(Count::Flooded, 1), (Count::FloodCopies, 1)];
        if let Some(f) = self.out.last_mut() {
            f.counts.extend(one);
        }
        for (kind, frame) in [("ARP", arp(mac(7))), ("IPv4", udp4([0xff; 6], mac(7), 70))] {
            let mut f = self.fixture(&format!("broadcast to one unresolved VTEP: {kind}"), 7, &frame);
            f.verdict = Verdict::ToNeighbour { ifindex: self.devices.underlay };
            f.bytes = on_wire(2, 3, &frame);
            f.bytes[..6].fill(0);
            f.counts.extend(one);
            f.counts.push((Count::KernelNextHop, 1));
            self.out.push(f);
        }

        // The agent is gone: each VTEP's copy comes in again, and goes to the kernel's neighbour output then.
        for (kind, frame) in [("ARP", arp(mac(0))), ("VLAN tag", tagged(&udp4([0xff; 6], mac(0), 70), 0x8100, 9))] {
            let (ports, drops): (&[u8], &[Reason]) =
                if kind == "ARP" { (&everyone, &[]) } else { (&[1, 4, 5], &[VlanTagged]) };
            self.flood(&format!("broadcast, agent gone: {kind}"), &frame, ports, &[], drops);
            let port = self.ifindex(0);
            if let Some(f) = self.out.last_mut() {
                f.stimulus.stale_agent = true;
                // What comes in has its tag beside the data, where a capture does not see it.
                f.host_only = kind != "ARP";
                f.errands = (0..4).map(|vtep| (port, vtep, frame.clone())).collect();
                f.counts = [(Count::Flooded, 1), (Count::FloodCopies, ports.len() as u64 + 4)].to_vec();
            }
            for (name, vtep) in [("resolved", 0), ("unresolved", 2)] {
                let mut f = self.fixture(&format!("on an errand, {name}: {kind}"), 0, &frame);
                f.stimulus.errand = Some(vtep.into());
                f.stimulus.stale_agent = true;
                f.bytes = on_wire(vtep, 0, &frame);
                f.verdict = Verdict::ToNeighbour { ifindex: self.devices.underlay };
                f.counts.push((Count::KernelNextHop, 1));
                if vtep == 2 {
                    f.bytes[..6].fill(0);
                }
                self.out.push(f);
            }
        }
        // While there is an agent it is somebody else's mark.
        self.flood("broadcast with a mark", &arp(mac(0)), &everyone, &[0, 1], &unreachable);
        if let Some(f) = self.out.last_mut() {
            f.stimulus.errand = Some(0);
        }
        let long = udp4([0xff; 6], mac(0), MAX_INNER as usize + 1);
        for (name, frame, vtep, reason) in [
            ("no route", arp(mac(0)), 3, NoRoute),
            ("to a VTEP that is gone", arp(mac(0)), u16::MAX, NoRoute),
            ("too long", long, 0, ExceedsUnderlayMtu),
        ] {
            self.drop(&format!("on an errand, {name}"), 0, &frame, reason);
            if let Some(f) = self.out.last_mut() {
                f.stimulus.errand = Some(vtep);
                f.stimulus.stale_agent = true;
            }
        }

        let frame = arp(mac(0));
        self.flood("copies refused", &frame, &[3, 4, 5], &[], &[]);
        let refusing = [self.devices.underlay, self.ifindex(1)].to_vec();
        if let Some(f) = self.out.last_mut() {
            use Reason::CloneFailed;
            f.stimulus.refusing = refusing;
            f.drops.extend([CloneFailed, CloneFailed, CloneFailed, NeighbourUnresolved, NoRoute]);
            f.host_only = true;
        }
    }

    fn learning(&mut self) {
        let mut learn = |name: &str, src, what| {
            self.delivered(name, 0, &udp4(mac(1), src, 80), 1);
            if let Some(f) = self.out.last_mut() {
                f.counts.push((what, 1));
            }
        };
        learn("new MAC", MAC_UNKNOWN, Count::Learned);
        learn("MAC moves from a port", mac(3), Count::Moved);
        learn("MAC moves from a VTEP", remote(0), Count::Moved);
        learn("static MAC stays", MAC_STATIC, Count::StaticKept);
    }

    /// Super-packets and VLAN tags that the kernel keeps beside the data.
    fn beside_the_data(&mut self) {
        let frame = tcp4(mac(1), mac(0), 54 + 3000);
        self.delivered("super-packet to a port", 0, &frame, 1);
        let gso = |f: Option<&mut Fixture>, size, host_only| {
            if let Some(f) = f {
                f.stimulus.gso = (size, 3);
                f.host_only = host_only;
            }
        };
        gso(self.out.last_mut(), MAX_FRAME - 54, false);
        self.drop("super-packet of segments that a port does not take", 0, &frame, Reason::ExceedsPortMtu);
        gso(self.out.last_mut(), MAX_FRAME - 53, false);
        let frame = tcp4(remote(1), mac(0), 54 + 3000);
        self.encapsulated("super-packet to a VTEP", 0, &frame, 1, 0);
        gso(self.out.last_mut(), MAX_INNER_SMALL - 54, true);
        self.drop("super-packet of segments that the path does not take", 0, &frame, Reason::ExceedsUnderlayMtu);
        gso(self.out.last_mut(), MAX_INNER_SMALL - 53, false);

        let tag = |f: Option<&mut Fixture>| {
            if let Some(f) = f {
                f.stimulus.meta_tag = Some([0x8100, 9]);
                f.host_only = true;
            }
        };
        let most = MAX_INNER_SMALL as usize - 4;
        let frame = udp4(remote(1), mac(0), most);
        self.encapsulated("tag beside the data", 0, &frame, 1, 0);
        tag(self.out.last_mut());
        if let Some(f) = self.out.last_mut() {
            f.bytes = Outer { udp_src: u16::from_be_bytes([f.bytes[34], f.bytes[35]]), ..outer_of_vtep_1() }
                .build(&tagged(&frame, 0x8100, 9));
        }
        self.drop("tag beside the data, one more", 0, &udp4(remote(1), mac(0), most + 1), Reason::ExceedsUnderlayMtu);
        tag(self.out.last_mut());
        self.drop("tag beside the data from a port that discards", 3, &udp4(mac(1), mac(3), 80), Reason::VlanTagged);
        tag(self.out.last_mut());
        self.drop("tag beside the data to a port that discards", 0, &udp4(mac(3), mac(0), 80), Reason::VlanTagged);
        tag(self.out.last_mut());
        self.delivered("paged", 0, &udp4(mac(1), mac(0), 80), 1);
        if let Some(f) = self.out.last_mut() {
            f.stimulus.linear = 0;
            f.host_only = true;
        }
    }
}

fn outer_of_vtep_1() -> Outer {
    Outer {
        eth_dst: world::next_hop_mac(1),
        eth_src: world::UNDERLAY_MAC,
        src: world::LOCAL,
        dst: world::vtep_addr(1),
        ..Outer::default()
    }
}
