//! Everything that the server waits for.

use super::hosts::HostId;
use crate::trust::NetworkId;

/// A timer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// A host's lease ends, or a visitor has not registered.
    Lease(HostId),
    /// A network's directory has changed: the next of those concerned are told.
    Changed(NetworkId),
    /// The next of those whose partners have moved are told.
    Moved,
    /// Pairs that nothing uses any more are given up, and hosts that have gone long ago are forgotten.
    Sweep,
}
