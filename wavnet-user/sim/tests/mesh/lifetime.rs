//! A host finds out how long its NAT remembers, by itself, and pulses are as frequent as that wants them.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use wavnet_proto::{
    mesh::{Mesh, PathKind, Settings},
    nat::{Classifier, Event, LifetimeSearch, NatSummary, Options, StunServer},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
    trust::SecretKey,
};
use wavnet_sim::{
    Agent, Node, Seed, SocketRequest,
    nat::{NatConfig, Timeouts},
};

use crate::{
    node::Host,
    world::{Site, World, cone},
};

const DELAY: Duration = Duration::from_millis(10);
/// The agent has numbers below this one for its own sockets.
const FIRST_SOCKET: u16 = 1000;

/// An agent that classifies its NAT, as the agent's shell has it do: at once, with the lifetime, and the mesh is told of each report.
pub(crate) struct Classified {
    pub(crate) agent: Agent,
    servers: Vec<StunServer>,
    rng: Rng,
    classifier: Option<Classifier>,
    requests: VecDeque<SocketRequest>,
    reports: Vec<NatSummary>,
}

impl Classified {
    fn settle(&mut self, now: Time) {
        while let Some(event) = self.classifier.as_mut().and_then(Classifier::poll_event) {
            match event {
                Event::OpenSocket(n) => {
                    self.requests.push_back(SocketRequest::Open { socket: Socket::Extra(n), port: None });
                }
                Event::CloseSocket(n) => self.requests.push_back(SocketRequest::Close(Socket::Extra(n))),
                Event::Report(report) => {
                    self.reports.push(report.summary);
                    self.agent.mesh.set_nat(now, report.summary);
                    self.agent.settle(now);
                }
                Event::Finished => {}
            }
        }
    }
}

impl Node for Classified {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        if self.classifier.as_mut().is_some_and(|c| c.handle_input(now, socket, from, payload)) {
            return self.settle(now);
        }
        self.agent.handle_input(now, socket, local, from, payload);
    }

    fn handle_timeout(&mut self, now: Time) {
        if let Some(classifier) = &mut self.classifier {
            classifier.handle_timeout(now);
        }
        self.settle(now);
        self.agent.handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        let classifier = self.classifier.as_ref().and_then(Classifier::poll_timeout);
        [self.agent.poll_timeout(), classifier].into_iter().flatten().min()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.agent.poll_transmit().or_else(|| self.classifier.as_mut()?.poll_transmit())
    }

    fn handle_sockets(&mut self, now: Time, sockets: &[(Socket, SocketAddr)]) {
        self.agent.handle_sockets(now, sockets);
        let main = sockets.iter().find(|(socket, _)| *socket == Socket::Main);
        let Some((_, local)) = main else { return };
        let classifier = self.classifier.get_or_insert_with(|| {
            let lifetime = LifetimeSearch { shortest: Duration::from_secs(4), ..LifetimeSearch::default() };
            let options = Options { first_socket: FIRST_SOCKET, lifetime: Some(lifetime), ..Options::default() };
            let mut rng = self.rng.fork();
            Classifier::new(now, *local, &self.servers, options, Box::new(move |bytes| rng.fill(bytes)))
        });
        for (socket, _) in sockets {
            if let Socket::Extra(n) = socket
                && *n >= FIRST_SOCKET
            {
                classifier.handle_socket(now, *n, true);
            }
        }
        self.settle(now);
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        self.requests.pop_front().or_else(|| self.agent.poll_socket_request())
    }
}

/// Such a host behind a NAT.
fn classified(world: &mut World, nat: NatConfig) -> Site {
    let router = world.add_router(nat);
    let lan = world.net.lan(router);
    let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings("a"));
    let servers = settings.servers.iter().map(|s| StunServer { address: s.addr, others: Vec::new() }).collect();
    let (key, rng) = (secret.public(), world.rng.fork());
    let agent = Agent::new(Mesh::new(settings, secret, world.rng.bytes()));
    let (requests, reports) = (VecDeque::new(), Vec::new());
    let node = Classified { agent, servers, rng, classifier: None, requests, reports };
    let addr = world.net.vacant_v4(lan);
    let host = world.net.add_host(lan, &[addr], Host::Classified(Box::new(node)));
    Site { host, key, router: Some(router) }
}

/// Pulses that frames' path has had so far.
fn pulses(world: &World, from: Site, to: Site) -> u64 {
    let peer = world.agent(from).mesh.peer(&to.key).expect("a peer");
    peer.selected().expect("a path").pulses.0
}

#[test]
fn the_measured_lifetime_of_a_mapping_decides_how_often_both_sides_send_pulses() {
    Seed::each(4, |seed| {
        for timeout in [6, 9, 30] {
            let mut world = World::new(seed, DELAY);
            let timeouts = Timeouts::fixed(Duration::from_secs(timeout));
            let a = classified(&mut world, NatConfig { timeouts, ..NatConfig::port_restricted_cone() });
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            let direct = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{}", world.net.trace());
            world.net.run_for(Duration::from_secs(150));
            let Host::Classified(node) = world.net.node(a.host) else { panic!("it was one") };
            let lifetime = node.reports.last().map_or(0, |report| u64::from(report.lifetime));
            assert!((timeout * 3 / 4..timeout).contains(&lifetime), "{timeout} s: {:?}", node.reports);
            // Twice within that time, and not less often than by default.
            let period = (Duration::from_secs(lifetime) * 2 / 5).min(Settings::PULSE);
            let (since, before) = (world.net.now(), [pulses(&world, a, b), pulses(&world, b, a)]);
            world.net.run_for(Duration::from_secs(300));
            for (before, (from, to)) in before.into_iter().zip([(a, b), (b, a)]) {
                let (sent, want) = (pulses(&world, from, to) - before, 300.0 / period.as_secs_f64());
                assert!(
                    (sent as f64 / want - 1.0).abs() < 0.1,
                    "{timeout} s, {lifetime} s measured: {sent} pulses, not {want}"
                );
                assert_eq!(world.path_changes(from, since), 0, "{:?}", world.agent(from).events);
            }
        }
    });
}
