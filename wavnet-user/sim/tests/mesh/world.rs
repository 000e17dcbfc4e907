//! Networks of agents behind NATs with rendezvous servers, put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{self, Event, Mesh, PathKind, Settings},
    nat::{Filtering, Mapping, NatSummary},
    policy::Policy,
    rendezvous::{self, Rendezvous, persist::Saved},
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::{NetworkKey, PublicKey, SecretKey},
    wire::Name,
};
use wavnet_sim::{HostId, LinkConfig, Network, RouterConfig, RouterId, Seed, SegmentId, Server, nat::NatConfig};

use crate::node::{Agent, Host, VNI};

/// What a classification finds of a port-restricted cone.
pub(crate) fn cone() -> NatSummary {
    let (mapping, filtering) = (Mapping::EndpointIndependent, Filtering::AddressAndPortDependent);
    NatSummary { mapping, filtering, ..NatSummary::default() }
}

/// A network with one or more servers and agents that are added one after the other.
pub(crate) struct World {
    pub(crate) net: Network<Host>,
    pub(crate) rng: Rng,
    pub(crate) network: NetworkKey,
    pub(crate) servers: Vec<HostId>,
    server_keys: Vec<SecretKey>,
    /// Where agents look for servers, if not at each one's IPv4 address.
    pub(crate) server_addrs: Option<Vec<SocketAddr>>,
    secrets: BTreeMap<PublicKey, SecretKey>,
    pub(crate) delay: Duration,
    lans: u32,
}

/// An agent's host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) host: HostId,
    pub(crate) key: PublicKey,
    pub(crate) router: Option<RouterId>,
}

impl World {
    /// With one server; each link of a host or a router delays by `delay` in each direction.
    pub(crate) fn new(seed: Seed, delay: Duration) -> World {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.0.to_be_bytes());
        let mut rng = Rng::from_seed(bytes);
        let network = NetworkKey::generate(&mut rng);
        let mut net = Network::new(seed);
        net.keep_trace(40);
        let mut world = World {
            net,
            rng,
            network,
            servers: Vec::new(),
            server_keys: Vec::new(),
            server_addrs: None,
            secrets: BTreeMap::new(),
            delay,
            lans: 0,
        };
        world.add_server();
        world
    }

    pub(crate) fn add_server(&mut self) {
        let key = SecretKey::generate(&mut self.rng);
        let node = self.server_node(&key, Saved::default());
        let addrs = [self.net.vacant_v4(SegmentId::INTERNET), self.net.vacant_v6(SegmentId::INTERNET)];
        let host = self.net.add_host(SegmentId::INTERNET, &addrs, node);
        self.net.set_link(host, &LinkConfig::delayed(self.delay));
        self.servers.push(host);
        self.server_keys.push(key);
    }

    /// The first server has another address and another port for STUN: hosts can find out all about their NATs (RFC 5780).
    pub(crate) fn add_other_addresses(&mut self) {
        const OTHER_PORT: u16 = 4790;
        let (server, other) = (self.servers[0], self.net.vacant_v4(SegmentId::INTERNET));
        let main = self.net.main_address(server);
        let addrs: Vec<IpAddr> = self.net.addresses(server).iter().copied().chain([other]).collect();
        self.net.move_host(server, SegmentId::INTERNET, &addrs);
        for (n, ip, port) in [(1, main.ip(), OTHER_PORT), (2, other, main.port()), (3, other, OTHER_PORT)] {
            self.net.bind(server, Socket::Other(n), SocketAddr::new(ip, port));
        }
    }

    /// A server's public key.
    pub(crate) fn server_key(&self, i: usize) -> PublicKey {
        self.server_keys[i].public()
    }

    fn server_node(&mut self, key: &SecretKey, saved: Saved) -> Host {
        let settings = rendezvous::Settings::new(vec![rendezvous::Network::new(self.network.access())]);
        let core = Rendezvous::new(settings, key.clone(), saved.clone(), self.rng.bytes(), self.net.now());
        let mut server = Server::new(core);
        server.saved = saved;
        Host::Server(Box::new(server))
    }

    /// A server that was killed and has forgotten everything starts again.
    pub(crate) fn restart_server(&mut self, i: usize) {
        self.restart_server_with(i, Saved::default());
    }

    /// A server that was killed starts again from its store.
    pub(crate) fn restart_server_with(&mut self, i: usize, saved: Saved) {
        let key = self.server_keys[i].clone();
        let node = self.server_node(&key, saved);
        self.net.restart(self.servers[i], node);
    }

    /// A server no longer lets in this host.
    pub(crate) fn revoke_at_server(&mut self, i: usize, key: PublicKey) {
        let mut network = rendezvous::Network::new(self.network.access());
        network.revoked.insert(key);
        let settings = rendezvous::Settings::new(vec![network]);
        self.net.act(self.servers[i], |node, now| node.server_mut().core.configure(now, settings));
    }

    /// The first server has other limits.
    pub(crate) fn limit(&mut self, change: impl Fn(&mut rendezvous::Limits)) {
        let mut settings = rendezvous::Settings::new(vec![rendezvous::Network::new(self.network.access())]);
        change(&mut settings.limits);
        self.net.act(self.servers[0], |node, now| node.server_mut().core.configure(now, settings));
    }

    /// The first server relays, or does not.
    pub(crate) fn relays(&mut self, relay: bool) {
        let mut settings = rendezvous::Settings::new(vec![rendezvous::Network::new(self.network.access())]);
        settings.relay = relay;
        self.net.act(self.servers[0], |node, now| node.server_mut().core.configure(now, settings));
    }

    pub(crate) fn settings(&self, name: &str) -> Settings {
        let addrs = self.servers.iter().map(|host| self.net.main_address(*host)).collect();
        let addrs: Vec<SocketAddr> = self.server_addrs.clone().unwrap_or(addrs);
        Settings {
            name: Name::new(name).expect("a name"),
            servers: addrs.into_iter().map(|addr| mesh::Server { addr, key: None }).collect(),
            access: self.network.access(),
            member: self.network.member(),
            policy: Policy::Network,
            vnis: BTreeSet::from([Vni::new(VNI).expect("a VNI")]),
            pulse: Settings::PULSE,
            search: true,
            peers: Settings::PEERS,
        }
    }

    /// A running agent takes other settings.
    pub(crate) fn configure(&mut self, site: Site, settings: Settings) {
        self.net.act(site.host, |node, now| {
            let agent = node.agent_mut();
            agent.mesh.configure(now, settings);
            agent.settle(now);
        });
    }

    /// An agent on a segment; `nat` is what its classification would find.
    pub(crate) fn add_agent(&mut self, segment: SegmentId, name: &str, nat: NatSummary) -> Site {
        let vnis = BTreeSet::from([Vni::new(VNI).expect("a VNI")]);
        self.add_agent_in(segment, name, nat, vnis)
    }

    pub(crate) fn add_agent_in(
        &mut self,
        segment: SegmentId,
        name: &str,
        nat: NatSummary,
        vnis: BTreeSet<Vni>,
    ) -> Site {
        let secret = SecretKey::generate(&mut self.rng);
        let settings = Settings { vnis, ..self.settings(name) };
        let addr = self.net.vacant_v4(segment);
        self.add_agent_as(segment, &[addr], settings, secret, nat)
    }

    pub(crate) fn add_agent_as(
        &mut self,
        segment: SegmentId,
        addrs: &[IpAddr],
        settings: Settings,
        secret: SecretKey,
        nat: NatSummary,
    ) -> Site {
        let key = secret.public();
        self.secrets.insert(key, secret.clone());
        let node = self.agent_node(settings, secret, nat);
        let host = self.net.add_host(segment, addrs, node);
        if segment == SegmentId::INTERNET {
            self.net.set_link(host, &LinkConfig::delayed(self.delay));
        }
        Site { host, key, router: None }
    }

    fn agent_node(&mut self, settings: Settings, secret: SecretKey, nat: NatSummary) -> Host {
        let mut mesh = Mesh::new(settings, secret, self.rng.bytes());
        mesh.set_nat(Network::<Host>::START, nat);
        Host::Agent(Box::new(Agent::new(mesh)))
    }

    pub(crate) fn secret(&self, site: Site) -> SecretKey {
        self.secrets[&site.key].clone()
    }

    /// An agent ends without a word, and starts again with the same key.
    pub(crate) fn restart_agent(&mut self, site: Site, name: &str, nat: NatSummary) {
        let (settings, secret) = (self.settings(name), self.secret(site));
        let node = self.agent_node(settings, secret, nat);
        self.net.restart(site.host, node);
    }

    /// The same, and its tables are as the one before has left them.
    pub(crate) fn replace_agent(&mut self, site: Site, name: &str, nat: NatSummary) {
        let (settings, secret) = (self.settings(name), self.secret(site));
        let mut mesh = Mesh::new(settings, secret, self.rng.bytes());
        mesh.set_nat(Network::<Host>::START, nat);
        let node = Host::Agent(Box::new(Agent::after(self.agent(site), mesh)));
        self.net.restart(site.host, node);
    }

    /// A router with a NAT on the public internet, with a LAN of its own.
    pub(crate) fn add_router(&mut self, nat: NatConfig) -> RouterId {
        self.lans += 1;
        let external = self.net.vacant_v4(SegmentId::INTERNET);
        let inside = format!("10.{}.{}.0/24", self.lans / 250, self.lans % 250).parse().expect("a prefix");
        let router = self.net.add_router(SegmentId::INTERNET, RouterConfig::nat(external, inside, nat));
        self.net.set_link(router, &LinkConfig::delayed(self.delay));
        router
    }

    /// An agent behind a NAT of its own.
    pub(crate) fn behind(&mut self, name: &str, nat: NatConfig, summary: NatSummary) -> Site {
        let router = self.add_router(nat);
        let lan = self.net.lan(router);
        Site { router: Some(router), ..self.add_agent(lan, name, summary) }
    }

    pub(crate) fn agent(&self, site: Site) -> &Agent {
        self.net.node(site.host).agent()
    }

    pub(crate) fn path(&self, from: Site, to: Site) -> Option<PathKind> {
        self.agent(from).path_to(to.key)
    }

    /// Runs until both sides have a path of a kind that is wanted; how long that took.
    pub(crate) fn until_paths(
        &mut self,
        a: Site,
        b: Site,
        most: Duration,
        wanted: impl Fn(PathKind) -> bool,
    ) -> Option<Duration> {
        let start = self.net.now();
        let good = |net: &Network<Host>, x: Site, y: Site| net.node(x.host).agent().path_to(y.key).is_some_and(&wanted);
        let met = self.net.run_until_met(start + most, |net| good(net, a, b) && good(net, b, a))?;
        Some(met.since(start))
    }

    pub(crate) fn send(&mut self, from: Site, to: Site, number: u64) -> bool {
        self.net.act(from.host, |node, now| node.agent_mut().send(now, to.key, number))
    }

    pub(crate) fn set_busy(&mut self, from: Site, to: Site) {
        self.net.act(from.host, |node, now| node.agent_mut().mesh.set_busy(now, &to.key, true));
    }

    /// No frames flow any more.
    pub(crate) fn rest(&mut self, a: Site, b: Site) {
        for (from, to) in [(a, b), (b, a)] {
            self.net.act(from.host, |node, now| node.agent_mut().mesh.set_busy(now, &to.key, false));
        }
    }

    /// How often frames have taken another kind of path since this moment.
    pub(crate) fn path_changes(&self, site: Site, since: Time) -> usize {
        let path = |(at, event): &&(Time, Event)| *at >= since && matches!(event, Event::Path { .. });
        self.agent(site).events.iter().filter(path).count()
    }

    /// Sends a frame so often in both directions, until `end`; the longest time without one on either side.
    pub(crate) fn longest_gap(&mut self, a: Site, b: Site, every: Duration, end: Time) -> Duration {
        let start = self.net.now();
        let mut number = start.as_nanos();
        // By the network's clock: hosts' own may jump.
        let mut seen = [a, b].map(|site| (site, self.frames(site), start));
        let mut longest = Duration::ZERO;
        while self.net.now() < end {
            number += 1;
            if self.net.is_running(a.host) && self.net.is_running(b.host) {
                self.set_busy(a, b);
                self.set_busy(b, a);
                self.send(a, b, number);
                self.send(b, a, number);
            }
            self.net.run_for(every);
            for (site, frames, last) in &mut seen {
                let (now, count) = (self.net.now(), self.frames(*site));
                longest = longest.max(now.since(*last));
                if std::mem::replace(frames, count) != count {
                    *last = now;
                }
            }
        }
        longest
    }

    fn frames(&self, site: Site) -> usize {
        if self.net.is_running(site.host) { self.agent(site).frames.len() } else { 0 }
    }
}

/// Two hosts behind port-restricted cones of their own that have a direct path.
pub(crate) fn pair(seed: Seed, delay: Duration) -> (World, Site, Site) {
    let mut world = World::new(seed, delay);
    let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
    let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
    let direct = world.until_paths(a, b, Duration::from_secs(5), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
    (world, a, b)
}

/// Both sides have a direct path in time.
pub(crate) fn direct_within(world: &mut World, a: Site, b: Site, seconds: u64) {
    let direct = world.until_paths(a, b, Duration::from_secs(seconds), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
}
