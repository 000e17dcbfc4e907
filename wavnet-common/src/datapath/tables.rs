//! The tables as the decisions see them: maps in the kernel, collections on the host.

use crate::{
    abi::{
        At, Bulky, Config, Count, Event, FloodSet, Gate, HoldRow, Lane, Member, MemberKey, Mix, PathRow, Port, Vtep,
    },
    fdb::{self, Memory},
    reason::Reason,
};

/// Whose traffic is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A port: received from it, sent to it.
    Port(u16),
    /// A VNI: received from the WAN, sent to the WAN.
    Vni(u16),
    /// A VTEP: received from it, sent to it.
    Vtep(u16),
}

/// Lookups, counters and events.
pub trait Tables {
    /// The FDB's memory.
    type Fdb: fdb::Memory + ?Sized;

    /// `CONFIG[0]`.
    fn config(&self) -> Option<&Config>;
    /// `MEMBERS`.
    fn member(&self, key: &MemberKey) -> Option<Member>;
    /// True if `INDEX_OF_VNI` has the VNI.
    fn knows_vni(&self, vni: u32) -> bool;
    /// True if `INDEX_OF_VTEP` has the address.
    fn knows_vtep(&self, addr: [u8; 4]) -> bool;
    /// `PATH_OF_SOURCE`, by [`crate::abi::Source::to_word`].
    fn path_of(&self, source: u64) -> Option<At>;
    /// `PATHS`.
    fn path(&self, index: u16) -> Option<&PathRow>;
    /// `HOLDS`.
    fn hold(&self, vtep_index: u16) -> Option<&HoldRow>;
    /// `PORT_OF_IFINDEX`.
    fn port_of(&self, ifindex: u32) -> Option<u16>;
    /// `PORTS`.
    fn port(&self, index: u16) -> Option<&Port>;
    /// `VTEPS`.
    fn vtep(&self, index: u16) -> Option<&Vtep>;
    /// The half of `FLOODS` that is in force.
    fn flood(&self, vni_index: u16) -> Option<&FloodSet>;
    /// `FDB`.
    fn fdb(&self) -> &Self::Fdb;
    /// What notes from XDP to TC are known by as this datapath's own.
    fn cookie(&self) -> u32;
    /// What hashes of what tenants choose begin with: the FDB's, too.
    #[inline(always)]
    fn seed(&self) -> u64 {
        self.fdb().seed()
    }
    /// CLOCK_MONOTONIC, coarse, nanoseconds.
    fn now_ns(&self) -> u64;
    /// CLOCK_MONOTONIC, nanoseconds.
    fn precise_ns(&self) -> u64;
    /// `HEARTBEAT[0]`, nanoseconds.
    fn heartbeat_ns(&self) -> u64;

    /// Works on a lane's gate in `GATES`; `None`: there is none.
    fn gate<R>(&self, lane: Lane, work: impl FnOnce(&mut Gate) -> R) -> Option<R>;
    /// Works on what a port's ledger in `PORT_STATS` says of the kinds of its frames.
    fn mix(&self, port_index: u16, work: impl FnOnce(&mut Mix));
    /// `BULKY`, by [`crate::abi::PortFlow::set`].
    fn bulky(&self, set: u32) -> Option<&Bulky>;

    /// Adds to `COUNTS`.
    fn count(&self, what: Count, n: u64);
    /// Adds one to `DROPS`.
    fn dropped(&self, reason: Reason);
    /// Adds to what was received.
    fn received(&self, of: Of, frames: u64, bytes: u64);
    /// Adds to what was sent.
    fn sent(&self, of: Of, frames: u64, bytes: u64);
    /// Writes to `EVENTS`; a lost event is counted.
    fn event(&self, event: &Event);
}
