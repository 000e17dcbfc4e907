//! What two NATs mean for a path between them.

use crate::nat::{Filtering, NatSummary, Ports};

/// Why ordinary probes do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Our NAT gives each destination a mapping of its own.
    Ours,
    /// Theirs does.
    Theirs,
    /// Both do, and count.
    Both,
}

/// What stands in the way of a direct path, if it can be overcome. Where both sides are symmetric and one draws its ports none can; and where the
/// side that is not lets in others than it has sent to, ordinary probes meet.
pub(super) fn obstacle(ours: &NatSummary, theirs: &NatSummary) -> Option<Obstacle> {
    let strict = |nat: &NatSummary| matches!(nat.filtering, Filtering::AddressAndPortDependent | Filtering::Unknown);
    let counts = |nat: &NatSummary| matches!(nat.ports, Ports::Sequential(_));
    match (ours.mapping.is_dependent(), theirs.mapping.is_dependent()) {
        (true, false) if strict(theirs) => Some(Obstacle::Ours),
        (false, true) if strict(ours) => Some(Obstacle::Theirs),
        (true, true) if counts(ours) && counts(theirs) => Some(Obstacle::Both),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Mapping;

    #[test]
    fn what_can_be_overcome() {
        let nat = |mapping, filtering, ports| NatSummary { mapping, filtering, ports, ..NatSummary::default() };
        let (own, each) = (Mapping::EndpointIndependent, Mapping::AddressAndPortDependent);
        let strict = Filtering::AddressAndPortDependent;
        let cone = nat(own, strict, Ports::Preserving);
        let lax = nat(own, Filtering::AddressDependent, Ports::Preserving);
        let (counts, draws) = (nat(each, strict, Ports::Sequential(1)), nat(each, strict, Ports::Random));
        assert_eq!(obstacle(&draws, &cone), Some(Obstacle::Ours));
        assert_eq!(obstacle(&cone, &counts), Some(Obstacle::Theirs));
        assert_eq!(obstacle(&counts, &counts), Some(Obstacle::Both));
        for (a, b) in [(cone, cone), (lax, draws), (draws, lax), (draws, draws), (counts, draws)] {
            assert_eq!(obstacle(&a, &b), None);
        }
    }
}
