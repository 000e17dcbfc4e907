//! What ports say to the programs: XDP, modes, learning.

use wavnet_common::abi::PortFlags;
use wavnet_proto::fabric::{LinkInfo, PortMode, RuntimePort, VniSettings, XdpRedirect};

use super::{scenarios::routed, steps::*, world::*};

#[test]
fn ports_say_what_xdp_may_redirect_to_them() {
    let mut w = routed(&[]);
    w.fabric.add_port("tap0", RuntimePort::of(vni(0))).unwrap();
    let both = PortFlags::DELIVER_TC | PortFlags::ONE_BUFFER;
    for (xdp, flags) in [
        (None, both),
        (Some(XdpRedirect::Nothing), both),
        (Some(XdpRedirect::OneBuffer), PortFlags::ONE_BUFFER),
        (Some(XdpRedirect::Everything), 0),
    ] {
        w.step(Step::Link { ifindex: 2, name: 0, mtu: 1500, xdp, no_arp: false });
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | flags], "{xdp:?}");
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

/// A port has XDP only if it is asked for, and not with frames that are too long for one buffer.
#[test]
fn ports_have_xdp_if_it_is_asked_for() {
    let tap = || LinkInfo { kind: Some("tun".into()), ..veth(20, "tap0") };
    let jumbo = |link: LinkInfo| LinkInfo { mtu: 9000, ..link };
    let packet_rate = PortMode::PacketRate;
    let tap_flags = PortFlags::TAP | PortFlags::XDP;
    for (link, mode, flags) in [
        (veth(20, "tap0"), PortMode::Auto, 0),
        (veth(20, "tap0"), packet_rate, PortFlags::XDP),
        (tap(), PortMode::Auto, PortFlags::TAP),
        (tap(), packet_rate, tap_flags),
        (LinkInfo { datagram_gso: true, ..tap() }, packet_rate, tap_flags | PortFlags::DATAGRAM_GSO),
        (jumbo(tap()), packet_rate, PortFlags::TAP),
        (jumbo(veth(20, "tap0")), packet_rate, 0),
    ] {
        let mut w = routed(&[]);
        w.fabric.add_port("tap0", RuntimePort { mode, ..RuntimePort::of(vni(0)) }).unwrap();
        w.put(link.clone());
        w.settle();
        assert_eq!(w.model.port_flags(), [PortFlags::USED | flags], "{link:?}, {mode:?}");
        w.model.check_xdp();
        // It comes and goes with the MTU.
        w.put(LinkInfo { mtu: if link.mtu == 9000 { 1500 } else { 9000 }, ..link });
        w.settle();
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
