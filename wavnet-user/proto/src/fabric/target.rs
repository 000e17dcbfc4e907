//! What the tables should hold, by names rather than slots: what is desired, and there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{Config, PortFlags},
    addr::{Mac, Vni},
};

use super::{Desired, LinkInfo, Origin, Runtime, StaticPlace, VlanMode, XdpRedirect, links::Links};
use crate::command::HookWish;

/// Ethernet header.
const ETHERNET: u32 = 14;

/// A port that should be.
#[derive(Clone, Debug)]
pub(super) struct WantedPort {
    pub(super) name: String,
    pub(super) vni: Vni,
    pub(super) flags: u16,
    pub(super) max_frame: u32,
}

/// A peer that should be.
#[derive(Clone, Debug)]
pub(super) struct WantedPeer {
    pub(super) udp_port: u16,
    /// VNIs that it is a member of.
    pub(super) vnis: BTreeSet<Vni>,
}

/// What the tables should hold.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) vnis: BTreeSet<Vni>,
    /// By interface index.
    pub(super) ports: BTreeMap<u32, WantedPort>,
    /// `None`: as they are.
    pub(super) peers: Option<BTreeMap<Ipv4Addr, WantedPeer>>,
    pub(super) statics: BTreeMap<(Vni, Mac), StaticPlace>,
    /// By interface index: name and hook.
    pub(super) underlays: BTreeMap<u32, (String, HookWish)>,
}

/// The rule that makes an interface of this name a port.
pub(super) fn rule_for(desired: &Desired, runtime: &Runtime, name: &str) -> Option<(Vni, VlanMode, Origin)> {
    let rules = || desired.ports.iter().filter(|r| r.name.matches(name));
    let of = |r: &super::PortRule, o| (r.vni, r.vlan, o);
    let exact = rules().find(|r| r.name.is_exact()).map(|r| of(r, Origin::Config));
    let exact = exact.or_else(|| runtime.ports.get(name).map(|r| (r.vni, r.vlan, Origin::Runtime)));
    let found = exact.or_else(|| rules().next().map(|r| of(r, Origin::Pattern)));
    found.filter(|(vni, ..)| desired.vnis.contains_key(vni))
}

/// Why an interface cannot be a port; `None`: it can.
pub(super) fn unfit(info: &LinkInfo) -> Option<&'static str> {
    if info.loopback {
        return Some("it is the loopback interface");
    }
    match info.kind.as_deref() {
        Some("bridge") => Some("it is a bridge, whose own members would be cut off"),
        Some("bond" | "team") => Some("it is an aggregate of NICs"),
        Some("vxlan" | "geneve" | "gre" | "gretap" | "ipip" | "sit" | "wireguard") => Some("it is a tunnel"),
        _ if info.mac.is_none() => Some("it is not an Ethernet device"),
        _ => None,
    }
}

/// Our VTEP's address.
pub(super) fn local_address(desired: &Desired, links: &Links) -> Option<Ipv4Addr> {
    desired.underlay.address.or_else(|| {
        let mut devices = desired.underlay.devices.iter();
        devices.find_map(|d| links.named(&d.name)?.addresses.first().copied())
    })
}

/// Every peer with its VNIs, this host's own addresses left out.
pub(super) fn peers(desired: &Desired, runtime: &Runtime, links: &Links) -> BTreeMap<Ipv4Addr, WantedPeer> {
    let local = local_address(desired, links);
    let mut all: BTreeMap<Ipv4Addr, WantedPeer> = BTreeMap::new();
    for (addr, settings) in desired.peers.iter().chain(&runtime.peers) {
        if Some(*addr) == local || links.has_address(*addr) {
            continue;
        }
        let udp_port = settings.udp_port.unwrap_or(desired.underlay.udp_port);
        let fresh = || WantedPeer { udp_port, vnis: BTreeSet::new() };
        let peer = all.entry(*addr).or_insert_with(fresh);
        peer.vnis.extend(settings.vnis.iter().filter(|v| desired.vnis.contains_key(v)));
    }
    all.retain(|_, p| !p.vnis.is_empty());
    all
}

impl Target {
    /// What is desired, and there; `with_peers`: peers too.
    pub(super) fn new(desired: &Desired, runtime: &Runtime, links: &Links, with_peers: bool) -> Target {
        let local = local_address(desired, links).unwrap_or(Ipv4Addr::UNSPECIFIED);
        let mut underlays = BTreeMap::new();
        for device in &desired.underlay.devices {
            if let Some(l) = links.named(&device.name) {
                underlays.insert(l.info.ifindex, (device.name.clone(), device.hook));
            }
        }
        let mut ports = BTreeMap::new();
        for link in links.iter() {
            let info = &link.info;
            let taken = unfit(info).is_some() || link.failed.is_some() || underlays.contains_key(&info.ifindex);
            let Some((vni, vlan, _)) = rule_for(desired, runtime, &info.name).filter(|_| !taken) else { continue };
            let flag = |yes, flag| if yes { flag } else { 0 };
            let flags = PortFlags::USED
                | flag(!info.up, PortFlags::DOWN)
                | flag(vlan == VlanMode::Discard, PortFlags::VLAN_DISCARD)
                // Not known counts as no: frames redirected to a device that cannot take them vanish.
                | flag(matches!(info.xdp_redirect, None | Some(XdpRedirect::Nothing)), PortFlags::DELIVER_TC)
                | flag(info.xdp_redirect != Some(XdpRedirect::Everything), PortFlags::ONE_BUFFER)
                | flag(info.peer_apart, PortFlags::PEER);
            let max_frame = info.mtu.saturating_add(ETHERNET);
            ports.insert(info.ifindex, WantedPort { name: info.name.clone(), vni, flags, max_frame });
        }
        let statics = desired.statics.iter().chain(&runtime.statics);
        Target {
            config: Config {
                local_v4: local.octets(),
                udp_port: desired.underlay.udp_port.to_be_bytes(),
                reserved: [0; 2],
            },
            vnis: desired.vnis.keys().copied().collect(),
            ports,
            peers: with_peers.then(|| peers(desired, runtime, links)),
            statics: statics.map(|(k, p)| (*k, p.clone())).collect(),
            underlays,
        }
    }
}
