//! Stories with a name: restarts, reloads, refusals.

use std::{collections::BTreeSet, net::Ipv4Addr};

use wavnet_common::{abi::PortFlags, addr::Mac, fdb::Place};
use wavnet_proto::{
    command::{Command, HookWish, PeerKey, Slot},
    fabric::{
        Desired, FabricError, LinkInfo, NamePattern, PeerSettings, PortMode, PortRule, PortState, RouteInfo,
        RuntimePort, Shadowed, StaticPlace, UnderlayDevice, Via, VlanMode, VniSettings, XdpRedirect,
    },
};

use super::{ports::veth, steps::*, world::*};

/// A fabric with one VNI, eth0 (3) as underlay with an address, and peers.
pub(crate) fn routed(peers: &[u8]) -> World {
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

pub(crate) fn route(via: Via, mtu: Option<u32>) -> Option<RouteInfo> {
    Some(RouteInfo { oif: 3, via, mtu, local: false })
}

pub(crate) fn commands(world: &mut World) -> Vec<Command> {
    std::iter::from_fn(|| world.poll()).collect()
}

/// The fabric of [`routed`] with one peer that is up: on link, with a link address.
pub(crate) fn reached() -> World {
    let mut w = routed(&[0]);
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.neighbour(3, peer(0), Some(mac(1)));
    w.settle();
    w
}

#[test]
fn a_recreated_port_gets_its_slot_back_and_its_entries_are_flushed() {
    let mut w = routed(&[]);
    w.fabric.add_port("tap0", RuntimePort { vlan: VlanMode::Discard, ..RuntimePort::of(vni(0)) }).unwrap();
    w.fabric.add_port("tap1", RuntimePort::of(vni(0))).unwrap();
    for (ifindex, name) in [(2, 0), (3, 1)] {
        w.step(Step::Link { ifindex, name, mtu: 1500, xdp: Some(XdpRedirect::Everything), no_arp: false });
    }
    w.settle();
    let slot = |w: &World| w.fabric.ports()[0].index.unwrap();
    let before = slot(&w);
    w.step(Step::Gone(2));
    let gone = commands(&mut w);
    assert!(gone.contains(&Command::FlushPlace(Place::Port(before))), "{gone:?}");
    assert_eq!(w.fabric.ports()[0].state, PortState::Missing);
    w.step(Step::Link { ifindex: 4, name: 0, mtu: 1500, xdp: Some(XdpRedirect::Everything), no_arp: false });
    let back = commands(&mut w);
    assert_eq!(slot(&w), before);
    assert!(!back.iter().any(|c| matches!(c, Command::ResetCounters(_))), "its counters go on: {back:?}");
    assert_eq!(w.model.port(before).flags, PortFlags::USED | PortFlags::VLAN_DISCARD);
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
    assert_eq!(f.add_port("tap0", RuntimePort::of(vni(1))), Err(UnknownVni(vni(1))));
    assert_eq!(f.add_port("eth0", RuntimePort::of(vni(0))), Err(UnderlayPort("eth0".into())));
    assert_eq!(f.add_port("tap*", RuntimePort::of(vni(0))), Err(BadName("tap*".into())));
    f.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    assert_eq!(f.add_port("tap0", RuntimePort::of(vni(0))), Err(DuplicatePort { name: "tap0".into(), vni: vni(0) }));
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
    assert_eq!(w.model.vteps(), BTreeSet::from([0, 1, 2].map(|n| PeerKey::Static(peer(n)))));
}

#[test]
fn additions_that_a_configuration_contradicts_or_leaves_without_vni_are_told() {
    let mut w = routed(&[0]);
    let mut both = w.fabric.desired().clone();
    both.vnis.insert(vni(1), VniSettings::default());
    w.step(Step::Desire(both.clone()));
    w.fabric.add_port("tap0", RuntimePort::of(vni(1))).unwrap();
    w.fabric.add_port("tap1", RuntimePort { vlan: VlanMode::Discard, ..RuntimePort::of(vni(0)) }).unwrap();
    w.fabric.add_port("tap2", RuntimePort::of(vni(0))).unwrap();
    w.fabric.add_peer(peer(1), Some(8472), &BTreeSet::from([vni(0), vni(1)])).unwrap();
    w.fabric.add_static(vni(1), mac(1), StaticPlace::Peer(peer(1))).unwrap();
    assert_eq!((w.fabric.runtime().shadowed(&both), w.fabric.resting()), (vec![], vec![]));

    let rule = |name: &str| PortRule {
        name: NamePattern::new(name).unwrap(),
        vni: vni(0),
        vlan: VlanMode::Pass,
        mode: PortMode::Auto,
    };
    let mut file = both.clone();
    file.ports = ["tap0", "tap1", "tap2"].map(rule).to_vec();
    file.peers.insert(peer(1), PeerSettings { udp_port: None, vnis: BTreeSet::from([vni(1)]) });
    file.statics.insert((vni(1), mac(1)), StaticPlace::Port("tap9".into()));
    let told = [
        Shadowed::Port { name: "tap0".into(), had: vni(1), has: vni(0) },
        Shadowed::Vlan("tap1".into()),
        Shadowed::UdpPort { addr: peer(1), had: 8472, has: 4789 },
        Shadowed::Static { vni: vni(1), mac: mac(1) },
    ];
    assert_eq!(w.fabric.runtime().shadowed(&file), told);

    // Without its VNI everything rests; with it everything is back.
    let mut less = both.clone();
    less.vnis.remove(&vni(1));
    w.step(Step::Desire(less));
    w.settle();
    let resting = [(StaticPlace::Port("tap0".into()), vni(1)), (StaticPlace::Peer(peer(1)), vni(1))];
    assert_eq!(w.fabric.resting(), resting);
    assert!(w.fabric.ports().iter().all(|p| p.name != "tap0"));
    w.step(Step::Desire(both));
    w.settle();
    assert_eq!(w.fabric.resting(), []);
    assert!(w.fabric.ports().iter().any(|p| p.name == "tap0"));
}

#[test]
fn a_port_that_changes_its_vni_starts_to_count_anew() {
    let mut w = routed(&[]);
    let mut d = w.fabric.desired().clone();
    d.vnis.insert(vni(1), VniSettings::default());
    w.step(Step::Desire(d));
    w.step(Step::Link { ifindex: 2, name: 0, mtu: 1500, xdp: Some(XdpRedirect::Everything), no_arp: false });
    w.fabric.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    w.settle();
    w.fabric.remove_port("tap0").unwrap();
    w.fabric.add_port("tap0", RuntimePort::of(vni(1))).unwrap();
    let moved = commands(&mut w);
    let index = w.fabric.ports()[0].index.unwrap();
    assert!(moved.contains(&Command::ResetCounters(Slot::Port(index))), "{moved:?}");
}

#[test]
fn only_ethernet_ends_are_ports_and_statics_belong_to_their_vni() {
    let mut w = routed(&[]);
    let mut d = w.fabric.desired().clone();
    d.vnis.insert(vni(1), VniSettings::default());
    w.step(Step::Desire(d));
    let link = |ifindex, name: &str, kind: Option<&str>, mac, loopback| LinkInfo {
        mac,
        loopback,
        kind: kind.map(str::to_owned),
        ..veth(ifindex, name)
    };
    w.fabric.link_up(link(20, "lo", None, Some(mac(0)), true));
    w.fabric.link_up(link(21, "br0", Some("bridge"), Some(mac(1)), false));
    w.fabric.link_up(link(22, "tun0", Some("tun"), None, false));
    w.fabric.link_up(link(23, "tap0", Some("tun"), Some(mac(2)), false));
    for name in ["lo", "br0", "tun0"] {
        let refused = w.fabric.add_port(name, RuntimePort::of(vni(0)));
        assert!(matches!(&refused, Err(e @ FabricError::UnfitPort { .. }) if e.help().is_some()), "{refused:?}");
    }
    w.fabric.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    let at = || StaticPlace::Port("tap0".into());
    let other = FabricError::OtherVni { name: "tap0".into(), has: vni(0) };
    assert_eq!(w.fabric.add_static(vni(1), mac(1), at()), Err(other));
    w.fabric.add_static(vni(0), mac(1), at()).unwrap();
    // One that was asked for before it was there.
    w.fabric.add_port("br9", RuntimePort::of(vni(0))).unwrap();
    w.fabric.link_up(link(24, "br9", Some("bridge"), Some(mac(3)), false));
    drop(commands(&mut w));
    assert!(matches!(&w.fabric.ports()[0].state, PortState::Failed(why) if why.contains("bridge")));
}

#[test]
fn writes_after_a_failed_one_wait_and_questions_do_not() {
    let mut w = routed(&[0]);
    w.fabric.add_peer(peer(1), None, &BTreeSet::from([vni(0)])).unwrap();
    w.unlucky = true;
    let failed = w.poll().unwrap();
    w.unlucky = false;
    assert_eq!(w.fabric.held_back(), Some("bad luck"));
    w.fabric.routes_changed();
    let asked = commands(&mut w);
    assert!(!asked.is_empty() && asked.iter().all(|c| matches!(c, Command::QueryRoute { .. })), "{asked:?}");
    w.fabric.retry();
    assert_eq!(w.poll(), Some(failed));
    w.settle();
    assert_eq!(
        (w.fabric.held_back(), w.model.vteps()),
        (None, BTreeSet::from([0, 1].map(|n| PeerKey::Static(peer(n)))))
    );
}

#[test]
fn everything_can_be_taken_away_again() {
    let mut world = World::new();
    let v = vni(0);
    let mut d = Desired::default();
    d.vnis.insert(v, VniSettings::default());
    world.step(Step::Desire(d));
    world.step(Step::Link { ifindex: 1, name: 0, mtu: 1500, xdp: Some(XdpRedirect::Everything), no_arp: false });
    world.fabric.add_port("tap0", RuntimePort::of(v)).unwrap();
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
