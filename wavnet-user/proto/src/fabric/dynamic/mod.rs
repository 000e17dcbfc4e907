//! Peers that are known by their keys rather than by addresses: where to send their frames, and the paths that their frames come by.
//!
//! The third source of peers beside the configuration and commands. Their places change while they talk, so what is asked for here and
//! what is in force may differ for a while: frames go on to the endpoint in force until it is known how to get to the new one.

mod paths;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use wavnet_common::{
    abi::{Config, ConfigFlags, Endpoint, ExtraPorts, Hold},
    addr::{PeerId, Vni},
};

use super::{Adopted, Desired, Fabric, FabricError, Limits, desired::check_peer_address, tables::Tables};
use crate::command::{Command, PeerKey};
use paths::PathTable;
pub use paths::{PathFrom, PeerPath};
pub use view::DynamicView;

/// What the shell has open for dynamic peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// A socket on our UDP port: STUN, control and unknown pulses go up.
    pub open: bool,
    /// Further UDP ports.
    pub extra_ports: ExtraPorts,
    /// Interface that frames are held back by; zero: none.
    pub hold_ifindex: u32,
}

impl Default for Control {
    fn default() -> Control {
        Control { open: false, extra_ports: ExtraPorts::NONE, hold_ifindex: 0 }
    }
}

/// A peer as it is asked for.
#[derive(Clone, Debug)]
pub(super) struct DynamicPeer {
    pub(super) vnis: BTreeSet<Vni>,
    pub(super) endpoint: Endpoint,
    /// Found in the tables, and not asked for yet by this agent.
    pub(super) unclaimed: bool,
}

/// Dynamic peers and paths as they are asked for.
#[derive(Clone, Debug)]
pub(super) struct Dynamic {
    pub(super) control: Control,
    pub(super) peers: BTreeMap<PeerId, DynamicPeer>,
    /// How many of them are in each VNI.
    per_vni: BTreeMap<Vni, usize>,
    pub(super) paths: PathTable,
    /// What becomes of frames to peers with slots; those that are not here have theirs sent.
    holds: BTreeMap<PeerKey, Hold>,
    /// Peers of whom that may have to change in the tables.
    holds_dirty: BTreeSet<PeerKey>,
}

impl Dynamic {
    /// What an earlier agent left: it goes on as it is until it is claimed or removed, but nothing is held back any more.
    pub(super) fn adopt(limits: &Limits, found: &Adopted, tables: &Tables) -> Dynamic {
        let mut vnis: BTreeMap<PeerKey, BTreeSet<Vni>> = BTreeMap::new();
        for (vni, key) in tables.members.keys() {
            vnis.entry(*key).or_default().insert(*vni);
        }
        let peer = |(id, endpoint): (PeerId, Endpoint)| {
            let vnis = vnis.remove(&PeerKey::Dynamic(id)).unwrap_or_default();
            (id, DynamicPeer { vnis, endpoint, unclaimed: true })
        };
        let peers: Vec<_> = tables.dynamic().map(|(id, slot)| (id, slot.endpoint)).map(peer).collect();
        let open = |config: &Config| Control {
            open: config.has(ConfigFlags::CONTROL),
            extra_ports: config.extra_ports,
            hold_ifindex: 0,
        };
        let mut dynamic = Dynamic {
            control: found.config.as_ref().map(open).unwrap_or_default(),
            peers: BTreeMap::new(),
            per_vni: BTreeMap::new(),
            paths: PathTable::adopt(limits, found, tables),
            holds: BTreeMap::new(),
            holds_dirty: tables.vteps.keys().copied().collect(),
        };
        peers.into_iter().for_each(|(id, peer)| drop(dynamic.put(id, Some(peer))));
        dynamic
    }

    /// Enters a peer, or takes it out; what was there before.
    fn put(&mut self, id: PeerId, peer: Option<DynamicPeer>) -> Option<DynamicPeer> {
        for vni in peer.iter().flat_map(|peer| &peer.vnis) {
            *self.per_vni.entry(*vni).or_default() += 1;
        }
        let before = match peer {
            Some(peer) => self.peers.insert(id, peer),
            None => self.peers.remove(&id),
        };
        for vni in before.iter().flat_map(|peer| &peer.vnis) {
            if let Some(count) = self.per_vni.get_mut(vni) {
                *count -= 1;
            }
        }
        self.per_vni.retain(|_, count| *count > 0);
        before
    }

    /// Peers that are in some VNI of this host.
    pub(super) fn in_vnis(&self, desired: &Desired) -> impl Iterator<Item = &PeerId> {
        let is_there = |vni| desired.vnis.contains_key(vni);
        self.peers.iter().filter(move |(_, peer)| peer.vnis.iter().any(is_there)).map(|(id, _)| id)
    }

    /// How many peers are in each VNI of this host.
    pub(super) fn per_vni(&self, desired: &Desired) -> BTreeMap<Vni, usize> {
        let there = self.per_vni.iter().filter(|(vni, _)| desired.vnis.contains_key(vni));
        there.map(|(vni, count)| (*vni, *count)).collect()
    }

    /// True if there is anything that the programs have to look for.
    pub(super) fn is_any(&self, desired: &Desired) -> bool {
        !self.paths.is_empty() || self.in_vnis(desired).next().is_some()
    }

    /// The slots of peers have come or gone. What was held back is not when another slot comes: nobody knows of that one.
    pub(super) fn slots_changed(&mut self, peers: &BTreeSet<PeerKey>, tables: &Tables) {
        self.paths.slots_changed(peers);
        self.holds.retain(|peer, _| tables.vteps.contains_key(peer));
        self.holds_dirty.extend(peers);
    }
}

impl Fabric {
    /// Says what the shell has open for dynamic peers. Until it does, that is what an earlier agent had, or nothing.
    pub fn set_control(&mut self, control: Control) {
        if self.dynamic.control != control {
            self.dynamic.control = control;
            self.dirty = true;
        }
    }

    /// Adds a peer, or changes its VNIs and its endpoint. VNIs that this host does not have rest until it has them.
    ///
    /// # Errors
    /// There is no room, or nobody can be at such an endpoint.
    pub fn set_peer(&mut self, id: PeerId, vnis: BTreeSet<Vni>, endpoint: Endpoint) -> Result<(), FabricError> {
        check_endpoint(&endpoint)?;
        let before = self.dynamic.peers.get(&id);
        let same = before.is_some_and(|peer| peer.vnis == vnis);
        let grows = before.is_none_or(|peer| !peer.vnis.is_superset(&vnis));
        // Who was removed a moment ago still has the slot.
        let at = before.map(|peer| peer.endpoint).or_else(|| self.in_force(id)).unwrap_or(endpoint);
        let before = self.dynamic.put(id, Some(DynamicPeer { vnis, endpoint: at, unclaimed: false }));
        if grows && let Err(e) = self.check_sizes(&self.desired, &self.runtime) {
            self.dynamic.put(id, before);
            return Err(e);
        }
        if !same {
            self.touch_peers();
        }
        self.move_peer(id, endpoint);
        Ok(())
    }

    /// Moves a peer to another endpoint: it is put in force when it is known how to get there, and by one word, so that each frame goes
    /// to one or the other.
    ///
    /// # Errors
    /// There is no such peer, or nobody can be at such an endpoint.
    pub fn peer_endpoint(&mut self, id: PeerId, endpoint: Endpoint) -> Result<(), FabricError> {
        check_endpoint(&endpoint)?;
        if !self.dynamic.peers.contains_key(&id) {
            return Err(FabricError::NoSuchDynamicPeer(id));
        }
        self.move_peer(id, endpoint);
        Ok(())
    }

    fn move_peer(&mut self, id: PeerId, endpoint: Endpoint) {
        let Some(peer) = self.dynamic.peers.get_mut(&id) else { return };
        let before = std::mem::replace(&mut peer.endpoint, endpoint);
        let key = PeerKey::Dynamic(id);
        if before == endpoint {
            return;
        }
        if let Some(slot) = self.tables.vteps.get(&key) {
            self.routes.add(endpoint.addr.into(), key);
            if before.addr != endpoint.addr && before.addr != slot.endpoint.addr {
                self.routes.remove(before.addr.into(), key);
            }
        }
    }

    /// Where a peer's frames are sent; `None`: it has no slot.
    fn in_force(&self, id: PeerId) -> Option<Endpoint> {
        self.tables.vteps.get(&PeerKey::Dynamic(id)).map(|slot| slot.endpoint)
    }

    /// Removes a peer with its paths. `false`: there was none.
    pub fn remove_dynamic_peer(&mut self, id: PeerId) -> bool {
        let removed = self.take_peer_out(id);
        for index in self.dynamic.paths.of(id) {
            self.remove_path(index);
        }
        removed
    }

    fn take_peer_out(&mut self, id: PeerId) -> bool {
        if let Some(at) = self.in_force(id) {
            self.move_peer(id, at);
        }
        let removed = self.dynamic.put(id, None).is_some();
        // Who comes back before that is carried out has the slot again.
        self.hold_peer(PeerKey::Dynamic(id), Hold::Normal);
        if removed {
            self.touch_peers();
        }
        removed
    }

    /// Has frames to a peer held back, or not any more. It is done before what else is asked for from now on, and goes with the peer's slot,
    /// be it only for a moment that the peer has none. To who has none no frames are sent: nothing happens.
    pub fn hold_peer(&mut self, peer: PeerKey, hold: Hold) {
        if hold == Hold::Normal {
            self.dynamic.holds.remove(&peer);
        } else if self.tables.vteps.contains_key(&peer) {
            self.dynamic.holds.insert(peer, hold);
        }
        self.dynamic.holds_dirty.insert(peer);
    }

    /// Peers that an earlier agent left and that nobody has asked for since, by [`Fabric::set_peer`]. They go on as they were, and
    /// so do paths that nobody has asked for since, also those of peers that have been asked for.
    pub fn unclaimed_peers(&self) -> impl Iterator<Item = PeerId> {
        self.dynamic.peers.iter().filter(|(_, peer)| peer.unclaimed).map(|(id, _)| *id)
    }

    /// The paths that an earlier agent left and nobody has asked for since.
    pub fn unclaimed_paths(&self) -> impl Iterator<Item = &PeerPath> {
        self.dynamic.paths.unclaimed().map(|(_, path)| path)
    }

    /// Limits peers that an earlier agent left and nobody has asked for since to the VNIs that each may join; those that may join none of
    /// theirs go. Who went.
    pub fn limit_unclaimed(&mut self, may: impl Fn(&PeerId, Vni) -> bool) -> Vec<PeerId> {
        let unclaimed: Vec<PeerId> = self.unclaimed_peers().collect();
        let mut gone = Vec::new();
        for id in unclaimed {
            let Some(peer) = self.dynamic.peers.get(&id) else { continue };
            let vnis: BTreeSet<Vni> = peer.vnis.iter().copied().filter(|vni| may(&id, *vni)).collect();
            if vnis.is_empty() {
                gone.push(id);
            } else if vnis != peer.vnis {
                let peer = DynamicPeer { vnis, ..peer.clone() };
                self.dynamic.put(id, Some(peer));
                self.touch_peers();
            }
        }
        gone.iter().for_each(|id| self.forget_left(*id));
        gone
    }

    /// Gives up all that an earlier agent left and nobody has asked for since, peers and paths; the peers.
    pub fn forget_unclaimed(&mut self) -> Vec<PeerId> {
        let peers: Vec<PeerId> = self.unclaimed_peers().collect();
        peers.iter().for_each(|id| _ = self.take_peer_out(*id));
        self.forget_paths(|_| true);
        peers
    }

    /// Gives up a peer that an earlier agent left. A path that was asked for since is its asker's to remove: its slot may not be another
    /// one's before that.
    fn forget_left(&mut self, id: PeerId) {
        self.take_peer_out(id);
        self.forget_paths(|path| path.peer == Some(id));
    }

    fn forget_paths(&mut self, which: impl Fn(&PeerPath) -> bool) {
        let left = self.dynamic.paths.unclaimed().filter(|(_, path)| which(path));
        let left: Vec<u16> = left.map(|(index, _)| index).collect();
        left.into_iter().for_each(|index| self.remove_path(index));
    }

    /// Queues what is to be held back, or not any more: before anything that may change on the way there.
    pub(super) fn flush_holds(&mut self) {
        for peer in std::mem::take(&mut self.dynamic.holds_dirty) {
            let Some(slot) = self.tables.vteps.get_mut(&peer) else { continue };
            let hold = self.dynamic.holds.get(&peer).copied().unwrap_or_default();
            if slot.hold != hold {
                slot.hold = hold;
                self.out.push_back(Command::SetHold { index: slot.index, hold });
            }
        }
    }
}

fn check_endpoint(endpoint: &Endpoint) -> Result<(), FabricError> {
    check_peer_address(endpoint.addr.into())?;
    if endpoint.port == 0 || endpoint.source_port == Some(0) { Err(FabricError::BadUdpPort) } else { Ok(()) }
}
