//! What ports say to the programs: XDP, modes, learning.

use wavnet_common::abi::PortFlags;
use wavnet_proto::fabric::{AdaptivePort, LinkInfo, PortMode, RuntimePort, VniSettings, XdpRedirect};

use super::{scenarios::routed, steps::*, world::*};

#[test]
fn ports_say_what_xdp_may_redirect_to_them() {
    let mut w = routed(&[]);
    w.fabric.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    let both = PortFlags::DELIVER_TC | PortFlags::ONE_BUFFER;
    for (xdp, mtu, flags) in [
        (None, 1500, both),
        (Some(XdpRedirect::Nothing), 1500, both),
        (Some(XdpRedirect::OneBuffer), 1500, PortFlags::ONE_BUFFER),
        (Some(XdpRedirect::OneBuffer), 9000, both),
        (Some(XdpRedirect::Everything), 1500, 0),
        (Some(XdpRedirect::Everything), 9000, 0),
    ] {
        w.step(Step::Link { ifindex: 2, name: 0, mtu, xdp, no_arp: false });
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | flags], "{xdp:?}, MTU {mtu}");
    }
}

/// A veth end.
pub(crate) fn veth(ifindex: u32, name: &str) -> LinkInfo {
    LinkInfo {
        ifindex,
        name: name.into(),
        mtu: 1500,
        mac: Some(mac(9)),
        up: true,
        loopback: false,
        no_arp: false,
        kind: Some("veth".into()),
        xdp_redirect: Some(XdpRedirect::Everything),
        datagram_gso: false,
    }
}

/// With frames that are too long for one buffer no port has XDP, however much it is asked for.
#[test]
fn ports_have_xdp_by_mode_and_kind() {
    let tap = || LinkInfo { kind: Some("tun".into()), ..veth(20, "tap0") };
    let jumbo = |link: LinkInfo| LinkInfo { mtu: 9000, ..link };
    let (packet_rate, throughput) = (PortMode::PacketRate, PortMode::Throughput);
    let tap_flags = PortFlags::TAP | PortFlags::XDP;
    let adaptive = PortFlags::TAP | PortFlags::ADAPTIVE;
    for (link, mode, flags) in [
        (veth(20, "tap0"), PortMode::Auto, 0),
        (veth(20, "tap0"), packet_rate, PortFlags::XDP),
        (veth(20, "tap0"), throughput, 0),
        (tap(), PortMode::Auto, adaptive),
        (tap(), packet_rate, tap_flags),
        (tap(), throughput, PortFlags::TAP),
        (LinkInfo { datagram_gso: true, ..tap() }, packet_rate, tap_flags | PortFlags::DATAGRAM_GSO),
        (jumbo(tap()), packet_rate, PortFlags::TAP),
        (jumbo(tap()), PortMode::Auto, PortFlags::TAP),
        (jumbo(veth(20, "tap0")), packet_rate, 0),
    ] {
        let mut w = routed(&[]);
        w.fabric.add_port("tap0", RuntimePort { mode, ..RuntimePort::of(vni(0)) }).unwrap();
        w.put(link.clone());
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | flags], "{link:?}, {mode:?}");
        w.model.check_xdp();
        // A choice counts where there is one.
        w.fabric.choose_xdp(20, true);
        w.settle();
        let chosen = if flags == adaptive { flags | PortFlags::XDP } else { flags };
        assert_eq!(w.model.port_flags(), [PortFlags::USED | chosen], "{link:?}, {mode:?}");
        w.model.check_xdp();
        // It comes and goes with the MTU.
        w.put(LinkInfo { mtu: if link.mtu == 9000 { 1500 } else { 9000 }, ..link });
        w.settle();
        w.model.check_xdp();
    }
}

/// The agent asks a tap for its features only where XDP wants to know.
#[test]
fn features_matter_where_there_is_xdp() {
    let tap = LinkInfo { kind: Some("tun".into()), ..veth(20, "tap0") };
    for (mode, before, after) in
        [(PortMode::Auto, false, true), (PortMode::PacketRate, true, true), (PortMode::Throughput, false, false)]
    {
        let mut w = with_tap(mode);
        assert_eq!(w.fabric.wants_features(&tap), before, "{mode:?}");
        w.fabric.choose_xdp(20, true);
        assert_eq!(w.fabric.wants_features(&tap), after, "{mode:?}");
        assert!(!w.fabric.wants_features(&veth(20, "tap0")));
        assert!(!w.fabric.wants_features(&LinkInfo { name: "other".into(), ..tap.clone() }));
    }
}

/// A tap in VNI 0 in this mode.
fn with_tap(mode: PortMode) -> World {
    let mut w = routed(&[]);
    w.fabric.add_port("tap0", RuntimePort { mode, ..RuntimePort::of(vni(0)) }).unwrap();
    w.put(LinkInfo { kind: Some("tun".into()), ..veth(20, "tap0") });
    w.settle();
    w
}

fn adaptive(w: &World) -> Vec<AdaptivePort> {
    w.fabric.adaptive_ports().expect("no change waits")
}

#[test]
fn xdp_comes_and_goes_by_choice_and_outlives_the_agent() {
    let mut w = with_tap(PortMode::Auto);
    let index = adaptive(&w)[0].index;
    assert_eq!(adaptive(&w), [AdaptivePort { index, ifindex: 20, xdp: false }]);
    w.fabric.choose_xdp(20, true);
    w.settle();
    assert_eq!(adaptive(&w), [AdaptivePort { index, ifindex: 20, xdp: true }]);
    let link = LinkInfo { kind: Some("tun".into()), ..veth(20, "tap0") };
    w.step(Step::Restart);
    assert_eq!(adaptive(&w), [AdaptivePort { index, ifindex: 20, xdp: true }], "the next agent keeps it");
    w.model.check_xdp();
    w.fabric.choose_xdp(20, false);
    w.settle();
    assert_eq!(w.model.port_flags(), [PortFlags::USED | PortFlags::TAP | PortFlags::ADAPTIVE]);
    w.model.check_xdp();
    // Another interface has to earn it.
    w.fabric.choose_xdp(20, true);
    w.settle();
    w.model.link_gone(20);
    w.fabric.link_gone(20);
    w.put(link);
    w.settle();
    assert_eq!(adaptive(&w), [AdaptivePort { index, ifindex: 20, xdp: false }]);
    w.model.check_xdp();
}

/// A choice waits behind a write that failed: nobody is to take it for done.
#[test]
fn what_ports_have_is_not_known_while_writes_wait() {
    let mut w = with_tap(PortMode::Auto);
    w.fabric.choose_xdp(20, true);
    w.fabric.add_peer(peer(3), None, &[vni(0)].into()).unwrap();
    w.unlucky = true;
    w.poll();
    w.unlucky = false;
    assert!(w.fabric.held_back().is_some());
    assert_eq!(w.model.port_flags()[0] & PortFlags::XDP, 0);
    assert_eq!(w.fabric.adaptive_ports(), None);
    w.settle();
    assert!(adaptive(&w)[0].xdp && w.model.port_flags()[0] & PortFlags::XDP != 0);
}

#[test]
fn a_port_whose_xdp_is_refused_goes_on_without_until_somebody_asks_again() {
    for mode in [PortMode::Auto, PortMode::PacketRate] {
        let mut w = with_tap(mode);
        w.fabric.choose_xdp(20, true);
        w.settle();
        assert!(w.model.port_flags()[0] & PortFlags::XDP != 0);
        w.fabric.xdp_refused(20, "another program is there");
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | PortFlags::TAP], "{mode:?}");
        w.model.check_xdp();
        let refused = |w: &World| w.fabric.ports().into_iter().find(|p| p.name == "tap0").unwrap().xdp_refused;
        assert_eq!(refused(&w).as_deref(), Some("another program is there"));
        assert!(adaptive(&w).is_empty(), "there is nothing to choose");
        // Neither time nor a choice nor another port changes that; a reload does.
        w.fabric.choose_xdp(20, true);
        w.fabric.add_port("tap1", RuntimePort::of(vni(0))).unwrap();
        w.step(Step::Retry);
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | PortFlags::TAP], "{mode:?}");
        let desired = w.fabric.desired().clone();
        w.step(Step::Desire(desired));
        w.settle();
        assert_eq!(refused(&w), None);
        assert!(w.model.port_flags()[0] & PortFlags::XDP != 0, "{mode:?}");
        w.model.check_xdp();
    }
}

#[test]
fn a_vni_that_does_not_learn_says_so_to_ports_and_members() {
    let mut w = routed(&[0]);
    w.fabric.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    w.put(veth(20, "tap0"));
    w.settle();
    let member = |w: &World| w.model.adopt().members[0].1;
    assert_eq!((w.model.port_flags(), member(&w).vni), (vec![PortFlags::USED], vni(0).get()));
    let mut d = w.fabric.desired().clone();
    d.vnis.insert(vni(0), VniSettings { learning: false, ..VniSettings::default() });
    w.step(Step::Desire(d));
    w.settle();
    assert_eq!(w.model.port_flags(), [PortFlags::USED | PortFlags::NO_LEARNING]);
    assert!(!member(&w).learns);
}
