//! An agent that finds out by itself what NAT it is behind.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use wavnet_proto::{
    mesh::Mesh,
    nat::{Classifier, Event, LifetimeSearch, NatSummary, Options, StunServer},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
};
use wavnet_sim::{Agent, Node, SocketRequest};

/// The agent has numbers below this one for its own sockets.
const FIRST_SOCKET: u16 = 1000;

/// An agent that classifies its NAT, as the agent's shell has it do: at once, with the lifetime, and the mesh is told of each report.
pub(crate) struct Classified {
    pub(crate) agent: Agent,
    servers: Vec<StunServer>,
    rng: Rng,
    classifier: Option<Classifier>,
    requests: VecDeque<SocketRequest>,
    /// What it has found out so far.
    pub(crate) reports: Vec<NatSummary>,
}

impl Classified {
    /// It asks these servers.
    pub(crate) fn new(mesh: Mesh, servers: Vec<StunServer>, rng: Rng) -> Classified {
        let (requests, reports) = (VecDeque::new(), Vec::new());
        Classified { agent: Agent::new(mesh), servers, rng, classifier: None, requests, reports }
    }

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
