//! Addresses and candidates, as messages carry them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Reader, message::Fault};

/// The most candidates that a host names.
pub const MAX_CANDIDATES: usize = 16;

/// Why nobody can be reached at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Port zero.
    #[error("port 0")]
    Port,
    /// 0.0.0.0 or ::.
    #[error("the unspecified address")]
    Unspecified,
    /// A group.
    #[error("a multicast address")]
    Multicast,
    /// 255.255.255.255.
    #[error("the broadcast address")]
    Broadcast,
    /// An IPv4 address written as an IPv6 address (::ffff:0:0/96), which would be a second name of the same host.
    #[error("an IPv4 address in IPv6's form")]
    Mapped,
    /// Neither IPv4 nor IPv6.
    #[error("an address of unknown family {0}")]
    Family(u8),
}

/// Refuses addresses at which no single host can be.
pub fn check_address(addr: SocketAddr) -> Result<(), AddressError> {
    let ip = addr.ip();
    if addr.port() == 0 {
        Err(AddressError::Port)
    } else if ip.is_unspecified() {
        Err(AddressError::Unspecified)
    } else if ip.is_multicast() {
        Err(AddressError::Multicast)
    } else if ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Err(AddressError::Broadcast)
    } else if ip.to_canonical() != ip {
        Err(AddressError::Mapped)
    } else {
        Ok(())
    }
}

/// Family 1, address 4 or 16, port 2. IPv4 in IPv6's form is written as IPv4.
pub(crate) fn put_address(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(addr.port().to_be_bytes());
}

/// The inverse of [`put_address`].
pub(crate) fn read_address(from: &mut Reader<'_>) -> Result<SocketAddr, Fault> {
    let ip = match from.u8()? {
        4 => IpAddr::V4(Ipv4Addr::from_octets(*from.array()?)),
        6 => IpAddr::V6(Ipv6Addr::from_octets(*from.array()?)),
        other => return Err(AddressError::Family(other).into()),
    };
    let addr = SocketAddr::new(ip, from.u16()?);
    check_address(addr)?;
    Ok(addr)
}

/// How a candidate came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CandidateKind {
    /// An address of one of the host's interfaces.
    Host = 1,
    /// An address at which a server saw the host.
    Mapped = 2,
    /// An address that a symmetric NAT is expected to give.
    Predicted = 3,
    /// An address of a relay.
    Relayed = 4,
}

impl CandidateKind {
    /// The kind with this number.
    #[must_use]
    pub const fn new(n: u8) -> Option<CandidateKind> {
        Some(match n {
            1 => CandidateKind::Host,
            2 => CandidateKind::Mapped,
            3 => CandidateKind::Predicted,
            4 => CandidateKind::Relayed,
            _ => return None,
        })
    }
}

impl fmt::Display for CandidateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CandidateKind::Host => "host",
            CandidateKind::Mapped => "mapped",
            CandidateKind::Predicted => "predicted",
            CandidateKind::Relayed => "relayed",
        })
    }
}

/// Where a host may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
    /// How it came about.
    pub kind: CandidateKind,
    /// Address and UDP port.
    pub addr: SocketAddr,
}
