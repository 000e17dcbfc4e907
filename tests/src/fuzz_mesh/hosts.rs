//! What stands in the fuzzer's stories: keys, hosts, and what is in front of them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::OnceLock,
};

use wavnet_proto::{
    nat::{Filtering, Mapping, NatSummary, Ports},
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

/// What a server says of where hosts are. One that lies answers them all the same, and relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// The truth.
    None,
    /// Each is where nobody is.
    Nobody,
    /// Each is where another one is: these are the addresses next to each other.
    EachOther,
}

impl Lie {
    /// Where the server says that a host is; and where one is of which it says so.
    fn swap(self, addr: SocketAddr) -> SocketAddr {
        const NOBODY: u32 = u32::from_be_bytes([198 ^ 203, 18, 113, 0]);
        let ip = match (self, addr.ip()) {
            (Lie::None, ip) => ip,
            (Lie::Nobody, IpAddr::V4(ip)) => Ipv4Addr::from_bits(ip.to_bits() ^ NOBODY).into(),
            (Lie::EachOther, IpAddr::V4(ip)) => Ipv4Addr::from_bits(ip.to_bits() ^ 1).into(),
            (Lie::Nobody, IpAddr::V6(ip)) => Ipv6Addr::from_bits(ip.to_bits() ^ 0xff << 64).into(),
            (Lie::EachOther, IpAddr::V6(ip)) => Ipv6Addr::from_bits(ip.to_bits() ^ 1).into(),
        };
        SocketAddr::new(ip, addr.port())
    }
}

/// What runs on a host.
pub(super) enum Host {
    Agent(Box<Agent>),
    Server(Box<Server>, Lie),
}

impl Host {
    pub(super) fn node(&mut self) -> &mut dyn Node {
        match self {
            Host::Agent(agent) => &mut **agent,
            Host::Server(server, _) => &mut **server,
        }
    }

    fn lie(&self) -> Lie {
        match self {
            Host::Agent(_) => Lie::None,
            Host::Server(_, lie) => *lie,
        }
    }

    pub(super) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(..) => panic!("a server is no agent"),
        }
    }

    pub(super) fn server(&self) -> &Server {
        match self {
            Host::Server(server, _) => server,
            Host::Agent(_) => panic!("an agent is no server"),
        }
    }

    pub(super) fn agent_mut(&mut self) -> &mut Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(..) => panic!("a server is no agent"),
        }
    }
}

impl Node for Host {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let from = self.lie().swap(from);
        self.node().handle_input(now, socket, local, from, payload);
    }

    fn handle_timeout(&mut self, now: Time) {
        self.node().handle_timeout(now);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.node().poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        let transmit = self.node().poll_transmit()?;
        Some(Transmit { to: self.lie().swap(transmit.to), ..transmit })
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
    /// Symmetric, and its ports count up.
    Counting,
    /// Two port-restricted cones in a row.
    Double,
}

impl Nat {
    /// Those that are counted twice came first.
    pub(super) fn new(byte: u8) -> Nat {
        const OLD: [Nat; 6] =
            [Nat::None, Nat::FullCone, Nat::Restricted, Nat::PortRestricted, Nat::Symmetric, Nat::OpenInput];
        match usize::from(byte % 16) {
            12 | 14 => Nat::Counting,
            13 | 15 => Nat::Double,
            n => OLD[n % OLD.len()],
        }
    }

    pub(super) fn config(self) -> Option<NatConfig> {
        Some(match self {
            Nat::None => return None,
            Nat::FullCone => NatConfig::full_cone(),
            Nat::Restricted => NatConfig::restricted_cone(),
            Nat::PortRestricted | Nat::Double => NatConfig::port_restricted_cone(),
            Nat::Symmetric => NatConfig::symmetric(),
            Nat::OpenInput => NatConfig { open_input: true, ..NatConfig::port_restricted_cone() },
            Nat::Counting => NatConfig::symmetric_sequential(1),
        })
    }

    pub(super) fn summary(self) -> NatSummary {
        let mapping = match self {
            Nat::Symmetric | Nat::Counting => Mapping::AddressAndPortDependent,
            _ => Mapping::EndpointIndependent,
        };
        let filtering = match self {
            Nat::None | Nat::FullCone => Filtering::EndpointIndependent,
            Nat::Restricted => Filtering::AddressDependent,
            _ => Filtering::AddressAndPortDependent,
        };
        let ports = if self == Nat::Counting { Ports::Sequential(1) } else { NatSummary::default().ports };
        NatSummary { mapping, filtering, ports, ..NatSummary::default() }
    }

    fn is_symmetric(self) -> bool {
        matches!(self, Nat::Symmetric | Nat::Counting)
    }

    fn is_strict(self) -> bool {
        self.is_symmetric() || matches!(self, Nat::PortRestricted | Nat::Double)
    }

    /// True if ordinary probes are sure to meet.
    pub(super) fn meets(self, other: Nat) -> bool {
        let pair = [self, other];
        let strict = pair.iter().all(|nat| nat.is_strict());
        !(pair.contains(&Nat::OpenInput) || strict && pair.iter().any(|nat| nat.is_symmetric()))
    }

    /// True if they are sure not to. (The next port of one that counts may be the one that the other side tries.)
    pub(super) fn never_meets(self, other: Nat) -> bool {
        !self.meets(other) && ![self, other].iter().any(|nat| matches!(nat, Nat::OpenInput | Nat::Counting))
    }

    /// True if predicted ports are sure to meet what ordinary probes do not.
    pub(super) fn is_predicted(self, other: Nat) -> bool {
        let counts = |nat: Nat| nat == Nat::Counting;
        let fits = |nat: Nat| nat.is_strict() && nat != Nat::Symmetric;
        (counts(self) || counts(other)) && fits(self) && fits(other)
    }
}

/// A router in front of a host, the outer one of two, and the inner one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) router: RouterId,
    pub(super) addr: IpAddr,
    pub(super) inner: Option<RouterId>,
}

/// Where a host is.
#[derive(Clone, Copy)]
pub(super) struct Site {
    pub(super) host: HostId,
    pub(super) front: Option<Front>,
    pub(super) nat: Nat,
    /// Its address of each family, IPv4 first, and which of them it has now.
    pub(super) addrs: [Option<IpAddr>; 2],
    pub(super) has: [bool; 2],
}

impl Site {
    /// What connects it to the internet.
    pub(super) fn outside(self) -> Attached {
        self.front.map_or(self.host.into(), |front| front.router.into())
    }

    /// Its addresses now.
    pub(super) fn current(self) -> Vec<IpAddr> {
        self.addrs.into_iter().zip(self.has).filter_map(|(addr, has)| addr.filter(|_| has)).collect()
    }

    /// Both have addresses of the family: IPv4 is 0, IPv6 is 1.
    pub(super) fn shares_family(self, other: Site, family: usize) -> bool {
        self.has[family] && other.has[family]
    }

    pub(super) fn is_neighbour(self, other: Site) -> bool {
        self.front.is_some() && self.front == other.front
    }

    /// Both are behind one outer router, and each behind an inner one of its own. It does not hairpin.
    pub(super) fn shares_carrier(self, other: Site) -> bool {
        let outer = |site: Site| site.front.map(|front| front.router);
        outer(self).is_some() && outer(self) == outer(other) && self.front != other.front
    }
}
