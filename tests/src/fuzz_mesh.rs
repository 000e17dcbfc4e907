//! What the fuzz target `mesh` does with its input: a story of some hosts behind NATs, of their servers, one of which may lie, of links that are cut,
//! of restarts, moves and enemies. A naive model says what must hold at every moment, and in the end who must be connected to whom.

#[path = "fuzz_mesh/hosts.rs"]
mod hosts;
#[path = "fuzz_mesh/model.rs"]
mod model;
#[path = "fuzz_mesh/right.rs"]
mod right;
#[path = "fuzz_mesh/steps.rs"]
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
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
    Agent, Attached, HostId, LinkConfig, Network, Place, RouterConfig, RouterId, Seed, SegmentId, Server, TapId, VNI,
    nat::NatConfig,
};

use self::{
    hosts::{Front, Host, Lie, Nat, Site, key, keys},
    model::Seen,
};

const HOSTS: usize = 4;
const SERVERS: usize = 2;
/// Longest story.
const STEPS: usize = 20;
/// And in datagrams: steps after so many are left out.
const SENT: u64 = 1000;
const DELAY: Duration = Duration::from_millis(10);
/// Beside [`VNI`], which frames are of.
const OTHER_VNI: u32 = 200;

/// Of each kind of world one bit or more of the bytes that say what hosts are behind.
const HAS_IPV6: u8 = 0x10;
/// Of the first host.
const FULL: u8 = 0x20;
const SAYS_NOBODY: u8 = 0x40;
const SAYS_OTHERS: u8 = 0x80;
/// Of the others.
const SHARES_CARRIER: u8 = 0x40;
const SHARES_LAN: u8 = 0x80;

struct Story {
    net: Network<Host>,
    sites: Vec<Site>,
    servers: Vec<HostId>,
    /// What the one of two servers says that lies.
    lie: Lie,
    /// Servers relay for one pair.
    is_full: bool,
    /// Servers have IPv6, and some hosts.
    has_ipv6: bool,
    tap: TapId,
    routers: u32,
    starts: u8,
    /// Whether paths through symmetric NATs are searched for.
    search: bool,
    /// So are ports that count, and no others.
    predicts: bool,
    /// A host that has the key of another one.
    twin: Option<(usize, usize)>,
    /// Which VNIs each host has, and which of them alone it lets somebody into.
    vnis: [u8; HOSTS],
    limits: BTreeMap<(usize, usize), u8>,
    /// Who does not let in whom.
    revoked: BTreeSet<(usize, usize)>,
    /// Which attachments do not reach each other.
    cut: BTreeSet<(Attached, Attached)>,
    sent: u32,
    seen: Seen,
}

/// Tells a story; see the module. The first byte: how many hosts and servers, and how it begins and ends; then what each host is behind; then
/// steps. Returns how many datagrams were sent, which is what it costs.
pub fn mesh(data: &[u8]) -> u64 {
    let mut input = data.iter().copied();
    let Some(first) = input.next() else { return 0 };
    let is = |bits: u8| first & bits == bits;
    // Most have few: each pair of hosts takes as long as all else.
    let hosts = match first & 3 {
        1 => 3,
        2 if is(0x40) => HOSTS,
        _ => 2,
    };
    // And the most have no long end, unless they have a beginning.
    let stays = is(8) && (hosts < HOSTS || is(0x20));
    let hosts: Vec<u8> = (0..hosts).map(|_| input.next().unwrap_or_default()).collect();
    let mut story = Story::new(&hosts, is(0xd0), is(0x80));
    (0..1 + usize::from(is(4))).for_each(|i| story.add_server(i));
    hosts.into_iter().for_each(|byte| story.add_host(byte));
    if is(0x20) {
        story.settle();
    }
    for _ in 0..STEPS {
        if story.is_long() || story.step(&mut input).is_none() {
            break;
        }
        story.look();
    }
    story.end(stays);
    story.net.totals().sent
}

/// VNIs of a host, or those that one is let into.
fn vnis(which: u8) -> BTreeSet<Vni> {
    let numbers: &[u32] = [&[VNI][..], &[OTHER_VNI], &[VNI, OTHER_VNI], &[]][usize::from(which % 4)];
    numbers.iter().map(|n| Vni::new(*n).expect("a VNI")).collect()
}

impl Story {
    /// `search`: whether paths through symmetric NATs are searched for, which takes as long as a hundred stories; and `predict`: if predicting ports is
    /// enough.
    fn new(hosts: &[u8], search: bool, predict: bool) -> Story {
        let mut net = Network::new(Seed(1));
        let tap = net.tap(Place::Segment(SegmentId::INTERNET), 64);
        let has = |wanted: &[Nat]| hosts.iter().any(|byte| wanted.contains(&Nat::new(*byte)));
        let predicts = !search && predict && has(&[Nat::Counting]) && !has(&[Nat::Symmetric, Nat::OpenInput]);
        let world = hosts.first().copied().unwrap_or_default();
        let lie = match world & (SAYS_NOBODY | SAYS_OTHERS) {
            0 => Lie::None,
            SAYS_NOBODY => Lie::Nobody,
            _ => Lie::EachOther,
        };
        Story {
            net,
            sites: Vec::new(),
            servers: Vec::new(),
            lie,
            is_full: world & FULL != 0,
            has_ipv6: hosts.iter().any(|byte| byte & HAS_IPV6 != 0),
            tap,
            routers: 0,
            starts: 0,
            search: search || predicts,
            predicts,
            twin: None,
            vnis: [0; HOSTS],
            limits: BTreeMap::new(),
            revoked: BTreeSet::new(),
            cut: BTreeSet::new(),
            sent: 0,
            seen: Seen::default(),
        }
    }

    fn is_long(&self) -> bool {
        self.net.totals().sent > SENT
    }

    /// What a server says. If there are two the first one lies, or the second.
    fn lie(&self, server: usize) -> Lie {
        let liar = match self.lie {
            Lie::None => None,
            Lie::Nobody => Some(0),
            Lie::EachOther => Some(1),
        };
        if liar == Some(server) && self.servers.len() == SERVERS { self.lie } else { Lie::None }
    }

    fn server(&mut self, i: usize) -> Host {
        self.starts = self.starts.wrapping_add(1);
        let mut settings = rendezvous::Settings::new(vec![rendezvous::Network::new(keys().network.access())]);
        if self.is_full {
            settings.limits.relays = 1;
        }
        let secret = keys().servers[i].clone();
        let core = Rendezvous::new(settings, secret, Default::default(), [self.starts; 32], self.net.now());
        Host::Server(Box::new(Server::new(core)), self.lie(i))
    }

    fn add_server(&mut self, i: usize) {
        let node = self.server(i);
        let v4 = self.net.vacant_v4(SegmentId::INTERNET);
        let v6 = self.has_ipv6.then(|| self.net.vacant_v6(SegmentId::INTERNET));
        let addrs: Vec<IpAddr> = [Some(v4), v6].into_iter().flatten().collect();
        let host = self.net.add_host(SegmentId::INTERNET, &addrs, node);
        self.net.set_link(host, &LinkConfig::delayed(DELAY));
        self.servers.push(host);
    }

    /// Whose key a host has.
    fn id(&self, i: usize) -> usize {
        self.twin.filter(|(twin, _)| *twin == i).map_or(i, |(_, of)| of)
    }

    fn settings(&self, i: usize, has_ipv6: bool) -> Settings {
        let listed = |j: &usize| !self.revoked.contains(&(i, *j));
        let limit = |j: usize| self.limits.get(&(i, j)).map(|which| vnis(*which));
        let others: BTreeMap<PublicKey, _> = (0..HOSTS).filter(listed).map(|j| (key(j), limit(j))).collect();
        let families: &[bool] = if has_ipv6 { &[false, true] } else { &[false] };
        let at = |v6: &bool| self.servers.iter().filter_map(|host| self.address(*host, *v6)).collect::<Vec<_>>();
        let servers = families.iter().flat_map(at).map(|addr| mesh::Server { addr, key: None }).collect();
        Settings {
            name: Name::default(),
            servers,
            access: keys().network.access(),
            member: keys().network.member(),
            policy: Policy::Listed(others),
            vnis: vnis(self.vnis[i]),
            pulse: Settings::PULSE,
            search: self.search,
            peers: HOSTS,
        }
    }

    fn agent(&mut self, i: usize, nat: Nat, has_ipv6: bool) -> Host {
        self.starts = self.starts.wrapping_add(1);
        let secret = keys().hosts[self.id(i)].clone();
        let mut mesh = Mesh::new(self.settings(i, has_ipv6), secret, [self.starts; 32]);
        mesh.set_nat(Network::<Host>::START, nat.summary());
        Host::Agent(Box::new(Agent::new(mesh)))
    }

    /// Starts a host again, with the key that it has now.
    fn start(&mut self, i: usize) {
        let site = self.sites[i];
        let node = self.agent(i, site.nat, site.addrs[1].is_some());
        self.net.restart(site.host, node);
        self.seen.starts(i, &site);
    }

    /// A router on a segment, and its address there.
    fn router(&mut self, outside: SegmentId, config: NatConfig) -> (RouterId, IpAddr) {
        self.routers += 1;
        let n = self.routers % 250;
        let addr = self.net.vacant_v4(outside);
        let inside = format!("10.0.{n}.0/24").parse().expect("a prefix");
        let mut config = RouterConfig::nat(addr, inside, config);
        if self.has_ipv6 && outside == SegmentId::INTERNET {
            config.inside.push(format!("2001:db8:{n}::/64").parse().expect("a prefix"));
        }
        (self.net.add_router(outside, config), addr)
    }

    /// A place on the internet, or behind routers of its own, of which the outer one may be there already.
    fn place(&mut self, nat: Nat, carrier: Option<Front>) -> (SegmentId, Option<Front>) {
        let Some(config) = nat.config() else { return (SegmentId::INTERNET, None) };
        let outer = carrier.map(|front| (front.router, front.addr)).unwrap_or_else(|| {
            let (router, addr) = self.router(SegmentId::INTERNET, config.clone());
            self.net.set_link(router, &LinkConfig::delayed(DELAY));
            (router, addr)
        });
        let (router, addr) = outer;
        let inner = (nat == Nat::Double).then(|| self.router(self.net.lan(router), config).0);
        (self.net.lan(inner.unwrap_or(router)), Some(Front { router, addr, inner }))
    }

    /// Addresses for a host on a segment.
    fn addresses(&mut self, segment: SegmentId, nat: Nat, has_ipv6: bool) -> [Option<IpAddr>; 2] {
        let v4 = self.net.vacant_v4(segment);
        [Some(v4), (has_ipv6 && nat != Nat::Double).then(|| self.net.vacant_v6(segment))]
    }

    fn add_host(&mut self, byte: u8) {
        let (i, nat, is_first) = (self.sites.len(), Nat::new(byte), self.sites.is_empty());
        let neighbour = self.sites.last().copied().filter(|site| !is_first && site.front.is_some());
        let carrier = neighbour.filter(|site| byte & SHARES_CARRIER != 0 && site.nat == nat && nat == Nat::Double);
        let (segment, front, nat) = match neighbour.filter(|_| byte & SHARES_LAN != 0) {
            Some(Site { host, front, nat, .. }) => (self.net.segment(host), front, nat),
            None => {
                let (segment, front) = self.place(nat, carrier.and_then(|site| site.front));
                (segment, front, nat)
            }
        };
        let addrs = self.addresses(segment, nat, byte & HAS_IPV6 != 0);
        let has = addrs.map(|addr| addr.is_some());
        let node = self.agent(i, nat, has[1]);
        let host = self.net.add_host(segment, &addrs.into_iter().flatten().collect::<Vec<_>>(), node);
        if front.is_none() {
            self.net.set_link(host, &LinkConfig::delayed(DELAY));
        }
        let site = Site { host, front, nat, addrs, has };
        self.sites.push(site);
        self.seen.is_at(i, &site);
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

    /// A frame from a host to whoever has that key, if the host knows a way. Its number says whose it is, and which.
    fn send(&mut self, i: usize, to: usize) -> Option<u64> {
        self.sent += 1;
        let number = (self.id(i) as u64) << 32 | u64::from(self.sent);
        let sent = self.net.act(self.sites[i].host, |node, now| {
            let agent = node.agent_mut();
            let sent = agent.send(now, key(to), number);
            agent.settle(now);
            sent
        });
        sent.then_some(number)
    }

    /// Where a server's host, or another one, listens.
    fn address(&self, host: HostId, v6: bool) -> Option<SocketAddr> {
        let port = Network::<Host>::PORT;
        let addr = self.net.addresses(host).iter().find(|addr| addr.is_ipv6() == v6)?;
        Some(SocketAddr::new(*addr, port))
    }

    fn runs(&self, host: HostId) -> bool {
        self.net.is_running(host)
    }
}
