//! The mesh: rendezvous servers, and the peers that they have led to.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};
use wavnet_common::addr::Vni;

use super::{NatInfo, TrafficInfo, text};

/// The answer to `mesh`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshInfo {
    /// This host's public key.
    pub key: String,
    /// What is in front of this host; null before it is known.
    pub nat: Option<NatInfo>,
    /// Frames that were held back while a peer changed its path, and given up: there were too many, or it took too long.
    #[serde(default)]
    pub held_frames_lost: u64,
    /// How often identities that may not be peers tried to be, each counted once a minute at the most, and a few in each minute.
    #[serde(default)]
    pub refused: u64,
    /// Datagrams to the mesh, and messages in them, that were dropped, by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
    /// The rendezvous servers, the preferred one first.
    pub servers: Vec<MeshServer>,
    /// The peers, ascending by key.
    pub peers: Vec<MeshPeer>,
}

/// The NAT in front of a peer, in the words of [`NatInfo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshNat {
    /// The papers' type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its mappings depend on (RFC 4787 section 4.1).
    pub mapping: String,
    /// Who may send to them (RFC 4787 section 5).
    pub filtering: String,
}

/// A rendezvous server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshServer {
    /// Where it is.
    pub address: SocketAddr,
    /// It has taken this host in.
    pub registered: bool,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where it sees this host; null before it has answered.
    pub mapped: Option<SocketAddr>,
    /// It relays.
    pub relays: bool,
    /// Hosts that it knows and that share a VNI with this one.
    pub hosts: u64,
    /// Round-trip time in milliseconds; null before it is known.
    pub rtt_ms: Option<f64>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshPeer {
    /// Its public key.
    pub key: String,
    /// Its name, as it says; null before it has.
    pub name: Option<String>,
    /// Its identity is proved.
    pub connected: bool,
    /// VNIs that it has joined, of this host's, ascending.
    #[serde(with = "text::vni::list")]
    pub vnis: Vec<Vni>,
    /// What is in front of it, as it says.
    pub nat: MeshNat,
    /// Milliseconds from when this host first wanted to reach it until frames could be sent; null before that.
    pub first_path_ms: Option<u64>,
    /// The same until they could be sent without a relay.
    pub direct_path_ms: Option<u64>,
    /// The ways to it that both sides take frames from; the one that frames are sent by comes first.
    pub paths: Vec<MeshPath>,
    /// Frames from (`rx`) and to (`tx`) it.
    #[serde(flatten)]
    pub traffic: TrafficInfo,
}

impl MeshPeer {
    /// The path that frames take.
    pub fn selected(&self) -> Option<&MeshPath> {
        self.paths.iter().find(|p| p.selected)
    }
}

/// A way to a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeshPath {
    /// `lan`, `direct` or `relayed`.
    pub kind: String,
    /// Where frames go: the peer, its NAT, or the relay.
    pub remote: SocketAddr,
    /// UDP port of this host.
    pub local_port: u16,
    /// Frames are sent by it.
    pub selected: bool,
    /// Round-trip time in milliseconds, smoothed; null before it is known.
    pub rtt_ms: Option<f64>,
    /// Share of keep-alives that were lost lately, 0 to 1.
    pub loss: f64,
}
