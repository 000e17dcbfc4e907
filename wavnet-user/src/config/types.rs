//! The validated configuration: plain data that needs no further checks but those against the running system.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use wavnet_common::{
    abi::size,
    addr::{Mac, Vni},
};

use super::{mesh::Mesh, pattern::InterfacePattern};
use crate::{
    api::model::{PortMode, VlanMode},
    datapath::Sizes,
};

/// Bytes that VXLAN over IPv4 adds inside the underlay's MTU: IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
pub const VXLAN_OVERHEAD: u32 = 50;

/// Entries of one bucket of the FDB.
pub const FDB_BUCKET_ENTRIES: u32 = 4;

/// Everything the agent is told, from a file or from flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[agent]`.
    pub agent: Agent,
    /// `[log]`.
    pub log: Log,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[underlay]`.
    pub underlay: Underlay,
    /// `[mesh]`; `None`: static peers alone.
    pub mesh: Option<Mesh>,
    /// `[fdb]`.
    pub fdb: Fdb,
    /// `[limits]`.
    pub limits: Limits,
    /// `[[vni]]`, ascending by VNI, unique.
    pub vnis: Vec<VniConfig>,
    /// `[[port]]`, in the file's order. Names are unique and no two patterns can match the same name.
    pub ports: Vec<PortConfig>,
    /// `[[peer]]`, ascending by address, unique.
    pub peers: Vec<PeerConfig>,
    /// `[[static]]`, in the file's order; {VNI, MAC} are unique.
    pub statics: Vec<StaticEntry>,
}

impl Config {
    /// Sizes of the tables.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            ports: self.limits.ports,
            vnis: self.limits.vnis,
            vteps: self.limits.peers,
            members: size::MEMBERS,
            fdb_buckets: self.fdb.buckets,
        }
    }

    /// The entry for an interface: the one with its exact name, else the pattern that matches it.
    pub fn port_for(&self, interface: &str) -> Option<&PortConfig> {
        let exact = self.ports.iter().find(|p| p.interface.exact() == Some(interface));
        exact.or_else(|| self.ports.iter().find(|p| p.interface.matches(interface)))
    }

    /// The declaration of a VNI.
    pub fn vni(&self, vni: Vni) -> Option<&VniConfig> {
        self.vnis.iter().find(|v| v.vni == vni)
    }
}

/// `[agent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Name of this agent in status and logs; `None`: the host's name.
    pub name: Option<String>,
    /// Directory in bpffs for the pinned maps and links.
    pub bpffs: PathBuf,
    /// Directory for the socket.
    pub run_dir: PathBuf,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// Group that owns the socket; `None`: the agent's.
    pub socket_group: Option<String>,
}

impl Agent {
    /// Name of the socket in the run directory.
    pub const SOCKET: &str = "agent.sock";
    /// Name of the file in the run directory that keeps what was added by command.
    pub const ADDITIONS: &str = "additions.json";
    /// Its name while it is being written.
    pub const ADDITIONS_EARLY: &str = "additions.new";
    /// Default of `bpffs`.
    pub const BPFFS: &str = "/sys/fs/bpf/wavnet";
    /// Default of `run_dir`.
    pub const RUN_DIR: &str = "/run/wavnet";

    /// Path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join(Self::SOCKET)
    }
}

impl Default for Agent {
    fn default() -> Agent {
        Agent {
            name: None,
            bpffs: Self::BPFFS.into(),
            run_dir: Self::RUN_DIR.into(),
            socket_mode: 0o660,
            socket_group: None,
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Least severe level that is written, `info` by default.
    pub level: LogLevel,
    /// How lines look.
    pub format: LogFormat,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Something failed and needs a person.
    Error,
    /// Something is wrong, and the agent goes on.
    Warn,
    /// What an operator wants to know: changes of ports, peers, hooks, configuration.
    #[default]
    Info,
    /// Why the agent did what it did: netlink messages, map writes.
    Debug,
    /// Everything, down to single FDB events.
    Trace,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Address of the endpoint; `None`: off.
    pub listen: Option<SocketAddr>,
    /// Measure the programs' run time (costs some ns per frame, for every BPF program of the host).
    pub program_run_time: bool,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9810))), program_run_time: false }
    }
}

/// `[underlay]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// Interface name.
    pub interface: String,
    /// Outer source address; `None`: the interface's first IPv4 address.
    pub address: Option<Ipv4Addr>,
    /// UDP port of this VTEP.
    pub udp_port: u16,
    /// The MTU that the underlay is known to have, in bytes, to check `vnis` against; `None`: the interface's.
    pub mtu: Option<u32>,
    /// The hook to use.
    pub hook: HookChoice,
    /// How TC programs are attached, on the underlay and on ports.
    pub tc: TcChoice,
}

impl Underlay {
    /// VXLAN's port by IANA.
    pub const UDP_PORT: u16 = 4789;
}

/// `underlay.hook`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum HookChoice {
    /// The fastest that attaches: driver, generic, tc.
    #[default]
    Auto,
    /// XDP in the driver or an error.
    Driver,
    /// XDP in the stack or an error.
    Generic,
    /// TC alone.
    Tc,
}

/// `underlay.tc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TcChoice {
    /// tcx where the kernel has it (Linux 6.6), else clsact.
    #[default]
    Auto,
    /// The clsact qdisc, as on older kernels.
    Clsact,
}

/// `[fdb]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fdb {
    /// Buckets of [`FDB_BUCKET_ENTRIES`]; a power of two.
    pub buckets: u32,
    /// How long a learned entry lives after the last frame from its MAC: 1 s to 8 h.
    pub ageing: Duration,
}

impl Fdb {
    /// Shortest ageing time: about the tick of the kernel's clock field.
    pub const AGEING_MIN: Duration = Duration::from_secs(1);
    /// Longest ageing time: the clock field has 16 bits of 2^30 ns, and half of them tell past from future.
    pub const AGEING_MAX: Duration = Duration::from_secs(8 * 3600);
    /// Most entries: 256 MiB.
    pub const ENTRIES_MAX: u32 = 1 << 24;

    /// The buckets that hold `entries`, rounded up to a power of two.
    pub const fn buckets_for(entries: u32) -> u32 {
        entries.div_ceil(FDB_BUCKET_ENTRIES).next_power_of_two()
    }

    /// How many entries fit.
    pub const fn entries(&self) -> u32 {
        self.buckets * FDB_BUCKET_ENTRIES
    }
}

impl Default for Fdb {
    fn default() -> Fdb {
        Fdb { buckets: size::FDB_BUCKETS, ageing: Duration::from_secs(300) }
    }
}

/// `[limits]`: sizes of the tables, fixed when the maps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ports.
    pub ports: u32,
    /// VNIs.
    pub vnis: u32,
    /// Peers.
    pub peers: u32,
}

impl Limits {
    /// The most of each: slots have 16-bit indices.
    pub const MAX: u32 = 65_535;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { ports: size::PORTS, vnis: size::VNIS, peers: size::VTEPS }
    }
}

/// `[[vni]]`: a tenant's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VniConfig {
    /// The VNI.
    pub vni: Vni,
    /// A name for people.
    pub name: Option<String>,
    /// The MTU that VMs in it use, in bytes; `None`: not checked.
    pub mtu: Option<u32>,
    /// Whether places of MACs are learned from data.
    pub learning: bool,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Name or pattern.
    pub interface: InterfacePattern,
    /// The VNI it belongs to.
    pub vni: Vni,
    /// What happens to tagged frames.
    pub vlan: VlanMode,
    /// Which frames it is to be fast for.
    pub mode: PortMode,
}

/// `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Outer address.
    pub address: Ipv4Addr,
    /// UDP port; the underlay's by default.
    pub udp_port: u16,
    /// VNIs it is a member of, ascending, unique, at least one.
    pub vnis: Vec<Vni>,
}

/// `[[static]]`: an FDB entry that is never learned over and never ages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticEntry {
    /// VNI.
    pub vni: Vni,
    /// MAC of a station.
    pub mac: Mac,
    /// Where it is.
    pub place: StaticPlace,
}

/// Where a static entry points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StaticPlace {
    /// A port, by exact interface name; the entry is in force while the port is attached.
    Port(String),
    /// A peer, by address.
    Peer(Ipv4Addr),
}
