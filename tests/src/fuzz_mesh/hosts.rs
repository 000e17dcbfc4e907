//! What stands in the fuzzer's stories: keys, hosts, and what is in front of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
};

use wavnet_proto::{
    nat::{Filtering, Mapping, NatSummary},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
    trust::{NetworkKey, PublicKey, SecretKey},
};
use wavnet_sim::{Agent, Attached, HostId, Node, RouterId, Server, SocketRequest, nat::NatConfig};

use super::{HOSTS, SERVERS};

/// What costs much to make, and is the same in every story.
pub(super) struct Keys {
    pub(super) network: NetworkKey,
    pub(super) hosts: Vec<SecretKey>,
    pub(super) servers: Vec<SecretKey>,
}

pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut rng = Rng::from_seed([9; 32]);
        let network = NetworkKey::generate(&mut rng);
        let mut make = |count| (0..count).map(|_| SecretKey::generate(&mut rng)).collect();
        Keys { network, hosts: make(HOSTS), servers: make(SERVERS) }
    })
}

pub(super) fn key(host: usize) -> PublicKey {
    keys().hosts[host].public()
}

/// What runs on a host.
pub(super) enum Host {
    Agent(Box<Agent>),
    Server(Box<Server>),
}

impl Host {
    pub(super) fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Agent(agent) => &mut **agent,
            Host::Server(server) => &mut **server,
        }
    }

    pub(super) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(_) => panic!("a server is no agent"),
        }
    }

    pub(super) fn server(&self) -> &Server {
        match self {
            Host::Server(server) => server,
            Host::Agent(_) => panic!("an agent is no server"),
        }
    }

    pub(super) fn agent_mut(&mut self) -> &mut Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(_) => panic!("a server is no agent"),
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

/// What is in front of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nat {
    None,
    FullCone,
    Restricted,
    PortRestricted,
    Symmetric,
    OpenInput,
}

impl Nat {
    pub(super) fn new(byte: u8) -> Nat {
        [Nat::None, Nat::FullCone, Nat::Restricted, Nat::PortRestricted, Nat::Symmetric, Nat::OpenInput]
            [usize::from(byte) % 6]
    }

    pub(super) fn config(self) -> Option<NatConfig> {
        Some(match self {
            Nat::None => return None,
            Nat::FullCone => NatConfig::full_cone(),
            Nat::Restricted => NatConfig::restricted_cone(),
            Nat::PortRestricted => NatConfig::port_restricted_cone(),
            Nat::Symmetric => NatConfig::symmetric(),
            Nat::OpenInput => NatConfig { open_input: true, ..NatConfig::port_restricted_cone() },
        })
    }

    pub(super) fn summary(self) -> NatSummary {
        let mapping = match self {
            Nat::Symmetric => Mapping::AddressAndPortDependent,
            _ => Mapping::EndpointIndependent,
        };
        let filtering = match self {
            Nat::None | Nat::FullCone => Filtering::EndpointIndependent,
            Nat::Restricted => Filtering::AddressDependent,
            Nat::PortRestricted | Nat::Symmetric | Nat::OpenInput => Filtering::AddressAndPortDependent,
        };
        NatSummary { mapping, filtering, ..NatSummary::default() }
    }

    /// True if ordinary probes are sure to meet.
    pub(super) fn meets(self, other: Nat) -> bool {
        let pair = [self, other];
        let strict = pair.iter().filter(|n| matches!(n, Nat::Symmetric | Nat::PortRestricted)).count();
        !(pair.contains(&Nat::OpenInput) || pair.contains(&Nat::Symmetric) && strict == 2)
    }

    /// True if they are sure not to.
    pub(super) fn never_meets(self, other: Nat) -> bool {
        !self.meets(other) && self != Nat::OpenInput && other != Nat::OpenInput
    }
}

/// A router in front of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) router: RouterId,
    pub(super) addr: IpAddr,
}

/// Where a host is.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub(super) host: HostId,
    pub(super) front: Option<Front>,
    pub(super) nat: Nat,
}

impl Site {
    /// What connects it to the internet.
    pub(super) fn outside(self) -> Attached {
        self.front.map_or(self.host.into(), |front| front.router.into())
    }
}
