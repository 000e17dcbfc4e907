//! Everything but the hosts' nodes: where datagrams are, and where they go next.

mod moving;
mod topology;

use wavnet_proto::time::Time;

use crate::{
    Attached, Datagram, HostId, HostStats, Reason, Rng, RouterConfig, RouterId, SegmentId, Totals,
    adversary::Hooks,
    datagram::{Flight, Origin},
    queue::{Queue, Stage},
    router::{Ipv4, Router},
    trace::{At, Trace, Verdict},
};
use topology::Topology;

/// The network without its nodes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue,
    pub(crate) topology: Topology,
    pub(crate) routers: Vec<Router>,
    pub(crate) hooks: Hooks,
    pub(crate) trace: Trace,
    pub(crate) hosts: Vec<HostStats>,
    totals: Totals,
}

impl World {
    pub(crate) fn new(seed: u64, now: Time) -> World {
        World {
            now,
            rng: Rng::new(seed),
            queue: Queue::default(),
            topology: Topology::new(),
            routers: Vec::new(),
            hooks: Hooks::default(),
            trace: Trace::new(seed),
            hosts: Vec::new(),
            totals: Totals::default(),
        }
    }

    pub(crate) fn add_router(&mut self, outside: SegmentId, config: RouterConfig) -> RouterId {
        assert!(config.external.iter().all(|addr| addr.is_ipv4()), "a router's outer addresses are for NAT of IPv4");
        let translates = matches!(config.v4, Ipv4::Nat(_));
        let is_routed = |prefix: &crate::Prefix| prefix.first().is_ipv6() || !translates;
        let (router, iface, lan) =
            self.topology.add_router(outside, &config.external, &config.inside, is_routed, &mut self.rng);
        self.routers.push(Router::new(iface, lan.0, config, self.rng.fork()));
        router
    }

    /// A host's node sends this.
    pub(crate) fn send(&mut self, host: HostId, datagram: Datagram) {
        self.sent(host, &datagram);
        let flight = Box::new(Flight::new(datagram, Origin::Host(host), self.now));
        if flight.datagram.payload.len() > flight.datagram.longest() {
            return self.drop(*flight, Reason::TooBig, Some(At::Attached(host.into())));
        }
        let iface = self.topology.iface_of(host.into());
        self.advance(flight, Stage::Leave { iface });
    }

    /// A host's node wants to send this, and cannot.
    pub(crate) fn send_nothing(&mut self, host: HostId, datagram: Datagram) {
        self.sent(host, &datagram);
        let flight = Box::new(Flight::new(datagram, Origin::Host(host), self.now));
        self.drop(*flight, Reason::NoSource, Some(At::Attached(host.into())));
    }

    fn sent(&mut self, host: HostId, datagram: &Datagram) {
        self.totals.sent += 1;
        let stats = &mut self.hosts[host.index()];
        stats.sent += 1;
        stats.sent_bytes += datagram.payload.len() as u64;
    }

    /// The scenario puts this on a segment.
    pub(crate) fn inject(&mut self, segment: SegmentId, datagram: Datagram) {
        assert!(segment.index() < self.topology.segments.len(), "there is no such segment");
        self.totals.injected += 1;
        let mut flight = Box::new(Flight::new(datagram, Origin::Adversary, self.now));
        // What the adversary sends it does not look at.
        flight.filtered = true;
        self.advance(flight, Stage::Cross { segment: segment.0, from: None });
    }

    /// A host's node is about to be given this, of which the payload is returned.
    pub(crate) fn delivered(&mut self, host: HostId, flight: Flight) -> Vec<u8> {
        self.totals.delivered += 1;
        let stats = &mut self.hosts[host.index()];
        stats.received += 1;
        stats.received_bytes += flight.datagram.payload.len() as u64;
        self.trace.ended(self.now, flight, Verdict::Delivered(host))
    }

    /// It goes no further.
    pub(crate) fn drop(&mut self, flight: Flight, reason: Reason, at: Option<At>) {
        self.totals.dropped.count(reason);
        if let Origin::Host(host) = flight.origin {
            self.hosts[host.index()].lost.count(reason);
        }
        self.trace.ended(self.now, flight, Verdict::Dropped(reason, at));
    }

    /// The scenario changes something about a host or router.
    pub(crate) fn note(&mut self, what: impl Into<Attached>, text: &str) {
        self.trace.note(self.now, || format!("{} {text}", what.into()));
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals { in_flight: self.queue.in_flight(), ..self.totals.clone() }
    }
}
