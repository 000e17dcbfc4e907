//! What the mesh shows: for `status`, `peers` and the metrics.

use std::{collections::BTreeSet, net::SocketAddr};

use wavnet_common::addr::Vni;

use super::{Mesh, PathId, PathKind, Rtt, ServerTrouble, Way, path::Path, peer::Peer};
use crate::{trust::PublicKey, wire::NatSummary};

/// A rendezvous server as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerView {
    /// Where it is.
    pub addr: SocketAddr,
    /// It has taken us in, and its lease has not ended.
    pub registered: bool,
    /// What is wrong with it.
    pub trouble: Option<ServerTrouble>,
    /// Where it sees us.
    pub mapped: Option<SocketAddr>,
    /// It relays.
    pub relays: bool,
    /// Its other addresses that answer STUN.
    pub stun: Vec<SocketAddr>,
    /// Hosts in its directory.
    pub hosts: usize,
    /// Round-trip time to it.
    pub rtt: Option<Rtt>,
}

/// A path as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PathView {
    /// Number, if frames are taken from it.
    pub id: Option<PathId>,
    /// Where it leads.
    pub way: Way,
    /// Which kind it is.
    pub kind: PathKind,
    /// Frames are sent by it.
    pub selected: bool,
    /// Both sides take frames from it.
    pub usable: bool,
    /// Round-trip time.
    pub rtt: Option<Rtt>,
    /// Share of pulses lost lately, 0 to 1.
    pub loss: f64,
    /// Pulses sent and answered.
    pub pulses: (u64, u64),
}

/// A peer as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerView {
    /// Who.
    pub key: PublicKey,
    /// Its name, as it says; `None`: it has not said so yet.
    pub name: Option<String>,
    /// Its identity is proved.
    pub connected: bool,
    /// VNIs that it has joined, of ours.
    pub vnis: BTreeSet<Vni>,
    /// What is in front of it.
    pub nat: NatSummary,
    /// Its paths, of which one is selected at the most.
    pub paths: Vec<PathView>,
}

impl PeerView {
    /// The path that frames take.
    #[must_use]
    pub fn selected(&self) -> Option<&PathView> {
        self.paths.iter().find(|p| p.selected)
    }
}

impl Mesh {
    /// Every server, in the order of the settings.
    #[must_use]
    pub fn servers(&self) -> Vec<ServerView> {
        let now = self.clock.last();
        let view = |link: &super::Link| ServerView {
            addr: link.server.addr,
            registered: link.is_up(now),
            trouble: link.lasting_trouble(now),
            mapped: self.local.mapped.get(&link.index).map(|seen| seen.addr),
            relays: link.relays,
            stun: link.stun.clone(),
            hosts: link.directory.len(),
            rtt: link.pulses.rtt(),
        };
        self.links.iter().map(view).collect()
    }

    /// Every peer, by key.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.values().map(view)
    }

    /// One of them.
    #[must_use]
    pub fn peer(&self, key: &PublicKey) -> Option<PeerView> {
        self.peers.get(key).map(view)
    }

    /// True if there are as many peers as there may be: no more are reached, whatever servers say.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.peers.len() >= self.local.settings.peers
    }

    /// What is in front of this host.
    #[must_use]
    pub fn nat(&self) -> NatSummary {
        self.local.nat
    }
}

fn view(peer: &Peer) -> PeerView {
    let path = |path: &Path| PathView {
        id: path.slot,
        way: path.way,
        kind: path.kind,
        selected: peer.paths.selected == Some(path.id),
        usable: path.slot.is_some() && path.proven && path.taken,
        rtt: path.pulses.rtt(),
        loss: path.pulses.loss(),
        pulses: path.pulses.counts(),
    };
    PeerView {
        key: peer.key,
        name: peer.name.as_ref().map(ToString::to_string),
        connected: peer.is_connected(),
        vnis: peer.admitted().cloned().unwrap_or_default(),
        nat: peer.nat,
        paths: peer.paths.iter().map(path).collect(),
    }
}
