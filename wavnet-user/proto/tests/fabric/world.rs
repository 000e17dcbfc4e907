//! A fabric, the model of its maps, and random steps through its life.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use proptest::prelude::*;
use wavnet_common::addr::{Mac, Vni};
use wavnet_proto::{
    command::{Command, HookWish},
    fabric::{
        Desired, Fabric, Limits, LinkInfo, NamePattern, PeerSettings, PortRule, RouteInfo, StaticPlace, UnderlayDevice,
        Via, VlanMode, VniSettings, XdpRedirect,
    },
};

use super::model::Model;

pub(crate) const LIMITS: Limits = Limits { ports: 5, vnis: 3, vteps: 4, members: 9, flood_vteps: 3, flood_ports: 3 };
pub(crate) const NAMES: [&str; 8] = ["tap0", "tap1", "tap2", "tap3", "vnet0", "vnet1", "eth0", "eth1"];

pub(crate) fn vni(n: u8) -> Vni {
    Vni::new(10 + u32::from(n % 4)).unwrap()
}

pub(crate) fn peer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + n % 6)
}

pub(crate) fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n % 8])
}

pub(crate) fn place(n: u8) -> StaticPlace {
    if n & 1 == 0 { StaticPlace::Port(NAMES[usize::from(n / 2) % 6].into()) } else { StaticPlace::Peer(peer(n / 2)) }
}

/// One input. Small numbers, so that histories meet themselves.
#[derive(Clone, Debug)]
pub(crate) enum Step {
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
        xdp: Option<XdpRedirect>,
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
    /// An interface goes down or up.
    UpDown(u8, bool),
    /// Carry out this many commands, of which those fail whose turn has a bit.
    PollUnlucky(u8, u64),
    /// Carry out all, failing attachments to this interface.
    PollFailing(u8),
    /// The kernel learns a MAC wherever it may.
    Learn(u8, u8),
    /// The agent is killed and started again.
    Restart,
}

pub(crate) fn vnis() -> impl Strategy<Value = BTreeSet<Vni>> {
    prop::collection::btree_set(any::<u8>().prop_map(vni), 1..4)
}

pub(crate) fn desired() -> impl Strategy<Value = Desired> {
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

fn redirect() -> impl Strategy<Value = XdpRedirect> {
    prop_oneof![Just(XdpRedirect::Nothing), Just(XdpRedirect::OneBuffer), Just(XdpRedirect::Everything)]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
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
        6 => (b(), b(), 600u16..9000, prop::option::of(redirect()), prop::bool::weighted(0.1))
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
        2 => (b(), any::<bool>()).prop_map(|(i, up)| UpDown(i, up)),
        3 => (b(), any::<u64>(), any::<u64>()).prop_map(|(n, x, y)| PollUnlucky(n, x & y)),
        4 => (b(), b()).prop_map(|(m, p)| Learn(m, p)),
        1 => Just(Restart),
    ]
}

pub(crate) struct World {
    pub(crate) fabric: Fabric,
    pub(crate) model: Model,
    pub(crate) links: BTreeMap<u32, LinkInfo>,
    pub(crate) addresses: BTreeMap<u32, Vec<Ipv4Addr>>,
    pub(crate) failing: Option<u32>,
    /// The next command fails.
    pub(crate) unlucky: bool,
}

impl World {
    pub(crate) fn new() -> World {
        let mut fabric = Fabric::new(LIMITS, &Default::default());
        fabric.links_complete();
        World {
            fabric,
            model: Model::new(LIMITS),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            failing: None,
            unlucky: false,
        }
    }

    pub(crate) fn link_index(n: u8) -> u32 {
        2 + u32::from(n % 8)
    }

    pub(crate) fn step(&mut self, step: Step) {
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
            Step::UpDown(n, up) => {
                if let Some(link) = self.links.get_mut(&World::link_index(n)) {
                    link.up = up;
                    f.link_up(link.clone());
                }
            }
            Step::PollUnlucky(n, luck) => {
                for turn in 0..u32::from(n) {
                    self.unlucky = luck.rotate_right(turn) & 1 != 0;
                    self.poll();
                }
                self.unlucky = false;
            }
            Step::Learn(m, p) => self.model.learn(mac(m), p),
            Step::Restart => self.restart(),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Command> {
        let command = self.fabric.poll_command()?;
        match &command {
            Command::AttachPort { ifindex, .. } | Command::AttachUnderlay { ifindex, .. }
                if Some(*ifindex) == self.failing =>
            {
                self.fabric.command_failed(&command, "told to");
            }
            Command::QueryRoute { .. } | Command::ResolveNeighbour { .. } | Command::ForgetNeighbour { .. } => {
                self.model.apply(&command);
            }
            _ if self.unlucky => {
                self.model.failed(&command);
                self.fabric.command_failed(&command, "bad luck");
            }
            _ => self.model.apply(&command),
        }
        self.model.check_safe();
        Some(command)
    }

    pub(crate) fn settle(&mut self) {
        if self.failing.is_none() {
            self.fabric.retry();
        }
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
    pub(crate) fn restart(&mut self) {
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

    pub(crate) fn local(&self) -> Option<Ipv4Addr> {
        let underlay = &self.fabric.desired().underlay;
        let of = |name: &String| {
            let link = self.links.values().find(|l| l.name == *name)?;
            self.addresses.get(&link.ifindex)?.first().copied()
        };
        underlay.address.or_else(|| underlay.devices.iter().find_map(|d| of(&d.name)))
    }

    /// What is desired and there, computed without any of the fabric's code.
    pub(crate) fn check_exact(&self) {
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
            let wanted: BTreeSet<_> =
                present.iter().filter(|(i, v)| **v == vni && self.links[i].up).map(|(i, _)| *i).collect();
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
