//! What the tables should hold, by names rather than slots: what is desired, and there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{Config, ConfigFlags, Endpoint, PortFlags},
    addr::{Mac, Vni},
};

use super::{
    Desired, LinkInfo, Origin, PortMode, Runtime, RuntimePort, StaticPlace, VlanMode, XdpRedirect, dynamic::Dynamic,
    links::Links,
};
use crate::command::{HookWish, PeerKey};

fn learns(desired: &Desired, vni: Vni) -> bool {
    desired.vnis.get(&vni).is_none_or(|settings| settings.learning)
}

/// The longest frames of ports that have XDP: with longer ones a flow would be on two ways, as those take several buffers.
const XDP_MAX_FRAME: u32 = 2000;

/// Ethernet header.
const ETHERNET: u32 = 14;

/// A port that should be.
#[derive(Clone, Debug)]
pub(super) struct WantedPort {
    pub(super) name: String,
    pub(super) vni: Vni,
    pub(super) flags: u16,
    pub(super) max_frame: u32,
    /// With XDP, too.
    pub(super) xdp: bool,
}

/// A peer that should be.
#[derive(Clone, Debug)]
pub(super) struct WantedPeer {
    pub(super) endpoint: Endpoint,
    /// VNIs that it is a member of.
    pub(super) vnis: BTreeSet<Vni>,
    /// Dynamic peers are at its address, too.
    pub(super) shares: bool,
}

/// What the tables should hold.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) vnis: BTreeSet<Vni>,
    /// Those that do not learn from data.
    pub(super) fixed_vnis: BTreeSet<Vni>,
    /// By interface index.
    pub(super) ports: BTreeMap<u32, WantedPort>,
    /// `None`: as they are.
    pub(super) peers: Option<BTreeMap<PeerKey, WantedPeer>>,
    pub(super) statics: BTreeMap<(Vni, Mac), StaticPlace>,
    /// By interface index: name and hook.
    pub(super) underlays: BTreeMap<u32, (String, HookWish)>,
}

/// How an interface is a port, and who asked for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) port: RuntimePort,
    pub(super) origin: Origin,
}

/// The rule that makes an interface of this name a port.
pub(super) fn rule_for(desired: &Desired, runtime: &Runtime, name: &str) -> Option<Rule> {
    let rules = || desired.ports.iter().filter(|r| r.name.matches(name));
    let of =
        |r: &super::PortRule, origin| Rule { port: RuntimePort { vni: r.vni, vlan: r.vlan, mode: r.mode }, origin };
    let exact = rules().find(|r| r.name.is_exact()).map(|r| of(r, Origin::Config));
    let exact = exact.or_else(|| runtime.ports.get(name).map(|port| Rule { port: *port, origin: Origin::Runtime }));
    let found = exact.or_else(|| rules().next().map(|r| of(r, Origin::Pattern)));
    found.filter(|rule| desired.vnis.contains_key(&rule.port.vni))
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

/// Every static peer with its VNIs, this host's own addresses left out.
pub(super) fn peers(desired: &Desired, runtime: &Runtime, links: &Links) -> BTreeMap<Ipv4Addr, WantedPeer> {
    let local = local_address(desired, links);
    let mut all: BTreeMap<Ipv4Addr, WantedPeer> = BTreeMap::new();
    for (addr, settings) in desired.peers.iter().chain(&runtime.peers) {
        if Some(*addr) == local || links.has_address(*addr) {
            continue;
        }
        let endpoint = Endpoint::plain(addr.octets(), settings.udp_port.unwrap_or(desired.underlay.udp_port));
        let fresh = || WantedPeer { endpoint, vnis: BTreeSet::new(), shares: false };
        let peer = all.entry(*addr).or_insert_with(fresh);
        peer.vnis.extend(settings.vnis.iter().filter(|v| desired.vnis.contains_key(v)));
    }
    all.retain(|_, p| !p.vnis.is_empty());
    all
}

/// The same and dynamic peers.
fn all_peers(desired: &Desired, runtime: &Runtime, dynamic: &Dynamic, links: &Links) -> BTreeMap<PeerKey, WantedPeer> {
    let moving = dynamic.peers.iter().map(|(id, peer)| {
        let vnis = peer.vnis.iter().filter(|vni| desired.vnis.contains_key(vni)).copied().collect();
        (PeerKey::Dynamic(*id), WantedPeer { endpoint: peer.endpoint, vnis, shares: false })
    });
    let mut all: BTreeMap<_, _> = moving.filter(|(_, peer)| !peer.vnis.is_empty()).collect();
    let shared = dynamic.paths.addresses(|id| all.contains_key(&PeerKey::Dynamic(id)));
    let fixed = peers(desired, runtime, links).into_iter();
    all.extend(
        fixed.map(|(addr, peer)| (PeerKey::Static(addr), WantedPeer { shares: shared.contains(&addr), ..peer })),
    );
    all
}

/// What the host is to the programs.
fn config(desired: &Desired, dynamic: &Dynamic, links: &Links) -> Config {
    let local = local_address(desired, links).unwrap_or(Ipv4Addr::UNSPECIFIED);
    let flag = |yes, flag| if yes { flag } else { 0 };
    // A veth wakes its other end only if that has XDP, too, which is in another namespace: else what XDP has turned round waits there.
    let sends = |name: &String| links.named(name).is_some_and(|link| link.info.kind.as_deref() != Some("veth"));
    let any = dynamic.is_any(desired);
    let flags = flag(dynamic.control.open, ConfigFlags::CONTROL)
        | flag(any, ConfigFlags::DYNAMIC)
        | flag(any && desired.underlay.devices.iter().all(|device| sends(&device.name)), ConfigFlags::XDP_TX);
    let (extra_ports, hold_ifindex) = (dynamic.control.extra_ports, dynamic.control.hold_ifindex);
    Config { flags, extra_ports, hold_ifindex, ..Config::plain(local.octets(), desired.underlay.udp_port) }
}

impl Target {
    /// What is desired, and there; `with_peers`: peers too.
    pub(super) fn new(
        desired: &Desired,
        runtime: &Runtime,
        dynamic: &Dynamic,
        links: &Links,
        with_peers: bool,
    ) -> Target {
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
            let Some(Rule { port, .. }) = rule_for(desired, runtime, &info.name).filter(|_| !taken) else { continue };
            let max_frame = info.mtu.saturating_add(ETHERNET);
            // XDP sees a tap's tags in its frames, but not those that a veth's other end keeps beside them.
            let tags_seen = info.is_tap() || port.vlan != VlanMode::Discard;
            let possible = tags_seen && max_frame <= XDP_MAX_FRAME && link.xdp_refused.is_none();
            // XDP on a veth takes segmentation offload from the other end: nobody shall find that without having asked for it.
            let adaptive = possible && port.mode == PortMode::Auto && info.is_tap();
            let xdp = possible && port.mode == PortMode::PacketRate || adaptive && link.xdp;
            // Not known counts as no: frames redirected to a device that cannot take them vanish. A device that takes no frame in several
            // buffers gets none from XDP if some may be: others of their flow would wait at the end of a queue meanwhile.
            let one_buffer = info.xdp_redirect != Some(XdpRedirect::Everything);
            let by_tc = match info.xdp_redirect {
                None | Some(XdpRedirect::Nothing) => true,
                Some(XdpRedirect::OneBuffer) => max_frame > XDP_MAX_FRAME,
                Some(XdpRedirect::Everything) => false,
            };
            let flag = |yes, flag| if yes { flag } else { 0 };
            let flags = PortFlags::USED
                | flag(!info.up, PortFlags::DOWN)
                | flag(port.vlan == VlanMode::Discard, PortFlags::VLAN_DISCARD)
                | flag(by_tc, PortFlags::DELIVER_TC)
                | flag(one_buffer, PortFlags::ONE_BUFFER)
                | flag(xdp, PortFlags::XDP)
                | flag(adaptive, PortFlags::ADAPTIVE)
                | flag(info.is_tap(), PortFlags::TAP)
                | flag(info.datagram_gso, PortFlags::DATAGRAM_GSO)
                | flag(!learns(desired, port.vni), PortFlags::NO_LEARNING);
            let wanted = WantedPort { name: info.name.clone(), vni: port.vni, flags, max_frame, xdp };
            ports.insert(info.ifindex, wanted);
        }
        let statics = desired.statics.iter().chain(&runtime.statics);
        Target {
            config: config(desired, dynamic, links),
            vnis: desired.vnis.keys().copied().collect(),
            fixed_vnis: desired.vnis.keys().filter(|vni| !learns(desired, **vni)).copied().collect(),
            ports,
            peers: with_peers.then(|| all_peers(desired, runtime, dynamic, links)),
            statics: statics.map(|(k, p)| (*k, p.clone())).collect(),
            underlays,
        }
    }
}
