//! The network: hosts with nodes, on a world of links and routers.

mod adversary;
mod hosts;
mod observe;
mod run;

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use wavnet_proto::{time::Time, transmit::Socket};

use crate::{
    Attached, Direction, HostId, HostStats, LinkConfig, Node, RouterConfig, RouterId, Seed, SegmentId,
    host::{Clock, Host, Sockets},
    queue::Event,
    world::World,
};

/// Something that the scenario does at a time.
type Action<N> = Box<dyn FnOnce(&mut Network<N>)>;

/// A simulated network whose hosts run nodes of one type (an enum, or boxes of a trait that extends [`Node`], where they are to differ).
///
/// Nothing in it depends on anything but the seed and what the scenario does: two runs of one scenario are equal event by event.
/// Wrong names, addresses that are taken and the like are mistakes of the scenario, and panic.
pub struct Network<N> {
    world: World,
    hosts: Vec<Host<N>>,
    actions: BTreeMap<u32, Action<N>>,
    next_action: u32,
    /// Events since time last went on.
    in_this_moment: u32,
}

impl<N: Node> Network<N> {
    /// When a network's time begins: late enough for clocks that jump back.
    pub const START: Time = Time::from_nanos(1_000_000_000_000);

    /// The port of [`Socket::Main`] of every host.
    pub const PORT: u16 = 4789;

    /// An empty internet.
    #[must_use]
    pub fn new(seed: Seed) -> Network<N> {
        Network {
            world: World::new(seed.0, Network::<N>::START),
            hosts: Vec::new(),
            actions: BTreeMap::new(),
            next_action: 0,
            in_this_moment: 0,
        }
    }

    /// Adds a host with these addresses; [`Socket::Main`] has the first of each family. Its node is started by the next event, so that
    /// links can be set before.
    ///
    /// # Panics
    ///
    /// If somebody on the segment has one of the addresses.
    pub fn add_host(&mut self, segment: SegmentId, addresses: &[IpAddr], node: N) -> HostId {
        let host = self.world.topology.add_host(segment, addresses, &mut self.world.rng);
        let mut sockets = Sockets::default();
        sockets.set_addresses(addresses);
        sockets.open(Socket::Main, Network::<N>::PORT);
        self.hosts.push(Host {
            node: Some(node),
            started: false,
            segment,
            sockets,
            clock: Clock::default(),
            rng: self.world.rng.fork(),
            suspended: None,
            wake_at: None,
            woken: (Time::ZERO, 0),
        });
        self.world.hosts.push(HostStats::default());
        self.world.queue.put(self.world.now, Event::Start(host.0));
        host
    }

    /// Adds a router, its outer side on this segment; [`Network::lan`] says what its LAN is.
    ///
    /// # Panics
    ///
    /// If somebody on the outer segment has one of its addresses or prefixes, or they are not as [`RouterConfig`] says.
    pub fn add_router(&mut self, outside: SegmentId, config: RouterConfig) -> RouterId {
        self.world.add_router(outside, config)
    }

    /// The segment inside a router.
    #[must_use]
    pub fn lan(&self, router: RouterId) -> SegmentId {
        SegmentId(self.world.routers[router.index()].lan)
    }

    /// An IPv4 address of a segment that nobody has, each time another one. On the public internet they are from 198.18.0.0/15.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn vacant_v4(&mut self, segment: SegmentId) -> IpAddr {
        match self.world.topology.vacant(segment, false) {
            Some(addr) => addr,
            None => panic!("{segment} has no IPv4 address left"),
        }
    }

    /// An IPv6 address of a segment that nobody has, each time another one. On the public internet they are from 2001:2::/48.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn vacant_v6(&mut self, segment: SegmentId) -> IpAddr {
        match self.world.topology.vacant(segment, true) {
            Some(addr) => addr,
            None => panic!("{segment} has no IPv6 address left"),
        }
    }

    /// One direction of the link of a host, or of a router's outer side. It is [`LinkConfig::IDEAL`] at first.
    pub fn link_mut(&mut self, of: impl Into<Attached>, direction: Direction) -> &mut LinkConfig {
        &mut self.world.topology.link_mut(of.into(), direction).config
    }

    /// Sets both directions of a link.
    pub fn set_link(&mut self, of: impl Into<Attached>, config: &LinkConfig) {
        let of = of.into();
        for direction in [Direction::Up, Direction::Down] {
            self.link_mut(of, direction).clone_from(config);
        }
    }

    /// Takes a link down or up, both directions. What is under way on it arrives.
    pub fn set_up(&mut self, of: impl Into<Attached>, up: bool) {
        let of = of.into();
        self.world.note(of, if up { "link up" } else { "link down" });
        for direction in [Direction::Up, Direction::Down] {
            self.link_mut(of, direction).up = up;
        }
    }

    /// What lies between two attachments of one segment in this direction, besides their links. It is [`LinkConfig::IDEAL`] at first. It lasts until one of
    /// them goes to another segment.
    ///
    /// # Panics
    ///
    /// If they are not on one segment. Between hosts behind routers on the internet, it is their routers that are.
    pub fn path_mut(&mut self, from: impl Into<Attached>, to: impl Into<Attached>) -> &mut LinkConfig {
        let World { topology, rng, .. } = &mut self.world;
        &mut topology.path_mut(from.into(), to.into(), rng).config
    }

    /// Lets nothing through between the ones and the others, or everything again.
    pub fn set_partition(&mut self, ones: &[Attached], others: &[Attached], partitioned: bool) {
        for &one in ones {
            for &other in others {
                self.world.note(one, &format!("{} {other}", if partitioned { "cut off from" } else { "reaches" }));
                self.path_mut(one, other).up = !partitioned;
                self.path_mut(other, one).up = !partitioned;
            }
        }
    }

    /// A router forgets all mappings and flows, as one that restarts in no time. Take its link down for as long as it is to take.
    pub fn reboot(&mut self, router: RouterId) {
        self.world.note(router, "rebooted");
        self.world.routers[router.index()].reboot();
    }

    /// A router gets other outer addresses, and forgets all mappings and flows of IPv4.
    ///
    /// # Panics
    ///
    /// If somebody on the outer segment has one of them, they are not IPv4, or the router does not translate.
    pub fn renumber(&mut self, router: RouterId, external: &[IpAddr]) {
        assert!(external.iter().all(IpAddr::is_ipv4), "a router's outer addresses are for NAT of IPv4");
        self.world.note(router, &format!("renumbered to {external:?}"));
        self.world.topology.renumber(router, external);
        match self.world.routers[router.index()].nat_mut() {
            Some(nat) => nat.renumber(external.to_vec()),
            None => panic!("{router} has no NAT"),
        }
    }

    /// Does something at a time; if that is over, at once when the network next runs.
    pub fn at(&mut self, time: Time, action: impl FnOnce(&mut Network<N>) + 'static) {
        let id = self.next_action;
        self.next_action += 1;
        self.actions.insert(id, Box::new(action));
        self.world.queue.put(time.max(self.world.now), Event::Action(id));
    }

    /// Does something after a while.
    pub fn after(&mut self, delay: Duration, action: impl FnOnce(&mut Network<N>) + 'static) {
        self.at(self.world.now + delay, action);
    }
}

impl<N: fmt::Debug> fmt::Debug for Network<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("world", &self.world).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
