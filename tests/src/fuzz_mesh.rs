//! What the fuzz targets `mesh` and `datagrams` do with their input.
//!
//! `mesh` tells a story of some hosts behind NATs, of their servers, of links that are cut, of restarts, moves and enemies; and a naive model
//! says in the end who must be connected to whom. `datagrams` gives one mesh whatever there is, at whatever times.

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
        !pair.contains(&Nat::OpenInput) && !(pair.contains(&Nat::Symmetric) && strict == 2)
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

struct Story {
    net: Network<Host>,
    sites: Vec<Site>,
    servers: Vec<HostId>,
    tap: TapId,
    routers: u32,
    starts: u8,
    /// Who does not let in whom.
    revoked: BTreeSet<(usize, usize)>,
    /// Which attachments do not reach each other.
    cut: BTreeSet<(Attached, Attached)>,
    sent: u32,
    /// Frames that were looked at, by host.
    seen: Vec<usize>,
}

/// Tells a story; see the module. The first byte: how many hosts and servers; then what each host is behind; then steps.
pub fn mesh(data: &[u8]) {
    let mut input = data.iter().copied();
    let Some(first) = input.next() else { return };
    let mut story = Story::new();
    (0..1 + usize::from(first >> 2 & 1)).for_each(|i| story.add_server(i));
    for _ in 0..2 + usize::from(first & 3).min(HOSTS - 2) {
        let byte = input.next().unwrap_or_default();
        story.add_host(Nat::new(byte), byte & 0x80 != 0);
    }
    for _ in 0..STEPS {
        if story.step(&mut input).is_none() {
            break;
        }
        story.look();
    }
    story.end();
}

impl Story {
    fn new() -> Story {
        let mut net = Network::new(Seed(1));
        let tap = net.tap(Place::Segment(SegmentId::INTERNET), 64);
        Story {
            net,
            sites: Vec::new(),
            servers: Vec::new(),
            tap,
            routers: 0,
            starts: 0,
            revoked: BTreeSet::new(),
            cut: BTreeSet::new(),
            sent: 0,
            seen: Vec::new(),
        }
    }

    fn server(&mut self, i: usize) -> Host {
        self.starts = self.starts.wrapping_add(1);
        let settings = rendezvous::Settings::new(vec![rendezvous::Network::new(keys().network.access())]);
        let secret = keys().servers[i].clone();
        let core = Rendezvous::new(settings, secret, Default::default(), [self.starts; 32], self.net.now());
        Host::Server(Box::new(Server::new(core)))
    }

    fn add_server(&mut self, i: usize) {
        let node = self.server(i);
        let addr = self.net.vacant_v4(SegmentId::INTERNET);
        let host = self.net.add_host(SegmentId::INTERNET, &[addr], node);
        self.net.set_link(host, &LinkConfig::delayed(DELAY));
        self.servers.push(host);
    }

    fn settings(&self, i: usize) -> Settings {
        let mut others: BTreeMap<PublicKey, _> = (0..HOSTS).map(|j| (key(j), None)).collect();
        for (_, j) in self.revoked.iter().filter(|(by, _)| *by == i) {
            others.remove(&key(*j));
        }
        let server = |host: &HostId| mesh::Server { addr: self.net.main_address(*host), key: None };
        Settings {
            name: Name::default(),
            servers: self.servers.iter().map(server).collect(),
            access: keys().network.access(),
            member: keys().network.member(),
            policy: Policy::Listed(others),
            vnis: BTreeSet::from([Vni::new(VNI).expect("a VNI")]),
            pulse: Settings::PULSE,
            search: false,
            peers: HOSTS,
        }
    }

    fn agent(&mut self, i: usize, nat: Nat) -> Host {
        self.starts = self.starts.wrapping_add(1);
        let mut mesh = Mesh::new(self.settings(i), keys().hosts[i].clone(), [self.starts; 32]);
        mesh.set_nat(Network::<Host>::START, nat.summary());
        Host::Agent(Box::new(Agent::new(mesh)))
    }

    /// A place on the internet, or behind a router of its own.
    fn place(&mut self, nat: Nat) -> (SegmentId, Option<RouterId>) {
        let Some(config) = nat.config() else { return (SegmentId::INTERNET, None) };
        self.routers += 1;
        let external = self.net.vacant_v4(SegmentId::INTERNET);
        let inside = format!("10.0.{}.0/24", self.routers % 250).parse().expect("a prefix");
        let router = self.net.add_router(SegmentId::INTERNET, RouterConfig::nat(external, inside, config));
        self.net.set_link(router, &LinkConfig::delayed(DELAY));
        (self.net.lan(router), Some(router))
    }

    fn add_host(&mut self, nat: Nat, shares: bool) {
        let (i, neighbour) = (self.sites.len(), self.sites.last().filter(|s| shares && s.router.is_some()).copied());
        let (segment, router, nat) = match neighbour {
            Some(Site { host, router, nat }) => (self.net.segment(host), router, nat),
            None => {
                let (segment, router) = self.place(nat);
                (segment, router, nat)
            }
        };
        let node = self.agent(i, nat);
        let addr = self.net.vacant_v4(segment);
        let host = self.net.add_host(segment, &[addr], node);
        if router.is_none() {
            self.net.set_link(host, &LinkConfig::delayed(DELAY));
        }
        self.sites.push(Site { host, router, nat });
        self.seen.push(0);
    }

    fn step(&mut self, input: &mut impl Iterator<Item = u8>) -> Option<()> {
        let (what, whom) = (input.next()?, input.next()?);
        let count = self.sites.len();
        let (i, j) = (usize::from(whom) % count, usize::from(whom >> 4) % count);
        let s = usize::from(whom >> 4) % self.servers.len();
        let site = self.sites[i];
        match what % 14 {
            0 | 1 => self.net.run_for(Duration::from_millis(1 << (whom % 18))),
            2 => self.toggle_cut(site.outside(), self.sites[j].outside()),
            3 => self.toggle_cut(site.outside(), self.servers[s].into()),
            4 => site.router.into_iter().for_each(|router| self.net.reboot(router)),
            5 if self.routers < 12 => self.roam(i, Nat::new(whom >> 4)),
            6 if self.net.is_running(site.host) => drop(self.net.kill(site.host)),
            6 => {
                let node = self.agent(i, site.nat);
                self.net.restart(site.host, node);
                self.seen[i] = 0;
            }
            7 if self.net.is_running(self.servers[s]) => drop(self.net.kill(self.servers[s])),
            7 => {
                let node = self.server(s);
                self.net.restart(self.servers[s], node);
            }
            8 if i != j => self.revoke(i, j),
            9 => self.repeat(whom, input.next()?, input.next()?),
            10 => self.traffic(i, j, what & 0x80 != 0),
            11 if self.net.is_running(site.host) => {
                // Until a clock that stepped back is where it was, nothing may wake its host.
                let by = Duration::from_millis(1 << (whom >> 4).min(12));
                if what & 0x80 != 0 {
                    self.net.clock_forward(site.host, by)
                } else {
                    self.net.clock_back(site.host, by)
                }
            }
            12 => {
                let link = self.net.link_mut(site.outside(), Direction::Up);
                link.loss = Chance::percent(u32::from(whom >> 4) * 3);
            }
            13 if self.net.is_running(site.host) => {
                let bytes: Vec<u8> = input.by_ref().take(usize::from(whom >> 3)).collect();
                let (to, from) = (self.net.main_address(site.host), self.net.main_address(self.servers[s]));
                self.net.inject(self.net.segment(site.host), Datagram { from, to, payload: bytes });
            }
            _ => {}
        }
        Some(())
    }

    fn toggle_cut(&mut self, a: Attached, b: Attached) {
        if a == b {
            return;
        }
        let pair = if a < b { (a, b) } else { (b, a) };
        let cut = self.cut.insert(pair) || !self.cut.remove(&pair);
        self.net.set_partition(&[a], &[b], cut);
    }

    fn is_cut(&self, a: Attached, b: Attached) -> bool {
        self.cut.contains(&if a < b { (a, b) } else { (b, a) })
    }

    fn roam(&mut self, i: usize, nat: Nat) {
        let (segment, router) = self.place(nat);
        let addr = self.net.vacant_v4(segment);
        let host = self.sites[i].host;
        // The cuts of before were of another attachment.
        let old = self.sites[i].outside();
        if old == host.into() {
            for (a, b) in std::mem::take(&mut self.cut) {
                if a == old || b == old {
                    self.net.set_partition(&[a], &[b], false);
                } else {
                    self.cut.insert((a, b));
                }
            }
        }
        self.net.move_host(host, segment, &[addr]);
        self.sites[i] = Site { host, router, nat };
        if self.net.is_running(host) {
            self.net.act(host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.set_nat(now, nat.summary());
                agent.settle(now);
            });
        }
    }

    fn revoke(&mut self, i: usize, j: usize) {
        self.look();
        if !self.revoked.remove(&(i, j)) {
            self.revoked.insert((i, j));
        }
        let (settings, host) = (self.settings(i), self.sites[i].host);
        if self.net.is_running(host) {
            self.net.act(host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.configure(now, settings);
                agent.settle(now);
            });
        }
    }

    /// Something that was on its way, again or changed, from where it came or from elsewhere. Frames are as VXLAN has them: they prove nothing.
    fn repeat(&mut self, which: u8, place: u8, bits: u8) {
        let seen = self.net.captured(self.tap).rev().nth(usize::from(which & 63)).map(|c| c.datagram.clone());
        let Some(mut datagram) = seen.filter(|d| d.payload.first().is_some_and(|first| first & 8 == 0)) else { return };
        if which & 64 != 0 {
            datagram.from = SocketAddr::new(IpAddr::from([203, 0, 113, bits]), 4789);
        }
        let len = datagram.payload.len();
        if let Some(byte) = datagram.payload.get_mut(usize::from(place) % len.max(1)).filter(|b| **b ^ bits & 8 == 0) {
            *byte ^= bits;
        }
        self.net.inject(SegmentId::INTERNET, datagram);
    }

    fn traffic(&mut self, i: usize, j: usize, busy: bool) {
        let host = self.sites[i].host;
        if i == j || !self.net.is_running(host) {
            return;
        }
        for _ in 0..8 {
            self.sent += 1;
            let number = (i as u64) << 32 | u64::from(self.sent);
            self.net.act(host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.set_busy(now, &key(j), busy);
                agent.send(now, key(j), number);
                agent.settle(now);
            });
            self.net.run_for(Duration::from_millis(30));
        }
    }

    /// Frames come from whom they seem to, and from nobody who may not be there. The agents check the rest.
    fn look(&mut self) {
        for (i, site) in self.sites.iter().enumerate().filter(|(_, site)| self.net.is_running(site.host)) {
            let agent = self.net.node(site.host).agent();
            for frame in agent.frames.iter().skip(self.seen[i]) {
                let sender = (frame.number >> 32) as usize;
                // Behind one NAT that has forgotten everything, one gets the other one's port.
                let alone = self.sites.iter().filter(|s| s.router.is_some() && s.router == self.sites[sender].router);
                let right = frame.from == key(sender) || alone.count() > 1;
                assert!(right, "a frame of host {sender} is taken for another one's");
                assert!(!self.revoked.contains(&(i, sender)), "a frame of host {sender}, which may not be there");
            }
            self.seen[i] = agent.frames.len();
            for (_, j) in self.revoked.iter().filter(|(by, _)| *by == i) {
                assert!(!agent.is_admitted(key(*j)), "host {i} has host {j}, which may not be there");
            }
        }
    }

    /// Nothing happens any more, and everybody finds whom there is to find.
    fn end(&mut self) {
        for site in self.sites.clone() {
            self.net.link_mut(site.outside(), Direction::Up).loss = Chance::NEVER;
        }
        let all = |story: &Story| {
            let pairs = (0..story.sites.len()).flat_map(|i| (0..story.sites.len()).map(move |j| (i, j)));
            pairs.filter(|(i, j)| i != j).find_map(|(i, j)| story.fault(i, j))
        };
        let end = self.net.now() + QUIET;
        self.net.run_for(Duration::from_secs(5));
        while self.net.now() < end && all(self).is_some() {
            self.net.run_for(LOOK);
            self.look();
        }
        // And it stays so.
        let sent = self.net.totals().sent;
        self.net.run_for(LOOK);
        let sent = self.net.totals().sent - sent;
        assert!(sent < 4000, "{sent} datagrams in {LOOK:?} of nothing");
        if let Some(fault) = all(self) {
            for site in self.sites.iter().filter(|site| self.runs(site.host)) {
                let agent = self.net.node(site.host).agent();
                eprintln!("{:?}", agent.mesh.servers());
                agent.mesh.peers().for_each(|peer| eprintln!("{} {} {:?}", peer.key, peer.connected, peer.paths));
                eprintln!("{:?}", agent.events);
            }
            panic!("{fault}");
        }
    }

    fn runs(&self, host: HostId) -> bool {
        self.net.is_running(host)
    }

    /// What the model says is wrong between two hosts.
    fn fault(&self, i: usize, j: usize) -> Option<String> {
        let (a, b) = (self.sites[i], self.sites[j]);
        if !self.runs(a.host) {
            return None;
        }
        let path = self.net.node(a.host).agent().path_to(key(j));
        let allowed = !self.revoked.contains(&(i, j)) && !self.revoked.contains(&(j, i));
        let reaches = |site: Site, server: HostId| !self.is_cut(site.outside(), server.into());
        let is_common = |server: &HostId| self.runs(*server) && reaches(a, *server) && reaches(b, *server);
        let neighbours = a.router.is_some() && a.router == b.router;
        let cut = self.is_cut(a.outside(), b.outside());
        let right = if !self.runs(b.host) || !allowed {
            path.is_none()
        } else if !self.servers.iter().any(is_common) {
            // They may have met before, if anything leads there.
            !cut || path.is_none()
        } else if neighbours || !cut && a.nat.meets(b.nat) {
            matches!(path, Some(PathKind::Direct | PathKind::Lan))
        } else {
            path.is_some()
        };
        let (a, b) = (a.nat, b.nat);
        (!right).then(|| format!("host {i} ({a:?}) to host {j} ({b:?}): {path:?}; {allowed} {neighbours} {cut}"))
    }
}

/// Whatever comes, whenever: a mesh does not panic, asks for nothing absurd, says no more than it is asked to by a little, and comes to rest.
pub fn datagrams(data: &[u8]) {
    let settings = Settings {
        name: Name::default(),
        servers: vec![mesh::Server { addr: SocketAddr::from(([192, 0, 2, 1], 4789)), key: None }],
        access: keys().network.access(),
        member: keys().network.member(),
        policy: Policy::Network,
        vnis: BTreeSet::new(),
        pulse: Settings::PULSE,
        search: true,
        peers: HOSTS,
    };
    let mut mesh = Mesh::new(settings, keys().hosts[0].clone(), [1; 32]);
    let (mut now, mut sent, mut asked) = (Time::from_nanos(1 << 40), Vec::new(), 0);
    mesh.set_addresses(now, vec![SocketAddr::from(([10, 0, 0, 2], 4789))]);
    let mut input = data.iter().copied();
    while let (Some(what), Some(with)) = (input.next(), input.next()) {
        let from = SocketAddr::from(([192, 0, 2, 1 + (what >> 6)], 4789));
        match what % 8 {
            0 => now += Duration::from_millis(1 << (with % 24)),
            1 => now = now - Duration::from_millis(1 << (with % 24)),
            2 => now = mesh.poll_timeout().unwrap_or(now),
            3 => mesh.set_addresses(now, vec![SocketAddr::from(([10, 0, 0, with], 4789))]),
            4 => mesh.set_nat(now, NatSummary { lifetime: with.into(), ..NatSummary::default() }),
            5 => mesh.pulse_answered(now, &key(1), PathId(with.into()), with.into(), now),
            // Something that it has said itself, changed.
            6 => {
                let mut payload: Vec<u8> = sent.last().cloned().unwrap_or_default();
                for _ in 0..with >> 4 {
                    let (place, bits) =
                        (usize::from(input.next().unwrap_or_default()), input.next().unwrap_or_default());
                    payload.get_mut(place).into_iter().for_each(|byte| *byte ^= bits);
                }
                mesh.handle_input(now, Socket::Main, from, &payload);
                asked += 1;
            }
            _ => {
                let payload: Vec<u8> = input.by_ref().take(with.into()).collect();
                let socket = if what & 32 != 0 { Socket::Extra(with.into()) } else { Socket::Main };
                mesh.handle_input(now, socket, from, &payload);
                asked += 1;
            }
        }
        if what & 16 != 0 {
            mesh.handle_timeout(now);
            asked += 1;
        }
        while let Some(transmit) = mesh.poll_transmit() {
            sent.push(transmit.payload);
        }
        while let Some(command) = mesh.poll_command() {
            panic!("nobody has proved anything: {command:?}");
        }
        while mesh.poll_event().is_some() {}
    }
    assert!(sent.len() <= asked * 3 + 4, "{} datagrams for {asked}", sent.len());
    assert_eq!(mesh.peers().count(), 0);
}
