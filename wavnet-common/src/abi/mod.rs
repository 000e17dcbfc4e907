//! The contract between the kernel programs and the agent: which maps there are, what is in them, who writes and who reads.
//!
//! Everything here is plain old data in native byte order unless a field says otherwise. A change of any layout, size rule
//! or meaning raises [`ABI_VERSION`]: an agent refuses pinned maps of another version (`wavnet down` clears them).

mod bulky;
mod config;
mod event;
mod hold;
mod member;
mod order;
mod path;
pub mod relay;
mod stats;
mod table;
mod vtep;

pub use bulky::{Bulk, Bulky, BulkyWords, PortFlow};
pub use config::{Config, ConfigFlags, ExtraPorts, Heartbeat, LocalPort, Meta};
pub use event::{Event, EventKind, PlaceCode};
pub use hold::{Hold, HoldRow, HoldWords};
pub use member::{Member, MemberKey};
pub use order::{Gate, Gates, Lane};
pub use path::{About, Arrival, At, Path, PathRow, PathWords, Source};
pub use stats::{Count, Ledger, Mix, Traffic};
pub use table::{Bucket, FloodSet, Port, PortFlags, VniEntry};
pub use vtep::{Endpoint, Hop, HopFlags, NextHop, Vtep, VtepFlags};

use crate::addr::PeerId;

/// Version of everything in this module.
pub const ABI_VERSION: u32 = 7;

/// Marks types that may be copied between kernel and user space byte for byte.
///
/// # Safety
/// The type is `repr(C)`, has no padding, no pointers, and every bit pattern is a valid value.
pub unsafe trait Plain: Copy + 'static {}

// SAFETY: integers have no padding and no invalid patterns.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}

/// What a map is, for the agent to create, check and find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// The map's name in the object and in bpffs.
    pub name: &'static str,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value (of one CPU's value in per-CPU maps).
    pub value_size: u32,
    /// What kind of map it is.
    pub kind: MapKind,
}

/// What a map is made of, as far as it matters for its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Values, one behind the other.
    Array,
    /// An array for each CPU.
    PerCpu,
    /// Elements that are allocated beforehand, and a table of chains.
    Hash,
}

macro_rules! maps {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident $key:ty => $value:ty;)+) => {
        /// Names of the maps; the statics of the eBPF crate have the same names.
        pub mod map {
            $($(#[doc = $doc])+ pub const $name: &str = stringify!($name);)+
        }
        /// Every map that is pinned.
        pub const MAPS: &[MapSpec] = &[$(MapSpec {
            name: map::$name,
            key_size: size_of::<$key>() as u32,
            value_size: size_of::<$value>() as u32,
            kind: MapKind::$kind,
        },)+];
    };
}

maps! {
    /// `[0]`: ABI version and sizes. Written once by the agent that creates the maps, read by agents that find them.
    META: Array u32 => Meta;
    /// `[0]`: addresses and UDP port of this VTEP. Written by the agent, read for every frame.
    CONFIG: Array u32 => Config;
    /// `[0]`: when the agent was last alive. Written by the agent, read by the port program to know stale next hops.
    HEARTBEAT: Array u32 => Heartbeat;
    /// Port index → port. Written by the agent, read when a frame comes from or goes to a port.
    PORTS: Array u32 => Port;
    /// In `buckets`: interface index → port index. Written by the agent through mmap, read by the port's programs.
    PORT_OF_IFINDEX: Array u32 => Bucket;
    /// Port index → device, for redirects from XDP. Written by the agent.
    PORT_DEVS: Array u32 => u64;
    /// Interface index → device with `program::TAP_GUARD`, for redirects of what XDP got from a tap: ports and the interfaces of next
    /// hops. Written by the agent.
    GUARDED_DEVS: Hash u32 => u64;
    /// VNI index → VNI. Written by the agent, read on flooding.
    VNIS: Array u32 => VniEntry;
    /// In `buckets`: {VNI, outer IPv4 source} → indices of both: one lookup says that the peer is a member. Written by the agent
    /// through mmap. Of dynamic peers, which have no address of their own, an impossible one stands for it.
    MEMBERS: Array u32 => Bucket;
    /// In `buckets`: {outer IPv4 source, UDP source port} → a path, or a relay; {relay, label} → a path. Written by the agent through
    /// mmap, read where `MEMBERS` has no answer, and for pulses.
    PATH_OF_SOURCE: Array u32 => Bucket;
    /// Path index → whose datagrams come by it, and its pulses. Written by the agent through mmap; the programs note pulses.
    PATHS: Array u32 => PathWords;
    /// VNI → VNI index. Written by the agent, read when `MEMBERS` has no answer, to name the reason.
    INDEX_OF_VNI: Hash u32 => u32;
    /// IPv4 address of a static peer (wire order) → VTEP index. Written by the agent, read as `INDEX_OF_VNI`.
    INDEX_OF_VTEP: Hash u32 => u32;
    /// VTEP index → how to reach it. Written by the agent, read for every frame that is encapsulated.
    VTEPS: Array u32 => Vtep;
    /// VTEP index → who a dynamic peer is. Written by the agent, read by agents that find it.
    VTEP_IDS: Array u32 => PeerId;
    /// VTEP index → whether frames to it are held back, and how many were. Written by the agent through mmap; the programs count.
    HOLDS: Array u32 => HoldWords;
    /// 2 × VNI index + active half → who gets flooded frames. Written by the agent, read on flooding.
    FLOODS: Array u32 => FloodSet;
    /// The forwarding table (see `fdb`). Learned by the kernel, aged by the agent through mmap.
    FDB: Array u32 => Bucket;
    /// Set of flows from ports → when they last sent super-packets of datagrams. Written by the port's programs.
    BULKY: Array u32 => BulkyWords;
    /// Per CPU: frames dropped, by `Reason`. Written by the programs.
    DROPS: PerCpu u32 => u64;
    /// Per CPU: everything else that is counted, by `Count`. Written by the programs.
    COUNTS: PerCpu u32 => u64;
    /// Per CPU, `[0]`: frames between XDP and TC programs, of ports and of the underlay, by `Lane`. Written by the programs.
    GATES: PerCpu u32 => Gates;
    /// Per CPU: port index → frames and bytes from (rx) and to (tx) the port, and of what kinds. Written by the programs.
    PORT_STATS: PerCpu u32 => Ledger;
    /// Per CPU: VNI index → frames and bytes from (rx) and to (tx) the WAN. Written by the programs.
    VNI_STATS: PerCpu u32 => Traffic;
    /// Per CPU: VTEP index → frames and bytes from (rx) and to (tx) the peer. Written by the programs.
    VTEP_STATS: PerCpu u32 => Traffic;
}

/// The ring buffer of [`Event`]s, kernel to agent; pinned too, but has neither keys nor values.
pub const EVENTS: &str = "EVENTS";

/// Names of the programs in the object.
pub mod program {
    /// XDP on an underlay NIC: decapsulates unicast, leaves the rest to [`UNDERLAY_TC`].
    pub const UNDERLAY_XDP: &str = "underlay_xdp";
    /// The same for generic XDP.
    pub const UNDERLAY_XDP_GENERIC: &str = "underlay_xdp_generic";
    /// TC ingress on an underlay NIC: what XDP could not finish (flooding), or everything where XDP cannot attach.
    pub const UNDERLAY_TC: &str = "underlay_tc";
    /// XDP on a port: small datagrams to known places; leaves the rest to [`PORT_TC`].
    pub const PORT_XDP: &str = "port_xdp";
    /// XDP in [`super::map::GUARDED_DEVS`]: lets pass what [`PORT_XDP`] has redirected, if it was a tap's frame and nothing else.
    pub const TAP_GUARD: &str = "tap_guard";
    /// TC ingress on a port: everything a VM sends that XDP has not carried.
    pub const PORT_TC: &str = "port_tc";
}

/// Default and maximum sizes of the tables.
pub mod size {
    /// Ports per host, default.
    pub const PORTS: u32 = 1024;
    /// Room in `GUARDED_DEVS` beside that for ports: interfaces of next hops, of which a host has a few.
    pub const HOP_DEVS: u32 = 64;
    /// VNIs per host, default.
    pub const VNIS: u32 = 1024;
    /// Peers per host, default.
    pub const VTEPS: u32 = 1024;
    /// Memberships ({VNI, peer} pairs) per host, default.
    pub const MEMBERS: u32 = 65_536;
    /// Paths for each peer that there is room for: while a better one is sought, a peer has several.
    pub const PATHS_PER_VTEP: u32 = 4;
    /// Paths per host, default.
    pub const PATHS: u32 = VTEPS * PATHS_PER_VTEP;
    /// Relays per host, at the most.
    pub const RELAYS: u32 = 64;
    /// Buckets of the FDB, default: 4 entries each. Always a power of two.
    pub const FDB_BUCKETS: u32 = 65_536;
    /// Peers that one VNI floods to, at the most.
    pub const FLOOD_VTEPS: usize = 512;
    /// Local ports that one VNI floods to, at the most.
    pub const FLOOD_PORTS: usize = 256;
    /// Bytes of the event ring buffer.
    pub const EVENTS: u32 = 256 * 1024;
}
