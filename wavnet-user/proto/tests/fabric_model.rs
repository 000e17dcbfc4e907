//! Random histories of the fabric against a naive model of the maps.
//!
//! After every single command the model must be safe for a datapath that forwards meanwhile; whenever the fabric has nothing
//! more to say, the model must be exactly what is desired and there; and a fabric that starts on what another left must not
//! destroy anything.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod model;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use model::Model;
use proptest::prelude::*;
use wavnet_common::{
    abi::{NextHop, PortFlags},
    addr::{Mac, Vni},
    fdb::Place,
};
use wavnet_proto::{
    command::{Command, HookWish},
    fabric::{
        Desired, Fabric, FabricError, Limits, LinkInfo, NamePattern, PeerSettings, PeerState, PortRule, PortState,
        RouteInfo, StaticPlace, UnderlayDevice, Via, VlanMode, VniSettings,
    },
};

const LIMITS: Limits = Limits { ports: 5, vnis: 3, vteps: 4, members: 9, flood_vteps: 3, flood_ports: 3 };
const NAMES: [&str; 8] = ["tap0", "tap1", "tap2", "tap3", "vnet0", "vnet1", "eth0", "eth1"];

fn vni(n: u8) -> Vni {
    Vni::new(10 + u32::from(n % 4)).unwrap()
}

fn peer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + n % 6)
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n % 8])
}

fn place(n: u8) -> StaticPlace {
    if n & 1 == 0 { StaticPlace::Port(NAMES[usize::from(n / 2) % 6].into()) } else { StaticPlace::Peer(peer(n / 2)) }
}

/// One input. Small numbers, so that histories meet themselves.
#[derive(Clone, Debug)]
enum Step {
    Desire(Desired),
    AddPort(u8, u8, bool),
    RemovePort(u8),
    AddPeer(u8, Option<u16>, BTreeSet<Vni>),
    RemovePeer(u8, Option<BTreeSet<Vni>>),
    AddStatic(u8, u8, u8),
    RemoveStatic(u8, u8),
    Link {
        ifindex: u8,
        name: u8,
        mtu: u16,
        xdp: Option<bool>,
        no_arp: bool,
    },
    Gone(u8),
    /// Deleted and created anew with the same index, before anyone looks.
    Recreated(u8),
    Addresses(u8, Vec<u8>),
    Route(u8, Option<(u8, Option<u8>, u16)>),
    Neighbour(u8, u8, Option<u8>),
    RoutesChanged,
    Recheck,
    Retry,
    /// Carry out this many commands.
    Poll(u8),
    /// Carry out all, failing attachments to this interface.
    PollFailing(u8),
    /// The kernel learns a MAC wherever it may.
    Learn(u8, u8),
    /// The agent is killed and started again.
    Restart,
}

fn vnis() -> impl Strategy<Value = BTreeSet<Vni>> {
    prop::collection::btree_set(any::<u8>().prop_map(vni), 1..4)
}

fn desired() -> impl Strategy<Value = Desired> {
    let rules = prop::sample::subsequence(vec!["tap0", "tap1", "vnet*", "tap?", "*1", "*"], 0..4);
    let rules = (rules, prop::collection::vec((any::<u8>(), any::<bool>()), 6)).prop_map(|(names, how)| {
        let rule = |(name, (v, discard)): (&str, (u8, bool))| PortRule {
            name: NamePattern::new(name).unwrap(),
            vni: vni(v),
            vlan: if discard { VlanMode::Discard } else { VlanMode::Pass },
        };
        names.into_iter().zip(how).map(rule).collect::<Vec<_>>()
    });
    let peers = prop::collection::btree_map(
        any::<u8>().prop_map(peer),
        (prop::option::of(prop::sample::select(vec![4789u16, 8472])), vnis())
            .prop_map(|(udp_port, vnis)| PeerSettings { udp_port, vnis }),
        0..4,
    );
    let statics =
        prop::collection::btree_map((any::<u8>().prop_map(vni), any::<u8>().prop_map(mac)), any::<u8>(), 0..3);
    let vnis = prop::collection::btree_set(any::<u8>().prop_map(vni), 1..4);
    let underlay = (prop::sample::subsequence(vec!["eth0", "eth1"], 0..3), any::<bool>(), any::<bool>());
    (rules, peers, statics, vnis, underlay).prop_map(|(ports, peers, statics, vnis, (devices, tc, addressed))| {
        let mut d = Desired::default();
        let hook = if tc { HookWish::Tc } else { HookWish::Auto };
        d.underlay.devices = devices.into_iter().map(|name| UnderlayDevice { name: name.into(), hook }).collect();
        d.underlay.address = addressed.then_some(Ipv4Addr::new(192, 0, 2, 77));
        d.vnis = vnis.into_iter().map(|v| (v, VniSettings::default())).collect();
        // Mostly sound configurations: what names a VNI that is not there would only be refused.
        d.ports = ports.into_iter().filter(|r| d.vnis.contains_key(&r.vni)).collect();
        d.peers = peers;
        d.peers.values_mut().for_each(|p| p.vnis.retain(|v| d.vnis.contains_key(v)));
        d.peers.retain(|_, p| !p.vnis.is_empty());
        let sound = |v: &Vni, p: &StaticPlace| match p {
            StaticPlace::Port(_) => d.vnis.contains_key(v),
            StaticPlace::Peer(a) => d.peers.get(a).is_some_and(|p| p.vnis.contains(v)),
        };
        let statics = statics.into_iter().map(|(k, p)| (k, place(p)));
        d.statics = statics.filter(|((v, m), p)| m.is_station() && sound(v, p)).collect();
        d
    })
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let b = any::<u8>;
    prop_oneof![
        2 => desired().prop_map(Desire),
        2 => (b(), b(), any::<bool>()).prop_map(|(n, v, d)| AddPort(n, v, d)),
        1 => b().prop_map(RemovePort),
        2 => (b(), prop::option::of(Just(8472)), vnis()).prop_map(|(a, u, v)| AddPeer(a, u, v)),
        1 => (b(), prop::option::of(vnis())).prop_map(|(a, v)| RemovePeer(a, v)),
        1 => (b(), b(), b()).prop_map(|(v, m, p)| AddStatic(v, m, p)),
        1 => (b(), b()).prop_map(|(v, m)| RemoveStatic(v, m)),
        6 => (b(), b(), 600u16..9000, any::<Option<bool>>(), prop::bool::weighted(0.1))
            .prop_map(|(ifindex, name, mtu, xdp, no_arp)| Link { ifindex, name, mtu, xdp, no_arp }),
        2 => b().prop_map(Gone),
        1 => b().prop_map(Recreated),
        1 => (b(), prop::collection::vec(b(), 0..3)).prop_map(|(i, a)| Addresses(i, a)),
        3 => (b(), prop::option::of((b(), prop::option::of(b()), prop_oneof![Just(0), 576u16..9000])))
            .prop_map(|(a, r)| Route(a, r)),
        3 => (b(), b(), prop::option::of(b())).prop_map(|(i, a, m)| Neighbour(i, a, m)),
        1 => Just(RoutesChanged),
        1 => Just(Recheck),
        1 => Just(Retry),
        3 => (0u8..6).prop_map(Poll),
        5 => Just(Poll(255)),
        1 => b().prop_map(PollFailing),
        4 => (b(), b()).prop_map(|(m, p)| Learn(m, p)),
        1 => Just(Restart),
    ]
}

struct World {
    fabric: Fabric,
    model: Model,
    links: BTreeMap<u32, LinkInfo>,
    addresses: BTreeMap<u32, Vec<Ipv4Addr>>,
    failing: Option<u32>,
}

impl World {
    fn new() -> World {
        let mut fabric = Fabric::new(LIMITS, &Default::default());
        fabric.links_complete();
        World { fabric, model: Model::new(LIMITS), links: BTreeMap::new(), addresses: BTreeMap::new(), failing: None }
    }

    fn link_index(n: u8) -> u32 {
        2 + u32::from(n % 8)
    }

    fn step(&mut self, step: Step) {
        let f = &mut self.fabric;
        match step {
            Step::Desire(d) => {
                let before = f.desired().clone();
                if f.set_desired(d).is_err() {
                    assert_eq!(&before, f.desired(), "a refused configuration changes nothing");
                }
            }
            Step::AddPort(n, v, discard) => {
                let mode = if discard { VlanMode::Discard } else { VlanMode::Pass };
                let _ = f.add_port(NAMES[usize::from(n) % NAMES.len()], vni(v), mode);
            }
            Step::RemovePort(n) => drop(f.remove_port(NAMES[usize::from(n) % NAMES.len()])),
            Step::AddPeer(a, u, v) => drop(f.add_peer(peer(a), u, &v)),
            Step::RemovePeer(a, v) => drop(f.remove_peer(peer(a), v.as_ref())),
            Step::AddStatic(v, m, p) => drop(f.add_static(vni(v), mac(m), place(p))),
            Step::RemoveStatic(v, m) => drop(f.remove_static(vni(v), mac(m))),
            Step::Link { ifindex, name, mtu, xdp, no_arp } => {
                let info = LinkInfo {
                    ifindex: World::link_index(ifindex),
                    name: NAMES[usize::from(name) % NAMES.len()].into(),
                    mtu: mtu.into(),
                    mac: Some(Mac([2, 1, 0, 0, 0, ifindex])),
                    up: true,
                    loopback: false,
                    no_arp,
                    kind: None,
                    xdp_redirect: xdp,
                };
                // No two interfaces have one name at the same time.
                if self.links.values().all(|l| l.name != info.name || l.ifindex == info.ifindex) {
                    self.links.insert(info.ifindex, info.clone());
                    f.link_up(info);
                }
            }
            Step::Gone(i) => {
                let i = World::link_index(i);
                self.links.remove(&i);
                self.addresses.remove(&i);
                self.model.link_gone(i);
                f.link_gone(i);
            }
            Step::Recreated(n) => {
                let link = self.links.get(&World::link_index(n)).cloned();
                self.step(Step::Gone(n));
                if let Some(link) = link {
                    self.links.insert(link.ifindex, link.clone());
                    self.fabric.link_up(link);
                }
            }
            Step::Addresses(i, list) => {
                let i = World::link_index(i);
                let list: Vec<_> = list.into_iter().map(peer).collect();
                if self.links.contains_key(&i) {
                    self.addresses.insert(i, list.clone());
                }
                f.addresses(i, list);
            }
            Step::Route(a, r) => {
                let route = r.map(|(oif, gateway, mtu)| RouteInfo {
                    oif: World::link_index(oif),
                    via: gateway.map_or(Via::OnLink, |g| Via::Gateway(peer(g))),
                    mtu: Some(mtu.into()),
                    local: false,
                });
                f.route(peer(a), route);
            }
            Step::Neighbour(i, a, m) => f.neighbour(World::link_index(i), peer(a), m.map(mac)),
            Step::RoutesChanged => f.routes_changed(),
            Step::Recheck => f.recheck(),
            Step::Retry => f.retry(),
            Step::Poll(255) => self.settle(),
            Step::Poll(n) => (0..n).for_each(|_| drop(self.poll())),
            Step::PollFailing(i) => {
                self.failing = Some(World::link_index(i));
                self.settle();
                self.failing = None;
                self.fabric.retry();
            }
            Step::Learn(m, p) => self.model.learn(mac(m), p),
            Step::Restart => self.restart(),
        }
    }

    fn poll(&mut self) -> Option<Command> {
        let command = self.fabric.poll_command()?;
        match &command {
            Command::AttachPort { ifindex, .. } | Command::AttachUnderlay { ifindex, .. }
                if Some(*ifindex) == self.failing =>
            {
                self.fabric.command_failed(&command, "told to");
            }
            _ => self.model.apply(&command),
        }
        self.model.check_safe();
        Some(command)
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.poll().is_none() {
                if self.failing.is_none() {
                    self.check_exact();
                }
                return;
            }
        }
        panic!("the fabric never comes to rest");
    }

    /// A new process: pinned maps, the file with run-time additions, the same links.
    fn restart(&mut self) {
        // Only what was at rest is promised to stay as it is.
        self.settle();
        let mut next = Fabric::new(LIMITS, &self.model.adopt());
        assert_eq!(next.poll_command(), None, "nothing before the facts are there");
        // An agent that never got a sound configuration never touched anything.
        if self.fabric.desired().vnis.is_empty() {
            return;
        }
        next.set_desired(self.fabric.desired().clone()).unwrap();
        next.restore(self.fabric.runtime().clone()).unwrap();
        for link in self.links.values() {
            next.link_up(link.clone());
        }
        for (i, list) in &self.addresses {
            next.addresses(*i, list.clone());
        }
        next.links_complete();
        let before = self.model.clone();
        // Every port and underlay is to get the new agent's programs.
        self.model.forget_attachments();
        self.fabric = next;
        while let Some(command) = self.poll() {
            let harmless = match &command {
                Command::AttachPort { .. }
                | Command::AttachUnderlay { .. }
                | Command::QueryRoute { .. }
                | Command::ResolveNeighbour { .. } => true,
                Command::SetPort { index, port } => before.port(*index) == *port,
                Command::SetFlood { vni_index, set } => before.flood(*vni_index) == **set,
                _ => false,
            };
            assert!(harmless, "after a restart: {command:?}");
        }
        self.check_exact();
    }

    fn local(&self) -> Option<Ipv4Addr> {
        let underlay = &self.fabric.desired().underlay;
        let of = |name: &String| {
            let link = self.links.values().find(|l| l.name == *name)?;
            self.addresses.get(&link.ifindex)?.first().copied()
        };
        underlay.address.or_else(|| underlay.devices.iter().find_map(|d| of(&d.name)))
    }

    /// What is desired and there, computed without any of the fabric's code.
    fn check_exact(&self) {
        let d = self.fabric.desired();
        let run = self.fabric.runtime();
        if d.vnis.is_empty() {
            return;
        }
        let m = &self.model;
        assert_eq!(m.vnis(), d.vnis.keys().copied().collect::<BTreeSet<_>>());

        let mut members = BTreeSet::new();
        let own: BTreeSet<_> = self.addresses.values().flatten().copied().chain(self.local()).collect();
        for (addr, p) in d.peers.iter().chain(&run.peers).filter(|(a, _)| !own.contains(a)) {
            members.extend(p.vnis.iter().filter(|v| d.vnis.contains_key(v)).map(|v| (*v, *addr)));
        }
        assert_eq!(m.members(), members);
        assert_eq!(m.vteps(), members.iter().map(|(_, a)| *a).collect::<BTreeSet<_>>());

        let mut ports = BTreeMap::new();
        for link in self.links.values() {
            let rule = |exact: bool| {
                d.ports.iter().find(|r| r.name.is_exact() == exact && r.name.matches(&link.name)).map(|r| r.vni)
            };
            let vni = rule(true).or_else(|| run.ports.get(&link.name).map(|p| p.vni)).or_else(|| rule(false));
            if let Some(vni) = vni.filter(|v| d.vnis.contains_key(v))
                && d.underlay.devices.iter().all(|u| u.name != link.name)
            {
                ports.insert(link.ifindex, vni);
            }
        }
        let present = m.ports();
        for vni in present.values() {
            assert!(present.values().filter(|v| *v == vni).count() <= LIMITS.flood_ports);
        }
        assert!(present.iter().all(|(i, v)| ports.get(i) == Some(v)), "{present:?} of {ports:?}");
        for (ifindex, vni) in ports.iter().filter(|(i, _)| !present.contains_key(i)) {
            let full =
                present.len() == LIMITS.ports || present.values().filter(|v| *v == vni).count() == LIMITS.flood_ports;
            assert!(full, "{ifindex} is not a port of {vni}, though there is room");
        }
        assert_eq!(m.attached(), &present.keys().copied().collect::<BTreeSet<_>>());
        let underlays = self.links.values().filter(|l| d.underlay.devices.iter().any(|u| u.name == l.name));
        assert_eq!(m.underlays(), &underlays.map(|l| l.ifindex).collect::<BTreeSet<_>>());

        for (vni, index) in m.vni_indices() {
            let (vteps, slots) = m.flood_names(index);
            let wanted: BTreeSet<_> = members.iter().filter(|(v, _)| *v == vni).map(|(_, a)| *a).collect();
            assert_eq!(vteps, wanted);
            let wanted: BTreeSet<_> = present.iter().filter(|(_, v)| **v == vni).map(|(i, _)| *i).collect();
            assert_eq!(slots, wanted);
        }
        let mut statics = BTreeMap::new();
        for ((v, mac), place) in d.statics.iter().chain(&run.statics) {
            let at = match place {
                StaticPlace::Port(name) => {
                    let on = self.links.values().find(|l| l.name == *name).map(|l| l.ifindex);
                    on.filter(|i| present.get(i) == Some(v)).map(|i| m.port_place(i))
                }
                StaticPlace::Peer(a) => members.contains(&(*v, *a)).then(|| m.vtep_place(*a)),
            };
            if let Some(at) = at {
                statics.insert((*v, *mac), at);
            }
        }
        assert_eq!(m.statics(), statics);
        m.check_fdb_sound(&self.fabric);
        assert_eq!(m.config().local_v4, self.local().unwrap_or(Ipv4Addr::UNSPECIFIED).octets());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_safe_and_ends_exact(first in desired(), steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        world.step(Step::Desire(first));
        for step in steps {
            world.step(step);
        }
        world.fabric.retry();
        world.settle();
        prop_assert_eq!(world.fabric.poll_command(), None);
        world.restart();
    }
}

/// A fabric with one VNI, eth0 (3) as underlay with an address, and peers.
fn routed(peers: &[u8]) -> World {
    let mut world = World::new();
    let mut d = Desired::default();
    d.vnis.insert(vni(0), VniSettings::default());
    d.underlay.devices.push(UnderlayDevice { name: "eth0".into(), hook: HookWish::Auto });
    for p in peers {
        d.peers.insert(peer(*p), PeerSettings { udp_port: None, vnis: BTreeSet::from([vni(0)]) });
    }
    world.step(Step::Desire(d));
    world.step(Step::Link { ifindex: 1, name: 6, mtu: 1500, xdp: None, no_arp: false });
    world.step(Step::Addresses(1, vec![5]));
    world.settle();
    world
}

fn route(via: Via, mtu: Option<u32>) -> Option<RouteInfo> {
    Some(RouteInfo { oif: 3, via, mtu, local: false })
}

fn commands(world: &mut World) -> Vec<Command> {
    std::iter::from_fn(|| world.poll()).collect()
}

const OUR_MAC: [u8; 6] = [2, 1, 0, 0, 0, 1];

#[test]
fn next_hop_comes_from_route_neighbour_and_link() {
    let mut w = routed(&[0, 1]);
    let gateway = Ipv4Addr::new(192, 0, 2, 254);
    assert_eq!(w.model.next_hop(peer(0)), NextHop::NONE);
    w.fabric.route(peer(0), route(Via::Gateway(gateway), Some(1400)));
    w.fabric.route(peer(1), route(Via::Gateway(gateway), None));
    let unresolved =
        NextHop { ifindex: 3, max_inner: 1364, dst_mac: [0; 6], src_mac: OUR_MAC, src_v4: peer(5).octets() };
    let asked = commands(&mut w);
    let resolve = |c: &&Command| matches!(c, Command::ResolveNeighbour { ifindex: 3, addr } if *addr == gateway);
    assert_eq!(asked.iter().filter(resolve).count(), 1, "a shared next hop is asked for once: {asked:?}");
    assert_eq!(w.model.next_hop(peer(0)), unresolved);
    assert_eq!(w.model.next_hop(peer(1)), NextHop { max_inner: 1464, ..unresolved });

    w.fabric.neighbour(3, gateway, Some(mac(7)));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), NextHop { dst_mac: mac(7).0, ..unresolved });
    w.fabric.recheck();
    let again = commands(&mut w);
    assert_eq!(again.iter().filter(resolve).count(), 1, "{again:?}");
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(7).0, "and meanwhile nothing changes");
    w.fabric.neighbour(3, gateway, None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), unresolved, "only the link address is withdrawn");

    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.settle();
    assert_eq!(w.model.neighbours(), &BTreeSet::from([(3, gateway), (3, peer(0))]));
    w.fabric.route(peer(1), None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(1)), NextHop::NONE);
    assert_eq!(w.model.neighbours(), &BTreeSet::from([(3, peer(0))]), "nobody uses the gateway any more");
}

#[test]
fn what_the_kernel_must_send_itself_is_never_asked_for() {
    let mut w = routed(&[0, 1]);
    w.step(Step::Link { ifindex: 1, name: 6, mtu: 1500, xdp: None, no_arp: true });
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.route(peer(1), Some(RouteInfo { local: true, ..route(Via::OnLink, None).unwrap() }));
    w.settle();
    let hop = w.model.next_hop(peer(0));
    assert_eq!((hop.ifindex, hop.dst_mac), (3, [0; 6]));
    assert_eq!(w.model.next_hop(peer(1)), NextHop::NONE, "a packet to ourselves would come back as a peer's");
    assert!(w.model.neighbours().is_empty());
    let states: Vec<_> = w.fabric.peers().into_iter().map(|p| p.state).collect();
    assert_eq!(states, [PeerState::Kernel, PeerState::ThisHost]);
}

#[test]
fn a_link_that_changes_or_goes_changes_the_next_hops_over_it() {
    let mut w = routed(&[0]);
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.neighbour(3, peer(0), Some(mac(1)));
    w.settle();
    w.step(Step::Link { ifindex: 1, name: 6, mtu: 9000, xdp: None, no_arp: false });
    let asked = commands(&mut w);
    assert!(asked.contains(&Command::QueryRoute { addr: peer(0), from: Some(peer(5)) }), "{asked:?}");
    assert_eq!(w.model.next_hop(peer(0)).max_inner, 8964);
    w.step(Step::Gone(1));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), NextHop::NONE);
    assert_eq!(w.fabric.peers()[0].state, PeerState::NoRoute);
}

#[test]
fn a_restart_keeps_next_hops_until_the_kernel_has_answered() {
    let mut w = routed(&[0]);
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.neighbour(3, peer(0), Some(mac(1)));
    w.settle();
    let before = w.model.next_hop(peer(0));
    w.restart();
    assert_eq!(w.model.next_hop(peer(0)), before);
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), before, "same route: the link address stays until it is known better");
    w.fabric.neighbour(3, peer(0), None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, [0; 6]);
}

#[test]
fn a_recreated_port_gets_its_slot_back_and_its_entries_are_flushed() {
    let mut w = routed(&[]);
    w.fabric.add_port("tap0", vni(0), VlanMode::Discard).unwrap();
    w.fabric.add_port("tap1", vni(0), VlanMode::Pass).unwrap();
    for (ifindex, name) in [(2, 0), (3, 1)] {
        w.step(Step::Link { ifindex, name, mtu: 1500, xdp: Some(true), no_arp: false });
    }
    w.settle();
    let slot = |w: &World| w.fabric.ports()[0].index.unwrap();
    let before = slot(&w);
    w.step(Step::Gone(2));
    let gone = commands(&mut w);
    assert!(gone.contains(&Command::FlushPlace(Place::Port(before))), "{gone:?}");
    assert_eq!(w.fabric.ports()[0].state, PortState::Missing);
    w.step(Step::Link { ifindex: 4, name: 0, mtu: 1500, xdp: Some(true), no_arp: false });
    let back = commands(&mut w);
    assert_eq!(slot(&w), before);
    assert!(!back.iter().any(|c| matches!(c, Command::ResetCounters(_))), "its counters go on: {back:?}");
    assert_eq!(w.model.port(before).flags, PortFlags::USED | PortFlags::VLAN_DISCARD | PortFlags::RUNTIME);
}

#[test]
fn a_reload_touches_only_what_changed() {
    let mut w = routed(&[0, 1]);
    w.step(Step::Desire(w.fabric.desired().clone()));
    assert_eq!(commands(&mut w), []);
    let mut d = w.fabric.desired().clone();
    d.peers.remove(&peer(1));
    w.step(Step::Desire(d));
    let kinds = commands(&mut w);
    assert!(
        matches!(
            &kinds[..],
            [
                Command::SetFlood { .. },
                Command::SetMember { member: None, .. },
                Command::FlushPlace(Place::Vtep(_)),
                Command::SetVtep { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[test]
fn refusals_name_the_reason_and_change_nothing() {
    use FabricError::*;
    let mut w = routed(&[0]);
    let v = BTreeSet::from([vni(0)]);
    let f = &mut w.fabric;
    assert_eq!(f.add_port("tap0", vni(1), VlanMode::Pass), Err(UnknownVni(vni(1))));
    assert_eq!(f.add_port("eth0", vni(0), VlanMode::Pass), Err(UnderlayPort("eth0".into())));
    assert_eq!(f.add_port("tap*", vni(0), VlanMode::Pass), Err(BadName("tap*".into())));
    f.add_port("tap0", vni(0), VlanMode::Pass).unwrap();
    assert_eq!(f.add_port("tap0", vni(0), VlanMode::Pass), Err(DuplicatePort { name: "tap0".into(), vni: vni(0) }));
    assert_eq!(f.remove_port("tap9"), Err(NoSuchPort("tap9".into())));
    assert_eq!(f.add_peer(peer(5), None, &v), Err(OwnAddress(peer(5))));
    assert_eq!(f.add_peer(peer(0), None, &v), Err(DuplicatePeer(peer(0))));
    assert_eq!(f.add_peer(Ipv4Addr::new(224, 0, 0, 1), None, &v), Err(BadAddress(Ipv4Addr::new(224, 0, 0, 1))));
    assert_eq!(f.add_peer(peer(1), Some(0), &v), Err(BadUdpPort));
    assert_eq!(f.add_peer(peer(1), None, &BTreeSet::new()), Err(NoVni(peer(1))));
    assert_eq!(f.remove_peer(peer(0), None), Err(ConfiguredPeer(peer(0))));
    f.add_peer(peer(1), None, &v).unwrap();
    f.add_peer(peer(2), None, &v).unwrap();
    assert_eq!(f.add_peer(peer(3), None, &v), Err(FloodFull { vni: vni(0), limit: 3 }));
    assert_eq!(f.add_static(vni(0), Mac([1; 6]), StaticPlace::Port("tap0".into())), Err(BadMac(Mac([1; 6]))));
    assert_eq!(f.add_static(vni(0), mac(1), StaticPlace::Peer(peer(4))), Err(NoSuchPeer(peer(4))));
    assert_eq!(f.remove_static(vni(0), mac(1)), Err(NoSuchStatic { vni: vni(0), mac: mac(1) }));
    w.settle();
    assert_eq!(w.model.vteps(), BTreeSet::from([peer(0), peer(1), peer(2)]));
}

#[test]
fn everything_can_be_taken_away_again() {
    let mut world = World::new();
    let v = vni(0);
    let mut d = Desired::default();
    d.vnis.insert(v, VniSettings::default());
    world.step(Step::Desire(d));
    world.step(Step::Link { ifindex: 1, name: 0, mtu: 1500, xdp: Some(true), no_arp: false });
    world.fabric.add_port("tap0", v, VlanMode::Pass).unwrap();
    world.fabric.add_peer(peer(0), None, &BTreeSet::from([v])).unwrap();
    world.fabric.add_static(v, mac(1), StaticPlace::Peer(peer(0))).unwrap();
    world.settle();
    assert_eq!(world.fabric.remove_peer(peer(1), None), Err(FabricError::NoSuchPeer(peer(1))));
    world.fabric.remove_static(v, mac(1)).unwrap();
    world.fabric.remove_port("tap0").unwrap();
    world.fabric.remove_peer(peer(0), None).unwrap();
    world.settle();
    assert!(world.model.ports().is_empty() && world.model.vteps().is_empty() && world.model.members().is_empty());
    assert!(!world.fabric.is_sound(0, Place::Port(0)));
}
