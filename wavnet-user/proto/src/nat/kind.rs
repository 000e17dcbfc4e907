//! Kinds of NATs.

use std::fmt;

/// What a mapping of an inner address and port depends on (RFC 4787 section 4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mapping {
    /// Not known.
    #[default]
    Unknown,
    /// On nothing else: it is the same towards all destinations.
    EndpointIndependent,
    /// On the destination's address.
    AddressDependent,
    /// On the destination's address and port.
    AddressAndPortDependent,
}

impl Mapping {
    /// True if it is known to differ between destinations.
    #[must_use]
    pub const fn is_dependent(self) -> bool {
        matches!(self, Mapping::AddressDependent | Mapping::AddressAndPortDependent)
    }
}

/// Who may send to a mapping (RFC 4787 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Not known.
    #[default]
    Unknown,
    /// Anybody.
    EndpointIndependent,
    /// An address that was sent to.
    AddressDependent,
    /// An address and port that was sent to.
    AddressAndPortDependent,
}

/// Where a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Situation {
    /// Not known.
    #[default]
    Unknown,
    /// UDP does not get through, or no server is there.
    Blocked,
    /// Its own address is what others see.
    Direct,
    /// Behind a NAT.
    Natted,
}

/// Which ports a NAT gives to one socket's mappings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Not known, or there is one mapping only, which is not the socket's own port.
    #[default]
    Unknown,
    /// The socket's own, for each.
    Preserving,
    /// Each so much above the one before; less than zero: below. Never zero.
    Sequential(i16),
    /// No order was seen.
    Random,
}

/// The types of the papers, which are those of RFC 3489 section 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PaperType {
    /// Not known.
    #[default]
    Unknown,
    /// No NAT, and no filter that was noticed.
    Open,
    /// One mapping, to which anybody may send.
    FullCone,
    /// One mapping, to which addresses may send that were sent to.
    RestrictedCone,
    /// One mapping, to which addresses may send from ports that were sent to.
    PortRestrictedCone,
    /// Mappings that differ between destinations.
    Symmetric,
    /// No NAT, but only who was sent to may send.
    SymmetricFirewall,
    /// UDP does not get through.
    Blocked,
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mapping::Unknown => "unknown",
            Mapping::EndpointIndependent => "endpoint-independent",
            Mapping::AddressDependent => "address-dependent",
            Mapping::AddressAndPortDependent => "address- and port-dependent",
        })
    }
}

impl fmt::Display for Filtering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Filtering::Unknown => "unknown",
            Filtering::EndpointIndependent => "endpoint-independent",
            Filtering::AddressDependent => "address-dependent",
            Filtering::AddressAndPortDependent => "address- and port-dependent",
        })
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ports::Unknown => f.write_str("unknown"),
            Ports::Preserving => f.write_str("preserving"),
            Ports::Sequential(delta) => write!(f, "sequential ({delta:+})"),
            Ports::Random => f.write_str("random"),
        }
    }
}

impl fmt::Display for PaperType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PaperType::Unknown => "unknown",
            PaperType::Open => "open",
            PaperType::FullCone => "full cone",
            PaperType::RestrictedCone => "restricted cone",
            PaperType::PortRestrictedCone => "port-restricted cone",
            PaperType::Symmetric => "symmetric",
            PaperType::SymmetricFirewall => "symmetric firewall",
            PaperType::Blocked => "blocked",
        })
    }
}
