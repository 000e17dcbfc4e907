//! Since when slots have had their present owners.
//!
//! Events of the programs name slots and wait in the ring buffer, for long if no agent is running. What a slot meant when an
//! event was written is known only if nobody else has had the slot since.

use std::collections::HashMap;

use wavnet_common::{
    abi::{Vtep, VtepFlags},
    addr::PeerId,
    fdb::Place,
};
use wavnet_proto::{
    command::{Command, PeerKey, Slot},
    fabric::Adopted,
};

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Interface index and VNI.
    Port(u32, u32),
    Vni(u32),
    Vtep(PeerKey),
}

/// Owners of slots, and since when, nanoseconds of the clock of events.
#[derive(Clone, Debug, Default)]
pub(super) struct Occupants(HashMap<Slot, (Owner, u64)>);

impl Occupants {
    /// What an earlier agent left is as old as any event: while no agent is running, slots stay whose they are.
    pub(super) fn new(adopted: &Adopted) -> Occupants {
        let ports = adopted.ports.iter().map(|(i, p)| (Slot::Port(*i), Owner::Port(p.ifindex, p.vni)));
        let vnis = adopted.vnis.iter().map(|(i, v)| (Slot::Vni(*i), Owner::Vni(v.vni)));
        let ids: HashMap<u16, PeerId> = adopted.ids.iter().copied().collect();
        let peer = |index, vtep: &Vtep| {
            ids.get(index).map_or_else(|| PeerKey::Static(vtep.endpoint().addr.into()), |id| PeerKey::Dynamic(*id))
        };
        let vteps = adopted.vteps.iter().map(|(i, v)| (Slot::Vtep(*i), Owner::Vtep(peer(i, v))));
        Occupants(ports.chain(vnis).chain(vteps).map(|(slot, owner)| (slot, (owner, 0))).collect())
    }

    /// To be told of every command before it is carried out. A slot that is freed stays its owner's until another one gets it.
    pub(super) fn note(&mut self, command: &Command, now: u64) {
        let (slot, owner) = match command {
            Command::SetVni { index, vni, used: true } => (Slot::Vni(*index), Owner::Vni(vni.get())),
            Command::SetPort { index, port } if port.ifindex != 0 => {
                (Slot::Port(*index), Owner::Port(port.ifindex, port.vni))
            }
            Command::SetVtep { index, vtep, peer } if vtep.has(VtepFlags::USED) => {
                (Slot::Vtep(*index), Owner::Vtep(*peer))
            }
            _ => return,
        };
        match self.0.get(&slot) {
            Some((present, _)) if *present == owner => {}
            _ => drop(self.0.insert(slot, (owner, now))),
        }
    }

    /// True if a VNI's slot has meant the same since a time. That of the same tick counts: a slot is given away so soon only
    /// when all others are in use.
    pub(super) fn had_vni(&self, index: u16, at: u64) -> bool {
        self.had(Slot::Vni(index), at)
    }

    /// The same of a place.
    pub(super) fn had_place(&self, place: Place, at: u64) -> bool {
        let slot = match place {
            Place::Port(index) => Slot::Port(index),
            Place::Vtep(index) => Slot::Vtep(index),
        };
        self.had(slot, at)
    }

    fn had(&self, slot: Slot, at: u64) -> bool {
        self.0.get(&slot).is_some_and(|(_, since)| at >= *since)
    }
}

#[cfg(test)]
mod tests {
    use wavnet_common::{
        abi::{Port, PortFlags},
        addr::Vni,
    };

    use super::*;

    const TAP: Port = Port { ifindex: 7, vni: 10, vni_index: 0, flags: PortFlags::USED, max_frame: 1514 };

    #[test]
    fn what_was_found_is_older_than_every_event() {
        let mut slots = Occupants::new(&Adopted { ports: vec![(3, TAP)], ..Adopted::default() });
        assert!(slots.had_place(Place::Port(3), 0));
        assert!(!slots.had_place(Place::Port(4), 9) && !slots.had_place(Place::Vtep(3), 9) && !slots.had_vni(3, 9));
        slots.note(&Command::SetPort { index: 3, port: Port { flags: PortFlags::USED | PortFlags::DOWN, ..TAP } }, 50);
        assert!(slots.had_place(Place::Port(3), 0), "the same port, changed");
        slots.note(&Command::SetPort { index: 3, port: Port::FREE }, 60);
        slots.note(&Command::SetPort { index: 3, port: TAP }, 70);
        assert!(slots.had_place(Place::Port(3), 0), "the same port, back again");
    }

    #[test]
    fn a_new_owner_begins_anew() {
        let mut slots = Occupants::new(&Adopted { ports: vec![(3, TAP)], ..Adopted::default() });
        slots.note(&Command::SetPort { index: 3, port: Port { vni: 11, ..TAP } }, 50);
        assert!(!slots.had_place(Place::Port(3), 49) && slots.had_place(Place::Port(3), 50));
        let set_vni = |vni| Command::SetVni { index: 1, vni: Vni::new(vni).unwrap(), used: true };
        slots.note(&set_vni(10), 20);
        slots.note(&Command::SetVni { index: 1, vni: Vni::new(10).unwrap(), used: false }, 30);
        slots.note(&set_vni(11), 40);
        assert!(!slots.had_vni(1, 39) && slots.had_vni(1, 40));
        let peer = |addr: [u8; 4]| Command::SetVtep {
            index: 2,
            vtep: Vtep { flags: VtepFlags::USED, ..Vtep::FREE },
            peer: PeerKey::Static(addr.into()),
        };
        slots.note(&peer([192, 0, 2, 1]), 20);
        slots.note(&peer([192, 0, 2, 2]), 40);
        assert!(!slots.had_place(Place::Vtep(2), 39) && slots.had_place(Place::Vtep(2), 40));
    }
}
