//! A fabric and the model of its maps, taken through steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{Hold, VtepFlags},
    addr::Mac,
};
use wavnet_proto::{
    command::{Command, PeerKey},
    fabric::{Fabric, Limits, LinkInfo, PeerPath, PortMode, RouteInfo, RuntimePort, StaticPlace, Via, VlanMode},
};

use super::{
    dynamics::Dynamics,
    model::Model,
    steps::{NAMES, Step, endpoint, from, id, mac, peer, place, vni},
};

pub(crate) const LIMITS: Limits = Limits { ports: 5, vnis: 3, vteps: 4, members: 9, flood_vteps: 3, flood_ports: 3 };
pub(crate) struct World {
    pub(crate) fabric: Fabric,
    pub(crate) model: Model,
    pub(crate) links: BTreeMap<u32, LinkInfo>,
    pub(crate) addresses: BTreeMap<u32, Vec<Ipv4Addr>>,
    pub(crate) dynamics: Dynamics,
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
            dynamics: Dynamics::default(),
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
                let vlan = if discard { VlanMode::Discard } else { VlanMode::Pass };
                let mode = [PortMode::Auto, PortMode::PacketRate, PortMode::Throughput][usize::from(v % 3)];
                let _ = f.add_port(NAMES[usize::from(n) % NAMES.len()], RuntimePort { vni: vni(v), vlan, mode });
            }
            Step::RemovePort(n) => drop(f.remove_port(NAMES[usize::from(n) % NAMES.len()])),
            Step::AddPeer(a, u, v) => drop(f.add_peer(peer(a), u, &v)),
            Step::RemovePeer(a, v) => drop(f.remove_peer(peer(a), v.as_ref())),
            Step::SetPeer(i, v, e) => {
                if f.set_peer(id(i), v.clone(), endpoint(e)).is_ok() {
                    self.dynamics.set(id(i), v, endpoint(e));
                }
            }
            Step::MovePeer(i, e) => {
                if f.peer_endpoint(id(i), endpoint(e)).is_ok() {
                    self.dynamics.go(id(i), endpoint(e));
                }
            }
            Step::RemoveDynamic(i) => {
                assert_eq!(f.remove_dynamic_peer(id(i)), self.dynamics.remove(id(i)));
            }
            Step::AddPath(n, i, extra) => {
                let path = PeerPath { from: from(n, extra), peer: i.map(id) };
                if f.add_path(path).is_ok() {
                    self.dynamics.paths.insert(path.from, path);
                }
            }
            Step::RemovePath(n, extra) => {
                let from = from(n, extra);
                let found = f.paths().find(|(_, path)| path.from == from).map(|(index, _)| index);
                assert_eq!(found.is_some(), self.dynamics.paths.remove(&from).is_some());
                if let Some(index) = found {
                    f.remove_path(index);
                }
            }
            Step::HoldPeer(i, hold) => {
                let key = if i & 1 == 0 { PeerKey::Dynamic(id(i / 2)) } else { PeerKey::Static(peer(i / 2)) };
                let has_slot = match key {
                    PeerKey::Dynamic(id) => f.dynamic_slot(id).is_some(),
                    PeerKey::Static(addr) => f.peers().iter().any(|p| p.addr == addr && p.index.is_some()),
                };
                if has_slot {
                    f.hold_peer(key, hold);
                    self.dynamics.holds.insert(key, hold);
                } else if matches!(key, PeerKey::Dynamic(_)) {
                    // Nothing comes of it.
                    f.hold_peer(key, hold);
                }
            }
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
                    kind: (ifindex % 2 == 1).then(|| "tun".into()),
                    xdp_redirect: xdp,
                    datagram_gso: false,
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
            Step::ChooseXdp(i, on) => {
                let i = World::link_index(i);
                if f.adaptive_ports().iter().flatten().any(|p| p.ifindex == i) {
                    f.choose_xdp(i, on);
                }
            }
            Step::RefuseXdp(i) => f.xdp_refused(World::link_index(i), "told to"),
            Step::Retry => f.retry(),
            Step::Seek(seconds) => (0..seconds).for_each(|_| f.seek_next_hops()),
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
        // Nothing is held back in a slot that somebody has later, be it the same one.
        if let Command::SetVtep { vtep, peer, .. } = &command
            && !vtep.has(VtepFlags::USED)
        {
            self.dynamics.holds.remove(peer);
        }
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

    /// An interface with everything about it.
    pub(crate) fn put(&mut self, info: LinkInfo) {
        self.links.insert(info.ifindex, info.clone());
        self.fabric.link_up(info);
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
        // Only what was at rest is promised to stay as it is, and a new agent tries again what was refused.
        self.fabric.set_desired(self.fabric.desired().clone()).unwrap();
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
        self.dynamics.restarted(&self.model, &self.fabric);
        self.fabric = next;
        while let Some(command) = self.poll() {
            let harmless = match &command {
                Command::AttachPort { .. }
                | Command::AttachUnderlay { .. }
                | Command::QueryRoute { .. }
                | Command::ResolveNeighbour { .. } => true,
                // Nobody is there any more who would send on what was held back.
                Command::SetHold { hold, .. } => *hold == Hold::Normal,
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
    pub(crate) fn check_exact(&mut self) {
        let d = self.fabric.desired();
        let run = self.fabric.runtime();
        if d.vnis.is_empty() {
            return;
        }
        let m = &self.model;
        m.check_xdp();
        assert_eq!(m.vnis(), d.vnis.keys().copied().collect::<BTreeSet<_>>());

        let mut members = BTreeSet::new();
        let own: BTreeSet<_> = self.addresses.values().flatten().copied().chain(self.local()).collect();
        for (addr, p) in d.peers.iter().chain(&run.peers).filter(|(a, _)| !own.contains(a)) {
            members.extend(p.vnis.iter().filter(|v| d.vnis.contains_key(v)).map(|v| (*v, PeerKey::Static(*addr))));
        }
        members.extend(self.dynamics.members(d));
        self.dynamics.check(m, &members);
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
        m.check_xdp();
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
                StaticPlace::Peer(a) => members.contains(&(*v, PeerKey::Static(*a))).then(|| m.vtep_place(*a)),
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
