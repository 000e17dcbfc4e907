//! Paths of dynamic peers: which slots they have, and which relays they come by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use wavnet_common::{
    abi::{Arrival, Path, Source, size},
    addr::{Label, PeerId},
};

use crate::{
    command::{Command, PeerKey},
    fabric::{Adopted, Fabric, FabricError, Limits, desired::check_peer_address, slots::Slots, tables::Tables},
};

/// Where the datagrams of a path come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathFrom {
    /// Straight from a peer, or from its NAT.
    Direct(Arrival),
    /// By way of a relay.
    Relayed {
        /// The relay.
        relay: Arrival,
        /// The session; [`Label::ZERO`]: from the relay itself.
        label: Label,
    },
}

impl PathFrom {
    /// Who is seen as sender on the wire.
    pub fn addr(&self) -> SocketAddrV4 {
        match self {
            PathFrom::Direct(at) | PathFrom::Relayed { relay: at, .. } => at.from(),
        }
    }

    const fn relay(&self) -> Option<Arrival> {
        match self {
            PathFrom::Direct(_) => None,
            PathFrom::Relayed { relay, .. } => Some(*relay),
        }
    }
}

/// A path: pulses by it are answered, and frames by it are taken for its peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerPath {
    /// Where its datagrams come from.
    pub from: PathFrom,
    /// Whose frames come by it; `None`: no frames, as from a rendezvous server.
    pub peer: Option<PeerId>,
}

/// A relay.
#[derive(Clone, Copy, Debug)]
struct Relay {
    number: u16,
    /// How many paths come by it.
    users: usize,
}

/// The paths as they are asked for.
#[derive(Clone, Debug)]
pub(in crate::fabric) struct PathTable {
    paths: BTreeMap<u16, PeerPath>,
    sources: BTreeMap<PathFrom, u16>,
    relays: BTreeMap<Arrival, Relay>,
    path_slots: Slots<PathFrom>,
    relay_slots: Slots<Arrival>,
    /// Those that were found in the tables, and not asked for yet by this agent.
    unclaimed: BTreeSet<u16>,
    /// Slots whose content may have to change.
    dirty: BTreeSet<u16>,
}

impl PathTable {
    /// What an earlier agent left. A path by a relay that is not there, or of a peer that is not, is rubbish.
    pub(super) fn adopt(limits: &Limits, found: &Adopted, tables: &Tables) -> PathTable {
        let addresses: BTreeMap<u16, Arrival> = found.relays.iter().copied().collect();
        let ids: BTreeMap<u16, PeerId> = tables.dynamic().map(|(id, slot)| (slot.index, id)).collect();
        let slots: BTreeSet<u16> = tables.paths.keys().copied().collect();
        let relay = |(at, number): (&Arrival, &u16)| (*at, Relay { number: *number, users: 0 });
        let mut table = PathTable {
            paths: BTreeMap::new(),
            sources: BTreeMap::new(),
            relays: tables.relays.iter().map(relay).collect(),
            path_slots: Slots::new(limits.paths(), &slots),
            relay_slots: Slots::new(size::RELAYS as usize, &addresses.keys().copied().collect()),
            unclaimed: BTreeSet::new(),
            dirty: slots,
        };
        for (index, path) in &tables.paths {
            let from = match path.source {
                Source::Endpoint(at) => Some(PathFrom::Direct(at)),
                Source::Relayed { relay, label } => {
                    addresses.get(&relay).map(|at| PathFrom::Relayed { relay: *at, label })
                }
            };
            let peer = path.vtep_index.map(|index| ids.get(&index).copied());
            match (from, peer) {
                (Some(from), None | Some(Some(_))) if !table.sources.contains_key(&from) => {
                    table.enter(*index, PeerPath { from, peer: peer.flatten() });
                    table.unclaimed.insert(*index);
                }
                // The next flush frees it.
                _ => table.path_slots.put(*index, None),
            }
        }
        table.release_relays();
        table
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    fn enter(&mut self, index: u16, path: PeerPath) {
        self.paths.insert(index, path);
        self.sources.insert(path.from, index);
        if let Some(relay) = path.from.relay().and_then(|at| self.relays.get_mut(&at)) {
            relay.users += 1;
        }
        self.dirty.insert(index);
    }

    fn take_out(&mut self, index: u16) -> Option<PeerPath> {
        let path = self.paths.remove(&index)?;
        self.sources.remove(&path.from);
        self.unclaimed.remove(&index);
        self.path_slots.put(index, Some(path.from));
        if let Some(relay) = path.from.relay().and_then(|at| self.relays.get_mut(&at)) {
            relay.users -= 1;
        }
        self.dirty.insert(index);
        self.release_relays();
        Some(path)
    }

    /// Gives back the numbers of relays that no path comes by.
    fn release_relays(&mut self) {
        let slots = &mut self.relay_slots;
        self.relays.retain(|at, relay| {
            if relay.users == 0 {
                slots.put(relay.number, Some(*at));
            }
            relay.users > 0
        });
    }

    fn add(&mut self, path: PeerPath, limits: &Limits) -> Result<u16, FabricError> {
        let addr = path.from.addr();
        if let Some(&index) = self.sources.get(&path.from) {
            // What an earlier agent knew is whose it is proved to be now.
            let unclaimed = self.unclaimed.remove(&index);
            let may = |known: &&mut PeerPath| unclaimed || known.peer.is_none() || known.peer == path.peer;
            let known = self.paths.get_mut(&index).filter(may);
            *known.ok_or(FabricError::PathTaken(addr))? = path;
            self.dirty.insert(index);
            return Ok(index);
        }
        let contradicts = match path.from {
            PathFrom::Direct(at) => self.relays.contains_key(&at),
            PathFrom::Relayed { relay, .. } => self.sources.contains_key(&PathFrom::Direct(relay)),
        };
        if contradicts {
            return Err(FabricError::PathTaken(addr));
        }
        let full = |what, limit| FabricError::Full { what, limit };
        if let Some(at) = path.from.relay().filter(|at| !self.relays.contains_key(at)) {
            let grant = self.relay_slots.take(&at).ok_or(full("relays", size::RELAYS as usize))?;
            self.relays.insert(at, Relay { number: grant.index, users: 0 });
        }
        let Some(grant) = self.path_slots.take(&path.from) else {
            self.release_relays();
            return Err(full("paths of peers", limits.paths()));
        };
        self.enter(grant.index, path);
        Ok(grant.index)
    }

    /// Paths that an earlier agent left and that nobody has asked for since, by slot.
    pub(super) fn unclaimed(&self) -> impl Iterator<Item = (u16, &PeerPath)> {
        self.unclaimed.iter().filter_map(|index| Some((*index, self.paths.get(index)?)))
    }

    /// Slots of a peer's paths.
    pub(super) fn of(&self, id: PeerId) -> Vec<u16> {
        self.paths.iter().filter(|(_, path)| path.peer == Some(id)).map(|(index, _)| *index).collect()
    }

    /// Addresses that frames of such peers come from: a static peer there has to share it.
    pub(in crate::fabric) fn addresses(&self, is_one: impl Fn(PeerId) -> bool) -> BTreeSet<Ipv4Addr> {
        let of_peers = self.paths.values().filter(|path| path.peer.is_some_and(&is_one));
        of_peers.map(|path| *path.from.addr().ip()).collect()
    }

    /// The slots of peers have come or gone.
    pub(super) fn slots_changed(&mut self, peers: &BTreeSet<PeerKey>) {
        let changed = |path: &PeerPath| path.peer.is_some_and(|id| peers.contains(&PeerKey::Dynamic(id)));
        self.dirty.extend(self.paths.iter().filter(|(_, path)| changed(path)).map(|(index, _)| *index));
    }

    /// What a slot of `PATHS` is to hold.
    fn content(&self, index: u16, tables: &Tables) -> Option<Path> {
        let path = self.paths.get(&index)?;
        let source = match path.from {
            PathFrom::Direct(at) => Source::Endpoint(at),
            PathFrom::Relayed { relay, label } => Source::Relayed { relay: self.relays.get(&relay)?.number, label },
        };
        let slot = path.peer.and_then(|id| tables.vteps.get(&PeerKey::Dynamic(id)));
        Some(Path { source, vtep_index: slot.map(|slot| slot.index) })
    }
}

impl Fabric {
    /// Makes a path known; its slot in `PATHS`, where pulses by it are noted. One with the same source that is there already is
    /// changed, and keeps its slot.
    ///
    /// # Errors
    /// There is no room; it is another peer's; or its address is a relay's and it does not say so.
    pub fn add_path(&mut self, path: PeerPath) -> Result<u16, FabricError> {
        let addr = path.from.addr();
        check_peer_address(*addr.ip())?;
        if addr.port() == 0 {
            return Err(FabricError::BadUdpPort);
        }
        let none = self.dynamic.paths.is_empty();
        let index = self.dynamic.paths.add(path, &self.limits)?;
        self.dirty |= none;
        self.touch_static(&path);
        Ok(index)
    }

    /// Forgets a path.
    pub fn remove_path(&mut self, index: u16) {
        let Some(path) = self.dynamic.paths.paths.get(&index).copied() else { return };
        self.dynamic.paths.take_out(index);
        self.dirty |= self.dynamic.paths.is_empty();
        self.touch_static(&path);
    }

    /// All paths, by slot.
    pub fn paths(&self) -> impl Iterator<Item = (u16, &PeerPath)> {
        self.dynamic.paths.paths.iter().map(|(index, path)| (*index, path))
    }

    /// A static peer may have to share its address with this path, or need not any more.
    fn touch_static(&mut self, path: &PeerPath) {
        let addr = path.from.addr();
        if self.desired.peers.contains_key(addr.ip()) || self.runtime.peers.contains_key(addr.ip()) {
            self.touch_peers();
        }
    }

    /// Queues what has changed of paths and relays. What goes is first, and what it leads to last.
    pub(in crate::fabric) fn flush_peer_paths(&mut self) {
        let (table, tables, out) = (&mut self.dynamic.paths, &mut self.tables, &mut self.out);
        let changed: Vec<(u16, Option<Path>)> =
            std::mem::take(&mut table.dirty).into_iter().map(|index| (index, table.content(index, tables))).collect();
        for (index, content) in &changed {
            let stays = |now: &Path| content.is_some_and(|new| new.source == now.source);
            if tables.paths.get(index).is_some_and(|now| !stays(now)) {
                tables.paths.remove(index);
                out.push_back(Command::SetPath { index: *index, path: None });
            }
        }
        tables.relays.retain(|at, number| {
            let stays = table.relays.get(at).is_some_and(|relay| relay.number == *number);
            if !stays {
                out.push_back(Command::SetRelay { number: *number, at: *at, used: false });
            }
            stays
        });
        for (at, Relay { number, .. }) in &table.relays {
            if tables.relays.insert(*at, *number).is_none() {
                out.push_back(Command::SetRelay { number: *number, at: *at, used: true });
            }
        }
        for (index, content) in changed {
            let Some(path) = content else { continue };
            let before = tables.paths.insert(index, path);
            if before != Some(path) {
                self.failures.writes_path(index, before.is_some());
                out.push_back(Command::SetPath { index, path: Some(path) });
            }
        }
    }
}
