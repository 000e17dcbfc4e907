//! What the fuzz target `mesh` does with its input: a story of some hosts behind NATs, of their servers, of links that are cut, of restarts, moves
//! and enemies. A naive model says what must hold at every moment, and in the end who must be connected to whom.

#[path = "fuzz_mesh/hosts.rs"]
mod hosts;
#[path = "fuzz_mesh/model.rs"]
mod model;
#[path = "fuzz_mesh/steps.rs"]
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{self, Mesh, Settings},
    policy::Policy,
    rendezvous::{self, Rendezvous},
    trust::PublicKey,
    wire::Name,
};
use wavnet_sim::{
    Agent, Attached, HostId, LinkConfig, Network, Place, RouterConfig, Seed, SegmentId, Server, TapId, VNI,
};

use self::{
    hosts::{Front, Host, Nat, Site, key, keys},
    model::Seen,
};

const HOSTS: usize = 4;
const SERVERS: usize = 2;
/// Longest story.
const STEPS: usize = 20;
/// And in datagrams: steps after so many are left out.
const SENT: u64 = 1000;
const DELAY: Duration = Duration::from_millis(10);

struct Story {
    net: Network<Host>,
    sites: Vec<Site>,
    servers: Vec<HostId>,
    tap: TapId,
    routers: u32,
    starts: u8,
    /// Whether paths through symmetric NATs are searched for.
    search: bool,
    /// Who does not let in whom.
    revoked: BTreeSet<(usize, usize)>,
    /// Which attachments do not reach each other.
    cut: BTreeSet<(Attached, Attached)>,
    sent: u32,
    seen: Seen,
}

/// Tells a story; see the module. The first byte: how many hosts and servers, and how it begins and ends; then what each host is behind; then
/// steps.
pub fn mesh(data: &[u8]) {
    let mut input = data.iter().copied();
    let Some(first) = input.next() else { return };
    let is = |bits: u8| first & bits == bits;
    // A search takes as long as a hundred stories without one.
    let mut story = Story::new(is(0xd0));
    (0..1 + usize::from(is(4))).for_each(|i| story.add_server(i));
    // Most have few: each pair of hosts takes as long as all else.
    let hosts = match first & 3 {
        1 => 3,
        2 if is(0x40) => HOSTS,
        _ => 2,
    };
    for _ in 0..hosts {
        let byte = input.next().unwrap_or_default();
        story.add_host(Nat::new(byte), byte & 0x80 != 0);
    }
    if is(0x20) {
        story.settle();
    }
    for _ in 0..STEPS {
        if story.is_long() || story.step(&mut input).is_none() {
            break;
        }
        story.look();
    }
    story.end(is(8));
}

impl Story {
    fn new(search: bool) -> Story {
        let mut net = Network::new(Seed(1));
        let tap = net.tap(Place::Segment(SegmentId::INTERNET), 64);
        Story {
            net,
            sites: Vec::new(),
            servers: Vec::new(),
            tap,
            routers: 0,
            starts: 0,
            search,
            revoked: BTreeSet::new(),
            cut: BTreeSet::new(),
            sent: 0,
            seen: Seen::default(),
        }
    }

    fn is_long(&self) -> bool {
        self.net.totals().sent > SENT
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
            search: self.search,
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
    fn place(&mut self, nat: Nat) -> (SegmentId, Option<Front>) {
        let Some(config) = nat.config() else { return (SegmentId::INTERNET, None) };
        self.routers += 1;
        let addr = self.net.vacant_v4(SegmentId::INTERNET);
        let inside = format!("10.0.{}.0/24", self.routers % 250).parse().expect("a prefix");
        let router = self.net.add_router(SegmentId::INTERNET, RouterConfig::nat(addr, inside, config));
        self.net.set_link(router, &LinkConfig::delayed(DELAY));
        (self.net.lan(router), Some(Front { router, addr }))
    }

    fn add_host(&mut self, nat: Nat, shares: bool) {
        let (i, neighbour) = (self.sites.len(), self.sites.last().filter(|s| shares && s.front.is_some()).copied());
        let (segment, front, nat) = match neighbour {
            Some(Site { host, front, nat }) => (self.net.segment(host), front, nat),
            None => {
                let (segment, front) = self.place(nat);
                (segment, front, nat)
            }
        };
        let node = self.agent(i, nat);
        let addr = self.net.vacant_v4(segment);
        let host = self.net.add_host(segment, &[addr], node);
        if front.is_none() {
            self.net.set_link(host, &LinkConfig::delayed(DELAY));
        }
        let site = Site { host, front, nat };
        self.sites.push(site);
        self.seen.is_at(i, &site, addr);
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

    /// A frame from one host to another, if the first one knows a way. Its number says whose it is, and which.
    fn send(&mut self, i: usize, j: usize) -> Option<u64> {
        self.sent += 1;
        let number = (i as u64) << 32 | u64::from(self.sent);
        let sent = self.net.act(self.sites[i].host, |node, now| {
            let agent = node.agent_mut();
            let sent = agent.send(now, key(j), number);
            agent.settle(now);
            sent
        });
        sent.then_some(number)
    }

    fn runs(&self, host: HostId) -> bool {
        self.net.is_running(host)
    }
}
