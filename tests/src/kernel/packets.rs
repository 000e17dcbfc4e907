//! Random packets: good ones of every kind, and what bit rot makes of them.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use wavnet_common::addr::{Mac, Vni};

use crate::lab::frame::{ARP, Outer, QINQ, VLAN, ethernet, marked, tagged};

/// This VTEP.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// A peer that is a member of VNI 100.
pub const MEMBER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// A peer that is a member of another VNI.
pub const NOT_MEMBER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

/// MAC number `n` of the tests; see the FDB that a test sets up.
pub const fn vm(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// A packet and where it comes from.
#[derive(Clone, Debug)]
pub struct Packet {
    /// From the underlay, or from a VM.
    pub from_underlay: bool,
    /// The frame.
    pub bytes: Vec<u8>,
}

fn addresses() -> impl Strategy<Value = (Mac, Mac)> {
    let group = prop_oneof![
        Just(Mac::BROADCAST),
        Just(Mac([1, 0, 0x5e, 0, 0, 9])),
        Just(Mac([1, 0x80, 0xc2, 0, 0, 2])),
        Just(Mac([0; 6])),
    ];
    let any = prop_oneof![8 => (0u8..10).prop_map(vm), 2 => group.boxed()];
    (any.clone(), prop_oneof![9 => (0u8..10).prop_map(vm), 1 => any])
}

fn ip_frame(dst: Mac, src: Mac, kind: u8, payload: &[u8], ports: (u16, u16)) -> Vec<u8> {
    let link = PacketBuilder::ethernet2(src.0, dst.0);
    let mut out = Vec::new();
    let written = match kind {
        0 => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(ports.0, ports.1).write(&mut out, payload),
        1 => link.ipv4([10, 0, 0, 3], [10, 0, 0, 2], 64).tcp(ports.0, ports.1, 7, 1000).write(&mut out, payload),
        2 => link.ipv6([0x20; 16], [0xfe; 16], 64).udp(ports.0, ports.1).write(&mut out, payload),
        3 => link.ipv6([0x21; 16], [0xfe; 16], 64).tcp(ports.0, ports.1, 7, 1000).write(&mut out, payload),
        4 => link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).icmpv4_echo_request(1, 2).write(&mut out, payload),
        5 => {
            let vlan = etherparse::VlanId::try_new(7).expect("a valid VLAN");
            link.single_vlan(vlan).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1, 2).write(&mut out, payload)
        }
        6 => return ethernet(dst, src, ARP, payload),
        7 => return tagged(&tagged(&marked(dst, src, "two tags"), VLAN, 1), QINQ, 2),
        _ => return tagged(&tagged(&tagged(&marked(dst, src, "three"), VLAN, 1), VLAN, 2), QINQ, 3),
    };
    written.expect("writing to memory");
    out
}

fn inner() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 1400..1500),
    ];
    (addresses(), 0u8..9, payload, any::<(u16, u16)>())
        .prop_map(|((dst, src), kind, payload, ports)| ip_frame(dst, src, kind, &payload, ports))
}

fn outer() -> impl Strategy<Value = Outer> {
    let src = prop_oneof![12 => Just(MEMBER), 1 => Just(NOT_MEMBER), 1 => Just(LOCAL), 1 => any::<u32>().prop_map(Ipv4Addr::from)];
    let vni = prop_oneof![12 => Just(100u32), 1 => Just(200), 1 => 0u32..1 << 24];
    let ttl = prop_oneof![12 => Just(64u8), 1 => Just(0), 1 => Just(1)];
    let flags = prop_oneof![12 => Just(8u8), 2 => any::<u8>()];
    let fragment = prop_oneof![12 => Just(0u16), 2 => Just(0x4000), 1 => Just(0x2000), 1 => Just(185)];
    let options = prop_oneof![12 => Just(0usize), 1 => 1usize..10];
    let length = prop_oneof![12 => Just(0i16), 1 => -60i16..60];
    let port = prop_oneof![12 => Just(4789u16), 1 => any::<u16>()];
    let wire = (src, vni, ttl, flags, fragment, options);
    (wire, length, port, any::<u16>(), prop::bool::weighted(0.05)).prop_map(
        |((src, vni, ttl, flags, fragment, options), udp_length_off, dst_port, src_port, corrupt)| Outer {
            src,
            vni,
            ttl,
            flags,
            fragment,
            options: vec![1; 4 * options],
            udp_length_off,
            dst_port,
            src_port,
            corrupt,
            ..Outer::new(vm(0xee), MEMBER, LOCAL, Vni::new(100).expect("a valid VNI"))
        },
    )
}

/// Some bytes set to others, and an end cut off or added.
#[derive(Clone, Debug)]
struct Rot {
    bytes: Vec<(prop::sample::Index, u8)>,
    cut: Option<prop::sample::Index>,
    add: usize,
}

fn rot() -> impl Strategy<Value = Rot> {
    let bytes = prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)];
    let cut = prop::option::weighted(0.25, any::<prop::sample::Index>());
    let add = prop_oneof![4 => Just(0usize), 1 => 1usize..64];
    (bytes, cut, add).prop_map(|(bytes, cut, add)| Rot { bytes, cut, add })
}

impl Rot {
    fn apply(&self, packet: &mut Vec<u8>) {
        // Headers are where it matters.
        let reach = packet.len().min(110);
        for (at, value) in &self.bytes {
            packet[at.index(reach)] = *value;
        }
        // The kernel takes no packet that ends within the link header.
        if let Some(cut) = &self.cut {
            packet.truncate(15 + cut.index(packet.len() - 14));
        }
        packet.extend(std::iter::repeat_n(0xa5, self.add));
    }
}

/// A packet of any kind.
pub fn any_packet() -> impl Strategy<Value = Packet> {
    let underlay = (outer(), inner()).prop_map(|(outer, inner)| (true, outer.wrap(&inner)));
    let vm = inner().prop_map(|frame| (false, frame));
    let noise = (any::<bool>(), prop::collection::vec(any::<u8>(), 15..200));
    (prop_oneof![6 => underlay, 4 => vm, 1 => noise], rot()).prop_map(|((from_underlay, mut bytes), rot)| {
        rot.apply(&mut bytes);
        Packet { from_underlay, bytes }
    })
}
