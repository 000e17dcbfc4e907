//! From what the tables hold to what they should hold, in an order that a datapath at work can stand.
//!
//! Away first: flood sets shrink, programs are detached and memberships end (so nothing more is learned), a port's slot is
//! freed, no path leads to a VTEP that goes, then the FDB entries of the place are flushed, then a VTEP's slot is freed. Then
//! up: slots are written before memberships, flood sets and static entries point to them, and paths lead to them last. So there
//! is no moment at which a table points to a slot that is another's, and an agent that dies in between leaves a consistent state
//! to the next one.

mod floods;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use wavnet_common::{
    abi::{Endpoint, Hold, Member, MemberKey, NextHop, Path, Port, PortFlags, Vtep},
    addr::Vni,
    fdb::Place,
};

use super::{
    Limits, StaticPlace,
    links::Links,
    tables::{PortSlot, Tables, VtepSlot},
    target::{Target, WantedPeer},
};
use crate::command::{Command, PeerKey, Slot};

/// What the caller has to follow up.
#[derive(Debug, Default)]
pub(super) struct Followup {
    /// Peers that have a slot now.
    pub(super) peers_new: Vec<PeerKey>,
    /// Peers that have none any more.
    pub(super) peers_gone: Vec<(PeerKey, Endpoint)>,
    /// Slots of paths that lead to no peer any more.
    pub(super) paths_left: Vec<u16>,
    /// Interfaces that should be ports, but for which there is no room.
    pub(super) no_room: BTreeSet<u32>,
}

/// One run of the planner.
pub(super) struct Plan<'a> {
    pub(super) tables: &'a mut Tables,
    pub(super) target: &'a Target,
    pub(super) links: &'a Links,
    pub(super) limits: &'a Limits,
    /// Interfaces that went since the last run, even if one with the same index is there again.
    pub(super) reborn: &'a BTreeSet<u32>,
    pub(super) out: &'a mut VecDeque<Command>,
    pub(super) followup: Followup,
}

impl Plan<'_> {
    /// Queues the commands and changes the tables accordingly.
    pub(super) fn run(mut self) -> Followup {
        let tables = &*self.tables;
        let ports_gone: Vec<u16> =
            tables.ports.iter().filter(|(_, s)| !self.keeps_port(s)).map(|(index, _)| *index).collect();
        let vteps_gone: Vec<PeerKey> = match &self.target.peers {
            Some(peers) => tables.vteps.keys().filter(|a| !peers.contains_key(a)).copied().collect(),
            None => Vec::new(),
        };
        let vnis_gone: Vec<Vni> = tables.vnis.keys().filter(|v| !self.target.vnis.contains(v)).copied().collect();
        let members_gone: Vec<(Vni, PeerKey)> = match &self.target.peers {
            Some(_) => tables.members.keys().filter(|k| !wants_member(self.target, k)).copied().collect(),
            None => Vec::new(),
        };

        // Nothing is flooded to a port that goes down either.
        let goes_down =
            |s: &PortSlot| self.target.ports.get(&s.port.ifindex).is_some_and(|w| w.flags & PortFlags::DOWN != 0);
        let ports_quiet: Vec<u16> = tables
            .ports
            .iter()
            .filter(|(index, s)| ports_gone.contains(index) || goes_down(s))
            .map(|(index, _)| *index)
            .collect();
        self.shrink_floods(&ports_quiet, &members_gone, &vnis_gone);
        self.remove_statics();
        self.remove_ports(&ports_gone);
        self.remove_members(&members_gone);
        self.remove_vteps(vteps_gone);
        self.remove_vnis(&vnis_gone);

        self.set_config();
        self.add_vnis();
        self.add_vteps();
        self.add_ports();
        self.add_members();
        self.add_statics();
        self.set_floods();
        self.set_underlays();
        self.followup
    }

    fn keeps_port(&self, slot: &PortSlot) -> bool {
        let ifindex = slot.port.ifindex;
        // An adopted slot's index of the VNI must be that of the table, or the slot is rubbish.
        let same = |vni: Vni| vni.get() == slot.port.vni && self.tables.vnis.get(&vni) == Some(&slot.port.vni_index);
        !self.reborn.contains(&ifindex) && self.target.ports.get(&ifindex).is_some_and(|w| same(w.vni))
    }

    fn remove_statics(&mut self) {
        let vni_of: BTreeMap<u16, Vni> = self.tables.vnis.iter().map(|(v, i)| (*i, *v)).collect();
        let present = std::mem::take(&mut self.tables.statics);
        for ((vni_index, mac), place) in present {
            let wanted = vni_of.get(&vni_index).and_then(|vni| {
                let wanted = self.target.statics.get(&(*vni, mac))?;
                self.resolve(*vni, wanted)
            });
            if wanted == Some(place) {
                self.tables.statics.insert((vni_index, mac), place);
            } else {
                self.out.push_back(Command::RemoveMac { vni_index, mac });
            }
        }
    }

    /// The place of a static entry among slots in use that stay.
    fn resolve(&self, vni: Vni, place: &StaticPlace) -> Option<Place> {
        match place {
            StaticPlace::Port(name) => {
                // An adopted slot has no name of its own yet.
                let named = |s: &PortSlot| self.target.ports.get(&s.port.ifindex).is_some_and(|w| w.name == *name);
                let ours = |s: &PortSlot| named(s) && s.port.vni == vni.get() && self.keeps_port(s);
                self.tables.ports.iter().find(|(_, s)| ours(s)).map(|(i, _)| Place::Port(*i))
            }
            StaticPlace::Peer(addr) => {
                let key = (vni, PeerKey::Static(*addr));
                let stays = match self.target.peers {
                    Some(_) => wants_member(self.target, &key),
                    None => self.tables.members.contains_key(&key),
                };
                let slot = self.tables.vteps.get(&key.1).filter(|_| stays)?;
                Some(Place::Vtep(slot.index))
            }
        }
    }

    fn remove_ports(&mut self, gone: &[u16]) {
        for index in gone {
            let Some(slot) = self.tables.ports.remove(index) else { continue };
            self.out.push_back(Command::DetachPort { ifindex: slot.port.ifindex });
            // The slot first: should detaching fail, the program learns nothing more for a port that is not in the tables. Until
            // the flush, entries point to a free slot, which delivery refuses.
            self.out.push_back(Command::SetPort { index: *index, port: Port::FREE });
            self.out.push_back(Command::FlushPlace(Place::Port(*index)));
            let owner = slot.name.zip(Vni::new(slot.port.vni).ok());
            self.tables.port_slots.put(*index, owner);
        }
    }

    fn remove_members(&mut self, gone: &[(Vni, PeerKey)]) {
        let orphans = std::mem::take(&mut self.tables.orphans).into_iter();
        self.out.extend(orphans.map(|key| Command::SetMember { key, member: None }));
        let mut flush = Vec::new();
        for key in gone {
            let Some(member) = self.tables.members.remove(key) else { continue };
            self.out.push_back(Command::SetMember { key: member_key(key, &member), member: None });
            // A place or VNI that goes altogether is flushed then.
            let peer_stays = self.target.peers.as_ref().is_none_or(|p| p.contains_key(&key.1));
            if self.target.vnis.contains(&key.0) && peer_stays {
                flush.push(Command::FlushVniPlace(member.vni_index, Place::Vtep(member.vtep_index)));
            }
        }
        self.out.extend(flush);
    }

    fn remove_vteps(&mut self, gone: Vec<PeerKey>) {
        for peer in gone {
            let Some(slot) = self.tables.vteps.remove(&peer) else { continue };
            let leads_there = |path: &&mut Path| path.vtep_index == Some(slot.index);
            for (index, path) in self.tables.paths.iter_mut().map(|(i, p)| (*i, p)).filter(|(_, p)| leads_there(p)) {
                path.vtep_index = None;
                self.followup.paths_left.push(index);
                self.out.push_back(Command::SetPath { index, path: Some(*path) });
            }
            self.out.push_back(Command::FlushPlace(Place::Vtep(slot.index)));
            self.out.push_back(Command::SetVtep { index: slot.index, vtep: Vtep::FREE, peer });
            self.tables.vtep_slots.put(slot.index, Some(peer));
            self.followup.peers_gone.push((peer, slot.endpoint));
        }
    }

    fn remove_vnis(&mut self, gone: &[Vni]) {
        for vni in gone {
            let Some(index) = self.tables.vnis.remove(vni) else { continue };
            self.tables.floods.remove(&index);
            self.out.push_back(Command::FlushVni(index));
            self.out.push_back(Command::SetVni { index, vni: *vni, used: false });
            self.tables.vni_slots.put(index, Some(*vni));
        }
    }

    fn set_config(&mut self) {
        if self.tables.config != Some(self.target.config) {
            self.out.push_back(Command::SetConfig(self.target.config));
            self.tables.config = Some(self.target.config);
        }
    }

    fn add_vnis(&mut self) {
        for vni in &self.target.vnis {
            if self.tables.vnis.contains_key(vni) {
                continue;
            }
            let Some(grant) = self.tables.vni_slots.take(vni) else { continue };
            if grant.used_before {
                self.out.push_back(Command::FlushVni(grant.index));
            }
            if !grant.returned {
                self.out.push_back(Command::ResetCounters(Slot::Vni(grant.index)));
            }
            self.out.push_back(Command::SetVni { index: grant.index, vni: *vni, used: true });
            self.tables.vnis.insert(*vni, grant.index);
        }
    }

    fn add_vteps(&mut self) {
        for (peer, wanted) in self.target.peers.iter().flatten() {
            if let Some(slot) = self.tables.vteps.get_mut(peer) {
                // A dynamic peer is moved as soon as it is known how to get there.
                if matches!(peer, PeerKey::Static(_)) && slot.endpoint != wanted.endpoint {
                    slot.endpoint = wanted.endpoint;
                    self.out.push_back(Command::SetVtep { index: slot.index, vtep: slot.entry(*peer), peer: *peer });
                }
                continue;
            }
            let Some(grant) = self.tables.vtep_slots.take(peer) else { continue };
            if grant.used_before {
                self.out.push_back(Command::FlushPlace(Place::Vtep(grant.index)));
            }
            if !grant.returned {
                self.out.push_back(Command::ResetCounters(Slot::Vtep(grant.index)));
            }
            let slot = new_vtep(grant.index, wanted);
            self.out.push_back(Command::SetVtep { index: grant.index, vtep: slot.entry(*peer), peer: *peer });
            self.tables.vteps.insert(*peer, slot);
            self.followup.peers_new.push(*peer);
        }
    }

    fn add_ports(&mut self) {
        let slot_of: BTreeMap<u32, u16> = self.tables.ports.iter().map(|(i, s)| (s.port.ifindex, *i)).collect();
        let mut per_vni: BTreeMap<u32, usize> = BTreeMap::new();
        for slot in self.tables.ports.values() {
            *per_vni.entry(slot.port.vni).or_default() += 1;
        }
        for (ifindex, wanted) in &self.target.ports {
            let Some(&vni_index) = self.tables.vnis.get(&wanted.vni) else { continue };
            let port = Port {
                ifindex: *ifindex,
                vni: wanted.vni.get(),
                vni_index,
                flags: wanted.flags,
                max_frame: wanted.max_frame,
            };
            let index = match slot_of.get(ifindex) {
                Some(index) => *index,
                None => {
                    let count = per_vni.entry(port.vni).or_default();
                    let room = *count < self.limits.flood_ports;
                    let owner = (wanted.name.clone(), wanted.vni);
                    let Some(grant) = room.then(|| self.tables.port_slots.take(&owner)).flatten() else {
                        self.followup.no_room.insert(*ifindex);
                        continue;
                    };
                    *count += 1;
                    if grant.used_before {
                        self.out.push_back(Command::FlushPlace(Place::Port(grant.index)));
                    }
                    if !grant.returned {
                        self.out.push_back(Command::ResetCounters(Slot::Port(grant.index)));
                    }
                    grant.index
                }
            };
            let new = PortSlot { port, name: Some(wanted.name.clone()), ours: true, written: true };
            let old = self.tables.ports.insert(index, new);
            if !old.as_ref().is_some_and(|o| o.ours && o.port == port) {
                self.out.push_back(Command::SetPort { index, port });
            }
            if !old.is_some_and(|o| o.ours && (o.port.flags ^ port.flags) & PortFlags::XDP == 0) {
                let (ifindex, name, xdp) = (*ifindex, wanted.name.clone(), wanted.xdp);
                self.out.push_back(Command::AttachPort { ifindex, name, xdp });
            }
        }
    }

    fn add_members(&mut self) {
        for (peer, wanted) in self.target.peers.iter().flatten() {
            let Some(slot) = self.tables.vteps.get(peer) else { continue };
            for vni in &wanted.vnis {
                let Some(&vni_index) = self.tables.vnis.get(vni) else { continue };
                let learns = !self.target.fixed_vnis.contains(vni);
                let member =
                    Member { vni: vni.get(), vni_index, vtep_index: slot.index, learns, shares: wanted.shares };
                let key = (*vni, *peer);
                if self.tables.members.insert(key, member) != Some(member) {
                    self.out.push_back(Command::SetMember { key: member_key(&key, &member), member: Some(member) });
                }
            }
        }
    }

    fn add_statics(&mut self) {
        for ((vni, mac), wanted) in &self.target.statics {
            let (Some(&vni_index), Some(place)) = (self.tables.vnis.get(vni), self.place_now(*vni, wanted)) else {
                continue;
            };
            if self.tables.statics.insert((vni_index, *mac), place) != Some(place) {
                self.out.push_back(Command::SetStatic { vni_index, mac: *mac, place });
            }
        }
    }

    /// As [`Self::resolve`], after the tables have been changed.
    fn place_now(&self, vni: Vni, place: &StaticPlace) -> Option<Place> {
        match place {
            StaticPlace::Port(name) => {
                let ours = |s: &PortSlot| s.name.as_ref() == Some(name) && s.port.vni == vni.get();
                self.tables.ports.iter().find(|(_, s)| ours(s)).map(|(i, _)| Place::Port(*i))
            }
            StaticPlace::Peer(addr) => {
                self.tables.members.get(&(vni, PeerKey::Static(*addr))).map(|member| Place::Vtep(member.vtep_index))
            }
        }
    }

    fn set_underlays(&mut self) {
        for (ifindex, (name, hook)) in &self.target.underlays {
            // What failed waits for the next retry; what another hook has attached stays meanwhile.
            if self.links.get(*ifindex).is_none_or(|l| l.failed.is_some()) {
                continue;
            }
            // What a vanished interface of the same index had attached is gone with it.
            let now = self.tables.underlays.get(ifindex).filter(|_| !self.reborn.contains(ifindex));
            if now != Some(&Some(*hook)) {
                self.out.push_back(Command::AttachUnderlay { ifindex: *ifindex, name: name.clone(), hook: *hook });
                self.tables.underlays.insert(*ifindex, Some(*hook));
            }
        }
        let gone: Vec<u32> =
            self.tables.underlays.keys().filter(|i| !self.target.underlays.contains_key(i)).copied().collect();
        for ifindex in gone {
            self.tables.underlays.remove(&ifindex);
            self.out.push_back(Command::DetachUnderlay { ifindex });
        }
    }
}

fn wants_member(target: &Target, (vni, peer): &(Vni, PeerKey)) -> bool {
    target.peers.as_ref().and_then(|peers| peers.get(peer)).is_some_and(|p| p.vnis.contains(vni))
}

fn member_key((vni, peer): &(Vni, PeerKey), member: &Member) -> MemberKey {
    match peer {
        PeerKey::Static(addr) => MemberKey { vni: vni.get(), addr: addr.octets() },
        PeerKey::Dynamic(_) => MemberKey::dynamic(vni.get(), member.vtep_index),
    }
}

fn new_vtep(index: u16, wanted: &WantedPeer) -> VtepSlot {
    VtepSlot { index, half: 0, endpoint: wanted.endpoint, next_hop: NextHop::NONE, hold: Hold::Normal }
}
