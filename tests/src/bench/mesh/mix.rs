//! Which NAT each host is behind, and what a pair of them can have.

use crate::lab::nat::NatKind;

/// By turns, so that any first eight hosts have the same shares as all of them: three of eight are what Linux does by default, two
/// full cones, two restricted cones, one symmetric with random ports.
const MIX: [NatKind; 8] = [
    NatKind::PortRestrictedCone,
    NatKind::PortRestrictedCone,
    NatKind::FullCone,
    NatKind::RestrictedCone,
    NatKind::PortRestrictedCone,
    NatKind::FullCone,
    NatKind::RestrictedCone,
    NatKind::SymmetricRandom,
];

/// The NAT in front of the host of this number, from 0.
pub(super) fn kind(n: usize) -> NatKind {
    MIX[n % MIX.len()]
}

/// What a pair of hosts can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chance {
    /// A direct path at once.
    Direct,
    /// The relay until a search has found a direct path; a host searches for one peer at a time, and rests in between.
    Searched,
    /// The relay.
    Relayed,
}

/// What the hosts of these numbers can have.
pub(super) fn chance(a: usize, b: usize) -> Chance {
    let symmetric = |kind| kind == NatKind::SymmetricRandom;
    match (kind(a), kind(b)) {
        (a, b) if symmetric(a) && symmetric(b) => Chance::Relayed,
        (a, b) if symmetric(a) && b == NatKind::PortRestrictedCone => Chance::Searched,
        (a, b) if symmetric(b) && a == NatKind::PortRestrictedCone => Chance::Searched,
        _ => Chance::Direct,
    }
}

/// All pairs of so many hosts.
pub(super) fn pairs(hosts: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..hosts).flat_map(move |a| (a + 1..hosts).map(move |b| (a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_hosts_have_these_pairs() {
        let count = |chance_of| pairs(64).filter(|(a, b)| chance(*a, *b) == chance_of).count();
        assert_eq!(pairs(64).count(), 2016);
        assert_eq!([Chance::Direct, Chance::Searched, Chance::Relayed].map(count), [1796, 192, 28]);
    }
}
