//! Peers and paths in the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{Arrival, At, Endpoint, Hold, NextHop, Path, Source, Vtep, VtepFlags},
    addr::{Label, PeerId},
};
use wavnet_proto::command::PeerKey;

use super::Model;

impl Model {
    pub(super) fn set_vtep(&mut self, index: u16, vtep: &Vtep, peer: PeerKey) {
        let owner = self.peers.get(&index).copied();
        assert!(owner.is_none_or(|owner| owner == peer), "{owner:?}'s slot becomes {peer:?}'s");
        let slot = &mut self.vteps[usize::from(index)];
        if vtep.has(VtepFlags::USED) {
            match peer {
                PeerKey::Static(addr) => assert_eq!(vtep.endpoint().addr, addr.octets()),
                PeerKey::Dynamic(_) => assert!(owner.is_none(), "a dynamic peer's slot is written once"),
            }
            assert_eq!(vtep.has(VtepFlags::DYNAMIC), matches!(peer, PeerKey::Dynamic(_)));
            if owner.is_some() {
                let kept = Vtep::new(slot.half, &vtep.endpoint(), &slot.next_hop());
                assert_eq!(*vtep, kept, "a live slot keeps its next hop");
            }
            self.peers.insert(index, peer);
        } else {
            assert!(owner.is_some(), "{peer:?} had no slot");
            self.peers.remove(&index);
        }
        // Moving it holds nothing back, nor lets it go.
        if owner != self.peers.get(&index).copied() {
            self.holds.remove(&index);
        }
        *slot = *vtep;
    }

    /// As the shell does.
    pub(super) fn set_path(&mut self, index: u16, path: Option<Path>) {
        let before = match path {
            Some(path) => self.paths.insert(index, path),
            None => self.paths.remove(&index),
        };
        assert!(self.unwritten.remove(&index) || before != path, "a change that changes nothing");
        if let Some(before) = before
            && path.is_none_or(|path| path.source != before.source)
            && self.path_of.get(&before.source) == Some(&At::Path(index))
        {
            self.path_of.remove(&before.source);
        }
        if let Some(path) = path {
            let there = self.path_of.insert(path.source, At::Path(index));
            assert!(there.is_none_or(|there| there == At::Path(index)), "two paths have one source: {path:?}");
        }
    }

    pub(super) fn is_member(&self, vni: u32, index: u16) -> bool {
        self.members.iter().any(|((v, _), m)| *v == vni && m.vtep_index == index)
    }

    /// Whatever is found by where a datagram comes from is what was written for that.
    pub(super) fn check_paths(&self) {
        let mut relays = BTreeSet::new();
        for (source, at) in &self.path_of {
            match at {
                At::Path(index) => assert_eq!(self.paths.get(index).map(|p| p.source), Some(*source), "{source:?}"),
                At::Relay(number) => assert!(relays.insert(*number), "two relays have number {number}"),
            }
        }
        for path in self.paths.values() {
            if let Some(index) = path.vtep_index {
                let owner = self.peers.get(&index);
                assert!(matches!(owner, Some(PeerKey::Dynamic(_))), "{path:?} leads to {owner:?}");
            }
        }
    }

    pub(super) fn with_hold(&self, index: u16, vtep: Vtep) -> Vtep {
        let held = if self.holds.contains_key(&index) { VtepFlags::HELD } else { 0 };
        Vtep { flags: vtep.flags | held, ..vtep }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = (PeerId, u16)> {
        self.peers.iter().filter_map(|(index, peer)| match peer {
            PeerKey::Static(_) => None,
            PeerKey::Dynamic(id) => Some((*id, *index)),
        })
    }

    pub(super) fn relays(&self) -> BTreeMap<Arrival, u16> {
        let relay = |(source, at): (&Source, &At)| match (source, at) {
            (Source::Endpoint(from), At::Relay(number)) => Some((*from, *number)),
            _ => None,
        };
        self.path_of.iter().filter_map(relay).collect()
    }

    pub(super) fn slot(&self, peer: PeerKey) -> Option<u16> {
        self.peers.iter().find(|(_, owner)| **owner == peer).map(|(index, _)| *index)
    }

    pub(crate) fn vtep(&self, peer: PeerKey) -> Vtep {
        self.vteps[usize::from(self.slot(peer).expect("a peer"))]
    }

    pub(crate) fn next_hop(&self, addr: Ipv4Addr) -> NextHop {
        self.vtep(PeerKey::Static(addr)).next_hop()
    }

    pub(crate) fn endpoint(&self, id: PeerId) -> Endpoint {
        self.vtep(PeerKey::Dynamic(id)).endpoint()
    }

    pub(crate) fn hold(&self, peer: PeerKey) -> Hold {
        self.slot(peer).and_then(|index| self.holds.get(&index).copied()).unwrap_or_default()
    }

    /// What a frame that comes from there is taken for, as the programs find it: slot of the path, peer.
    pub(crate) fn found(&self, from: Arrival, label: Label) -> Option<(u16, Option<PeerKey>)> {
        let mut source = Source::Endpoint(from);
        if let Some(At::Relay(relay)) = self.path_of.get(&source) {
            source = Source::Relayed { relay: *relay, label };
        }
        let Some(At::Path(index)) = self.path_of.get(&source) else { return None };
        let path = self.paths[index];
        Some((*index, path.vtep_index.map(|index| self.peers[&index])))
    }

    /// How many paths and relays there are.
    pub(crate) fn path_counts(&self) -> (usize, usize) {
        (self.paths.len(), self.relays().len())
    }

    /// Static peers that share their addresses.
    pub(crate) fn sharing(&self) -> BTreeSet<PeerKey> {
        self.members.values().filter(|m| m.shares).map(|m| self.peers[&m.vtep_index]).collect()
    }
}
