//! One small overlay that has every case in it. Slots are what they are in the kernel's tables.
//!
//! | VNI | ports | VTEPs |
//! | --- | --- | --- |
//! | 100 | 0, 1, 3 (discards VLANs), 4 (jumbo), 5 (delivered in TC) | 0, 1 (small MTU), 2 (unresolved), 3 (no route) |
//! | 200 | 2 | 0 |
//! | 300 | 6, alone | |
//! | 400 | 7 | 2 |
//!
//! The MAC of port *i*'s VM is [`mac`]`(i)`, that of the VM behind VTEP *j* is [`remote`]`(j)`, each known in the VNIs of its
//! place. Further entries are listed in [`World::new`].

use std::{vec, vec::Vec};

use crate::{
    abi::{Config, FloodSet, HopFlags, Member, MemberKey, NextHop, Port, PortFlags, Vtep},
    addr::Mac,
    fdb::{self, Entry, Key, Memory, Place, Seen},
};

/// Our outer address.
pub const LOCAL: [u8; 4] = [192, 0, 2, 1];
/// Our UDP port.
pub const UDP_PORT: u16 = 4789;
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

/// Interface indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// The underlay.
    pub underlay: u32,
    /// The ports, by slot; the last one is an interface that is no port.
    pub ports: [u32; Devices::PORTS + 1],
}

impl Devices {
    /// Ports of the world.
    pub const PORTS: usize = 8;
    /// The place in `ports` of the interface that is no port.
    pub const STRANGER: usize = Devices::PORTS;
    /// Some numbers, for tests that need no real interfaces.
    pub const NUMBERS: Devices = Devices { underlay: 2, ports: [10, 11, 12, 13, 14, 15, 16, 17, 18] };
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
            let mut vtep = Vtep::new(half ^ 1, vtep_addr(i), UDP_PORT.to_be_bytes(), &rubbish);
            vtep.half = vtep.prepare(&next_hop);
            (u16::from(i), vtep)
        };
        let member = |vni_index: u16, vtep_index: u16| {
            let key = MemberKey { vni: vni(vni_index), addr: vtep_addr(vtep_index as u8) };
            (key, Member { vni: vni(vni_index), vni_index, vtep_index, learns: true })
        };
        let mut fdb = vec![
            (0, MAC_STALE, Place::Port(2), false),
            (0, MAC_FREE_SLOT, Place::Port(60), false),
            (0, MAC_STATIC, Place::Port(1), true),
            (0, MAC_FREE_VTEP, Place::Vtep(60), false),
        ];
        for (vni_index, i) in [(0, 0), (0, 1), (1, 2), (0, 3), (0, 4), (0, 5), (2, 6), (3, 7)] {
            fdb.push((vni_index, mac(i), Place::Port(i.into()), false));
        }
        for (vni_index, i) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (3, 2)] {
            fdb.push((vni_index, remote(i), Place::Vtep(i.into()), false));
        }
        World {
            config: Config { local_v4: LOCAL, udp_port: UDP_PORT.to_be_bytes(), reserved: [0; 2] },
            vnis: (0..4).map(|i| (i, vni(i))).collect(),
            ports: vec![
                port(0, 0, PortFlags::XDP, MAX_FRAME),
                port(1, 0, PortFlags::ONE_BUFFER | PortFlags::XDP | PortFlags::TAP, MAX_FRAME),
                port(2, 1, 0, MAX_FRAME),
                port(3, 0, PortFlags::VLAN_DISCARD, MAX_FRAME),
                port(4, 0, PortFlags::XDP | PortFlags::DATAGRAM_GSO, MAX_JUMBO),
                port(5, 0, PortFlags::DELIVER_TC, MAX_FRAME),
                port(6, 2, 0, MAX_FRAME),
                port(7, 3, 0, MAX_FRAME),
            ],
            vteps: vec![
                vtep(0, 0, hop(0, MAX_INNER)),
                vtep(1, 1, hop(1, MAX_INNER_SMALL)),
                vtep(2, 0, NextHop { dst_mac: [0; 6], ..hop(2, MAX_INNER) }),
                vtep(3, 1, NextHop::NONE),
            ],
            members: vec![member(0, 0), member(0, 1), member(0, 2), member(0, 3), member(1, 0), member(3, 2)],
            floods: vec![
                (0, flood_set(&[0, 1, 3, 4, 5], &[0, 1, 2, 3])),
                (1, flood_set(&[2], &[0])),
                (2, flood_set(&[6], &[])),
                (3, flood_set(&[7], &[2])),
            ],
            fdb,
        }
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
