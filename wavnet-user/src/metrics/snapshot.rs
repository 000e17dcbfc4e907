//! What a scrape sees: plain numbers, gathered by the agent without touching the datapath.

use std::{net::Ipv4Addr, time::Duration};

use wavnet_common::{
    abi::{Count, Traffic},
    addr::Vni,
    reason::Reason,
};

use crate::api::model::{HookMode, MeshInfo};

/// All numbers of one scrape. Counters are sums over CPUs since the maps were made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Seconds since the Unix epoch when the agent started.
    pub start_time_s: f64,
    /// Per port, attached ones only.
    pub ports: Vec<PortSample>,
    /// Per VNI.
    pub vnis: Vec<VniSample>,
    /// Per peer.
    pub peers: Vec<PeerSample>,
    /// Drops by reason; reasons that are absent count zero.
    pub drops: Vec<(Reason, u64)>,
    /// Other counters of the programs; those that are absent count zero.
    pub counts: Vec<(Count, u64)>,
    /// Entries that the FDB has room for.
    pub fdb_capacity: u64,
    /// Learned entries that the agent has removed for age, since it started.
    pub fdb_aged: u64,
    /// Name and hook of the underlay; no hook while nothing is attached.
    pub underlay: (String, Option<HookMode>),
    /// Ports that are configured but missing or in error.
    pub ports_unattached: u64,
    /// Programs' run time; empty unless it is measured.
    pub programs: Vec<ProgramSample>,
    /// The mesh, if the agent has one.
    pub mesh: Option<Box<MeshInfo>>,
    /// Successful and failed reloads of the configuration.
    pub reloads: (u64, u64),
}

/// Of one port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortSample {
    /// Interface name.
    pub port: String,
    /// Its VNI.
    pub vni: Vni,
    /// XDP carries its datagrams.
    pub xdp: bool,
    /// `rx` from, `tx` to the VM.
    pub traffic: Traffic,
}

/// Of one VNI.
#[derive(Clone, Debug, PartialEq)]
pub struct VniSample {
    /// The VNI.
    pub vni: Vni,
    /// `rx` from, `tx` to the WAN.
    pub traffic: Traffic,
    /// Learned FDB entries.
    pub fdb_learned: u64,
    /// Static FDB entries.
    pub fdb_static: u64,
}

/// Of one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSample {
    /// Outer address.
    pub peer: Ipv4Addr,
    /// `rx` from, `tx` to the peer.
    pub traffic: Traffic,
    /// Its next hop is resolved.
    pub up: bool,
}

/// Of one program, as the kernel counts with `kernel.bpf_stats_enabled`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramSample {
    /// Name of the program.
    pub program: String,
    /// Time spent in it.
    pub run_time: Duration,
    /// How often it ran.
    pub run_count: u64,
}
