//! The table of fixtures: what else comes to our UDP ports than frames of peers with addresses of their own. Dynamic peers, pulses, and
//! what is for the agent's socket.

use std::{format, vec, vec::Vec};

use super::{
    fixtures::{Then, Underlay},
    frames::{Outer, UdpSum, arp, summed, tcp4, udp4},
    world::{
        self, EXTRA_PORT, FLAGS, LABEL, LOCAL, MAC_UNKNOWN, RELAY, RELAY_PORT, UDP_PORT, endpoint, mac, remote,
        vtep_addr,
    },
};
use crate::{
    abi::{ConfigFlags, Count},
    reason::Reason,
};

/// The VNI of dynamic peers, and its port.
const VNI_INDEX: u16 = 4;
const PORT: u8 = 8;

/// Outer headers of what a dynamic VTEP sends.
fn from(vtep: u16) -> Outer {
    let at = endpoint(vtep);
    Outer {
        src: at.addr,
        udp_src: at.port,
        udp_dst: at.source_port.unwrap_or_default(),
        vxlan_flags: 0x0800_0000 | at.label.get(),
        vni: world::vni(VNI_INDEX),
        ..Outer::default()
    }
}

/// The same headers, there and back.
fn back(outer: &Outer) -> Outer {
    Outer {
        eth_dst: outer.eth_src,
        eth_src: outer.eth_dst,
        src: outer.dst,
        dst: outer.src,
        udp_src: outer.udp_dst,
        udp_dst: outer.udp_src,
        ttl: 64,
        ..outer.clone()
    }
}

fn stun() -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat()
}

impl Underlay<'_> {
    pub(super) fn dynamic(&mut self) {
        self.sockets();
        self.senders();
        self.strangers();
        self.pulses();
        self.answers();
        self.checksums();
    }

    /// Changes the fixtures that were added last, for both hooks.
    fn last(&mut self, change: impl Fn(&mut super::Fixture)) {
        self.out.iter_mut().rev().take(2).for_each(change);
    }

    fn sockets(&mut self) {
        let control = [&b"W\0\0\0\x01\x05\0\0"[..], &[9; 40]].concat();
        let label = [&b"W\x01\x02\x03\x01\x05\0\0"[..], &[9; 40]].concat();
        for (name, payload) in [("STUN", stun()), ("control", control), ("relayed control", label)] {
            for (to, udp_dst) in [("main", UDP_PORT), ("an extra", EXTRA_PORT + 15)] {
                let frame = Outer { udp_dst, ..Outer::default() }.carry(&payload);
                self.add(&format!("{name} to {to} port"), frame.clone(), Then::Pass);
                let then = if udp_dst == UDP_PORT { Then::Drop(Reason::VxlanFlags) } else { Then::Pass };
                self.add(&format!("{name} to {to} port, no agent"), frame, then);
                self.last(|f| f.stimulus.flags = ConfigFlags::DYNAMIC);
            }
        }
        let beyond = |udp_dst| Outer { udp_dst, ..Outer::default() }.carry(&stun());
        self.add("STUN to the port before the extra ones", beyond(EXTRA_PORT - 1), Then::Pass);
        self.add("STUN to the port behind the extra ones", beyond(EXTRA_PORT + 16), Then::Pass);
        self.last(|f| f.stimulus.flags = 0);
        let mut cookie = stun();
        cookie[4] ^= 1;
        for (name, payload) in [
            ("nothing", vec![]),
            ("one byte", vec![0]),
            ("three bytes", vec![0; 3]),
            ("a relayed pulse and a byte", b"P\0\0\0\x12\x34\0".to_vec()),
            ("a byte of a header of control", b"W\0\0\0\x01\x05\0".to_vec()),
            ("STUN with another cookie", cookie),
            ("STUN, cut", stun()[..19].to_vec()),
            ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ] {
            self.add(&format!("payload: {name}"), from(4).carry(&payload), Then::Drop(Reason::UnknownPayload));
            for (who, outer) in [("a peer", from(5)), ("anybody", Outer { udp_dst: EXTRA_PORT, ..from(4) })] {
                let name = format!("payload: {name}, from {who} to an extra port");
                self.add(&name, outer.carry(&payload), Then::Pass);
            }
        }
        let short = from(4).carry(&[8, 0, 0]);
        self.add("payload: three bytes of VXLAN", short, Then::Drop(Reason::OuterMalformed));
        let frame = |outer: Outer| outer.build(&udp4(mac(PORT), remote(5), 100));
        for (flaw, outer) in [
            ("IP options", Outer { options: vec![1; 4], ..from(5) }),
            ("a first fragment", Outer { frag: 0x2000, ..from(5) }),
            ("a wrong header checksum", Outer { checksum_off_by: 1, ..from(5) }),
            ("no TTL", Outer { ttl: 0, ..from(5) }),
            ("from our own address", Outer { src: LOCAL, ..from(5) }),
        ] {
            self.add(&format!("{flaw}, an extra port"), frame(outer), Then::Pass);
        }
        let fragment = Outer { frag: 0x2000, ..from(4) };
        self.add("first fragment of STUN", fragment.carry(&stun()), Then::Drop(Reason::OuterFragment));
    }

    fn senders(&mut self) {
        let inner = |vtep| udp4(mac(PORT), remote(vtep), 100);
        for (name, outer, vtep) in [
            ("behind a NAT", from(4), 4),
            ("behind the same NAT", from(5), 5),
            ("by a relay", from(6), 6),
            ("behind another NAT, to whom nothing is sent now", from(7), 7),
            ("behind the first one's port, to another port of ours", Outer { udp_dst: EXTRA_PORT + 2, ..from(4) }, 7),
            ("straight, with a label that means nothing", Outer { vxlan_flags: 0x0800_0001, ..from(4) }, 4),
            ("by another path, at a static peer's address", Outer { src: vtep_addr(1), udp_src: 41_000, ..from(4) }, 4),
            ("a static peer at that address", Outer { src: vtep_addr(1), ..from(4) }, 1),
        ] {
            let learned = if vtep == 1 { Some((Count::Learned, 1)) } else { None };
            let frame = outer.build(&inner(vtep));
            let then = Then::Deliver(PORT, inner(vtep));
            self.add_counting(&format!("dynamic, {name}"), frame, &then, learned.as_slice());
            self.last(|f| f.vtep = Some(vtep.into()));
        }
        let moved = from(5).build(&inner(4));
        self.add_counting("dynamic, MAC moves", moved, &Then::Deliver(PORT, inner(4)), &[(Count::Moved, 1)]);
        let new = udp4(mac(PORT), MAC_UNKNOWN, 100);
        self.add_counting("dynamic, new MAC", from(6).build(&new), &Then::Deliver(PORT, new), &[(Count::Learned, 1)]);
        let request = arp(remote(5));
        self.add("dynamic, broadcast", from(5).build(&request), Then::Flood(vec![PORT], request, vec![]));
        let tcp = tcp4(mac(PORT), remote(4), 100);
        self.add("dynamic, TCP", from(4).build(&tcp), Then::Deliver(PORT, tcp));
        self.last(|f| {
            if let Some((_, vni_index)) = &mut f.noted {
                *vni_index = VNI_INDEX;
            }
        });
    }

    fn strangers(&mut self) {
        use Reason::{NotMember, UnknownPath, UnknownVni, UnknownVtep};
        let inner = udp4(mac(PORT), remote(4), 100);
        let label = |n| Outer { vxlan_flags: 0x0800_0000 | n, ..from(6) };
        for (name, outer, reason) in [
            ("unknown port of a NAT", Outer { udp_src: 40_003, ..from(4) }, UnknownPath),
            ("unknown address", Outer { src: [203, 0, 113, 9], ..from(4) }, UnknownPath),
            ("to the main port instead of an extra one", Outer { udp_dst: UDP_PORT, ..from(5) }, UnknownPath),
            ("a relay without a label", label(0), UnknownPath),
            ("a relay with another label", label(LABEL ^ 0x80), UnknownPath),
            ("a label at another port of the relay", Outer { udp_src: RELAY_PORT + 1, ..from(6) }, UnknownPath),
            (
                "a label straight from a peer",
                Outer { udp_src: 40_003, vxlan_flags: 0x0800_0000 | LABEL, ..from(4) },
                UnknownPath,
            ),
            ("a path that is for no frames", Outer { src: [203, 0, 113, 99], udp_src: 3478, ..from(4) }, UnknownPath),
            ("an entry whose slot is free", Outer { udp_src: 40_060, ..from(4) }, UnknownPath),
            ("an entry whose slot is another's", Outer { udp_src: 40_061, ..from(4) }, UnknownPath),
            ("a label that leads to a relay", label(LABEL + 2), UnknownPath),
            ("a peer that is no member", Outer { vni: world::vni(0), ..from(4) }, NotMember),
            ("a path of a peer that has gone", label(LABEL + 1), NotMember),
            ("unknown VNI", Outer { vni: 999, ..from(4) }, UnknownVni),
            ("unknown VNI, from nobody", Outer { vni: 999, udp_src: 40_003, ..from(4) }, UnknownVni),
            ("a static peer that is no member", Outer { src: vtep_addr(3), ..from(4) }, NotMember),
            ("the name of a dynamic peer as address", Outer { src: [0, 0, 0, 4], ..from(4) }, Reason::OuterSource),
        ] {
            self.add(&format!("dynamic, {name}"), outer.build(&inner), Then::Drop(reason));
        }
        let extra = |outer: Outer| Outer { udp_dst: EXTRA_PORT, ..outer };
        let of_peer = Outer { vni: world::vni(0), ..from(5) };
        self.add("dynamic, a peer that is no member, to an extra port", of_peer.build(&inner), Then::Drop(NotMember));
        for (name, outer) in [
            ("to an extra port instead of the main one", extra(from(4))),
            ("to another extra port", extra(from(5))),
            ("an unknown VNI, to an extra port", Outer { vni: 999, ..extra(from(4)) }),
            ("a static peer to an extra port", Outer { src: vtep_addr(1), ..extra(from(4)) }),
        ] {
            for (who, flags) in [("dynamic", FLAGS), ("no dynamic peers", ConfigFlags::CONTROL)] {
                self.add(&format!("{who}, {name}"), outer.build(&inner), Then::Pass);
                self.last(|f| f.stimulus.flags = flags);
            }
        }
        for (name, then, outer) in
            [("a NAT", Then::Drop(UnknownVtep), from(4)), ("a NAT, to its extra port", Then::Pass, from(5))]
        {
            self.add(&format!("no dynamic peers, {name}"), outer.build(&inner), then);
            self.last(|f| f.stimulus.flags = ConfigFlags::CONTROL);
        }
        let shared = Outer { src: vtep_addr(1), udp_src: 41_000, ..from(4) };
        let frame = udp4(mac(PORT), remote(1), 100);
        let counts = [(Count::Learned, 1)];
        let then = Then::Deliver(PORT, frame.clone());
        self.add_counting(
            "no dynamic peers, a static one that shares its address",
            shared.build(&frame),
            &then,
            &counts,
        );
        self.last(|f| (f.stimulus.flags, f.vtep) = (ConfigFlags::CONTROL, Some(1)));
    }

    fn pulses(&mut self) {
        let straight = |n: u16| n.to_be_bytes().to_vec();
        let relayed = |n: u16| [&b"P\x0a\x0b\x0c"[..], &n.to_be_bytes()].concat();
        for (name, outer, payload) in [
            ("straight", from(4), straight as fn(u16) -> Vec<u8>),
            ("straight, to an extra port", from(5), straight),
            ("by a path for no frames", Outer { src: [203, 0, 113, 99], udp_src: 3478, ..from(4) }, straight),
            ("by a relay", from(6), relayed),
            ("with another TTL and TOS", Outer { ttl: 3, tos: 0xb8, id: 77, frag: 0, ..from(4) }, straight),
            ("padded", Outer { trailer: vec![0xee; 16], ..from(4) }, straight),
        ] {
            for n in [0, 0x1234, 0x7fff] {
                let then = Then::Answer(back(&outer).carry(&payload(n | 0x8000)));
                self.add(&format!("pulse {name}, {n:#x}"), outer.carry(&payload(n)), then);
            }
        }
        let frame = from(4).carry(&straight(5));
        // Where XDP cannot send, TC answers.
        self.add("pulse where XDP cannot send", frame.clone(), Then::Answer(back(&from(4)).carry(&straight(0x8005))));
        self.last(|f| f.stimulus.flags = FLAGS & !ConfigFlags::XDP_TX);
        if let Some(xdp) = self.out.iter_mut().rev().nth(1) {
            let frame = xdp.stimulus.frame.clone();
            (xdp.verdict, xdp.bytes) = (crate::datapath::Verdict::Pass, frame);
            xdp.counts.clear();
        }
        let group = Outer { eth_dst: [1, 0, 0x5e, 0, 0, 1], ..from(4) };
        self.add("pulse to a group's link address", group.carry(&straight(5)), Then::Drop(Reason::Rewrite));
        for (name, outer, payload) in [
            ("from an unknown port", Outer { udp_src: 40_003, ..from(4) }, straight(5)),
            ("from a static peer", Outer::default(), straight(5)),
            ("of the relay itself", Outer { src: RELAY, udp_src: RELAY_PORT, ..from(4) }, straight(5)),
            ("with an unknown label", from(6), b"P\x0a\x0b\xff\0\x05".to_vec()),
            ("to another port of ours", Outer { udp_dst: UDP_PORT, ..from(5) }, straight(5)),
            ("that is an answer, to another port of ours", Outer { udp_dst: EXTRA_PORT, ..from(4) }, straight(0x9234)),
            ("that is an answer, from an unknown port", Outer { udp_src: 40_003, ..from(4) }, straight(0x8005)),
        ] {
            let frame = outer.carry(&payload);
            self.add(&format!("pulse {name}"), frame.clone(), Then::Pass);
            if let Some(tc) = self.out.last_mut() {
                tc.counts.push((Count::PulseUnknown, 1));
            }
            let main = outer.udp_dst == UDP_PORT;
            let then = if main { Then::Drop(Reason::UnknownPath) } else { Then::Pass };
            self.add(&format!("pulse {name}, no agent"), frame, then);
            self.last(|f| f.stimulus.flags = FLAGS & !ConfigFlags::CONTROL);
            if let Some(tc) = self.out.last_mut().filter(|_| !main) {
                tc.counts.push((Count::PulseUnknown, 1));
            }
        }
        // A label that means nothing straight from a peer.
        let label = from(4).carry(&relayed(5));
        self.add("relayed pulse straight from a peer", label, Then::Answer(back(&from(4)).carry(&relayed(0x8005))));
        self.add("pulse, no dynamic peers and no agent", frame, Then::Drop(Reason::UnknownPath));
        self.last(|f| f.stimulus.flags = 0);
        let ours = Outer { src: LOCAL, ..from(4) };
        self.add("pulse from our own address", ours.carry(&straight(5)), Then::Drop(Reason::OwnSource));
    }

    /// To pulses that the world has sent.
    fn answers(&mut self) {
        let answer = |n: u16| (n | 0x8000).to_be_bytes().to_vec();
        self.add("answer that is waited for", from(4).carry(&answer(0x1234)), Then::Note(Count::PulseReturned));
        let relayed = |n: u16| [&b"P\x0a\x0b\x0c"[..], &answer(n)].concat();
        self.add("answer by a relay", from(6).carry(&relayed(0x0567)), Then::Note(Count::PulseReturned));
        for (name, outer, payload) in [
            ("to nothing", from(4), answer(0x1235)),
            ("to a pulse that differs where numbers share a place", from(4), answer(0x1230)),
            ("to another path's pulse", from(5), answer(0x1234)),
            ("by a relay, to nothing", from(6), relayed(0x0563)),
        ] {
            self.add(&format!("answer {name}"), outer.carry(&payload), Then::Drop(Reason::PulseStray));
        }
    }

    fn checksums(&mut self) {
        for (name, what) in [("right", UdpSum::Right), ("partial", UdpSum::Partial)] {
            for n in [5u16, 0x7abc] {
                let ask = summed(&from(4).carry(&n.to_be_bytes()), what);
                let answer = summed(&back(&from(4)).carry(&(n | 0x8000).to_be_bytes()), what);
                self.add(&format!("pulse {n:#x} with a {name} checksum"), ask, Then::Answer(answer));
            }
        }
        // Whatever is wrong stays wrong.
        let ask = summed(&from(4).carry(&[0, 5]), UdpSum::Wrong);
        let answer = summed(&back(&from(4)).carry(&[0x80, 5]), UdpSum::Wrong);
        self.add("pulse with a wrong checksum", ask, Then::Answer(answer));
        // The sum that would be zero is sent as 0xffff: what is added to a payload of zero is taken from the sum.
        for outer in [from(4), from(5), Outer { src: [203, 0, 113, 99], udp_src: 3478, ..from(4) }] {
            let answer = |n: u16| summed(&back(&outer).carry(&(n | 0x8000).to_be_bytes()), UdpSum::Right);
            let n = u16::from_be_bytes([answer(0)[40], answer(0)[41]]);
            if n < 0x8000 {
                assert_eq!(answer(n)[40..42], [0xff; 2], "the fixture is about a sum of zero");
                let ask = summed(&outer.carry(&n.to_be_bytes()), UdpSum::Right);
                let name = format!("pulse whose answer's checksum comes to zero, {n:#x}");
                self.add(&name, ask, Then::Answer(answer(n)));
            }
        }
    }
}
