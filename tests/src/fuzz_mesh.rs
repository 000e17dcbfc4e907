//! What the fuzz target `mesh` does with its input: a story of some hosts behind NATs, of their servers, of links that are cut, of restarts, moves
//! and enemies. A naive model says in the end who must be connected to whom.

#[path = "fuzz_mesh/hosts.rs"]
mod hosts;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{self, Mesh, PathKind, Settings},
    policy::Policy,
    rendezvous::{self, Rendezvous},
    trust::PublicKey,
    wire::Name,
};
use wavnet_sim::{
    Agent, Attached, Chance, Datagram, Direction, HostId, LinkConfig, Network, Place, RouterConfig, RouterId, Seed,
    SegmentId, Server, TapId, VNI,
};

use self::hosts::{Host, Nat, Site, key, keys};

const HOSTS: usize = 4;
const SERVERS: usize = 2;
/// Longest story: what happens in it costs a millisecond and more for each handshake.
const STEPS: usize = 24;
/// After the last step, until everybody has found whom there is to find: longer than any pause.
const QUIET: Duration = Duration::from_secs(420);
/// Between two looks whether they have.
const LOOK: Duration = Duration::from_secs(16);
const DELAY: Duration = Duration::from_millis(10);

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

    /// No frames flow any more.
    fn rest(&mut self, i: usize, j: usize) {
        let host = self.sites[i].host;
        if self.runs(host) {
            self.net.act(host, |node, now| node.agent_mut().mesh.set_busy(now, &key(j), false));
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
        for (i, site) in self.sites.clone().into_iter().enumerate() {
            self.net.link_mut(site.outside(), Direction::Up).loss = Chance::NEVER;
            (0..self.sites.len()).for_each(|j| self.rest(i, j));
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
        assert!(sent < 2000, "{sent} datagrams in {LOOK:?} of nothing");
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
