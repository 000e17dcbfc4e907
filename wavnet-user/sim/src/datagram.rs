//! Datagrams, and what is known of one that is on its way.

use std::net::SocketAddr;

use wavnet_proto::time::Time;

use crate::{Direction, HostId, RouterId};

/// A UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Longest payload: what a length of 16 bits leaves (RFC 768), and IPv4's, which counts its header (RFC 791 section 3.1).
    pub(crate) const fn longest(&self) -> usize {
        let headers = if self.to.is_ipv4() { 28 } else { 8 };
        65_535 - headers
    }

    /// Length as an IP packet, in bytes.
    pub(crate) fn size(&self) -> u32 {
        let headers = if self.to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX).saturating_add(headers)
    }
}

/// Who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Host(HostId),
    Adversary,
}

/// A NAT that it went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    pub(crate) router: RouterId,
    /// Up: its source was changed; down: its destination.
    pub(crate) way: Direction,
    /// To this.
    pub(crate) endpoint: SocketAddr,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) datagram: Datagram,
    pub(crate) origin: Origin,
    pub(crate) sent_at: Time,
    /// As it was sent.
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Filled only if there is a trace.
    pub(crate) via: Vec<Via>,
    /// Routers that it may still go through.
    pub(crate) hops: u8,
    /// A filter has delayed it, and is not to see it again here.
    pub(crate) filtered: bool,
}

impl Flight {
    /// As many as Linux gives (RFC 1700: 64).
    const HOPS: u8 = 64;

    pub(crate) const fn new(datagram: Datagram, origin: Origin, now: Time) -> Flight {
        let (from, to) = (datagram.from, datagram.to);
        Flight { datagram, origin, sent_at: now, from, to, via: Vec::new(), hops: Flight::HOPS, filtered: false }
    }
}
