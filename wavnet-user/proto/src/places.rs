//! Where the mesh's peers are, as the fabric is to have it: their VNIs, where their frames are sent, and when that ends.
//!
//! Frames to a peer go on to where they went until the mesh says otherwise, whatever paths are proved meanwhile: a path is taken when both sides
//! have announced it. That holds for peers that an earlier agent has left, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use wavnet_common::{
    abi::{Endpoint, ExtraPorts},
    addr::{PeerId, Vni},
};

use crate::{
    fabric::{Fabric, FabricError},
    mesh::Way,
    time::Time,
    transmit::Socket,
    trust::PublicKey,
};

/// UDP ports of this host's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The main one's.
    pub main: u16,
    /// The first extra one's; those that frames may come by follow it.
    pub extra: u16,
}

impl Ports {
    /// The port of a socket.
    #[must_use]
    pub fn of(self, socket: Socket) -> u16 {
        match socket {
            Socket::Extra(n) if n < ExtraPorts::MOST => self.extra.saturating_add(n),
            _ => self.main,
        }
    }

    /// The socket that has a port; the main one if none has.
    fn socket(self, port: u16) -> Socket {
        match port.checked_sub(self.extra).filter(|n| *n < ExtraPorts::MOST && port != self.main) {
            Some(n) => Socket::Extra(n),
            None => Socket::Main,
        }
    }
}

/// Where a peer's frames are sent to, and by which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where to.
    pub endpoint: Endpoint,
    /// Which socket has the port that they come from.
    pub socket: Socket,
}

/// A peer that was admitted.
#[derive(Clone, Debug, Default)]
struct Peer {
    vnis: BTreeSet<Vni>,
    place: Option<Place>,
    /// Since when no path leads to it.
    lost: Option<Time>,
    /// For so long that its VNIs rest.
    given_up: bool,
}

/// All peers of the mesh.
#[derive(Clone, Debug, Default)]
pub struct Places {
    peers: BTreeMap<PublicKey, Peer>,
}

/// A peer as the fabric knows it.
#[must_use]
pub fn id(peer: &PublicKey) -> PeerId {
    PeerId(*peer.as_bytes())
}

impl Places {
    /// For so long frames go on to where a peer was that no path leads to. By then somebody else may be there.
    pub const LOST: Duration = Duration::from_secs(10);

    /// The peers.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.peers.keys()
    }

    /// True if this is one of them.
    #[must_use]
    pub fn has(&self, peer: &PublicKey) -> bool {
        self.peers.contains_key(peer)
    }

    /// Where a peer's frames are sent; `None`: nowhere yet.
    #[must_use]
    pub fn get(&self, peer: &PublicKey) -> Option<&Place> {
        self.peers.get(peer)?.place.as_ref()
    }

    /// A peer may join these VNIs. One that an earlier agent has left stays where its frames are sent, for as long as one that is lost.
    ///
    /// # Errors
    /// The fabric has no room.
    pub fn admit(
        &mut self,
        now: Time,
        fabric: &mut Fabric,
        ports: Option<Ports>,
        key: PublicKey,
        vnis: BTreeSet<Vni>,
    ) -> Result<(), FabricError> {
        let peer = self.peers.entry(key).or_default();
        peer.vnis = vnis;
        let left = || fabric.dynamic_peer(id(&key)).filter(|view| view.unclaimed)?.in_force;
        if peer.place.is_none()
            && let Some(endpoint) = left()
        {
            let socket = ports.zip(endpoint.source_port).map_or(Socket::Main, |(ports, port)| ports.socket(port));
            (peer.place, peer.lost) = (Some(Place { endpoint, socket }), Some(now));
        }
        peer.put(fabric, &key)
    }

    /// A peer is gone.
    pub fn expel(&mut self, fabric: &mut Fabric, key: &PublicKey) {
        self.peers.remove(key);
        fabric.remove_dynamic_peer(id(key));
    }

    /// A way to a peer was proved. One that has no place, or none any more, has it there, for as long as one that is lost: the peer is told
    /// that its frames are taken, and it needs a place before anything is sent to it. Who is lost is so from now on.
    ///
    /// # Errors
    /// As [`Places::select`].
    pub fn prove(
        &mut self,
        now: Time,
        fabric: &mut Fabric,
        ports: Ports,
        key: &PublicKey,
        way: &Way,
    ) -> Result<(), FabricError> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        let stands = peer.place.is_some() && !peer.given_up;
        if stands {
            peer.lost = peer.lost.map(|_| now);
            return Ok(());
        }
        let placed = self.select(fabric, ports, key, way);
        self.lose(now, key);
        placed
    }

    /// A peer's frames are to go this way.
    ///
    /// # Errors
    /// The fabric has no room, or nobody can be there.
    pub fn select(&mut self, fabric: &mut Fabric, ports: Ports, key: &PublicKey, way: &Way) -> Result<(), FabricError> {
        let (SocketAddr::V4(remote), Some(peer)) = (way.remote, self.peers.get_mut(key)) else { return Ok(()) };
        let endpoint = Endpoint {
            addr: remote.ip().octets(),
            port: remote.port(),
            source_port: Some(ports.of(way.socket)),
            label: way.label,
        };
        (peer.lost, peer.given_up) = (None, false);
        peer.place = Some(Place { endpoint, socket: way.socket });
        peer.put(fabric, key)
    }

    /// No path leads to a peer: its frames go on to where it was, which is as good as anywhere else, for [`Places::LOST`].
    pub fn lose(&mut self, now: Time, key: &PublicKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.lost = Some(now);
        }
    }

    /// Peers that no path has led to for [`Places::LOST`]: nothing is sent to them, nor taken from them, before one does.
    ///
    /// # Errors
    /// Those of the fabric, and for whom.
    pub fn give_up_lost(&mut self, now: Time, fabric: &mut Fabric) -> Vec<(PublicKey, FabricError)> {
        let lost = |peer: &Peer| peer.lost.is_some_and(|since| now.since(since) >= Places::LOST);
        self.for_each(fabric, |peer| {
            let gives_up = lost(peer);
            if gives_up {
                (peer.lost, peer.given_up) = (None, true);
            }
            gives_up
        })
    }

    /// Sockets have other ports than before: frames leave by those.
    ///
    /// # Errors
    /// Those of the fabric, and for whom.
    pub fn follow_ports(&mut self, fabric: &mut Fabric, ports: Ports) -> Vec<(PublicKey, FabricError)> {
        self.for_each(fabric, |peer| {
            peer.place.as_mut().is_some_and(|place| {
                place.endpoint.source_port = Some(ports.of(place.socket));
                true
            })
        })
    }

    /// Tells the fabric of all peers that something has changed of.
    fn for_each(&mut self, fabric: &mut Fabric, change: impl Fn(&mut Peer) -> bool) -> Vec<(PublicKey, FabricError)> {
        let changed = self.peers.iter_mut().filter_map(|(key, peer)| change(peer).then_some((key, peer)));
        changed.filter_map(|(key, peer)| Some((*key, peer.put(fabric, key).err()?))).collect()
    }
}

impl Peer {
    fn put(&self, fabric: &mut Fabric, key: &PublicKey) -> Result<(), FabricError> {
        let Some(place) = &self.place else { return Ok(()) };
        let vnis = if self.given_up { BTreeSet::new() } else { self.vnis.clone() };
        fabric.set_peer(id(key), vnis, place.endpoint)
    }
}
