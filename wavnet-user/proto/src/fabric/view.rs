//! What the fabric looks like, for the API and the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::PortFlags,
    addr::{Mac, Vni},
    fdb::Place,
};

use super::{
    Fabric, PeerState, PortMode, RuntimePort, StaticPlace, VlanMode, VniSettings,
    links::Link,
    tables::PortSlot,
    target::{Rule, local_address, peers, rule_for, unfit},
};
use crate::command::{HookWish, PeerKey};

/// Who asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The configuration, by name.
    Config,
    /// The configuration, by a pattern.
    Pattern,
    /// A command.
    Runtime,
}

/// Whether an interface is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// It is.
    Attached,
    /// There is no such interface.
    Missing,
    /// Why it is not.
    Failed(String),
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Slot in `PORTS`, if it is attached.
    pub index: Option<u16>,
    /// Interface name.
    pub name: String,
    /// Interface index, if there is an interface.
    pub ifindex: Option<u32>,
    /// VNI.
    pub vni: Vni,
    /// What happens to VLAN tags.
    pub vlan: VlanMode,
    /// Which frames it is to be fast for.
    pub mode: PortMode,
    /// Who asked for it.
    pub origin: Origin,
    /// Whether it is in use.
    pub state: PortState,
    /// MTU of the interface, bytes.
    pub mtu: Option<u32>,
    /// The interface is up and has a carrier.
    pub up: bool,
    /// Frames are handed to it in TC rather than redirected in XDP.
    pub deliver_tc: bool,
    /// Why the kernel has refused XDP on it.
    pub xdp_refused: Option<String>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Slot in `VTEPS`; `None` for this host itself.
    pub index: Option<u16>,
    /// Outer address.
    pub addr: Ipv4Addr,
    /// UDP port.
    pub udp_port: u16,
    /// VNIs.
    pub vnis: BTreeSet<Vni>,
    /// Who asked for it.
    pub origin: Origin,
    /// Whether frames reach it.
    pub state: PeerState,
    /// Next router, or the peer itself.
    pub next_hop: Option<Ipv4Addr>,
    /// Interface of the route.
    pub interface: Option<String>,
    /// MTU of the path, bytes.
    pub mtu: Option<u32>,
}

/// A VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniView {
    /// Slot in `VNIS`.
    pub index: u16,
    /// The VNI.
    pub vni: Vni,
    /// What is set for it.
    pub settings: VniSettings,
    /// Attached ports.
    pub ports: usize,
    /// Peers.
    pub peers: usize,
}

/// A static FDB entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticView {
    /// VNI.
    pub vni: Vni,
    /// MAC.
    pub mac: Mac,
    /// Where it is.
    pub place: StaticPlace,
    /// Who asked for it.
    pub origin: Origin,
    /// It is in the table.
    pub in_force: bool,
}

/// An underlay interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayView {
    /// Interface name.
    pub name: String,
    /// Interface index, if there is an interface.
    pub ifindex: Option<u32>,
    /// The hook asked for.
    pub hook: HookWish,
    /// Whether it is in use.
    pub state: PortState,
    /// MTU, bytes.
    pub mtu: Option<u32>,
}

/// Whose place an FDB entry names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlaceName {
    /// The port of this name.
    Port(String),
    /// A peer.
    Peer(PeerKey),
}

/// What the numbers of an FDB entry mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// VNIs by slot.
    pub vnis: BTreeMap<u16, Vni>,
    /// Ports and peers.
    pub places: BTreeMap<Place, PlaceName>,
}

impl Fabric {
    /// Address of our VTEP, if we have one.
    pub fn local_address(&self) -> Option<Ipv4Addr> {
        local_address(&self.desired, &self.links)
    }

    /// True if an interface of this host has the address now.
    pub fn has_address(&self, addr: Ipv4Addr) -> bool {
        self.links.has_address(addr)
    }

    /// All ports, those that are missing included, by name.
    pub fn ports(&self) -> Vec<PortView> {
        let exact = self.desired.ports.iter().filter(|r| r.name.is_exact()).map(|r| r.name.as_str());
        let mut names: BTreeSet<&str> = exact.chain(self.runtime.ports.keys().map(String::as_str)).collect();
        let usable = |l: &&Link| {
            unfit(&l.info).is_none() && !self.desired.underlay.devices.iter().any(|d| d.name == l.info.name)
        };
        names.extend(self.links.iter().filter(usable).map(|l| l.info.name.as_str()));
        let links: BTreeMap<&str, &Link> = self.links.iter().map(|l| (l.info.name.as_str(), l)).collect();
        let slots = self.tables.ports.iter().map(|(index, slot)| (slot.port.ifindex, (*index, slot)));
        let slots: BTreeMap<u32, (u16, &PortSlot)> = slots.collect();
        let view = |name| {
            let link = links.get(name).copied();
            self.port(name, link, link.and_then(|l| slots.get(&l.info.ifindex)).copied())
        };
        names.into_iter().filter_map(view).collect()
    }

    fn port(&self, name: &str, link: Option<&Link>, slot: Option<(u16, &PortSlot)>) -> Option<PortView> {
        let Rule { port: RuntimePort { vni, vlan, mode }, origin } = rule_for(&self.desired, &self.runtime, name)?;
        let state = match (link, &slot) {
            (None, _) => PortState::Missing,
            (Some(l), None) => PortState::Failed(match (&l.failed, l.no_room) {
                (Some(why), _) => why.clone(),
                (None, true) => format!("no room: {} ports, {} per VNI", self.limits.ports, self.limits.flood_ports),
                (None, false) => match unfit(&l.info) {
                    Some(why) => format!("{why}: a port is a tap or veth"),
                    None => "it waits for its turn".to_owned(),
                },
            }),
            (Some(_), Some(_)) => PortState::Attached,
        };
        Some(PortView {
            index: slot.map(|(index, _)| index),
            name: name.to_owned(),
            ifindex: link.map(|l| l.info.ifindex),
            vni,
            vlan,
            mode,
            origin,
            state,
            mtu: link.map(|l| l.info.mtu),
            up: link.is_some_and(|l| l.info.up),
            xdp_refused: link.and_then(|l| l.xdp_refused.clone()),
            deliver_tc: slot.is_some_and(|(_, s)| s.port.flags & PortFlags::DELIVER_TC != 0),
        })
    }

    /// All static peers, by address.
    pub fn peers(&self) -> Vec<PeerView> {
        let wanted = peers(&self.desired, &self.runtime, &self.links);
        let local = self.local_address();
        let view = |(addr, peer): (Ipv4Addr, super::target::WantedPeer)| {
            let (state, next_hop, route) = self.routes.state(addr, &self.links, local);
            let link = route.and_then(|r| self.links.get(r.oif)).map(|l| &l.info);
            PeerView {
                index: self.tables.vteps.get(&PeerKey::Static(addr)).map(|s| s.index),
                addr,
                udp_port: peer.endpoint.port,
                vnis: peer.vnis,
                origin: if self.desired.peers.contains_key(&addr) { Origin::Config } else { Origin::Runtime },
                state,
                next_hop,
                interface: link.map(|l| l.name.clone()),
                mtu: link.map(|l| route.and_then(|r| r.mtu).filter(|&m| m > 0).map_or(l.mtu, |m| m.min(l.mtu))),
            }
        };
        wanted.into_iter().map(view).collect()
    }

    /// All VNIs, ascending.
    pub fn vnis(&self) -> Vec<VniView> {
        let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
        self.tables.ports.values().for_each(|s| *ports.entry(s.port.vni_index).or_default() += 1);
        let view = |(vni, index): (&Vni, &u16)| {
            let flood = self.tables.floods.get(index);
            Some(VniView {
                index: *index,
                vni: *vni,
                settings: *self.desired.vnis.get(vni)?,
                ports: ports.get(index).copied().unwrap_or_default(),
                peers: flood.map_or(0, |f| f.vteps.len()),
            })
        };
        self.tables.vnis.iter().filter_map(view).collect()
    }

    /// All static FDB entries.
    pub fn statics(&self) -> Vec<StaticView> {
        let configured = self.desired.statics.iter().map(|e| (e, Origin::Config));
        let added = self.runtime.statics.iter().map(|e| (e, Origin::Runtime));
        let view = |(((vni, mac), place), origin): ((&(Vni, Mac), &StaticPlace), Origin)| {
            let index = self.tables.vnis.get(vni);
            let in_force = index.is_some_and(|i| self.tables.statics.contains_key(&(*i, *mac)));
            StaticView { vni: *vni, mac: *mac, place: place.clone(), origin, in_force }
        };
        configured.chain(added).map(view).collect()
    }

    /// The underlay interfaces, in the order of the configuration.
    pub fn underlays(&self) -> Vec<UnderlayView> {
        let devices = self.desired.underlay.devices.iter();
        let view = |device: &super::UnderlayDevice| {
            let link = self.links.named(&device.name);
            let attached = link.is_some_and(|l| matches!(self.tables.underlays.get(&l.info.ifindex), Some(Some(_))));
            let state = match link {
                None => PortState::Missing,
                Some(_) if attached => PortState::Attached,
                Some(l) => PortState::Failed(l.failed.clone().unwrap_or_else(|| "not attached yet".to_owned())),
            };
            UnderlayView {
                name: device.name.clone(),
                ifindex: link.map(|l| l.info.ifindex),
                hook: device.hook,
                state,
                mtu: link.map(|l| l.info.mtu),
            }
        };
        devices.map(view).collect()
    }

    /// Interface names of ports, and peers, by their places in the FDB, and VNIs by slot.
    pub fn names(&self) -> Names {
        let ports = self.tables.ports.iter();
        let ports = ports.filter_map(|(i, s)| Some((Place::Port(*i), PlaceName::Port(s.name.clone()?))));
        let peers = self.tables.vteps.iter().map(|(peer, s)| (Place::Vtep(s.index), PlaceName::Peer(*peer)));
        Names {
            vnis: self.tables.vnis.iter().map(|(vni, index)| (*index, *vni)).collect(),
            places: ports.chain(peers).collect(),
        }
    }

    /// Slot of a VNI.
    pub fn vni_index(&self, vni: Vni) -> Option<u16> {
        self.tables.vnis.get(&vni).copied()
    }
}
