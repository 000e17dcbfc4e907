//! How a datagram goes from place to place.

use std::net::SocketAddr;

use wavnet_proto::time::Time;

use super::World;
use crate::{
    Attached, Direction, Reason, RouterId, SegmentId,
    adversary::{Fate, Place},
    datagram::{Flight, Via},
    queue::{Event, Stage},
    router::Way,
    trace::At,
};

/// What carries a datagram to its next place, by interface.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    Up(u32),
    Path(u32, u32),
    Down(u32),
}

/// A datagram that is somewhere now; `None` if its way has ended, or it will be there later.
type Next = Option<(Box<Flight>, Stage)>;

impl World {
    /// Moves a datagram on from where it is, until that takes time or it is at a host.
    pub(crate) fn advance(&mut self, flight: Box<Flight>, stage: Stage) {
        let mut next = Some((flight, stage));
        while let Some((flight, stage)) = next {
            next = self.filter(flight, stage).and_then(|flight| self.go_on(flight, stage));
        }
    }

    fn go_on(&mut self, flight: Box<Flight>, stage: Stage) -> Next {
        match stage {
            Stage::Leave { iface } => {
                let segment = self.topology.ifaces[iface as usize].segment;
                self.carry(Carrier::Up(iface), flight, Stage::Cross { segment, from: Some(iface) })
            }
            Stage::Cross { segment, from } => self.cross(flight, segment, from),
            Stage::Path { segment, from, to } => {
                self.carry(Carrier::Path(from, to), flight, Stage::Approach { segment, iface: to })
            }
            Stage::Approach { segment, iface } => {
                if self.has_left(iface, segment) {
                    self.drop(*flight, Reason::NoRoute, Some(At::Segment(SegmentId(segment))));
                    return None;
                }
                self.carry(Carrier::Down(iface), flight, Stage::Arrive { segment, iface })
            }
            Stage::Arrive { segment, iface } => match self.topology.ifaces[iface as usize].owner {
                Attached::Router(router) => self.inward(flight, router),
                // The hosts are not ours: see `arrived`.
                Attached::Host(_) => {
                    self.queue.put(self.now, Event::Flight(flight, Stage::Arrive { segment, iface }));
                    None
                }
            },
        }
    }

    /// The host at which a datagram has arrived, if it is at one.
    pub(crate) fn arrived(&self, stage: Stage) -> Option<(crate::HostId, bool)> {
        let Stage::Arrive { segment, iface } = stage else { return None };
        match self.topology.ifaces[iface as usize].owner {
            Attached::Host(host) => Some((host, self.has_left(iface, segment))),
            Attached::Router(_) => None,
        }
    }

    /// The host is elsewhere by now.
    fn has_left(&self, iface: u32, segment: u32) -> bool {
        self.topology.ifaces[iface as usize].segment != segment
    }

    /// Over a link. What takes no time goes on at once, but hosts are always given datagrams from the queue.
    fn carry(&mut self, carrier: Carrier, flight: Box<Flight>, next: Stage) -> Next {
        let topology = &mut self.topology;
        let (link, owner) = match carrier {
            Carrier::Path(from, to) => match topology.paths.get_mut(&(from, to)) {
                Some(link) => (link, topology.ifaces[to as usize].owner),
                // It has been removed since.
                None => return Some((flight, next)),
            },
            Carrier::Up(iface) | Carrier::Down(iface) => {
                let iface = &mut topology.ifaces[iface as usize];
                (if matches!(carrier, Carrier::Up(_)) { &mut iface.up } else { &mut iface.down }, iface.owner)
            }
        };
        let carried = match link.carry(self.now, flight.datagram.size()) {
            Ok(carried) => carried,
            Err(reason) => {
                self.drop(*flight, reason, Some(At::Attached(owner)));
                return None;
            }
        };
        if let Some(at) = carried.copy {
            self.copy(&flight, at, next, false);
        }
        let at_host = matches!((next, owner), (Stage::Arrive { .. }, Attached::Host(_)));
        if !carried.waits && !at_host {
            return Some((flight, next));
        }
        self.queue.put(carried.at, Event::Flight(flight, next));
        None
    }

    /// On a segment: to whoever has the address, or to the router.
    fn cross(&mut self, flight: Box<Flight>, segment: u32, from: Option<u32>) -> Next {
        let to = flight.datagram.to.ip();
        let here = &self.topology.segments[segment as usize];
        if let Some(iface) = here.interface_for(to) {
            let path = from.filter(|from| self.topology.paths.contains_key(&(*from, iface)));
            let next = match path {
                Some(from) => Stage::Path { segment, from, to: iface },
                None => Stage::Approach { segment, iface },
            };
            return Some((flight, next));
        }
        match here.gateway_for(to) {
            Some(router) => self.outward(flight, router),
            None => {
                self.drop(*flight, Reason::NoRoute, Some(At::Segment(SegmentId(segment))));
                None
            }
        }
    }

    /// From a LAN through its router.
    fn outward(&mut self, flight: Box<Flight>, id: RouterId) -> Next {
        let mut flight = self.hop(flight, id)?;
        let router = &mut self.routers[id.index()];
        match router.outward(self.now, flight.datagram.from, flight.datagram.to) {
            Ok(Way::Out(external)) => {
                let iface = router.outside;
                self.translate(&mut flight, id, external);
                Some((flight, Stage::Leave { iface }))
            }
            Ok(Way::Hairpin { from, to }) => {
                let segment = router.lan;
                self.translate(&mut flight, id, from);
                self.untranslate(&mut flight, id, to);
                Some((flight, Stage::Cross { segment, from: None }))
            }
            Err(reason) => {
                self.drop(*flight, reason, Some(At::Attached(id.into())));
                None
            }
        }
    }

    fn translate(&self, flight: &mut Flight, router: RouterId, external: SocketAddr) {
        if self.trace.is_on() && flight.datagram.from != external {
            flight.via.push(Via { router, way: Direction::Up, endpoint: external });
        }
        flight.datagram.from = external;
    }

    fn untranslate(&self, flight: &mut Flight, router: RouterId, internal: SocketAddr) {
        if self.trace.is_on() && flight.datagram.to != internal {
            flight.via.push(Via { router, way: Direction::Down, endpoint: internal });
        }
        flight.datagram.to = internal;
    }

    /// From outside through a router to its LAN.
    fn inward(&mut self, flight: Box<Flight>, id: RouterId) -> Next {
        let mut flight = self.hop(flight, id)?;
        let router = &mut self.routers[id.index()];
        match router.inward(self.now, flight.datagram.from, flight.datagram.to) {
            Ok(internal) => {
                let segment = router.lan;
                self.untranslate(&mut flight, id, internal);
                Some((flight, Stage::Cross { segment, from: None }))
            }
            Err(reason) => {
                self.drop(*flight, reason, Some(At::Attached(id.into())));
                None
            }
        }
    }

    fn hop(&mut self, mut flight: Box<Flight>, router: RouterId) -> Option<Box<Flight>> {
        flight.hops = flight.hops.saturating_sub(1);
        if flight.hops == 0 {
            self.routers[router.index()].count(Reason::HopLimit);
            self.drop(*flight, Reason::HopLimit, Some(At::Attached(router.into())));
            return None;
        }
        Some(flight)
    }

    /// Taps and filters.
    fn filter(&mut self, mut flight: Box<Flight>, stage: Stage) -> Option<Box<Flight>> {
        if std::mem::take(&mut flight.filtered) || self.hooks.is_empty() {
            return Some(flight);
        }
        let owner = |iface: u32| self.topology.ifaces[iface as usize].owner;
        let place = match stage {
            Stage::Leave { iface } => Place::Link(owner(iface), Direction::Up),
            Stage::Cross { segment, .. } => Place::Segment(SegmentId(segment)),
            Stage::Approach { iface, .. } => Place::Link(owner(iface), Direction::Down),
            Stage::Path { .. } | Stage::Arrive { .. } => return Some(flight),
        };
        match self.hooks.see(self.now, place, &mut flight.datagram) {
            Fate::Pass => Some(flight),
            Fate::Drop => {
                self.drop(*flight, Reason::Adversary, None);
                None
            }
            Fate::Delay(by) => {
                flight.filtered = true;
                self.queue.put(self.now + by, Event::Flight(flight, stage));
                None
            }
            Fate::Duplicate(after) => {
                self.copy(&flight, self.now + after, stage, true);
                Some(flight)
            }
        }
    }

    fn copy(&mut self, flight: &Flight, at: Time, stage: Stage, filtered: bool) {
        self.totals.duplicated += 1;
        self.queue.put(at, Event::Flight(Box::new(Flight { filtered, ..flight.clone() }), stage));
    }
}
