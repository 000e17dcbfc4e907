//! What is asked for of dynamic peers, naively kept.

use std::collections::{BTreeMap, BTreeSet};

use wavnet_common::{
    abi::{ConfigFlags, Endpoint, Hold},
    addr::{Label, PeerId, Vni},
};
use wavnet_proto::{
    command::PeerKey,
    fabric::{Desired, Fabric, PathFrom, PeerPath},
};

use super::model::Model;

/// Peers, their VNIs and where they are or were; paths; who is held back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dynamics {
    peers: BTreeMap<PeerId, (BTreeSet<Vni>, Vec<Endpoint>)>,
    /// Where peers were that were removed since all was at rest: they may still have their slots.
    gone: BTreeMap<PeerId, Vec<Endpoint>>,
    pub(crate) paths: BTreeMap<PathFrom, PeerPath>,
    pub(crate) holds: BTreeMap<PeerKey, Hold>,
}

impl Dynamics {
    pub(crate) fn set(&mut self, id: PeerId, vnis: BTreeSet<Vni>, endpoint: Endpoint) {
        let gone = &mut self.gone;
        let peer = self.peers.entry(id).or_insert_with(|| (BTreeSet::new(), gone.remove(&id).unwrap_or_default()));
        peer.0 = vnis;
        peer.1.push(endpoint);
    }

    pub(crate) fn go(&mut self, id: PeerId, endpoint: Endpoint) {
        self.peers.get_mut(&id).expect("the fabric knows it").1.push(endpoint);
    }

    pub(crate) fn remove(&mut self, id: PeerId) -> bool {
        self.paths.retain(|_, path| path.peer != Some(id));
        self.holds.remove(&PeerKey::Dynamic(id));
        let removed = self.peers.remove(&id);
        removed.map(|(_, endpoints)| self.gone.entry(id).or_default().extend(endpoints)).is_some()
    }

    /// What is in no table is forgotten, and what is not in force yet.
    pub(crate) fn restarted(&mut self, model: &Model, fabric: &Fabric) {
        let there = model.vteps();
        let vnis = &fabric.desired().vnis;
        self.peers.retain(|id, _| there.contains(&PeerKey::Dynamic(*id)));
        for (id, (of, endpoints)) in &mut self.peers {
            of.retain(|vni| vnis.contains_key(vni));
            *endpoints = vec![model.endpoint(*id)];
        }
        for path in self.paths.values_mut() {
            path.peer = path.peer.filter(|id| there.contains(&PeerKey::Dynamic(*id)));
        }
        self.holds.clear();
    }

    pub(crate) fn members(&self, desired: &Desired) -> BTreeSet<(Vni, PeerKey)> {
        let of = |(id, (vnis, _)): (&PeerId, &(BTreeSet<Vni>, Vec<Endpoint>))| {
            let vnis = vnis.iter().filter(|vni| desired.vnis.contains_key(vni));
            vnis.map(|vni| (*vni, PeerKey::Dynamic(*id))).collect::<Vec<_>>()
        };
        self.peers.iter().flat_map(of).collect()
    }

    pub(crate) fn check(&mut self, model: &Model, members: &BTreeSet<(Vni, PeerKey)>) {
        self.gone.clear();
        let there: BTreeSet<PeerKey> = members.iter().map(|(_, peer)| *peer).collect();
        for (id, (_, endpoints)) in &self.peers {
            if there.contains(&PeerKey::Dynamic(*id)) {
                let in_force = model.endpoint(*id);
                assert!(endpoints.contains(&in_force), "{in_force:?} is none of {endpoints:?}");
            }
        }
        for peer in &there {
            assert_eq!(model.hold(*peer), self.holds.get(peer).copied().unwrap_or_default(), "{peer:?}");
        }
        let (mut slots, mut relays) = (BTreeSet::new(), BTreeSet::new());
        for path in self.paths.values() {
            let (at, label) = match path.from {
                PathFrom::Direct(at) => (at, Label::ZERO),
                PathFrom::Relayed { relay, label } => {
                    relays.insert(relay);
                    (relay, label)
                }
            };
            let peer = path.peer.map(PeerKey::Dynamic).filter(|peer| there.contains(peer));
            let (slot, found) = model.found(at, label).unwrap_or_else(|| panic!("{path:?} is not found"));
            assert_eq!(found, peer, "{path:?}");
            assert!(slots.insert(slot), "{path:?} shares its slot");
        }
        assert_eq!(model.path_counts(), (slots.len(), relays.len()));
        let addresses: BTreeSet<_> = self
            .paths
            .values()
            .filter(|p| p.peer.is_some_and(|id| there.contains(&PeerKey::Dynamic(id))))
            .map(|p| *p.from.addr().ip())
            .collect();
        let shares = |peer: &PeerKey| matches!(peer, PeerKey::Static(addr) if addresses.contains(addr));
        assert_eq!(model.sharing(), there.iter().filter(|peer| shares(peer)).copied().collect());
        let any = !self.paths.is_empty() || there.iter().any(|peer| matches!(peer, PeerKey::Dynamic(_)));
        assert_eq!(model.config().has(ConfigFlags::DYNAMIC), any);
    }
}
