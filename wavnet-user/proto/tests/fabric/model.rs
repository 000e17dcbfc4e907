//! The maps as plain collections, changed by commands as the shell changes the real ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{At, Config, FloodSet, Hold, Member, MemberKey, Path, Port, PortFlags, Source, VniEntry, Vtep, VtepFlags},
    addr::{Mac, Vni},
    fdb::Place,
};
use wavnet_proto::{
    command::{Command, PeerKey},
    fabric::{Adopted, Fabric, Limits},
};

mod peers;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    config: Option<Config>,
    vnis: Vec<u32>,
    ports: Vec<Port>,
    vteps: Vec<Vtep>,
    /// Whose the slots in use are.
    peers: BTreeMap<u16, PeerKey>,
    holds: BTreeMap<u16, Hold>,
    paths: BTreeMap<u16, Path>,
    path_of: BTreeMap<Source, At>,
    /// Slots that could not be written.
    unwritten: BTreeSet<u16>,
    floods: Vec<FloodSet>,
    members: BTreeMap<(u32, [u8; 4]), Member>,
    /// {VNI index, MAC} → place, static.
    fdb: BTreeMap<(u16, Mac), (Place, bool)>,
    attached: BTreeSet<u32>,
    /// Those that were attached with XDP.
    with_xdp: BTreeSet<u32>,
    /// Attached still, because detaching has failed.
    stuck: BTreeSet<u32>,
    underlays: BTreeSet<u32>,
    neighbours: BTreeSet<(u32, Ipv4Addr)>,
}

impl Model {
    pub(crate) fn new(limits: Limits) -> Model {
        Model {
            config: None,
            vnis: vec![0; limits.vnis],
            ports: vec![Port::FREE; limits.ports],
            vteps: vec![Vtep::FREE; limits.vteps],
            peers: BTreeMap::new(),
            holds: BTreeMap::new(),
            paths: BTreeMap::new(),
            path_of: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            floods: vec![FloodSet::EMPTY; limits.vnis],
            members: BTreeMap::new(),
            fdb: BTreeMap::new(),
            attached: BTreeSet::new(),
            with_xdp: BTreeSet::new(),
            stuck: BTreeSet::new(),
            underlays: BTreeSet::new(),
            neighbours: BTreeSet::new(),
        }
    }

    pub(crate) fn apply(&mut self, command: &Command) {
        match command {
            Command::SetConfig(c) => self.config = Some(*c),
            Command::SetVni { index, vni, used } => {
                let slot = &mut self.vnis[usize::from(*index)];
                assert_eq!(*slot, if *used { 0 } else { vni.get() }, "{command:?} on a slot of {slot}");
                *slot = if *used { vni.get() } else { 0 };
            }
            Command::SetPort { index, port } => {
                let slot = &mut self.ports[usize::from(*index)];
                let same = slot.ifindex == port.ifindex && slot.vni == port.vni && slot.vni_index == port.vni_index;
                assert!(same || slot.ifindex == 0 || port.ifindex == 0, "{slot:?} becomes {port:?}");
                *slot = *port;
            }
            Command::AttachPort { ifindex, xdp, .. } => {
                if *xdp {
                    self.with_xdp.insert(*ifindex)
                } else {
                    self.with_xdp.remove(ifindex)
                };
                assert!(self.ports.iter().any(|p| p.ifindex == *ifindex), "attached before its slot is written");
                self.attached.insert(*ifindex);
                self.stuck.remove(ifindex);
            }
            Command::DetachPort { ifindex } => {
                self.attached.remove(ifindex);
                self.with_xdp.remove(ifindex);
                self.stuck.remove(ifindex);
            }
            Command::AttachUnderlay { ifindex, .. } => drop(self.underlays.insert(*ifindex)),
            Command::DetachUnderlay { ifindex } => drop(self.underlays.remove(ifindex)),
            Command::SetVtep { index, vtep, peer } => self.set_vtep(*index, vtep, *peer),
            Command::SetNextHop { index, endpoint, next_hop } => {
                let slot = &mut self.vteps[usize::from(*index)];
                assert!(slot.has(VtepFlags::USED), "next hop of a free slot");
                assert_ne!((slot.endpoint(), slot.next_hop()), (*endpoint, *next_hop), "a change that changes nothing");
                let moves = slot.endpoint() != *endpoint;
                assert!(!moves || slot.has(VtepFlags::DYNAMIC), "a static peer moves");
                slot.half = slot.prepare(endpoint, next_hop);
            }
            Command::SetHold { index, hold } => {
                assert!(self.peers.contains_key(index), "nobody's frames are held back");
                let before = match hold {
                    Hold::Normal => self.holds.remove(index),
                    _ => self.holds.insert(*index, *hold),
                };
                assert_ne!(before.unwrap_or_default(), *hold, "a change that changes nothing");
            }
            Command::SetPath { index, path } => self.set_path(*index, *path),
            Command::SetRelay { number, at, used } => {
                let key = Source::Endpoint(*at);
                if *used {
                    assert_eq!(self.path_of.insert(key, At::Relay(*number)), None, "{command:?}");
                } else {
                    assert_eq!(self.path_of.remove(&key), Some(At::Relay(*number)), "{command:?}");
                }
            }
            Command::SetMember { key, member } => match member {
                Some(m) => drop(self.members.insert((key.vni, key.addr), *m)),
                None => assert!(self.members.remove(&(key.vni, key.addr)).is_some()),
            },
            Command::SetFlood { vni_index, set } => self.floods[usize::from(*vni_index)] = **set,
            Command::SetStatic { vni_index, mac, place } => {
                self.fdb.insert((*vni_index, *mac), (*place, true));
            }
            Command::RemoveMac { vni_index, mac } => drop(self.fdb.remove(&(*vni_index, *mac))),
            Command::FlushPlace(place) => self.fdb.retain(|_, (p, _)| p != place),
            Command::FlushVni(index) => self.fdb.retain(|(v, _), _| v != index),
            Command::FlushVniPlace(index, place) => self.fdb.retain(|(v, _), (p, _)| v != index || p != place),
            Command::ResetCounters(_) | Command::QueryRoute { .. } => {}
            Command::ResolveNeighbour { ifindex, addr } => drop(self.neighbours.insert((*ifindex, *addr))),
            Command::ForgetNeighbour { ifindex, addr } => drop(self.neighbours.remove(&(*ifindex, *addr))),
        }
    }

    /// A command that does nothing.
    pub(crate) fn failed(&mut self, command: &Command) {
        if let Command::DetachPort { ifindex } = command {
            self.stuck.insert(*ifindex);
        }
        if let Command::SetPath { index, path: Some(_) } = command {
            self.unwritten.insert(*index);
        }
    }

    /// What must hold at every instant.
    pub(crate) fn check_safe(&self) {
        for (key, m) in &self.members {
            let owner = self.peers.get(&m.vtep_index).expect("a member of a free slot");
            let name = match owner {
                PeerKey::Static(addr) => MemberKey { vni: key.0, addr: addr.octets() },
                PeerKey::Dynamic(_) => MemberKey::dynamic(key.0, m.vtep_index),
            };
            assert_eq!((name.vni, name.addr), *key, "member points to another's slot");
            assert_eq!(self.vnis[usize::from(m.vni_index)], key.0);
        }
        let mut ifindices = BTreeSet::new();
        for p in self.ports.iter().filter(|p| p.ifindex != 0) {
            assert!(ifindices.insert(p.ifindex), "two slots for one interface");
            assert_eq!(self.vnis[usize::from(p.vni_index)], p.vni);
        }
        for ifindex in self.attached.difference(&self.stuck) {
            assert!(ifindices.contains(ifindex), "attached without a slot");
        }
        let owners: BTreeSet<_> = self.peers.values().collect();
        assert_eq!(owners.len(), self.peers.len(), "two slots for one peer");
        self.check_paths();
        for (i, set) in self.floods.iter().enumerate() {
            for v in &set.vteps[..set.vtep_count as usize] {
                assert!(self.is_member(self.vnis[i], *v), "flooding to who is no member");
            }
            for p in &set.ports[..set.port_count as usize] {
                let port = &self.ports[usize::from(*p)];
                assert!(port.ifindex != 0 && usize::from(port.vni_index) == i, "flooding to another VNI's port");
            }
        }
        for ((v, mac), (place, _)) in &self.fdb {
            assert_ne!(self.vnis[usize::from(*v)], 0, "{mac} in a VNI that is gone");
            match place {
                Place::Port(i) => {
                    let port = &self.ports[usize::from(*i)];
                    // Delivery refuses a free slot; another VNI's port would be a leak.
                    assert!(port.ifindex == 0 || port.vni_index == *v, "{mac} at a port of another VNI");
                }
                Place::Vtep(i) => assert!(self.peers.contains_key(i), "{mac} at a peer that is gone"),
            }
        }
    }

    /// Learning as the programs do it: from an attached port or a member, never over a static entry.
    pub(crate) fn learn(&mut self, mac: Mac, from: u8) {
        let mut sources: Vec<(u16, Place)> = Vec::new();
        for (i, p) in self.ports.iter().enumerate().filter(|(_, p)| self.attached.contains(&p.ifindex)) {
            sources.push((p.vni_index, Place::Port(i as u16)));
        }
        sources.extend(self.members.values().map(|m| (m.vni_index, Place::Vtep(m.vtep_index))));
        if let Some((v, place)) = sources.get(usize::from(from) % sources.len().max(1)) {
            let entry = self.fdb.entry((*v, mac)).or_insert((*place, false));
            if !entry.1 {
                entry.0 = *place;
            }
        }
    }

    /// What is attached to an interface goes with it.
    pub(crate) fn link_gone(&mut self, ifindex: u32) {
        self.stuck.remove(&ifindex);
        self.attached.remove(&ifindex);
        self.with_xdp.remove(&ifindex);
        self.underlays.remove(&ifindex);
    }

    pub(crate) fn forget_attachments(&mut self) {
        self.attached.clear();
        self.underlays.clear();
    }

    pub(crate) fn adopt(&self) -> Adopted {
        let indexed = |i: usize| i as u16;
        Adopted {
            config: self.config,
            ports: self.ports.iter().enumerate().map(|(i, p)| (indexed(i), *p)).collect(),
            vnis: self
                .vnis
                .iter()
                .enumerate()
                .map(|(i, v)| (indexed(i), VniEntry { vni: *v, flood_half: 0 }))
                .collect(),
            vteps: self.vteps.iter().enumerate().map(|(i, v)| (indexed(i), self.with_hold(indexed(i), *v))).collect(),
            ids: self.ids().map(|(id, index)| (index, id)).collect(),
            paths: self.paths.iter().map(|(index, path)| (*index, *path)).collect(),
            relays: self.relays().into_iter().map(|(at, number)| (number, at)).collect(),
            members: self.members.iter().map(|((vni, addr), m)| (MemberKey { vni: *vni, addr: *addr }, *m)).collect(),
            statics: self.fdb.iter().filter(|(_, (_, s))| *s).map(|((v, m), (p, _))| (*v, *m, *p)).collect(),
            underlays: self.underlays.iter().copied().collect(),
        }
    }

    pub(crate) fn check_fdb_sound(&self, fabric: &Fabric) {
        for ((v, mac), (place, _)) in &self.fdb {
            assert!(fabric.is_sound(*v, *place), "{mac} at {place:?}");
            if let Place::Vtep(i) = place {
                let vni = self.vnis[usize::from(*v)];
                assert!(self.is_member(vni, *i), "{mac} at a peer that is no member any more");
            }
        }
    }

    pub(crate) fn config(&self) -> Config {
        self.config.expect("written first of all")
    }

    pub(crate) fn port(&self, index: u16) -> Port {
        self.ports[usize::from(index)]
    }

    pub(crate) fn flood(&self, index: u16) -> FloodSet {
        self.floods[usize::from(index)]
    }

    pub(crate) fn neighbours(&self) -> &BTreeSet<(u32, Ipv4Addr)> {
        &self.neighbours
    }

    pub(crate) fn vni_indices(&self) -> Vec<(Vni, u16)> {
        let used = self.vnis.iter().enumerate().filter(|(_, v)| **v != 0);
        used.map(|(i, v)| (Vni::new(*v).unwrap(), i as u16)).collect()
    }

    pub(crate) fn vnis(&self) -> BTreeSet<Vni> {
        self.vni_indices().into_iter().map(|(v, _)| v).collect()
    }

    pub(crate) fn vteps(&self) -> BTreeSet<PeerKey> {
        self.peers.values().copied().collect()
    }

    pub(crate) fn members(&self) -> BTreeSet<(Vni, PeerKey)> {
        self.members.iter().map(|((v, _), m)| (Vni::new(*v).unwrap(), self.peers[&m.vtep_index])).collect()
    }

    pub(crate) fn ports(&self) -> BTreeMap<u32, Vni> {
        let used = self.ports.iter().filter(|p| p.ifindex != 0);
        used.map(|p| (p.ifindex, Vni::new(p.vni).unwrap())).collect()
    }

    pub(crate) fn port_flags(&self) -> Vec<u16> {
        self.ports.iter().filter(|p| p.ifindex != 0).map(|p| p.flags).collect()
    }

    /// A port's program in TC knows whether there is one in XDP.
    pub(crate) fn check_xdp(&self) {
        for p in self.ports.iter().filter(|p| self.attached.contains(&p.ifindex)) {
            assert_eq!(p.flags & PortFlags::XDP != 0, self.with_xdp.contains(&p.ifindex), "{p:?}");
        }
    }

    pub(crate) fn attached(&self) -> &BTreeSet<u32> {
        &self.attached
    }

    pub(crate) fn underlays(&self) -> &BTreeSet<u32> {
        &self.underlays
    }

    /// Peers and interface indices of a flood set.
    pub(crate) fn flood_names(&self, index: u16) -> (BTreeSet<PeerKey>, BTreeSet<u32>) {
        let set = &self.floods[usize::from(index)];
        let vteps = set.vteps[..set.vtep_count as usize].iter();
        let ports = set.ports[..set.port_count as usize].iter();
        (vteps.map(|v| self.peers[v]).collect(), ports.map(|p| self.ports[usize::from(*p)].ifindex).collect())
    }

    pub(crate) fn port_place(&self, ifindex: u32) -> Place {
        Place::Port(self.ports.iter().position(|p| p.ifindex == ifindex).expect("a port") as u16)
    }

    pub(crate) fn vtep_place(&self, addr: Ipv4Addr) -> Place {
        Place::Vtep(self.slot(PeerKey::Static(addr)).expect("a peer"))
    }

    pub(crate) fn statics(&self) -> BTreeMap<(Vni, Mac), Place> {
        let statics = self.fdb.iter().filter(|(_, (_, s))| *s);
        statics.map(|((v, m), (p, _))| ((Vni::new(self.vnis[usize::from(*v)]).unwrap(), *m), *p)).collect()
    }
}
