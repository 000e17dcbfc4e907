//! Names of what is in a network: hosts, routers, segments, and the links between them.

use std::fmt;

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub(crate) u32);

/// A router, between a segment outside and its LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub(crate) u32);

/// A segment: the public internet, or a router's LAN. Whoever is on it reaches the others on it by their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub(crate) u32);

impl HostId {
    /// Hosts are numbered from zero in the order in which they were added.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl RouterId {
    /// Routers are numbered from zero in the order in which they were added.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl SegmentId {
    /// The public internet.
    pub const INTERNET: SegmentId = SegmentId(0);

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is attached to a segment: a host, or a router by its outer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attached {
    /// A host.
    Host(HostId),
    /// A router's outer side.
    Router(RouterId),
}

impl From<HostId> for Attached {
    fn from(host: HostId) -> Attached {
        Attached::Host(host)
    }
}

impl From<RouterId> for Attached {
    fn from(router: RouterId) -> Attached {
        Attached::Router(router)
    }
}

/// The way that datagrams take on an attachment's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the host or router to the segment.
    Up,
    /// From the segment to the host or router.
    Down,
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h{}", self.0)
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == SegmentId::INTERNET { f.write_str("internet") } else { write!(f, "s{}", self.0) }
    }
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attached::Host(host) => host.fmt(f),
            Attached::Router(router) => router.fmt(f),
        }
    }
}
