//! What two NATs mean for a path between them.

use crate::wire::NatSummary;

/// Why ordinary probes do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Our NAT gives each destination a mapping of its own.
    Ours,
    /// Theirs does.
    Theirs,
}

/// What stands in the way of a direct path, if a search can overcome it. Where both sides are symmetric none can.
pub(super) fn obstacle(ours: &NatSummary, theirs: &NatSummary) -> Option<Obstacle> {
    match (is_symmetric(ours), is_symmetric(theirs)) {
        (true, false) => Some(Obstacle::Ours),
        (false, true) => Some(Obstacle::Theirs),
        _ => None,
    }
}

fn is_symmetric(nat: &NatSummary) -> bool {
    matches!(nat.0[0], 2 | 3)
}
