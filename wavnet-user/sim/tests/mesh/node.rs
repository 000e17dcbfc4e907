//! What the hosts of these scenarios run.

use std::net::SocketAddr;

use wavnet_proto::{
    time::Time,
    transmit::{Socket, Transmit},
};
pub(crate) use wavnet_sim::{Agent, VNI};
use wavnet_sim::{Node, Server, SocketRequest};

use crate::liar::Liar;

/// What a host runs.
pub(crate) enum Host {
    Agent(Box<Agent>),
    Server(Box<Server>),
    Liar(Box<Liar>),
}

impl Host {
    pub(crate) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            _ => panic!("a server is no agent"),
        }
    }

    pub(crate) fn liar_mut(&mut self) -> &mut Liar {
        match self {
            Host::Liar(liar) => liar,
            _ => panic!("it does not lie"),
        }
    }

    pub(crate) fn server(&self) -> &Server {
        match self {
            Host::Server(server) => server,
            _ => panic!("it is no server"),
        }
    }

    pub(crate) fn server_mut(&mut self) -> &mut Server {
        match self {
            Host::Server(server) => server,
            _ => panic!("it is no server"),
        }
    }

    pub(crate) fn agent_mut(&mut self) -> &mut Agent {
        match self {
            Host::Agent(agent) => agent,
            _ => panic!("a server is no agent"),
        }
    }
}

impl Host {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Agent(agent) => &mut **agent,
            Host::Server(server) => &mut **server,
            Host::Liar(liar) => &mut **liar,
        }
    }
}

impl Node for Host {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        self.node().handle_input(now, socket, local, from, payload);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.node().handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.node().poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.node().poll_transmit()
    }

    fn handle_sockets(&mut self, now: Time, sockets: &[(Socket, SocketAddr)]) {
        self.node().handle_sockets(now, sockets);
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        self.node().poll_socket_request()
    }
}
