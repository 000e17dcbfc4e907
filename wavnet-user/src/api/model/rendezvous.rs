//! A rendezvous server as a whole.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
};

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
    /// What relays: `xdp-driver`, `xdp-generic`, `tc`, `user-space` or `off`. What the kernel cannot relay, the server does.
    pub relay: String,
    /// The relay in the kernel.
    pub relay_kernel: RendezvousKernel,
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

/// The relay in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousKernel {
    /// The interface with its programs, or null.
    pub interface: Option<String>,
    /// The server's address there, or null.
    pub address: Option<Ipv4Addr>,
    /// Why the server relays everything itself, or null.
    pub why_not: Option<String>,
    /// Sides of pairs that the kernel relays, two for a pair.
    pub sides: u64,
    /// Sides that are left to the server: of pairs with an IPv6 address, or for want of room.
    pub left: u64,
    /// What became of datagrams to the server's port, by name; empty without programs.
    pub counters: BTreeMap<String, u64>,
    /// The sides that have sent most, by bytes; ten at the most.
    pub busiest: Vec<RendezvousSide>,
}

/// One side of a pair whose datagrams the kernel has relayed, since it has its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousSide {
    /// Who sends.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// Datagrams that were sent on.
    pub datagrams: u64,
    /// Bytes of their UDP payloads.
    pub bytes: u64,
    /// Datagrams that were more than it may send.
    pub too_fast: u64,
}

/// What a server did; /metrics has more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RendezvousCounters {
    /// STUN requests that were answered.
    pub stun_answered: u64,
    /// Those of them that the kernel has answered.
    pub stun_by_kernel: u64,
    /// STUN requests that were not: their sources had had as many answers as they may.
    pub stun_too_fast: u64,
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
