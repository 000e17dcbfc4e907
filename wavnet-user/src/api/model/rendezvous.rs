//! A rendezvous server as a whole.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The answer to `rendezvous`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousStatus {
    /// Version of the server's program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where the configuration came from: the file's path, or `command line`.
    pub config: String,
    /// Its public key, for agents to name.
    pub public_key: String,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Second addresses for STUN.
    pub other_address: Vec<IpAddr>,
    /// Second port for STUN, or null.
    pub other_port: Option<u16>,
    /// The file with what outlives it.
    pub state: String,
    /// Address of the metrics endpoint, or null when it is off.
    pub metrics: Option<SocketAddr>,
    /// How often it has started with this file.
    pub start: u32,
    /// What relays: `xdp`, `user-space` or `off`.
    pub relay: String,
    /// Networks, ascending by id.
    pub networks: Vec<RendezvousNetwork>,
    /// Hosts that have shaken hands and not registered yet.
    pub visitors: u64,
    /// Pairs of hosts that may talk over the relay.
    pub relays: u64,
    /// Hosts that may register.
    pub hosts_max: u64,
    /// Pairs that there may be.
    pub relays_max: u64,
    /// What it did since it started.
    pub counters: RendezvousCounters,
    /// What deserves a look, in sentences.
    pub warnings: Vec<String>,
}

/// A network that a server serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousNetwork {
    /// Its id: 16 hexadecimal digits.
    pub id: String,
    /// Registered hosts.
    pub hosts: u64,
    /// Those of them that have a session; after a restart, those that have come back.
    pub connected: u64,
}

/// What a server did; /metrics has more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousCounters {
    /// STUN requests that were answered.
    pub stun_answered: u64,
    /// Handshakes that were answered.
    pub handshakes: u64,
    /// Pairs of hosts that were invited to each other, each time.
    pub connects: u64,
    /// Handshakes of hosts with each other that were handed on.
    pub forwards: u64,
    /// Leases that ended.
    pub leases_expired: u64,
    /// Datagrams that were relayed.
    pub relay_frames: u64,
    /// Bytes of UDP payload that were relayed.
    pub relay_bytes: u64,
    /// Datagrams and messages that were dropped, for whatever reason.
    pub dropped: u64,
}
