//! The questions of a classification, and what may come of them.

use std::net::SocketAddr;

/// A question. The order is of no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Probe {
    /// From the main socket to a server, by its place in the list: mapping test I.
    Connect(u8),
    /// From the main socket to the server's other address, with the first port: mapping test II.
    MapAddress,
    /// From the main socket to the other address and port: mapping test III.
    MapBoth,
    /// From the main socket to the first address, with the other port. RFC 5780 has no such test; it tells whether that
    /// port can be heard at all, which `FilterPort` must know, and gives one mapping more to learn the order of ports from.
    MapPort,
    /// From the fresh socket to the server: filtering test I.
    Open,
    /// From the fresh socket, answered from the other address and port: filtering test II.
    FilterBoth,
    /// From the fresh socket, answered from the other port: filtering test III.
    FilterPort,
    /// `Open` once more: whether silence was the filter's.
    Reopen,
    /// From the main socket to where the fresh one seems to be.
    HairpinOut,
    /// From the fresh socket to where the main one seems to be.
    HairpinIn,
    /// From the main socket to the server once more: whether its mapping is still the same.
    Confirm,
    /// From a socket that is to be idle to the server, by its place in the round: the mapping whose lifetime is measured.
    Keep(u8),
    /// From the main socket, answered to the idle one.
    Ask(u8),
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer from where it was to come, with a mapped address (of a hairpin: where the request came from).
    Answered(SocketAddr),
    /// An error, by number, or an answer without a mapped address that can be.
    Refused(Option<u16>),
    /// An answer, but not from where or to where it was asked for.
    Disobeyed,
    /// Nothing.
    Silent,
}

impl Outcome {
    pub(super) const fn mapped(self) -> Option<SocketAddr> {
        match self {
            Outcome::Answered(mapped) => Some(mapped),
            _ => None,
        }
    }
}

/// An address without what sockets add to it: IPv4 inside IPv6, scope and flow.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// True if a datagram may be sent there on the word of a server at `server`: neither to a group nor, unless the server is
/// there itself, to this host.
pub(super) fn is_usable(address: SocketAddr, server: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    let host = address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != broadcast;
    host && address.is_ipv4() == server.is_ipv4() && (!ip.is_loopback() || server.ip().is_loopback())
}
