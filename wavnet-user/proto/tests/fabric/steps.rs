//! Random steps through a fabric's life, with numbers so small that histories meet themselves.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use proptest::prelude::*;
use wavnet_common::{
    abi::{Arrival, Endpoint, Hold, LocalPort},
    addr::{Label, Mac, PeerId, Vni},
};
use wavnet_proto::{
    command::HookWish,
    fabric::{
        Desired, NamePattern, PathFrom, PeerSettings, PortMode, PortRule, StaticPlace, UnderlayDevice, VlanMode,
        VniSettings, XdpRedirect,
    },
};

pub(crate) const NAMES: [&str; 8] = ["tap0", "tap1", "tap2", "tap3", "vnet0", "vnet1", "eth0", "eth1"];

pub(crate) fn vni(n: u8) -> Vni {
    Vni::new(10 + u32::from(n % 4)).unwrap()
}

pub(crate) fn peer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + n % 6)
}

/// A dynamic peer.
pub(crate) fn id(n: u8) -> PeerId {
    PeerId([n % 4; 32])
}

/// Where a dynamic peer may be: at addresses of static ones, too, and by relays.
pub(crate) fn endpoint(n: u8) -> Endpoint {
    let label = if n.is_multiple_of(3) { Label::of_word(u32::from(n) + 1) } else { Label::ZERO };
    let port = 40_000 + u16::from(n % 2);
    Endpoint { source_port: Some(4789), label, ..Endpoint::plain(peer(n / 2).octets(), port) }
}

/// Where a path may come from: a relay's address may be a peer's.
/// Where datagrams come from, to the main port or to an extra one.
pub(crate) fn from(n: u8, extra: bool) -> PathFrom {
    let at = |addr, port| Arrival::new(SocketAddrV4::new(addr, port), LocalPort::of_word(extra.into()));
    if n & 1 == 0 {
        PathFrom::Direct(at(peer(n / 2), 40_000 + u16::from(n / 12 % 2)))
    } else {
        PathFrom::Relayed { relay: at(peer(n / 2 % 3), 40_000), label: Label::of_word(u32::from(n / 6 % 3)) }
    }
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
    SetPeer(u8, BTreeSet<Vni>, u8),
    MovePeer(u8, u8),
    RemoveDynamic(u8),
    AddPath(u8, Option<u8>, bool),
    RemovePath(u8, bool),
    HoldPeer(u8, Hold),
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
    /// So many seconds pass.
    Seek(u8),
    /// A port is chosen to have XDP, or not.
    ChooseXdp(u8, bool),
    /// The kernel refuses XDP on a port.
    RefuseXdp(u8),
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
            mode: if discard { PortMode::PacketRate } else { PortMode::Auto },
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
        3 => (b(), vnis(), b()).prop_map(|(i, v, e)| SetPeer(i, v, e)),
        3 => (b(), b()).prop_map(|(i, e)| MovePeer(i, e)),
        1 => b().prop_map(RemoveDynamic),
        4 => (b(), prop::option::of(b()), any::<bool>()).prop_map(|(f, i, p)| AddPath(f, i, p)),
        2 => (b(), any::<bool>()).prop_map(|(f, p)| RemovePath(f, p)),
        1 => (b(), prop::sample::select(vec![Hold::Normal, Hold::Hold, Hold::Drain])).prop_map(|(i, h)| HoldPeer(i, h)),
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
        1 => (1u8..70).prop_map(Seek),
        3 => (b(), any::<bool>()).prop_map(|(i, on)| ChooseXdp(i, on)),
        1 => b().prop_map(RefuseXdp),
        3 => (0u8..6).prop_map(Poll),
        5 => Just(Poll(255)),
        1 => b().prop_map(PollFailing),
        2 => (b(), any::<bool>()).prop_map(|(i, up)| UpDown(i, up)),
        3 => (b(), any::<u64>(), any::<u64>()).prop_map(|(n, x, y)| PollUnlucky(n, x & y)),
        4 => (b(), b()).prop_map(|(m, p)| Learn(m, p)),
        1 => Just(Restart),
    ]
}
