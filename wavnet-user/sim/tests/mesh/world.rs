//! Networks of agents behind NATs with rendezvous servers, put together.

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{Mesh, PathKind, Server, Settings},
    nat::{Filtering, Mapping, NatSummary},
    policy::Policy,
    rendezvous::{self, Rendezvous},
    rng::Rng,
    trust::{NetworkKey, PublicKey, SecretKey},
    wire::Name,
};
use wavnet_sim::{HostId, LinkConfig, Network, RouterConfig, RouterId, Seed, SegmentId, nat::NatConfig};

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
        net.keep_trace(200);
        let mut world = World { net, rng, network, servers: Vec::new(), server_keys: Vec::new(), delay, lans: 0 };
        world.add_server();
        world
    }

    pub(crate) fn add_server(&mut self) {
        let key = SecretKey::generate(&mut self.rng);
        let node = Host::Server(Box::new(self.server(&key)));
        let addr = self.net.vacant_v4(SegmentId::INTERNET);
        let host = self.net.add_host(SegmentId::INTERNET, &[addr], node);
        self.net.set_link(host, &LinkConfig::delayed(self.delay));
        self.servers.push(host);
        self.server_keys.push(key);
    }

    fn server(&mut self, key: &SecretKey) -> Rendezvous {
        let settings = rendezvous::Settings::new(vec![rendezvous::Network::new(self.network.access())]);
        Rendezvous::new(settings, key.clone(), Default::default(), self.rng.bytes(), self.net.now())
    }

    /// A server that was killed and has forgotten everything starts again.
    pub(crate) fn restart_server(&mut self, i: usize) {
        let key = self.server_keys[i].clone();
        let node = Host::Server(Box::new(self.server(&key)));
        self.net.restart(self.servers[i], node);
    }

    pub(crate) fn settings(&self, name: &str) -> Settings {
        let address = |host: &HostId| Server { addr: self.net.main_address(*host), key: None };
        Settings {
            name: Name::new(name).expect("a name"),
            servers: self.servers.iter().map(address).collect(),
            access: self.network.access(),
            member: self.network.member(),
            policy: Policy::Network,
            vnis: BTreeSet::from([Vni::new(VNI).expect("a VNI")]),
            pulse: Settings::PULSE,
            search: true,
            peers: Settings::PEERS,
        }
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
        let key = secret.public();
        let settings = Settings { vnis, ..self.settings(name) };
        let mut mesh = Mesh::new(settings, secret, self.rng.bytes());
        mesh.set_nat(self.net.now(), nat);
        let addr = self.net.vacant_v4(segment);
        let host = self.net.add_host(segment, &[addr], Host::Agent(Box::new(Agent::new(mesh))));
        if segment == SegmentId::INTERNET {
            self.net.set_link(host, &LinkConfig::delayed(self.delay));
        }
        Site { host, key, router: None }
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
}
