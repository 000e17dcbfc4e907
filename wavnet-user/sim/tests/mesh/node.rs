//! What the hosts of these scenarios run.

pub(crate) use wavnet_sim::{Agent, VNI};
use wavnet_sim::{Node, OneOf, Server};

use crate::{classified::Classified, liar::Liar};

/// What a host runs.
pub(crate) enum Host {
    Agent(Box<Agent>),
    Classified(Box<Classified>),
    Server(Box<Server>),
    Liar(Box<Liar>),
}

impl Host {
    pub(crate) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Classified(node) => &node.agent,
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
            Host::Classified(node) => &mut node.agent,
            _ => panic!("a server is no agent"),
        }
    }
}

impl OneOf for Host {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Agent(agent) => &mut **agent,
            Host::Classified(node) => &mut **node,
            Host::Server(server) => &mut **server,
            Host::Liar(liar) => &mut **liar,
        }
    }
}
