//! What two NATs mean for a path between them.

use crate::nat::{Filtering, NatSummary};

/// Why ordinary probes do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Our NAT gives each destination a mapping of its own.
    Ours,
    /// Theirs does.
    Theirs,
}

/// What stands in the way of a direct path, if a search can overcome it. Where both sides are symmetric none can; and where the side that is
/// not lets in others than it has sent to, ordinary probes meet.
pub(super) fn obstacle(ours: &NatSummary, theirs: &NatSummary) -> Option<Obstacle> {
    let strict = |nat: &NatSummary| matches!(nat.filtering, Filtering::AddressAndPortDependent | Filtering::Unknown);
    match (ours.mapping.is_dependent(), theirs.mapping.is_dependent()) {
        (true, false) if strict(theirs) => Some(Obstacle::Ours),
        (false, true) if strict(ours) => Some(Obstacle::Theirs),
        _ => None,
    }
}
