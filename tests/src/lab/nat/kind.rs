//! Kinds of NAT, and what each of them does in the words of RFC 4787 and of RFC 3489.

use std::fmt;

/// A kind of router that the lab can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// None: the LAN has public addresses.
    Open,
    /// None, but only answers are let in.
    SymmetricFirewall,
    /// One mapping for all destinations, open to everybody.
    FullCone,
    /// One mapping for all destinations, open to addresses that the host has sent to.
    RestrictedCone,
    /// One mapping for all destinations, open to endpoints that the host has sent to. What Linux does by default.
    PortRestrictedCone,
    /// The same with ports of the NAT's own choice.
    PortRestrictedConeRemapped,
    /// A mapping for each destination address.
    SymmetricByAddress,
    /// A mapping for each destination endpoint, with the next port each.
    SymmetricSequential,
    /// A mapping for each destination endpoint, with any port.
    SymmetricRandom,
}

/// On what a mapping or the permission to use it depends (RFC 4787, sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dependence {
    /// On the inner endpoint alone.
    EndpointIndependent,
    /// On the outer address, too.
    AddressDependent,
    /// On the outer address and port, too.
    AddressAndPortDependent,
}

/// How a mapping's port is found (RFC 4787, section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ports {
    /// The host's own where that is free, else any.
    Kept,
    /// The next one for every mapping.
    Sequential,
    /// Found by a hash of host and destination, or drawn.
    Random,
}

/// The types of RFC 3489, section 5, which the papers speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classic {
    /// Nothing in between.
    Open,
    /// No NAT, but a filter.
    SymmetricFirewall,
    /// See [`NatKind::FullCone`].
    FullCone,
    /// See [`NatKind::RestrictedCone`].
    RestrictedCone,
    /// See [`NatKind::PortRestrictedCone`].
    PortRestrictedCone,
    /// Any other NAT.
    Symmetric,
}

/// What a router does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// On what a mapping depends; `None` without translation.
    pub mapping: Option<Dependence>,
    /// On what it depends whether a packet is let in.
    pub filtering: Dependence,
    /// Ports of mappings; kept without translation.
    pub ports: Ports,
}

impl NatKind {
    /// All of them.
    pub const ALL: [NatKind; 9] = [
        NatKind::Open,
        NatKind::SymmetricFirewall,
        NatKind::FullCone,
        NatKind::RestrictedCone,
        NatKind::PortRestrictedCone,
        NatKind::PortRestrictedConeRemapped,
        NatKind::SymmetricByAddress,
        NatKind::SymmetricSequential,
        NatKind::SymmetricRandom,
    ];

    /// What it does.
    pub const fn behaviour(self) -> Behaviour {
        use Dependence::{AddressAndPortDependent as Port, AddressDependent as Address, EndpointIndependent as Free};
        let (mapping, filtering, ports) = match self {
            NatKind::Open => (None, Free, Ports::Kept),
            NatKind::SymmetricFirewall => (None, Port, Ports::Kept),
            NatKind::FullCone => (Some(Free), Free, Ports::Kept),
            NatKind::RestrictedCone => (Some(Free), Address, Ports::Kept),
            NatKind::PortRestrictedCone => (Some(Free), Port, Ports::Kept),
            NatKind::PortRestrictedConeRemapped => (Some(Free), Port, Ports::Random),
            NatKind::SymmetricByAddress => (Some(Address), Port, Ports::Random),
            NatKind::SymmetricSequential => (Some(Port), Port, Ports::Sequential),
            NatKind::SymmetricRandom => (Some(Port), Port, Ports::Random),
        };
        Behaviour { mapping, filtering, ports }
    }

    /// True if it changes addresses.
    pub const fn translates(self) -> bool {
        self.behaviour().mapping.is_some()
    }

    /// What tables call it.
    pub const fn name(self) -> &'static str {
        match self {
            NatKind::Open => "open",
            NatKind::SymmetricFirewall => "symmetric-firewall",
            NatKind::FullCone => "full-cone",
            NatKind::RestrictedCone => "restricted-cone",
            NatKind::PortRestrictedCone => "port-restricted-cone",
            NatKind::PortRestrictedConeRemapped => "port-restricted-cone-remapped",
            NatKind::SymmetricByAddress => "symmetric-by-address",
            NatKind::SymmetricSequential => "symmetric-sequential",
            NatKind::SymmetricRandom => "symmetric-random",
        }
    }
}

impl fmt::Display for NatKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Behaviour {
    /// True if a host has one mapping for all destinations.
    pub const fn maps_once(self) -> bool {
        matches!(self.mapping, None | Some(Dependence::EndpointIndependent))
    }

    /// What it is together with a router that it is behind.
    #[must_use]
    pub fn behind(self, outer: Behaviour) -> Behaviour {
        Behaviour {
            // None comes before all others.
            mapping: self.mapping.max(outer.mapping),
            filtering: self.filtering.max(outer.filtering),
            ports: self.ports.max(outer.ports),
        }
    }

    /// Its type of RFC 3489.
    pub const fn classic(self) -> Classic {
        match (self.mapping, self.filtering) {
            (None, Dependence::EndpointIndependent) => Classic::Open,
            (None, _) => Classic::SymmetricFirewall,
            (Some(Dependence::EndpointIndependent), Dependence::EndpointIndependent) => Classic::FullCone,
            (Some(Dependence::EndpointIndependent), Dependence::AddressDependent) => Classic::RestrictedCone,
            (Some(Dependence::EndpointIndependent), Dependence::AddressAndPortDependent) => Classic::PortRestrictedCone,
            (Some(_), _) => Classic::Symmetric,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_what_rfc_3489_calls_them() {
        let classic = NatKind::ALL.map(|kind| kind.behaviour().classic());
        let want = [
            Classic::Open,
            Classic::SymmetricFirewall,
            Classic::FullCone,
            Classic::RestrictedCone,
            Classic::PortRestrictedCone,
            Classic::PortRestrictedCone,
            Classic::Symmetric,
            Classic::Symmetric,
            Classic::Symmetric,
        ];
        assert_eq!(classic, want);
    }

    #[test]
    fn two_in_a_row_are_as_strict_as_the_stricter_one() {
        let of = NatKind::behaviour;
        let both = of(NatKind::FullCone).behind(of(NatKind::PortRestrictedCone));
        assert_eq!(both.classic(), Classic::PortRestrictedCone);
        let both = of(NatKind::SymmetricRandom).behind(of(NatKind::FullCone));
        assert_eq!(both, of(NatKind::SymmetricRandom));
        assert_eq!(of(NatKind::Open).behind(of(NatKind::RestrictedCone)), of(NatKind::RestrictedCone));
    }

    #[test]
    fn names_differ_and_can_be_padded() {
        let mut names = NatKind::ALL.map(NatKind::name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(format!("{:>10}|", NatKind::Open), "      open|");
    }
}
