//! What the operator wants of the mesh.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use wavnet_common::addr::Vni;

use crate::{
    policy::Policy,
    trust::{AccessKey, MemberKey, PublicKey},
    wire::Name,
};

/// A rendezvous server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens. Several addresses of one name are several servers here.
    pub addr: SocketAddr,
    /// Its public key, if it must have this one; else whoever has the access key may be it.
    pub key: Option<PublicKey>,
}

/// What the operator wants of the mesh. [`super::Mesh::configure`] takes another one while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's name, for people.
    pub name: Name,
    /// Rendezvous servers, the preferred one first.
    pub servers: Vec<Server>,
    /// What shows servers that this host belongs to the network.
    pub access: AccessKey,
    /// What shows it to peers.
    pub member: MemberKey,
    /// Who may be a peer.
    pub policy: Policy,
    /// VNIs that this host has.
    pub vnis: BTreeSet<Vni>,
    /// Between two CONNECT_PULSEs of an idle path.
    pub pulse: Duration,
    /// Whether paths through symmetric NATs are searched for (opens up to 480 sockets for some seconds).
    pub search: bool,
    /// Peers at the most.
    pub peers: usize,
}

impl Settings {
    /// The pulse's default period (WAVNet section III.B).
    pub const PULSE: Duration = Duration::from_secs(5);
    /// Peers of an agent by default.
    pub const PEERS: usize = 1000;
}
