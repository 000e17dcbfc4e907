//! An agent that finds out by itself what NAT it is behind.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use wavnet_proto::{
    mesh::Mesh,
    nat::{Classifier, Event, LifetimeSearch, NatSummary, Options, StunServer},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
    trust::SecretKey,
};
use wavnet_sim::{Agent, LinkConfig, Node, SegmentId, SocketRequest, nat::NatConfig};

use crate::{
    node::Host,
    world::{Site, World},
};

/// The agent has numbers below this one for its own sockets.
const FIRST_SOCKET: u16 = 1000;

/// An agent that classifies its NAT, as the agent's shell has it do: at once, with the lifetime, and the mesh is told of each report, and of what the
/// mapping depends on before that.
pub(crate) struct Classified {
    pub(crate) agent: Agent,
    servers: Vec<StunServer>,
    rng: Rng,
    classifier: Option<Classifier>,
    requests: VecDeque<SocketRequest>,
    is_early: bool,
    /// What it has found out so far.
    pub(crate) reports: Vec<NatSummary>,
}

impl Classified {
    /// It asks these servers.
    pub(crate) fn new(mesh: Mesh, servers: Vec<StunServer>, rng: Rng) -> Classified {
        let (requests, reports) = (VecDeque::new(), Vec::new());
        Classified { agent: Agent::new(mesh), servers, rng, classifier: None, requests, is_early: true, reports }
    }

    /// Filters are recognised by silence, which takes some seconds.
    fn tell_early(&mut self, now: Time) {
        let Some(summary) = self.classifier.as_ref().map(|c| c.report().summary).filter(|_| self.is_early) else {
            return;
        };
        if summary.mapping.is_dependent() {
            self.is_early = false;
            self.agent.mesh.set_nat(now, summary);
            self.agent.settle(now);
        }
    }

    fn settle(&mut self, now: Time) {
        while let Some(event) = self.classifier.as_mut().and_then(Classifier::poll_event) {
            match event {
                Event::OpenSocket(n) => {
                    self.requests.push_back(SocketRequest::Open { socket: Socket::Extra(n), port: None });
                }
                Event::CloseSocket(n) => self.requests.push_back(SocketRequest::Close(Socket::Extra(n))),
                Event::Report(report) => {
                    self.is_early = false;
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
            self.tell_early(now);
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

/// Such a host behind a NAT of its own, or behind none.
pub(crate) fn classified(world: &mut World, name: &str, nat: Option<NatConfig>) -> Site {
    let router = nat.map(|nat| world.add_router(nat));
    let segment = router.map_or(SegmentId::INTERNET, |router| world.net.lan(router));
    let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings(name));
    let servers = settings.servers.iter().map(|s| StunServer { address: s.addr, others: Vec::new() }).collect();
    let (key, rng) = (secret.public(), world.rng.fork());
    let node = Classified::new(Mesh::new(settings, secret, world.rng.bytes()), servers, rng);
    let addr = world.net.vacant_v4(segment);
    let host = world.net.add_host(segment, &[addr], Host::Classified(Box::new(node)));
    if router.is_none() {
        world.net.set_link(host, &LinkConfig::delayed(world.delay));
    }
    Site { host, key, router }
}

/// What such a host has found out last.
pub(crate) fn last_report(world: &World, site: Site) -> Option<NatSummary> {
    let Host::Classified(node) = world.net.node(site.host) else { panic!("it classifies nothing") };
    node.reports.last().copied()
}
