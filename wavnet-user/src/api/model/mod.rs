//! What the agent tells about itself: the payloads of the local API, and what `--json` prints.
//!
//! The shape is documented in docs/api.md and pinned by tests. Members may be added within a version of the protocol;
//! none is removed or changes its meaning.

mod mesh;
mod nat;
mod rendezvous;
mod status;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use wavnet_common::addr::{Mac, Vni};

use super::text;

pub use mesh::{MeshInfo, MeshNat, MeshPath, MeshPeer, MeshServer};
pub use nat::{NatInfo, NatLifetime, NatNote};
pub use rendezvous::{RendezvousCounters, RendezvousKernel, RendezvousNetwork, RendezvousSide, RendezvousStatus};
pub use status::{Counts, HookMode, Status, UnderlayInfo};

/// Whether an interface is there and in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachState {
    /// The interface exists and its programs are attached.
    Attached,
    /// There is no interface of this name; it is attached as soon as it appears.
    Missing,
    /// The interface exists, but attaching failed; `error` says why.
    Error,
}

impl AttachState {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            AttachState::Attached => "attached",
            AttachState::Missing => "missing",
            AttachState::Error => "error",
        }
    }
}

/// Whether frames can pass a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// It is up and has a carrier.
    Up,
    /// It is down or has no carrier: nothing is delivered to it.
    Down,
}

impl LinkState {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            LinkState::Up => "up",
            LinkState::Down => "down",
        }
    }
}

/// Who asked for a port or peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Named in the configuration.
    Config,
    /// A port whose name matches a pattern of the configuration.
    Pattern,
    /// Added by `wavnet port add` or `wavnet peer add`; kept over restarts of the agent, gone after `wavnet down`.
    Runtime,
}

impl Origin {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Config => "config",
            Origin::Pattern => "pattern",
            Origin::Runtime => "runtime",
        }
    }
}

/// Frames and bytes of a port or peer, from its point of view as a neighbour: `rx` came from it, `tx` went to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficInfo {
    /// Frames received from it.
    pub rx_frames: u64,
    /// Bytes of inner frames received from it, without FCS.
    pub rx_bytes: u64,
    /// Frames sent to it.
    pub tx_frames: u64,
    /// Bytes of inner frames sent to it, without FCS.
    pub tx_bytes: u64,
}

impl From<wavnet_common::abi::Traffic> for TrafficInfo {
    fn from(t: wavnet_common::abi::Traffic) -> TrafficInfo {
        TrafficInfo { rx_frames: t.rx_frames, rx_bytes: t.rx_bytes, tx_frames: t.tx_frames, tx_bytes: t.tx_bytes }
    }
}

/// How frames are handed to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Redirected by the underlay's XDP program.
    Xdp,
    /// Redirected by the underlay's TC program.
    Tc,
}

impl Delivery {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Delivery::Xdp => "xdp",
            Delivery::Tc => "tc",
        }
    }
}

/// Whether inner frames with VLAN tags pass a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum VlanMode {
    /// They pass, tag and all.
    #[default]
    Pass,
    /// They are dropped, both ways (RFC 7348 section 6.1).
    Discard,
}

impl VlanMode {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            VlanMode::Pass => "pass",
            VlanMode::Discard => "discard",
        }
    }
}

/// Which frames a port is to be fast for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum PortMode {
    /// What it sends: a tap has XDP while that is mostly small datagrams, and none while it is super-packets; a veth has none
    #[default]
    Auto,
    /// Many small frames (DNS, VoIP, games, key-value stores), by XDP at all times: 1.7 times as many. A container's bulk TCP loses
    /// 30 to 40 %, since its end of a veth loses segmentation offload, and its datagrams lose VLAN tags; a VM's on a tap loses
    /// up to a tenth
    PacketRate,
    /// Bulk: no XDP at any time, small datagrams of a tap come at half the rate
    Throughput,
}

impl PortMode {
    /// The name in JSON, configuration and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            PortMode::Auto => "auto",
            PortMode::PacketRate => "packet-rate",
            PortMode::Throughput => "throughput",
        }
    }
}

/// A port of `ports`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortInfo {
    /// Interface name.
    pub interface: String,
    /// Interface index, or null while the interface is missing.
    pub ifindex: Option<u32>,
    /// The VNI it belongs to.
    #[serde(with = "text::vni")]
    pub vni: Vni,
    /// Whether it is in use.
    pub state: AttachState,
    /// Why `state` is `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the interface is up, or null while it is missing.
    pub link: Option<LinkState>,
    /// Hook of the port program: `tcx` or `clsact`; null while it is not attached.
    pub hook: Option<String>,
    /// Whether XDP carries the VM's datagrams as far as it can, beside `hook`; null while it is not attached.
    #[serde(default)]
    pub xdp: Option<bool>,
    /// How frames are handed to it, or null while it is not attached.
    pub delivery: Option<Delivery>,
    /// MTU in bytes, or null while the interface is missing.
    pub mtu: Option<u32>,
    /// What happens to tagged frames.
    pub vlan: VlanMode,
    /// Which frames it is to be fast for.
    #[serde(default)]
    pub mode: PortMode,
    /// Who asked for it.
    pub origin: Origin,
    /// Frames from (`rx`) and to (`tx`) the VM.
    #[serde(flatten)]
    pub traffic: TrafficInfo,
}

/// Whether frames reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Route and link address of the next hop are known.
    Up,
    /// There is a route, but the next hop does not answer ARP (yet, or any more: then frames go for a minute to the link address that was in force).
    Unresolved,
    /// There is no route.
    NoRoute,
}

impl PeerState {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            PeerState::Up => "up",
            PeerState::Unresolved => "unresolved",
            PeerState::NoRoute => "no_route",
        }
    }
}

/// A peer of `peers`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Outer address.
    pub address: Ipv4Addr,
    /// UDP port.
    pub udp_port: u16,
    /// VNIs that it is a member of, ascending.
    #[serde(with = "text::vni::list")]
    pub vnis: Vec<Vni>,
    /// Whether frames reach it.
    pub state: PeerState,
    /// The router on the way, or the peer itself when it is on link; null without a route.
    pub next_hop: Option<Ipv4Addr>,
    /// Interface of the route; null without one.
    pub interface: Option<String>,
    /// MTU of the route in bytes; null without one.
    pub mtu: Option<u32>,
    /// Who asked for it.
    pub origin: Origin,
    /// Frames from (`rx`) and to (`tx`) the peer.
    #[serde(flatten)]
    pub traffic: TrafficInfo,
}

/// Where a MAC is: exactly one member, `port`, `peer` or `host`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceInfo {
    /// Behind the local port of this name.
    Port(String),
    /// Behind the peer of this address.
    Peer(Ipv4Addr),
    /// Behind a host that is known by its key, of which these are the first digits.
    Host(String),
}

/// How an FDB entry came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdbKind {
    /// Learned from a frame; goes away when it ages.
    Learned,
    /// Entered by configuration or command; never learned over, never aged.
    Static,
}

/// An entry of `fdb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// VNI.
    #[serde(with = "text::vni")]
    pub vni: Vni,
    /// MAC.
    #[serde(with = "text")]
    pub mac: Mac,
    /// Where it is.
    pub place: PlaceInfo,
    /// How it came to be.
    pub kind: FdbKind,
    /// Seconds since a frame from it was seen, to about a second; null for static entries.
    pub age_s: Option<u64>,
    /// How often its place was claimed anew by a migration (zero today).
    pub epoch: u64,
}

/// A row of `drops`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropRow {
    /// Label of the reason, as in the metric `wavnet_drops_total`.
    pub reason: String,
    /// Frames dropped since the maps were made.
    pub frames: u64,
    /// What the reason means.
    pub help: String,
}

/// What happened to an FDB entry, for `fdb --watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbEvent {
    /// What happened.
    pub event: FdbChange,
    /// VNI.
    #[serde(with = "text::vni")]
    pub vni: Vni,
    /// MAC.
    #[serde(with = "text")]
    pub mac: Mac,
    /// Where it was; null when it was not known.
    pub from: Option<PlaceInfo>,
    /// Where it is; null when it is not known any more.
    pub to: Option<PlaceInfo>,
}

/// Kind of an [`FdbEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FdbChange {
    /// Seen for the first time.
    Learned,
    /// Seen at another place than before.
    Moved,
    /// Not seen for the ageing time, and removed.
    Aged,
    /// Entered by a command or the configuration.
    Added,
    /// Removed by a command, the configuration, or because its port or peer went.
    Removed,
}

impl FdbChange {
    /// The name in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            FdbChange::Learned => "learned",
            FdbChange::Moved => "moved",
            FdbChange::Aged => "aged",
            FdbChange::Added => "added",
            FdbChange::Removed => "removed",
        }
    }
}

/// The answer to a request that changed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, in sentences.
    pub changes: Vec<String>,
    /// What the operator should look at.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file; null for flags.
    pub file: Option<String>,
    /// Line, counted from one; null for flags.
    pub line: Option<u64>,
    /// Column in characters, counted from one; null for flags.
    pub column: Option<u64>,
    /// The key, as `port.vlan`, or the flag; empty for errors of syntax.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do, or null.
    pub help: Option<String>,
}
