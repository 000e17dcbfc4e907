//! The agent as a whole.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{AttachState, NatInfo};

/// Where the underlay programs run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HookMode {
    /// XDP in the NIC's driver: the fastest.
    #[serde(rename = "xdp-driver")]
    XdpDriver,
    /// XDP in the network stack, for drivers without XDP.
    #[serde(rename = "xdp-generic")]
    XdpGeneric,
    /// TC alone, where no XDP program attaches.
    #[serde(rename = "tc")]
    Tc,
}

impl HookMode {
    /// Every mode, fastest first.
    pub const ALL: [HookMode; 3] = [HookMode::XdpDriver, HookMode::XdpGeneric, HookMode::Tc];

    /// The name in JSON, tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            HookMode::XdpDriver => "xdp-driver",
            HookMode::XdpGeneric => "xdp-generic",
            HookMode::Tc => "tc",
        }
    }
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The agent's name (`agent.name`, default the host's name).
    pub name: String,
    /// Version of the agent's program.
    pub version: String,
    /// ABI version of the maps.
    pub abi: u32,
    /// Process id.
    pub pid: u32,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Seconds since the maps were made: how long the counters count, restarts of the agent included.
    pub counting_s: u64,
    /// Where the configuration came from: the file's path, or `command line`.
    pub config: String,
    /// The bpffs directory with the pinned maps and links.
    pub bpffs: String,
    /// Address of the metrics endpoint, or null when it is off.
    pub metrics: Option<String>,
    /// The underlay.
    pub underlay: UnderlayInfo,
    /// What is in front of this host, as `mesh` tells it; not there without a mesh, and before it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<NatInfo>,
    /// How much there is of everything.
    pub counts: Counts,
    /// What the operator should look at, in sentences; empty when all is well.
    pub warnings: Vec<String>,
}

/// The underlay NIC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnderlayInfo {
    /// Interface name.
    pub interface: String,
    /// Outer source address, or null while the interface has none.
    pub address: Option<Ipv4Addr>,
    /// UDP port of this VTEP.
    pub udp_port: u16,
    /// The hook in use, or null while nothing is attached.
    pub hook_mode: Option<HookMode>,
    /// MTU in bytes, or null while the interface is missing.
    pub mtu: Option<u32>,
    /// Whether it is in use.
    pub state: AttachState,
    /// Why `state` is `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How much there is of everything, and how much fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// VNIs.
    pub vnis: u64,
    /// Ports that are configured or added.
    pub ports: u64,
    /// Ports that are attached.
    pub ports_attached: u64,
    /// Peers.
    pub peers: u64,
    /// Peers whose next hop is resolved.
    pub peers_up: u64,
    /// FDB entries, static ones included.
    pub fdb_entries: u64,
    /// FDB entries that are static.
    pub fdb_static: u64,
    /// Entries that the FDB has room for.
    pub fdb_capacity: u64,
    /// Frames dropped for any reason.
    pub dropped_frames: u64,
}
