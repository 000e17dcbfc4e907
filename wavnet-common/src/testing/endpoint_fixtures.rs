//! The table of fixtures: from ports to dynamic VTEPs, by TC and XDP, and frames that are held back.

use std::{format, vec, vec::Vec};

use super::{
    Devices, Fixture, Hook, Stimulus,
    frames::{UdpSum, arp, summed, tagged, tcp4, udp4},
    port_fixtures::on_wire,
    world::{MAX_INNER, mac, remote},
};
use crate::{
    abi::Count,
    datapath::{Verdict, held_mac},
    reason::Reason,
};

/// The port of the VNI that dynamic VTEPs are in, and the VNI.
const PORT: u8 = 8;
const VNI_INDEX: u16 = 4;
/// The VTEP to whom nothing is sent now.
const HELD: u8 = 7;

/// Every fixture of frames to dynamic VTEPs.
pub(super) fn all(devices: &Devices) -> Vec<Fixture> {
    let mut ports = Ports { devices, out: Vec::new() };
    ports.sent();
    ports.held();
    ports.flooded();
    ports.out
}

struct Ports<'a> {
    devices: &'a Devices,
    out: Vec<Fixture>,
}

/// A frame that waits for its VTEP.
fn waiting(frame: &[u8]) -> Vec<u8> {
    let mut bytes = on_wire(HELD, VNI_INDEX, frame);
    bytes[..6].copy_from_slice(&held_mac(HELD.into()).0);
    bytes
}

impl Ports<'_> {
    fn add(&mut self, name: &str, hook: Hook, frame: &[u8], verdict: Verdict, bytes: Vec<u8>) -> &mut Fixture {
        let by = if hook.is_xdp() { "port, XDP" } else { "port" };
        let mut f = Fixture::new(&format!("{by}: {name}"), Stimulus::new(hook, frame.to_vec()));
        (f.verdict, f.bytes) = (verdict, bytes);
        self.out.push(f);
        self.out.last_mut().expect("one was pushed")
    }

    fn sent(&mut self) {
        let wire = Verdict::ToWire { ifindex: self.devices.underlay };
        let (tc, xdp) = (Hook::Port(PORT.into()), Hook::PortXdp(PORT.into()));
        for vtep in [4, 5, 6] {
            for len in [44, 106, 1514] {
                let frame = summed(&udp4(remote(vtep), mac(PORT), len), UdpSum::Right);
                let on_wire = on_wire(vtep, VNI_INDEX, &frame);
                let name = format!("{len} bytes to dynamic VTEP {vtep}");
                self.add(&name, tc, &frame, wire, on_wire.clone());
                self.add(&name, xdp, &frame, wire, on_wire);
            }
            // Whatever the flow, the source port is the same.
            for frame in [tcp4(remote(vtep), mac(PORT), 90), tagged(&udp4(remote(vtep), mac(PORT), 90), 0x8100, 5)] {
                let on_wire = on_wire(vtep, VNI_INDEX, &frame);
                self.add(
                    &format!("{} bytes, not XDP's, to dynamic VTEP {vtep}", frame.len()),
                    tc,
                    &frame,
                    wire,
                    on_wire,
                );
            }
            let frame = udp4(remote(vtep), mac(PORT), 80);
            let on_wire = on_wire(vtep, VNI_INDEX, &frame);
            let kernel = Verdict::ToNeighbour { ifindex: self.devices.underlay };
            let f = self.add(&format!("to dynamic VTEP {vtep}, agent gone"), tc, &frame, kernel, on_wire);
            f.stimulus.stale_agent = true;
            f.counts.push((Count::KernelNextHop, 1));
        }
    }

    fn held(&mut self) {
        let waits = Verdict::Held { ifindex: self.devices.hold };
        let (tc, xdp) = (Hook::Port(PORT.into()), Hook::PortXdp(PORT.into()));
        let frame = summed(&udp4(remote(HELD), mac(PORT), 106), UdpSum::Right);
        self.add("held back", tc, &frame, waits, waiting(&frame)).counts.push((Count::Held, 1));
        self.add("held back", xdp, &frame, Verdict::Pass, frame.clone());
        let mut reply = arp(mac(PORT));
        reply[..6].copy_from_slice(&remote(HELD));
        self.add("ARP, held back", tc, &reply, waits, waiting(&reply)).counts.push((Count::Held, 1));
        let long = tcp4(remote(HELD), mac(PORT), 54 + 3000);
        let f = self.add("super-packet, held back", tc, &long, waits, waiting(&long));
        f.stimulus.gso = (1400, 3);
        f.counts.push((Count::Held, 3));
        f.host_only = true;
        let too_long = udp4(remote(HELD), mac(PORT), MAX_INNER as usize + 1);
        let reason = Reason::ExceedsUnderlayMtu;
        self.add("held back, too long", tc, &too_long, Verdict::Drop(reason), vec![]).drops.push(reason);
        // Nobody would send it on.
        let kernel = Verdict::ToNeighbour { ifindex: self.devices.underlay };
        let f = self.add("held back, agent gone", tc, &frame, kernel, on_wire(HELD, VNI_INDEX, &frame));
        f.stimulus.stale_agent = true;
        f.counts.push((Count::KernelNextHop, 1));
    }

    fn flooded(&mut self) {
        let tc = Hook::Port(PORT.into());
        for (name, frame) in [("broadcast", arp(mac(PORT))), ("VLAN tag", tagged(&arp(mac(PORT)), 0x8100, 9))] {
            let mut copies: Vec<_> =
                [4, 5, 6].map(|vtep| (self.devices.underlay, on_wire(vtep, VNI_INDEX, &frame))).to_vec();
            copies.push((self.devices.hold, waiting(&frame)));
            let f = self.add(&format!("{name} to dynamic VTEPs"), tc, &frame, Verdict::Consumed, vec![]);
            f.copies = copies;
            f.counts.extend([(Count::Flooded, 1), (Count::FloodCopies, 4), (Count::Held, 1)]);
        }
    }
}
