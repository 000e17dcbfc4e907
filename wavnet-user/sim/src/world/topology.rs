//! Who is on which segment with which addresses.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{Attached, Direction, HostId, LinkConfig, Prefix, Rng, RouterId, SegmentId, link::Link};

/// A segment.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    /// The router whose LAN this is; none for the public internet.
    gateway: Option<RouterId>,
    prefixes: Vec<Prefix>,
    /// Which interface has an address.
    addresses: BTreeMap<IpAddr, u32>,
    /// Prefixes that are behind a router here, by their first addresses; they do not overlap.
    routes: BTreeMap<IpAddr, (Prefix, u32)>,
    /// Where to look for the next address that nobody has.
    vacant: u32,
}

impl Segment {
    /// The interface that a datagram to this address goes to.
    pub(crate) fn interface_for(&self, to: IpAddr) -> Option<u32> {
        if let Some(&iface) = self.addresses.get(&to) {
            return Some(iface);
        }
        let (_, (prefix, iface)) = self.routes.range(..=to).next_back()?;
        prefix.contains(to).then_some(*iface)
    }

    /// The router that has what is not on this segment.
    pub(crate) fn gateway_for(&self, to: IpAddr) -> Option<RouterId> {
        self.gateway.filter(|_| !self.prefixes.iter().any(|prefix| prefix.contains(to)))
    }
}

/// Where a host or a router's outer side is attached.
#[derive(Debug)]
pub(crate) struct Iface {
    pub(crate) owner: Attached,
    pub(crate) segment: u32,
    pub(crate) up: Link,
    pub(crate) down: Link,
}

/// All of it, by index.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) segments: Vec<Segment>,
    pub(crate) ifaces: Vec<Iface>,
    /// What lies between two interfaces of a segment, besides their links.
    pub(crate) paths: BTreeMap<(u32, u32), Link>,
    hosts: Vec<u32>,
    routers: Vec<u32>,
}

impl Topology {
    /// The public internet, with nobody on it. Addresses that are not chosen are those set aside for benchmarks (RFC 2544, RFC 5180).
    pub(crate) fn new() -> Topology {
        let v4 = Prefix::new(IpAddr::from([198, 18, 0, 0]), 15);
        let v6 = Prefix::new(IpAddr::from([0x2001, 2, 0, 0, 0, 0, 0, 0]), 48);
        let prefixes = v4.into_iter().chain(v6).collect();
        let internet = Segment { prefixes, vacant: 1, ..Segment::default() };
        Topology {
            segments: vec![internet],
            ifaces: Vec::new(),
            paths: BTreeMap::new(),
            hosts: Vec::new(),
            routers: Vec::new(),
        }
    }

    pub(crate) fn iface_of(&self, attached: Attached) -> u32 {
        match attached {
            Attached::Host(host) => self.hosts[host.index()],
            Attached::Router(router) => self.routers[router.index()],
        }
    }

    pub(crate) fn link_mut(&mut self, attached: Attached, direction: Direction) -> &mut Link {
        let iface = self.iface_of(attached);
        let iface = &mut self.ifaces[iface as usize];
        match direction {
            Direction::Up => &mut iface.up,
            Direction::Down => &mut iface.down,
        }
    }

    pub(crate) fn link(&self, attached: Attached, direction: Direction) -> &Link {
        let iface = &self.ifaces[self.iface_of(attached) as usize];
        match direction {
            Direction::Up => &iface.up,
            Direction::Down => &iface.down,
        }
    }

    pub(crate) fn path_mut(&mut self, from: Attached, to: Attached, rng: &mut Rng) -> &mut Link {
        let (from, to) = (self.iface_of(from), self.iface_of(to));
        let segment_of = |iface: u32| self.ifaces[iface as usize].segment;
        assert_eq!(segment_of(from), segment_of(to), "a path is between two attachments of one segment");
        self.paths.entry((from, to)).or_insert_with(|| Link::new(LinkConfig::IDEAL, rng.fork()))
    }

    pub(crate) fn add_host(&mut self, segment: SegmentId, addresses: &[IpAddr], rng: &mut Rng) -> HostId {
        let host = HostId(self.hosts.len() as u32);
        let iface = self.attach(host.into(), segment, rng);
        self.hosts.push(iface);
        self.claim(iface, addresses);
        host
    }

    /// Attaches a host elsewhere, or gives it other addresses.
    pub(crate) fn move_host(&mut self, host: HostId, segment: SegmentId, addresses: &[IpAddr]) {
        assert!(segment.index() < self.segments.len(), "there is no such segment");
        let iface = self.hosts[host.index()];
        self.release(iface);
        self.paths
            .retain(|(from, to), _| self.ifaces[iface as usize].segment == segment.0 || ![*from, *to].contains(&iface));
        self.ifaces[iface as usize].segment = segment.0;
        self.claim(iface, addresses);
    }

    /// Returns the router, its interface and its LAN.
    pub(crate) fn add_router(
        &mut self,
        outside: SegmentId,
        external: &[IpAddr],
        inside: &[Prefix],
        is_routed: impl Fn(&Prefix) -> bool,
        rng: &mut Rng,
    ) -> (RouterId, u32, SegmentId) {
        let router = RouterId(self.routers.len() as u32);
        let iface = self.attach(router.into(), outside, rng);
        self.routers.push(iface);
        self.claim(iface, external);
        for prefix in inside.iter().filter(|prefix| is_routed(prefix)) {
            let routes = &mut self.segments[outside.index()].routes;
            let other = routes.values().find(|(other, _)| other.overlaps(prefix));
            assert!(other.is_none(), "{prefix} is routed to two routers of {outside}");
            routes.insert(prefix.first(), (*prefix, iface));
        }
        let lan = SegmentId(self.segments.len() as u32);
        // The first is the network's, the second the router's own, by custom.
        let (gateway, prefixes, vacant) = (Some(router), inside.to_vec(), 2);
        self.segments.push(Segment { gateway, prefixes, vacant, ..Segment::default() });
        (router, iface, lan)
    }

    /// Gives a router other addresses outside.
    pub(crate) fn renumber(&mut self, router: RouterId, external: &[IpAddr]) {
        let iface = self.routers[router.index()];
        self.release(iface);
        self.claim(iface, external);
    }

    /// An IPv4 or IPv6 address of the segment that nobody has.
    pub(crate) fn vacant(&mut self, segment: SegmentId, v6: bool) -> Option<IpAddr> {
        let segment = &mut self.segments[segment.index()];
        let prefix = *segment.prefixes.iter().find(|prefix| prefix.first().is_ipv6() == v6)?;
        loop {
            let addr = prefix.nth(segment.vacant)?;
            segment.vacant += 1;
            if segment.interface_for(addr).is_none() {
                return Some(addr);
            }
        }
    }

    fn attach(&mut self, owner: Attached, segment: SegmentId, rng: &mut Rng) -> u32 {
        assert!(segment.index() < self.segments.len(), "there is no such segment");
        let link = |rng: &mut Rng| Link::new(LinkConfig::IDEAL, rng.fork());
        self.ifaces.push(Iface { owner, segment: segment.0, up: link(rng), down: link(rng) });
        self.ifaces.len() as u32 - 1
    }

    fn claim(&mut self, iface: u32, addresses: &[IpAddr]) {
        let Iface { segment, owner, .. } = self.ifaces[iface as usize];
        let taken = &mut self.segments[segment as usize].addresses;
        for addr in addresses {
            let other = taken.insert(*addr, iface);
            assert!(other.is_none(), "{owner} and another one have {addr} on {}", SegmentId(segment));
        }
    }

    fn release(&mut self, iface: u32) {
        let segment = self.ifaces[iface as usize].segment;
        self.segments[segment as usize].addresses.retain(|_, of| *of != iface);
    }
}
