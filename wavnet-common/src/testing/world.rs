//! One small overlay that has every case in it. Slots are what they are in the kernel's tables.
//!
//! | VNI | ports | VTEPs |
//! | --- | --- | --- |
//! | 100 | 0, 1, 3 (discards VLANs), 4 (jumbo), 5 (delivered in TC) | 0, 1 (small MTU), 2 (unresolved), 3 (no route) |
//! | 200 | 2 | 0 |
//! | 300 | 6, alone | |
//! | 400 | 7 | 2 |
//! | 500 | 8 | 1 (shares its address), 4 to 6 (dynamic), 7 (dynamic, held back) |
//!
//! | dynamic VTEP | is at | sends to |
//! | --- | --- | --- |
//! | 4 | a NAT; later, by a path that is probed, at the address of VTEP 1 | the main port |
//! | 5 | the same NAT | an extra port |
//! | 6 | a relay | the main port |
//! | 7 | another NAT | the main port |
//!
//! The MAC of port *i*'s VM is [`mac`]`(i)`, that of the VM behind VTEP *j* is [`remote`]`(j)`, each known in the VNIs of its
//! place. Further entries are listed in [`World::new`].

use std::{vec, vec::Vec};

use crate::{
    abi::{
        Arrival, At, Config, ConfigFlags, Endpoint, ExtraPorts, FloodSet, Hold, HopFlags, LocalPort, Member, MemberKey,
        NextHop, Path, Port, PortFlags, Source, Vtep, VtepFlags,
    },
    addr::{Label, Mac},
    fdb::{self, Entry, Key, Memory, Place, Seen},
    wire::pulse::Number,
};

/// Our outer address.
pub const LOCAL: [u8; 4] = [192, 0, 2, 1];
/// Our UDP port.
pub const UDP_PORT: u16 = 4789;
/// The first of our 16 extra ports.
pub const EXTRA_PORT: u16 = 6000;
/// What this host has.
pub const FLAGS: u16 = ConfigFlags::CONTROL | ConfigFlags::DYNAMIC | ConfigFlags::XDP_TX;
/// The NAT that VTEPs 4 and 5 are behind.
pub const NAT: [u8; 4] = [203, 0, 113, 7];
/// The relay that VTEP 6 is reached by.
pub const RELAY: [u8; 4] = [203, 0, 113, 200];
/// UDP port of the relay.
pub const RELAY_PORT: u16 = 4789;
/// The session with VTEP 6.
pub const LABEL: u32 = 0x0a_0b0c;
/// Link address of the underlay interface.
pub const UNDERLAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Longest frame of ordinary ports.
pub const MAX_FRAME: u32 = 1514;
/// Longest frame of port 4.
pub const MAX_JUMBO: u32 = 3014;
/// Longest inner frame to VTEP 0: MTU 1600.
pub const MAX_INNER: u32 = 1564;
/// Longest inner frame to VTEP 1: MTU 1400.
pub const MAX_INNER_SMALL: u32 = 1364;
/// A MAC in VNI 100 whose entry points to port 2, which is VNI 200's.
pub const MAC_STALE: [u8; 6] = [0x52, 0x54, 0, 0xee, 0, 1];
/// A MAC in VNI 100 whose entry points to a slot of `PORTS` that is free.
pub const MAC_FREE_SLOT: [u8; 6] = [0x52, 0x54, 0, 0xee, 0, 2];
/// A MAC in VNI 100 with a static entry: port 1.
pub const MAC_STATIC: [u8; 6] = [0x52, 0x54, 0, 0xee, 0, 3];
/// A MAC that nobody knows.
pub const MAC_UNKNOWN: [u8; 6] = [0x52, 0x54, 0, 0xee, 0, 4];
/// A MAC in VNI 100 whose entry points to a slot of `VTEPS` that is free.
pub const MAC_FREE_VTEP: [u8; 6] = [0x52, 0x54, 0, 0xee, 0, 5];

/// The MAC of the VM at a port.
pub const fn mac(port: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, 0x10 + port]
}

/// The MAC of a VM behind a VTEP.
pub const fn remote(vtep: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 1, 0x10 + vtep]
}

/// The VNI of a slot.
pub const fn vni(index: u16) -> u32 {
    100 * (index as u32 + 1)
}

/// The outer address of a VTEP.
pub const fn vtep_addr(index: u8) -> [u8; 4] {
    [198, 51, 100, 2 + index]
}

/// The link address of the next hop to a VTEP.
pub const fn next_hop_mac(index: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, 1, index]
}

/// Where a dynamic VTEP is.
pub fn endpoint(index: u16) -> Endpoint {
    let at = |addr, port| Endpoint { source_port: Some(UDP_PORT), ..Endpoint::plain(addr, port) };
    match index {
        4 => at(NAT, 40_001),
        5 => Endpoint { source_port: Some(EXTRA_PORT + 1), ..at(NAT, 40_002) },
        6 => Endpoint { label: Label::of_word(LABEL), ..at(RELAY, RELAY_PORT) },
        _ => at([203, 0, 113, 8], 40_000),
    }
}

/// Interface indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// The underlay.
    pub underlay: u32,
    /// What holds frames back.
    pub hold: u32,
    /// The ports, by slot; the last one is an interface that is no port.
    pub ports: [u32; Devices::PORTS + 1],
}

impl Devices {
    /// Ports of the world.
    pub const PORTS: usize = 9;
    /// The place in `ports` of the interface that is no port.
    pub const STRANGER: usize = Devices::PORTS;
    /// Some numbers, for tests that need no real interfaces.
    pub const NUMBERS: Devices = Devices { underlay: 2, hold: 3, ports: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19] };
}

/// What is in the tables.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named after the maps")]
pub struct World {
    pub config: Config,
    pub vnis: Vec<(u16, u32)>,
    pub ports: Vec<(u16, Port)>,
    pub vteps: Vec<(u16, Vtep)>,
    pub members: Vec<(MemberKey, Member)>,
    pub paths: Vec<(u16, Path)>,
    pub path_of: Vec<(Source, At)>,
    pub holds: Vec<(u16, Hold)>,
    /// Pulses that wait for an answer: path, number.
    pub expected: Vec<(u16, Number)>,
    pub floods: Vec<(u16, FloodSet)>,
    /// Entries of the FDB: slot of the VNI, MAC, place, static.
    pub fdb: Vec<(u16, [u8; 6], Place, bool)>,
}

impl World {
    /// The world of the module's table, on these devices.
    pub fn new(devices: &Devices) -> World {
        let port = |i: u16, vni_index: u16, flags: u16, max_frame: u32| {
            let ifindex = devices.ports[usize::from(i)];
            (i, Port { ifindex, vni: vni(vni_index), vni_index, flags: flags | PortFlags::USED, max_frame })
        };
        let hop = |i: u8, max_inner| NextHop {
            ifindex: devices.underlay,
            max_inner,
            dst_mac: next_hop_mac(i),
            src_mac: UNDERLAY_MAC,
            src_v4: LOCAL,
            flags: if i == 1 { 0 } else { HopFlags::XDP },
        };
        let vtep = |i: u8, half: u32, next_hop: NextHop| {
            // The half that is not in force holds rubbish that no frame may ever carry.
            let rubbish = NextHop { dst_mac: [0xba; 6], src_mac: [0xbb; 6], src_v4: [0xbc; 4], ..next_hop };
            let to = Endpoint::plain(vtep_addr(i), UDP_PORT);
            let elsewhere = Endpoint { addr: [0xbd; 4], port: 0xbebe, source_port: Some(0xbfbf), ..to };
            let mut vtep = Vtep::new(half ^ 1, &elsewhere, &rubbish);
            vtep.half = vtep.prepare(&to, &next_hop);
            (u16::from(i), vtep)
        };
        let dynamic = |i: u8, flags| {
            let mut vtep =
                Vtep::new(0, &Endpoint::plain([0xbd; 4], 0xbebe), &NextHop { dst_mac: [0xba; 6], ..hop(i, 1) });
            vtep.half = vtep.prepare(&endpoint(i.into()), &hop(i, MAX_INNER));
            vtep.flags |= VtepFlags::DYNAMIC | flags;
            (u16::from(i), vtep)
        };
        let member = |vni_index: u16, vtep_index: u16| {
            let key = MemberKey { vni: vni(vni_index), addr: vtep_addr(vtep_index as u8) };
            (key, Member { vni: vni(vni_index), vni_index, vtep_index, learns: true, shares: false })
        };
        let dynamic_member = |vni_index: u16, vtep_index: u16| {
            let (_, member) = member(vni_index, vtep_index);
            (MemberKey::dynamic(member.vni, vtep_index), member)
        };
        let sharing = |(key, member): (MemberKey, Member)| (key, Member { shares: true, ..member });
        let path = |i: u16, source, vtep_index: Option<u16>| (i, Path { source, vtep_index });
        let to = |to, addr, port| Source::Endpoint(Arrival { addr, port, to });
        let at = |addr, port| to(LocalPort::MAIN, addr, port);
        // The second of the extra ports.
        let extra = LocalPort::of_word(2);
        let of_vtep = |i| to(if i == 5 { extra } else { LocalPort::MAIN }, endpoint(i).addr, endpoint(i).port);
        let relayed = |label| Source::Relayed { relay: 3, label: Label::of_word(label) };
        let paths = vec![
            path(0, of_vtep(4), Some(4)),
            path(1, of_vtep(5), Some(5)),
            path(2, relayed(LABEL), Some(6)),
            path(3, of_vtep(7), Some(7)),
            path(4, at(vtep_addr(1), 41_000), Some(4)),
            // Of nobody whose frames are wanted.
            path(5, at([203, 0, 113, 99], 3478), None),
            path(6, relayed(LABEL + 1), Some(9)),
            // One endpoint, and another peer where it sends to another port of ours.
            path(7, to(LocalPort::of_word(3), endpoint(4).addr, endpoint(4).port), Some(7)),
        ];
        let mut path_of: Vec<(Source, At)> = paths.iter().map(|(i, path)| (path.source, At::Path(*i))).collect();
        path_of.push((at(RELAY, RELAY_PORT), At::Relay(3)));
        // Entries that are out of date: their slots are free, or another's.
        path_of.push((at(NAT, 40_060), At::Path(60)));
        path_of.push((at(NAT, 40_061), At::Path(0)));
        path_of.push((relayed(LABEL + 2), At::Relay(3)));
        let mut fdb = vec![
            (0, MAC_STALE, Place::Port(2), false),
            (0, MAC_FREE_SLOT, Place::Port(60), false),
            (0, MAC_STATIC, Place::Port(1), true),
            (0, MAC_FREE_VTEP, Place::Vtep(60), false),
        ];
        for (vni_index, i) in [(0, 0), (0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (2, 6), (3, 7), (4, 8)] {
            fdb.push((vni_index, mac(i), Place::Port(i.into()), false));
        }
        for (vni_index, i) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (3, 2), (4, 4), (4, 5), (4, 6), (4, 7)] {
            fdb.push((vni_index, remote(i), Place::Vtep(i.into()), false));
        }
        World {
            config: Config {
                flags: FLAGS,
                extra_ports: ExtraPorts::new(EXTRA_PORT, 16),
                hold_ifindex: devices.hold,
                ..Config::plain(LOCAL, UDP_PORT)
            },
            vnis: (0..5).map(|i| (i, vni(i))).collect(),
            ports: vec![
                port(0, 0, PortFlags::XDP, MAX_FRAME),
                port(1, 0, PortFlags::ONE_BUFFER | PortFlags::XDP | PortFlags::TAP, MAX_FRAME),
                port(2, 1, 0, MAX_FRAME),
                port(3, 0, PortFlags::VLAN_DISCARD, MAX_FRAME),
                port(4, 0, PortFlags::XDP | PortFlags::DATAGRAM_GSO, MAX_JUMBO),
                port(5, 0, PortFlags::DELIVER_TC, MAX_FRAME),
                port(6, 2, 0, MAX_FRAME),
                port(7, 3, 0, MAX_FRAME),
                port(8, 4, PortFlags::XDP, MAX_FRAME),
            ],
            vteps: vec![
                vtep(0, 0, hop(0, MAX_INNER)),
                vtep(1, 1, hop(1, MAX_INNER_SMALL)),
                vtep(2, 0, NextHop { dst_mac: [0; 6], ..hop(2, MAX_INNER) }),
                vtep(3, 1, NextHop::NONE),
                dynamic(4, 0),
                dynamic(5, 0),
                dynamic(6, 0),
                dynamic(7, VtepFlags::HELD),
            ],
            members: vec![
                member(0, 0),
                member(0, 1),
                member(0, 2),
                member(0, 3),
                member(1, 0),
                member(3, 2),
                sharing(member(4, 1)),
                dynamic_member(4, 4),
                dynamic_member(4, 5),
                dynamic_member(4, 6),
                dynamic_member(4, 7),
            ],
            paths,
            path_of,
            holds: vec![(7, Hold::Hold)],
            expected: vec![(0, Number::new(0x1234)), (2, Number::new(0x0567))],
            floods: vec![
                (0, flood_set(&[0, 1, 3, 4, 5], &[0, 1, 2, 3])),
                (1, flood_set(&[2], &[0])),
                (2, flood_set(&[6], &[])),
                (3, flood_set(&[7], &[2])),
                (4, flood_set(&[8], &[4, 5, 6, 7])),
            ],
            fdb,
        }
    }

    /// Static peers: slot, address.
    pub fn static_peers(&self) -> impl Iterator<Item = (u16, [u8; 4])> {
        let fixed = self.vteps.iter().filter(|(_, v)| !v.has(VtepFlags::DYNAMIC));
        fixed.map(|(i, v)| (*i, v.endpoint().addr))
    }

    /// Enters the world's FDB entries, all seen `now`.
    ///
    /// # Panics
    /// If the table is too small.
    pub fn fill_fdb<M: Memory + ?Sized>(&self, memory: &M, now: Seen) {
        for (vni_index, mac, place, is_static) in &self.fdb {
            let entry = Entry { place: *place, is_static: *is_static, seen: now, epoch: 0 };
            fdb::set(memory, Key::new(*vni_index, Mac(*mac)), entry).expect("the test's table has room");
        }
    }
}

/// A flood set of these ports and VTEPs.
pub fn flood_set(ports: &[u16], vteps: &[u16]) -> FloodSet {
    let mut set = FloodSet { vtep_count: vteps.len() as u32, port_count: ports.len() as u32, ..FloodSet::EMPTY };
    set.ports[..ports.len()].copy_from_slice(ports);
    set.vteps[..vteps.len()].copy_from_slice(vteps);
    set
}
