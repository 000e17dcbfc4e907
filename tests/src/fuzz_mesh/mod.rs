//! What the fuzz targets `mesh` and `datagrams` do with their input.
//!
//! `mesh` tells a story of some hosts behind NATs, of their servers, of links that are cut, of restarts, moves and enemies; and a naive model
//! says in the end who must be connected to whom. `datagrams` gives one mesh whatever there is, at whatever times.

mod datagrams;
mod story;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{self, Mesh, PathId, PathKind, Settings},
    nat::{Filtering, Mapping, NatSummary},
    policy::Policy,
    rendezvous::{self, Rendezvous},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
    trust::{NetworkKey, PublicKey, SecretKey},
    wire::Name,
};
use wavnet_sim::{
    Agent, Attached, Chance, Datagram, Direction, HostId, LinkConfig, Network, Node, Place, RouterConfig, RouterId,
    Seed, SegmentId, Server, SocketRequest, TapId, VNI, nat::NatConfig,
};

const HOSTS: usize = 4;
const SERVERS: usize = 2;
/// Longest story: what happens in it costs a millisecond and more for each handshake.
const STEPS: usize = 24;
/// After the last step, until everybody has found whom there is to find: longer than any pause.
const QUIET: Duration = Duration::from_secs(420);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_secs(16);
const DELAY: Duration = Duration::from_millis(10);

pub use datagrams::datagrams;
pub use story::mesh;

/// What costs much to make, and is the same in every story.
struct Keys {
    network: NetworkKey,
    hosts: Vec<SecretKey>,
    servers: Vec<SecretKey>,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut rng = Rng::from_seed([9; 32]);
        let network = NetworkKey::generate(&mut rng);
        let mut make = |count| (0..count).map(|_| SecretKey::generate(&mut rng)).collect();
        Keys { network, hosts: make(HOSTS), servers: make(SERVERS) }
    })
}

fn key(host: usize) -> PublicKey {
    keys().hosts[host].public()
}

/// What runs on a host.
enum Host {
    Agent(Box<Agent>),
    Server(Box<Server>),
}

impl Host {
    fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Agent(agent) => &mut **agent,
            Host::Server(server) => &mut **server,
        }
    }

    fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(_) => panic!("a server is no agent"),
        }
    }

    fn agent_mut(&mut self) -> &mut Agent {
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
enum Nat {
    None,
    FullCone,
    Restricted,
    PortRestricted,
    Symmetric,
    OpenInput,
}

impl Nat {
    fn new(byte: u8) -> Nat {
        [Nat::None, Nat::FullCone, Nat::Restricted, Nat::PortRestricted, Nat::Symmetric, Nat::OpenInput]
            [usize::from(byte) % 6]
    }

    fn config(self) -> Option<NatConfig> {
        Some(match self {
            Nat::None => return None,
            Nat::FullCone => NatConfig::full_cone(),
            Nat::Restricted => NatConfig::restricted_cone(),
            Nat::PortRestricted => NatConfig::port_restricted_cone(),
            Nat::Symmetric => NatConfig::symmetric(),
            Nat::OpenInput => NatConfig { open_input: true, ..NatConfig::port_restricted_cone() },
        })
    }

    fn summary(self) -> NatSummary {
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
    fn meets(self, other: Nat) -> bool {
        let pair = [self, other];
        let strict = pair.iter().filter(|n| matches!(n, Nat::Symmetric | Nat::PortRestricted)).count();
        !(pair.contains(&Nat::OpenInput) || pair.contains(&Nat::Symmetric) && strict == 2)
    }
}

#[derive(Clone, Copy)]
struct Site {
    host: HostId,
    router: Option<RouterId>,
    nat: Nat,
}

impl Site {
    /// What connects it to the internet.
    fn outside(self) -> Attached {
        self.router.map_or(self.host.into(), Attached::from)
    }
}
