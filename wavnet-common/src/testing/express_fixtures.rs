//! The table of fixtures: XDP on a port. What it does not carry passes untouched and uncounted.

use std::{format, vec::Vec};

use super::{
    Devices, Fixture, Hook, Stimulus,
    frames::{UdpSum, arp, ipv6, ipv6_udp, summed, tagged, tcp4, udp4},
    port_fixtures::on_wire,
    world::{MAC_STATIC, MAC_UNKNOWN, MAX_FRAME, MAX_JUMBO, mac, remote},
};
use crate::{abi::Count, datapath::Verdict};

/// Every fixture of XDP on a port.
pub(super) fn all(devices: &Devices) -> Vec<Fixture> {
    let mut express = Express { devices, out: Vec::new() };
    express.carried();
    express.checksums();
    express.left_to_tc();
    express.learning();
    express.out
}

struct Express<'a> {
    devices: &'a Devices,
    out: Vec<Fixture>,
}

impl Express<'_> {
    fn passes(&mut self, name: &str, from: usize, frame: &[u8]) -> &mut Fixture {
        self.out.push(Fixture::new(&format!("port, XDP: {name}"), Stimulus::new(Hook::PortXdp(from), frame.to_vec())));
        self.out.last_mut().expect("one was pushed")
    }

    fn encapsulated(
        &mut self,
        name: &str,
        from: usize,
        frame: &[u8],
        inner: &[u8],
        vtep: u8,
        vni_index: u16,
    ) -> &mut Fixture {
        let ifindex = self.devices.underlay;
        let f = self.passes(name, from, frame);
        f.verdict = Verdict::ToWire { ifindex };
        f.bytes = on_wire(vtep, vni_index, inner);
        f
    }

    fn carried(&mut self) {
        let right = |len| summed(&udp4(remote(0), mac(0), len), UdpSum::Right);
        for len in [42, 43, 44, 45, 106, 511 + 34, 512 + 34, 513 + 34, 1024 + 34, MAX_FRAME as usize] {
            let frame = right(len);
            self.encapsulated(&format!("{len} bytes to a VTEP"), 0, &frame, &frame, 0, 0);
        }
        let v6 = summed(&ipv6_udp(remote(0), mac(0), 90), UdpSum::Right);
        self.encapsulated("IPv6 to a VTEP", 0, &v6, &v6, 0, 0);
        let vlan = tagged(&right(80), 0x8100, 5);
        self.passes("VLAN tag", 0, &vlan);
        self.passes("QinQ", 0, &tagged(&vlan, 0x88a8, 6));
        let other = summed(&udp4(remote(0), mac(2), 80), UdpSum::Right);
        self.encapsulated("in VNI 200", 2, &other, &other, 0, 1);
        let mut fragment = udp4(remote(0), mac(0), 200);
        for (name, frag) in [("first fragment", 0x2000u16), ("last fragment", 0x00b9)] {
            fragment[20..22].copy_from_slice(&frag.to_be_bytes());
            self.encapsulated(name, 0, &fragment, &fragment, 0, 0);
        }
        let fragment = ipv6(remote(0), mac(0), 44, &[17; 40]);
        self.encapsulated("fragment over IPv6", 0, &fragment, &fragment, 0, 0);
        for (name, dst, port) in
            [("to a port", mac(1), 1u8), ("to a static MAC", MAC_STATIC, 1), ("to another port", mac(3), 3)]
        {
            let ifindex = self.devices.ports[usize::from(port)];
            let frame = summed(&udp4(dst, mac(0), 80), UdpSum::Right);
            self.passes(name, 0, &frame).verdict = Verdict::ToPort { index: port.into(), ifindex };
        }
    }

    fn checksums(&mut self) {
        for len in [42, 45, 106, 600, MAX_FRAME as usize] {
            let frame = udp4(remote(0), mac(0), len);
            let (partial, right) = (summed(&frame, UdpSum::Partial), summed(&frame, UdpSum::Right));
            self.encapsulated(&format!("partial checksum, {len} bytes"), 0, &partial, &right, 0, 0);
            self.passes(&format!("wrong checksum, {len} bytes"), 0, &summed(&frame, UdpSum::Wrong));
            self.passes(&format!("no checksum, {len} bytes"), 0, &frame);
        }
        let v6 = ipv6_udp(remote(0), mac(0), 90);
        let (partial, right) = (summed(&v6, UdpSum::Partial), summed(&v6, UdpSum::Right));
        self.encapsulated("partial checksum over IPv6", 0, &partial, &right, 0, 0);
        self.passes("wrong checksum over IPv6", 0, &summed(&v6, UdpSum::Wrong));
        // The sum that would be zero is sent as 0xffff.
        let mut zero = udp4(remote(0), mac(0), 44);
        let sum = summed(&zero, UdpSum::Right);
        zero[42..44].copy_from_slice(&[sum[40], sum[41]]);
        let payload = u16::from_be_bytes([0, 1]);
        let wanted = u32::from(u16::from_be_bytes([sum[40], sum[41]])) + u32::from(payload);
        zero[42..44].copy_from_slice(&((wanted % 0xffff) as u16).to_be_bytes());
        let right = summed(&zero, UdpSum::Right);
        assert_eq!(right[40..42], [0xff, 0xff], "the fixture is about a sum of zero");
        self.encapsulated("partial checksum that comes to zero", 0, &summed(&zero, UdpSum::Partial), &right, 0, 0);
        // From a tap: only what has no packet around it, and only from a VM that sends no super-packets of datagrams.
        let frame = |from| udp4(remote(0), mac(from), 80);
        let tap = summed(&frame(1), UdpSum::Partial);
        self.passes("partial checksum from a tap, as a packet", 1, &tap);
        let right = summed(&frame(1), UdpSum::Right);
        self.passes("right checksum from a tap, as a packet", 1, &right);
        self.sealed();
        self.passes("partial checksum of a VM that may send super-packets", 4, &summed(&frame(4), UdpSum::Partial));
        // Lengths that lie.
        for (name, at, len) in [("UDP longer than the frame", 38, 100u16), ("UDP of 7 bytes", 38, 7)] {
            let mut frame = summed(&udp4(remote(0), mac(0), 80), UdpSum::Right);
            frame[at..at + 2].copy_from_slice(&len.to_be_bytes());
            self.passes(name, 0, &frame);
        }
    }

    /// From a tap: what may be a frame. Test-runs in the kernel are packets'.
    fn sealed(&mut self) {
        let (wire, port) = (self.devices.underlay, self.devices.ports[0]);
        for (name, dst, to) in [("to a VTEP", remote(0), wire), ("to a port", mac(0), port)] {
            for (sum, kind) in [("right", UdpSum::Right), ("partial", UdpSum::Partial)] {
                let frame = udp4(dst, mac(1), 80);
                let right = summed(&frame, UdpSum::Right);
                for noteless in [false, true] {
                    let keeps = if noteless { "none" } else { "seals" };
                    let name = format!("{sum} checksum from a tap {name}, the driver keeps {keeps}");
                    let f = self.passes(&name, 1, &summed(&frame, kind));
                    f.bytes = if to == wire { on_wire(0, 0, &right) } else { right.clone() };
                    f.verdict = match (noteless, to == wire) {
                        (false, _) => Verdict::Sealed { ifindex: to },
                        (true, true) => Verdict::ToWire { ifindex: to },
                        (true, false) => Verdict::ToPort { index: 0, ifindex: to },
                    };
                    (f.stimulus.raw, f.stimulus.noteless, f.host_only) = (true, noteless, true);
                }
            }
        }
    }

    fn left_to_tc(&mut self) {
        let right = |dst, src, len| summed(&udp4(dst, src, len), UdpSum::Right);
        self.passes("TCP", 0, &tcp4(remote(0), mac(0), 100));
        self.passes("ARP", 0, &arp(mac(0)));
        self.passes("other protocols over IPv6", 0, &ipv6(remote(0), mac(0), 58, &[0; 8]));
        self.passes("broadcast", 0, &right([0xff; 6], mac(0), 80));
        self.passes("unknown MAC", 0, &right(MAC_UNKNOWN, mac(0), 80));
        self.passes("from its own destination", 0, &right(remote(0), remote(0), 80));
        self.passes("to itself", 0, &right(mac(0), mac(0), 80));
        self.passes("multicast source MAC", 0, &right(remote(0), [3, 0, 0, 0, 0, 1], 80));
        self.passes("STP", 0, &right([1, 0x80, 0xc2, 0, 0, 0], mac(0), 80));
        self.passes("VLAN tag from a port that discards", 3, &tagged(&right(remote(0), mac(3), 80), 0x8100, 5));
        self.passes("VLAN tag to a port that discards", 0, &tagged(&right(mac(3), mac(0), 80), 0x8100, 5));
        self.passes("too long, or a super-packet", 0, &right(remote(0), mac(0), MAX_FRAME as usize + 1));
        self.passes("too long for the receiver", 4, &right(mac(0), mac(4), MAX_FRAME as usize + 1));
        self.passes("longer than is summed", 4, &right(remote(0), mac(4), MAX_JUMBO as usize));
        self.passes("to a port that takes nothing from XDP", 0, &right(mac(5), mac(0), 80));
        self.passes("to a peer over an interface that takes nothing from XDP", 0, &right(remote(1), mac(0), 80));
        self.passes("to an unresolved peer", 0, &right(remote(2), mac(0), 80));
        self.passes("to a peer without a route", 0, &right(remote(3), mac(0), 80));
        self.passes("from no port", Devices::STRANGER, &right(remote(0), mac(0), 80));
        self.passes("without an agent", 0, &right(remote(0), mac(0), 80)).stimulus.stale_agent = true;
    }

    fn learning(&mut self) {
        for (name, src, what) in [
            ("new MAC", MAC_UNKNOWN, Count::Learned),
            ("MAC moves from a port", mac(4), Count::Moved),
            ("MAC moves from a VTEP", remote(1), Count::Moved),
            ("static MAC stays", MAC_STATIC, Count::StaticKept),
        ] {
            let frame = summed(&udp4(remote(0), src, 80), UdpSum::Right);
            self.encapsulated(name, 0, &frame, &frame, 0, 0).counts.push((what, 1));
        }
    }
}
