//! What the kernel's tables hold, as far as the commands given so far have been carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{Arrival, Config, Endpoint, FloodSet, Hold, Member, MemberKey, NextHop, Path, Port, Vtep, VtepFlags},
    addr::{Mac, PeerId, Vni},
    fdb::Place,
};

use super::{Adopted, Limits, slots::Slots};
use crate::command::{HookWish, PeerKey};

/// A slot of `PORTS` in use.
#[derive(Clone, Debug)]
pub(super) struct PortSlot {
    pub(super) port: Port,
    /// Interface name; `None`: adopted, and the link has not been seen yet.
    pub(super) name: Option<String>,
    /// Written and attached by this agent, not just found.
    pub(super) ours: bool,
    /// False if writing the slot has failed: what it holds is not known.
    pub(super) written: bool,
}

/// A slot of `VTEPS` in use.
#[derive(Clone, Copy, Debug)]
pub(super) struct VtepSlot {
    pub(super) index: u16,
    /// The half in force: each SetNextHop changes it.
    pub(super) half: u32,
    pub(super) endpoint: Endpoint,
    pub(super) next_hop: NextHop,
    pub(super) hold: Hold,
}

impl VtepSlot {
    /// The slot's content.
    pub(super) fn entry(&self, peer: PeerKey) -> Vtep {
        let vtep = Vtep::new(self.half, &self.endpoint, &self.next_hop);
        match peer {
            PeerKey::Static(_) => vtep,
            PeerKey::Dynamic(_) => Vtep { flags: vtep.flags | VtepFlags::DYNAMIC, ..vtep },
        }
    }
}

/// A flood set, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flood {
    pub(super) vteps: BTreeSet<u16>,
    pub(super) ports: BTreeSet<u16>,
}

impl Flood {
    /// The set as the programs read it. What does not fit is left out; the planner sees to it that all fits.
    pub(super) fn entry(&self) -> Box<FloodSet> {
        fn fill<const N: usize>(array: &mut [u16; N], set: &BTreeSet<u16>) -> u32 {
            for (to, from) in array.iter_mut().zip(set) {
                *to = *from;
            }
            set.len().min(N) as u32
        }
        let mut entry = Box::new(FloodSet::EMPTY);
        entry.vtep_count = fill(&mut entry.vteps, &self.vteps);
        entry.port_count = fill(&mut entry.ports, &self.ports);
        entry
    }
}

/// The tables.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) config: Option<Config>,
    pub(super) vnis: BTreeMap<Vni, u16>,
    pub(super) ports: BTreeMap<u16, PortSlot>,
    pub(super) vteps: BTreeMap<PeerKey, VtepSlot>,
    pub(super) members: BTreeMap<(Vni, PeerKey), Member>,
    /// Members that were found and are nobody's: to be removed.
    pub(super) orphans: Vec<MemberKey>,
    /// `PATHS`, and the relays of `PATH_OF_SOURCE`.
    pub(super) paths: BTreeMap<u16, Path>,
    pub(super) relays: BTreeMap<Arrival, u16>,
    /// By VNI index. A VNI without entry has a set that we do not know.
    pub(super) floods: BTreeMap<u16, Flood>,
    pub(super) statics: BTreeMap<(u16, Mac), Place>,
    /// Underlay interfaces and how they were attached; `None`: by an earlier agent.
    pub(super) underlays: BTreeMap<u32, Option<HookWish>>,
    pub(super) vni_slots: Slots<Vni>,
    /// By name and VNI: in another VNI a port's counters start anew.
    pub(super) port_slots: Slots<(String, Vni)>,
    pub(super) vtep_slots: Slots<PeerKey>,
}

impl Tables {
    /// The tables as an earlier agent left them. Of two slots with the same owner the second stays unused for good: that no
    /// sequence of commands leaves behind, and so it is not worth more.
    pub(super) fn adopt(limits: &Limits, found: &Adopted) -> Tables {
        let mut used = [const { BTreeSet::new() }; 3];
        let mut vnis = BTreeMap::new();
        for (index, entry) in &found.vnis {
            if let Ok(vni) = Vni::new(entry.vni) {
                used[0].insert(*index);
                vnis.entry(vni).or_insert(*index);
            }
        }
        let (mut ports, mut links) = (BTreeMap::new(), BTreeSet::new());
        for (index, port) in &found.ports {
            if port.ifindex != 0 {
                used[1].insert(*index);
                if links.insert(port.ifindex) {
                    ports.insert(*index, PortSlot { port: *port, name: None, ours: false, written: true });
                }
            }
        }
        let ids: BTreeMap<u16, PeerId> = found.ids.iter().copied().collect();
        let (mut vteps, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for (index, v) in found.vteps.iter().filter(|(_, v)| v.has(VtepFlags::USED)) {
            used[2].insert(*index);
            let endpoint = v.endpoint();
            let key = match v.has(VtepFlags::DYNAMIC) {
                false => Some(PeerKey::Static(endpoint.addr.into())),
                true => ids.get(index).map(|id| PeerKey::Dynamic(*id)),
            };
            let hold = if v.has(VtepFlags::HELD) { Hold::Hold } else { Hold::Normal };
            let slot = VtepSlot { index: *index, half: v.half & 1, endpoint, next_hop: v.next_hop(), hold };
            if let Some(key) = key
                && !vteps.contains_key(&key)
            {
                vteps.insert(key, slot);
                keys.insert(*index, key);
            }
        }
        let owner = |key: &MemberKey| match key.dynamic_index() {
            None => Some(PeerKey::Static(Ipv4Addr::from(key.addr))),
            Some(index) => keys.get(&index).copied(),
        };
        let (mut members, mut orphans) = (BTreeMap::new(), Vec::new());
        for (key, member) in &found.members {
            match Vni::new(key.vni).ok().zip(owner(key)) {
                Some(known) => drop(members.insert(known, *member)),
                None => orphans.push(*key),
            }
        }
        Tables {
            config: found.config,
            vni_slots: Slots::new(limits.vnis, &used[0]),
            port_slots: Slots::new(limits.ports, &used[1]),
            vtep_slots: Slots::new(limits.vteps, &used[2]),
            vnis,
            ports,
            vteps,
            members,
            orphans,
            paths: found.paths.iter().copied().collect(),
            relays: found.relays.iter().map(|(number, at)| (*at, *number)).collect(),
            floods: BTreeMap::new(),
            statics: found.statics.iter().map(|(v, m, p)| ((*v, *m), *p)).collect(),
            underlays: found.underlays.iter().map(|i| (*i, None)).collect(),
        }
    }

    /// Dynamic peers that have slots.
    pub(super) fn dynamic(&self) -> impl Iterator<Item = (PeerId, &VtepSlot)> {
        self.vteps.iter().filter_map(|(key, slot)| match key {
            PeerKey::Static(_) => None,
            PeerKey::Dynamic(id) => Some((*id, slot)),
        })
    }

    /// The slot of the port on an interface.
    pub(super) fn port_of(&self, ifindex: u32) -> Option<(u16, &PortSlot)> {
        self.ports.iter().find(|(_, s)| s.port.ifindex == ifindex).map(|(i, s)| (*i, s))
    }
}
