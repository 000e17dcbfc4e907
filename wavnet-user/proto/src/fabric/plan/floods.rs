//! Flood sets: the first to shrink and the last to grow.

use std::collections::{BTreeMap, BTreeSet};

use wavnet_common::{abi::PortFlags, addr::Vni};

use super::Plan;
use crate::{
    command::{Command, PeerKey},
    fabric::tables::{Flood, PortSlot},
};

impl Plan<'_> {
    /// Takes out who goes, before anything of theirs is touched.
    pub(super) fn shrink_floods(&mut self, ports_gone: &[u16], members_gone: &[(Vni, PeerKey)], vnis_gone: &[Vni]) {
        if self.target.peers.is_none() {
            return self.take_ports_from_floods(ports_gone);
        }
        let gone: BTreeSet<_> = members_gone.iter().collect();
        let ports_gone: BTreeSet<_> = ports_gone.iter().collect();
        let mut keep: BTreeMap<u16, Flood> = BTreeMap::new();
        for (vni, index) in &self.tables.vnis {
            if !vnis_gone.contains(vni) {
                keep.insert(*index, Flood::default());
            }
        }
        for (key, member) in &self.tables.members {
            if let Some(set) = keep.get_mut(&member.vni_index).filter(|_| !gone.contains(key)) {
                set.vteps.insert(member.vtep_index);
            }
        }
        for (index, slot) in &self.tables.ports {
            if let Some(set) =
                keep.get_mut(&slot.port.vni_index).filter(|_| slot.written && !ports_gone.contains(index))
            {
                set.ports.insert(*index);
            }
        }
        for index in self.tables.vnis.values() {
            let keep = keep.remove(index).unwrap_or_default();
            let new = match self.tables.floods.get(index) {
                Some(now) => Flood { vteps: &now.vteps & &keep.vteps, ports: &now.ports & &keep.ports },
                None => keep,
            };
            if self.tables.floods.get(index) != Some(&new) {
                self.out.push_back(Command::SetFlood { vni_index: *index, set: new.entry() });
                self.tables.floods.insert(*index, new);
            }
        }
    }

    /// As [`Self::shrink_floods`], where nothing but ports can have changed.
    fn take_ports_from_floods(&mut self, gone: &[u16]) {
        let mut changed = BTreeSet::new();
        for index in gone {
            let vni_index = self.tables.ports.get(index).map(|s| s.port.vni_index);
            if let Some(vni_index) = vni_index
                && self.tables.floods.get_mut(&vni_index).is_some_and(|set| set.ports.remove(index))
            {
                changed.insert(vni_index);
            }
        }
        self.write_floods(changed);
    }

    fn write_floods(&mut self, changed: BTreeSet<u16>) {
        for vni_index in changed {
            if let Some(set) = self.tables.floods.get(&vni_index) {
                self.out.push_back(Command::SetFlood { vni_index, set: set.entry() });
            }
        }
    }

    /// Puts in who is there now.
    pub(super) fn set_floods(&mut self) {
        if self.target.peers.is_none() {
            return self.add_ports_to_floods();
        }
        let mut floods: BTreeMap<u16, Flood> =
            self.tables.vnis.values().map(|index| (*index, Flood::default())).collect();
        for member in self.tables.members.values() {
            if let Some(set) = floods.get_mut(&member.vni_index) {
                set.vteps.insert(member.vtep_index);
            }
        }
        for (index, slot) in self.tables.ports.iter().filter(|(_, s)| is_up(s)) {
            if let Some(set) = floods.get_mut(&slot.port.vni_index) {
                set.ports.insert(*index);
            }
        }
        for (index, set) in floods {
            if self.tables.floods.get(&index) != Some(&set) {
                self.out.push_back(Command::SetFlood { vni_index: index, set: set.entry() });
                self.tables.floods.insert(index, set);
            }
        }
    }

    /// As [`Self::set_floods`], where nothing but ports can have changed.
    fn add_ports_to_floods(&mut self) {
        let mut changed = BTreeSet::new();
        for (index, slot) in self.tables.ports.iter().filter(|(_, s)| is_up(s)) {
            let vni_index = slot.port.vni_index;
            if self.tables.floods.get_mut(&vni_index).is_some_and(|set| set.ports.insert(*index)) {
                changed.insert(vni_index);
            }
        }
        self.write_floods(changed);
    }
}

fn is_up(slot: &PortSlot) -> bool {
    slot.port.flags & PortFlags::DOWN == 0
}
