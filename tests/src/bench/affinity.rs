//! Which CPU does what: senders on one, receivers on another, as their machines would.

use anyhow::Result;

use crate::lab::cpu;

/// One side of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Generators, clients.
    Sender,
    /// Sinks, servers.
    Receiver,
}

/// Keeps the calling thread on the first CPU that this process may use (senders) or on the second one (receivers; the first
/// again if it is alone).
pub(super) fn pin(side: Side) -> Result<()> {
    cpu::pin(side as usize).map(drop)
}
