//! What relays faster than the core: the kernel, where it can.

use wavnet_proto::{
    rendezvous::{Limits, RelayKey, RelayTarget},
    wire::Label,
};

/// A map of what to relay, outside the core. What it does not hold, or cannot hold, reaches the core and is relayed there.
pub trait RelayTable: Send {
    /// Relay this; false if it cannot.
    fn set(&mut self, key: RelayKey, target: RelayTarget) -> bool;

    /// Relay nothing more for the key.
    fn delete(&mut self, key: RelayKey);

    /// How much each side of a pair may send, and how many answers of STUN a source may have.
    fn limit(&mut self, limits: &Limits);

    /// What was relayed since the last call: labels that were used.
    fn used(&mut self) -> Vec<Label>;

    /// What was relayed so far, and what was dropped for its rate.
    fn totals(&self) -> RelayTotals;

    /// How it is called in `status`.
    fn name(&self) -> &'static str;
}

/// Counters of a [`RelayTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayTotals {
    /// Datagrams that XDP sent on, and bytes of their UDP payloads.
    pub xdp: (u64, u64),
    /// The same of TC.
    pub tc: (u64, u64),
    /// Datagrams that were more than may be.
    pub dropped: u64,
    /// STUN requests that XDP answered.
    pub stun: u64,
    /// Those that it dropped, as their sources had had as many answers as they may.
    pub stun_too_fast: u64,
}

/// No table: the core relays everything.
#[derive(Debug, Default)]
pub struct InCore;

impl RelayTable for InCore {
    fn set(&mut self, _: RelayKey, _: RelayTarget) -> bool {
        false
    }

    fn delete(&mut self, _: RelayKey) {}

    fn limit(&mut self, _: &Limits) {}

    fn used(&mut self) -> Vec<Label> {
        Vec::new()
    }

    fn totals(&self) -> RelayTotals {
        RelayTotals::default()
    }

    fn name(&self) -> &'static str {
        "user-space"
    }
}
