//! The relay's fixtures of STUN: what XDP answers, and everything that it leaves to the server.

use std::{format, vec, vec::Vec};

use super::{
    OTHER, SERVER,
    fixtures::{Table, Then, from, stun},
    hop_mac, host, link_mac,
};
use crate::{
    abi::relay::{RelayAddr, RelayCount},
    relay::Verdict,
    testing::frames::{Outer, UdpSum, summed, tagged},
};

/// Outer headers from a host to the server, as its router sends them.
fn asks(n: u8) -> Outer {
    Outer { eth_dst: link_mac(0).0, eth_src: hop_mac(n).0, ..from(n) }
}

/// An attribute with an address (RFC 8489 section 14.1), and the same masked with the magic cookie (section 14.2).
fn attribute(kind: u16, at: RelayAddr, mask: [u8; 4]) -> Vec<u8> {
    let [hi, lo] = at.port.to_be_bytes();
    let addr: Vec<u8> = at.addr.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
    [&kind.to_be_bytes()[..], &[0, 8, 0, 1, hi ^ mask[0], lo ^ mask[1]], &addr].concat()
}

/// The answer to who asks from an address.
fn answer(to: RelayAddr) -> Vec<u8> {
    let clear = [0; 4];
    [
        vec![1, 1, 0, 48, 0x21, 0x12, 0xa4, 0x42],
        vec![7; 12],
        attribute(0x0020, to, [0x21, 0x12, 0xa4, 0x42]),
        attribute(0x0001, to, clear),
        attribute(0x802b, SERVER, clear),
        attribute(0x802c, OTHER, clear),
    ]
    .concat()
}

/// The frame with the answer to one with a request.
fn answered(asked: &Outer) -> Vec<u8> {
    let to = RelayAddr { addr: asked.src, port: asked.udp_src };
    let outer = Outer {
        eth_dst: asked.eth_src,
        eth_src: asked.eth_dst,
        src: asked.dst,
        dst: asked.src,
        udp_src: asked.udp_dst,
        udp_dst: asked.udp_src,
        ..Outer::default()
    };
    summed(&outer.carry(&answer(to)), UdpSum::Right)
}

impl Table<'_> {
    /// STUN.
    pub(super) fn stun(&mut self) {
        for n in [1, 9, 200] {
            let complete = summed(&asks(n).carry(&stun()), UdpSum::Right);
            self.add(&format!("a plain request of {n}"), complete, &Then::Answered(answered(&asks(n))));
        }
        for (name, asked) in [
            ("without a checksum", asks(1)),
            ("with other fields", Outer { tos: 0x2e, id: 0xbeef, frag: 0, ttl: 1, ..asks(1) }),
            ("from the highest port", Outer { udp_src: 65_535, ..asks(1) }),
            ("from the lowest port", Outer { udp_src: 1, ..asks(1) }),
            ("from the highest address", Outer { src: [223, 255, 255, 254], ..asks(1) }),
            ("from the lowest address", Outer { src: [1, 0, 0, 0], ..asks(1) }),
        ] {
            self.add(&format!("a plain request, {name}"), asked.carry(&stun()), &Then::Answered(answered(&asked)));
        }
        self.too_fast();
        self.not_answered();
    }

    /// Of who has had all its answers, plain requests are dropped by XDP, and TC has no part in that.
    fn too_fast(&mut self) {
        self.add("a plain request too many", asks(1).carry(&stun()), &Then::Drop(RelayCount::StunTooFast));
        self.last_in_tc(|f| (f.verdict, f.counts) = (Verdict::Pass, vec![RelayCount::ForServer]));
        let more = [&[0, 1, 0, 8][..], &stun()[4..], &[0x80, 0x22, 0, 4, 1, 2, 3, 4]].concat();
        self.left("another kind of request too many", asks(1).carry(&more));
        self.out.iter_mut().rev().take(4).for_each(|f| f.stimulus.spent = true);
    }

    fn left(&mut self, name: &str, frame: Vec<u8>) {
        self.add(&format!("STUN, {name}"), frame, &Then::Pass(RelayCount::ForServer));
    }

    fn not_answered(&mut self) {
        let plain = || asks(1).carry(&stun());
        for (name, outer) in [
            ("for another machine", Outer { eth_dst: link_mac(1).0, ..asks(1) }),
            ("for all machines", Outer { eth_dst: [0xff; 6], ..asks(1) }),
            ("from a group", Outer { eth_src: [0x03, 0x51, 0, 0, 0, 1], ..asks(1) }),
            ("from no machine", Outer { eth_src: [0; 6], ..asks(1) }),
            ("from this machine", Outer { eth_src: link_mac(0).0, ..asks(1) }),
            ("from our address", Outer { src: SERVER.addr, udp_src: 9, ..asks(1) }),
            ("from our address and port", Outer { src: SERVER.addr, udp_src: SERVER.port, ..asks(1) }),
            ("from our other address", Outer { src: OTHER.addr, udp_src: 9, ..asks(1) }),
            ("from our other address and port", Outer { src: OTHER.addr, udp_src: OTHER.port, ..asks(1) }),
            ("from port 0", Outer { udp_src: 0, ..asks(1) }),
            ("from 0.0.0.0", Outer { src: [0; 4], ..asks(1) }),
            ("from this network", Outer { src: [0, 1, 2, 3], ..asks(1) }),
            ("from loopback", Outer { src: [127, 0, 0, 1], ..asks(1) }),
            ("from a group's address", Outer { src: [224, 0, 0, 1], ..asks(1) }),
            ("from a reserved address", Outer { src: [240, 0, 0, 1], ..asks(1) }),
            ("from all", Outer { src: [255; 4], ..asks(1) }),
            ("with a wrong checksum of IP", Outer { checksum_off_by: 1, ..asks(1) }),
            ("with bytes behind it", Outer { trailer: vec![0; 2], ..asks(1) }),
        ] {
            self.left(name, outer.carry(&stun()));
        }
        self.left("with a wrong checksum", summed(&plain(), UdpSum::Wrong));
        self.left("with a checksum that is left to a NIC", summed(&plain(), UdpSum::Partial));
        for (name, kind, body) in [
            ("an indication", [0, 0x11], vec![]),
            ("an answer", [1, 1], vec![]),
            ("another method", [0, 3], vec![]),
            ("CHANGE-REQUEST without flags", [0, 1], vec![0, 3, 0, 4, 0, 0, 0, 0]),
            ("SOFTWARE", [0, 1], vec![0x80, 0x22, 0, 4, 1, 2, 3, 4]),
            ("FINGERPRINT", [0, 1], vec![0x80, 0x28, 0, 4, 1, 2, 3, 4]),
        ] {
            let header = [&kind[..], &(body.len() as u16).to_be_bytes(), &stun()[4..], &body].concat();
            self.left(name, asks(1).carry(&header));
        }
        let longer = [&stun()[..3], &[4], &stun()[4..]].concat();
        self.left("longer than its datagram", asks(1).carry(&longer));
        let more = [stun(), vec![0; 4]].concat();
        self.left("shorter than its datagram", asks(1).carry(&more));
        let without_cookie = [&stun()[..4], &[7; 16]].concat();
        let unknown = Then::Pass(RelayCount::UnknownPayload);
        self.add("STUN of RFC 3489", asks(1).carry(&without_cookie), &unknown);
        let elsewhere = Outer { udp_dst: OTHER.port, ..asks(1) };
        self.add("STUN to the other port", elsewhere.carry(&stun()), &Then::Other);
        let elsewhere = Outer { dst: host(9).addr, ..asks(1) };
        self.add("STUN to another address", elsewhere.carry(&stun()), &Then::Other);
        self.add("STUN, tagged", tagged(&plain(), 0x8100, 7), &Then::Other);
        self.left("by another interface", plain());
        let second = self.devices.second;
        self.out.iter_mut().rev().take(2).for_each(|f| f.stimulus.ifindex = second);
        self.left("without room in front of it", plain());
        self.out.iter_mut().rev().take(2).for_each(|f| (f.stimulus.headroom, f.host_only) = (40, true));
    }
}
