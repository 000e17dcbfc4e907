//! A NAT in eight bytes: what hosts tell each other about theirs (docs/wire.md section 5).

use super::{Filtering, Mapping, PaperType, Ports, Situation};

/// What is known of the NAT in front of a host. The default, eight zeros, is that nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatSummary {
    /// Where the host is.
    pub situation: Situation,
    /// What its mappings depend on.
    pub mapping: Mapping,
    /// Who may send to them.
    pub filtering: Filtering,
    /// `filtering` is what it is at the most: a server with one address cannot tell more.
    pub filtering_at_most: bool,
    /// Which ports a socket's mappings get.
    pub ports: Ports,
    /// The first mapping of the main socket has the socket's own port.
    pub preserves_port: Option<bool>,
    /// Two hosts behind the NAT reach each other by their mapped addresses.
    pub hairpin: Option<bool>,
    /// Mappings of one socket have different addresses: nobody can tell where the next one will be.
    pub many_addresses: bool,
    /// The mapping moved during the tests, twice: all that is told here is uncertain.
    pub unstable: bool,
    /// Seconds for which an idle mapping is known to live; zero: not known.
    pub lifetime: u16,
    /// `lifetime` is the longest that was tried: it may be more.
    pub lifetime_at_least: bool,
}

impl NatSummary {
    /// Bytes of its encoding.
    pub const LEN: usize = 8;

    /// The papers' type.
    #[must_use]
    pub const fn paper_type(&self) -> PaperType {
        match (self.situation, self.mapping, self.filtering) {
            (Situation::Unknown, _, _) => PaperType::Unknown,
            (Situation::Blocked, _, _) => PaperType::Blocked,
            (Situation::Direct, _, Filtering::AddressDependent) if self.filtering_at_most => PaperType::Open,
            (Situation::Direct, _, Filtering::AddressDependent | Filtering::AddressAndPortDependent) => {
                PaperType::SymmetricFirewall
            }
            (Situation::Direct, _, _) => PaperType::Open,
            (Situation::Natted, Mapping::AddressDependent | Mapping::AddressAndPortDependent, _) => {
                PaperType::Symmetric
            }
            (Situation::Natted, Mapping::EndpointIndependent, filtering) => match filtering {
                Filtering::EndpointIndependent => PaperType::FullCone,
                Filtering::AddressDependent => PaperType::RestrictedCone,
                Filtering::AddressAndPortDependent => PaperType::PortRestrictedCone,
                Filtering::Unknown => PaperType::Unknown,
            },
            (Situation::Natted, Mapping::Unknown, _) => PaperType::Unknown,
        }
    }

    /// The encoding of docs/wire.md.
    #[must_use]
    pub fn encode(&self) -> [u8; NatSummary::LEN] {
        let situation = match self.situation {
            Situation::Unknown => 0,
            Situation::Blocked => 1,
            Situation::Direct => 2,
            Situation::Natted => 3,
        };
        let mapping = match self.mapping {
            Mapping::Unknown => 0,
            Mapping::EndpointIndependent => 1,
            Mapping::AddressDependent => 2,
            Mapping::AddressAndPortDependent => 3,
        };
        let filtering = match self.filtering {
            Filtering::Unknown => 0,
            Filtering::EndpointIndependent => 1,
            Filtering::AddressDependent => 2,
            Filtering::AddressAndPortDependent => 3,
        };
        let (ports, delta) = match self.ports {
            Ports::Unknown | Ports::Sequential(0) => (0, 0),
            Ports::Preserving => (1, 0),
            Ports::Sequential(delta) => (2, delta),
            Ports::Random => (3, 0),
        };
        let answer = |known: Option<bool>| known.map_or(0, |yes| 1 + u8::from(yes));
        let kinds = situation | mapping << 2 | filtering << 4 | ports << 6;
        let flags = answer(self.preserves_port)
            | answer(self.hairpin) << 2
            | u8::from(self.filtering_at_most) << 4
            | u8::from(self.lifetime_at_least) << 5
            | u8::from(self.unstable) << 6
            | u8::from(self.many_addresses) << 7;
        let ([d0, d1], [l0, l1]) = (delta.to_be_bytes(), self.lifetime.to_be_bytes());
        [kinds, flags, d0, d1, l0, l1, 0, 0]
    }

    /// Reads an encoding; what has no meaning is taken for not known.
    #[must_use]
    pub fn decode([kinds, flags, d0, d1, l0, l1, _, _]: [u8; NatSummary::LEN]) -> NatSummary {
        let answer = |bits: u8| match bits & 3 {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        NatSummary {
            situation: match kinds & 3 {
                0 => Situation::Unknown,
                1 => Situation::Blocked,
                2 => Situation::Direct,
                _ => Situation::Natted,
            },
            mapping: match kinds >> 2 & 3 {
                0 => Mapping::Unknown,
                1 => Mapping::EndpointIndependent,
                2 => Mapping::AddressDependent,
                _ => Mapping::AddressAndPortDependent,
            },
            filtering: match kinds >> 4 & 3 {
                0 => Filtering::Unknown,
                1 => Filtering::EndpointIndependent,
                2 => Filtering::AddressDependent,
                _ => Filtering::AddressAndPortDependent,
            },
            ports: match (kinds >> 6, i16::from_be_bytes([d0, d1])) {
                (1, _) => Ports::Preserving,
                (2, delta) if delta != 0 => Ports::Sequential(delta),
                (3, _) => Ports::Random,
                _ => Ports::Unknown,
            },
            preserves_port: answer(flags),
            hairpin: answer(flags >> 2),
            filtering_at_most: flags & 0x10 != 0,
            lifetime_at_least: flags & 0x20 != 0,
            unstable: flags & 0x40 != 0,
            many_addresses: flags & 0x80 != 0,
            lifetime: u16::from_be_bytes([l0, l1]),
        }
    }
}
