//! What dynamic peers look like.

use std::{collections::BTreeSet, net::Ipv4Addr};

use wavnet_common::{
    abi::{Endpoint, Hold},
    addr::{PeerId, Vni},
};

use crate::{
    command::PeerKey,
    fabric::{Fabric, PeerState},
};

/// A dynamic peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicView {
    /// Who it is.
    pub id: PeerId,
    /// Slot in `VTEPS`; `None`: it is in no VNI of this host.
    pub index: Option<u16>,
    /// Its VNIs, as far as this host has them.
    pub vnis: BTreeSet<Vni>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Where its frames are sent: there, or as long as it is not known how to get there, to where it was.
    pub in_force: Option<Endpoint>,
    /// Whether frames reach that.
    pub state: PeerState,
    /// Next router, or that address itself.
    pub next_hop: Option<Ipv4Addr>,
    /// Interface of the route.
    pub interface: Option<String>,
    /// MTU of the path, bytes.
    pub mtu: Option<u32>,
    /// What becomes of frames to it.
    pub hold: Hold,
    /// It was found, and not asked for since.
    pub unclaimed: bool,
}

impl Fabric {
    /// All dynamic peers, by key.
    pub fn dynamic_peers(&self) -> Vec<DynamicView> {
        self.dynamic.peers.keys().filter_map(|id| self.dynamic_peer(*id)).collect()
    }

    /// The slot of a dynamic peer in `VTEPS`, while it has one.
    pub fn dynamic_slot(&self, id: PeerId) -> Option<u16> {
        self.tables.vteps.get(&PeerKey::Dynamic(id)).map(|slot| slot.index)
    }

    /// A dynamic peer; `None`: there is none.
    pub fn dynamic_peer(&self, id: PeerId) -> Option<DynamicView> {
        let peer = self.dynamic.peers.get(&id)?;
        let slot = self.tables.vteps.get(&PeerKey::Dynamic(id));
        let addr = slot.map_or(peer.endpoint, |slot| slot.endpoint).addr;
        let (state, next_hop, route) = match slot {
            Some(_) => self.routes.state(addr.into(), &self.links, self.local_address()),
            None => (PeerState::Resolving, None, None),
        };
        let link = route.and_then(|r| self.links.get(r.oif)).map(|l| &l.info);
        Some(DynamicView {
            id,
            index: slot.map(|slot| slot.index),
            vnis: peer.vnis.iter().filter(|vni| self.desired.vnis.contains_key(vni)).copied().collect(),
            endpoint: peer.endpoint,
            in_force: slot.map(|slot| slot.endpoint),
            state,
            next_hop,
            interface: link.map(|l| l.name.clone()),
            mtu: link.map(|l| route.and_then(|r| r.mtu).filter(|&m| m > 0).map_or(l.mtu, |m| m.min(l.mtu))),
            hold: slot.map_or(Hold::Normal, |slot| slot.hold),
            unclaimed: peer.unclaimed,
        })
    }
}
