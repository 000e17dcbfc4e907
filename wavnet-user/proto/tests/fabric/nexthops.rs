//! Stories of next hops: found, lost, changed, sought.

use std::{collections::BTreeSet, net::Ipv4Addr};

use wavnet_common::abi::NextHop;
use wavnet_proto::{
    command::Command,
    fabric::{PeerState, RouteInfo, Via},
};

use super::{
    scenarios::{commands, reached, route, routed},
    steps::*,
    world::*,
};

const OUR_MAC: [u8; 6] = [2, 1, 0, 0, 0, 1];

#[test]
fn next_hop_comes_from_route_neighbour_and_link() {
    let mut w = routed(&[0, 1]);
    let gateway = Ipv4Addr::new(192, 0, 2, 254);
    assert_eq!(w.model.next_hop(peer(0)), NextHop::NONE);
    w.fabric.route(peer(0), route(Via::Gateway(gateway), Some(1400)));
    w.fabric.route(peer(1), route(Via::Gateway(gateway), None));
    let unresolved =
        NextHop { ifindex: 3, max_inner: 1364, dst_mac: [0; 6], src_mac: OUR_MAC, src_v4: peer(5).octets(), flags: 0 };
    let asked = commands(&mut w);
    let resolve = |c: &&Command| matches!(c, Command::ResolveNeighbour { ifindex: 3, addr } if *addr == gateway);
    assert_eq!(asked.iter().filter(resolve).count(), 1, "a shared next hop is asked for once: {asked:?}");
    assert_eq!(w.model.next_hop(peer(0)), unresolved);
    assert_eq!(w.model.next_hop(peer(1)), NextHop { max_inner: 1464, ..unresolved });

    w.fabric.neighbour(3, gateway, Some(mac(7)));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), NextHop { dst_mac: mac(7).0, ..unresolved });
    w.fabric.recheck();
    let again = commands(&mut w);
    assert_eq!(again.iter().filter(resolve).count(), 1, "{again:?}");
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(7).0, "and meanwhile nothing changes");
    w.fabric.neighbour(3, gateway, None);
    let lost = commands(&mut w);
    assert_eq!(lost.iter().filter(resolve).count(), 1, "asked for at once: {lost:?}");
    w.fabric.neighbour(3, gateway, None);
    let still = commands(&mut w);
    assert_eq!(still.iter().filter(resolve).count(), 0, "and not again for each answer that there is none: {still:?}");
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(7).0, "the last link address stays in force");
    assert_eq!(w.fabric.peers()[0].state, PeerState::Unresolved, "and that it is lost is told");
    w.fabric.neighbour(3, gateway, Some(mac(8)));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(8).0);
    w.fabric.neighbour(3, gateway, None);
    w.settle();

    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(8).0, "another next hop's, until the kernel has answered");
    w.fabric.neighbour(3, peer(0), None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(8).0, "and for a while if it does not know");
    assert_eq!(w.model.neighbours(), &BTreeSet::from([(3, gateway), (3, peer(0))]));
    w.fabric.route(peer(1), None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(1)), NextHop::NONE);
    assert_eq!(w.model.neighbours(), &BTreeSet::from([(3, peer(0))]), "nobody uses the gateway any more");
}

#[test]
fn what_the_kernel_must_send_itself_is_never_asked_for() {
    let mut w = routed(&[0, 1]);
    w.step(Step::Link { ifindex: 1, name: 6, mtu: 1500, xdp: None, no_arp: true });
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.route(peer(1), Some(RouteInfo { local: true, ..route(Via::OnLink, None).unwrap() }));
    w.settle();
    let hop = w.model.next_hop(peer(0));
    assert_eq!((hop.ifindex, hop.dst_mac), (3, [0; 6]));
    assert_eq!(w.model.next_hop(peer(1)), NextHop::NONE, "a packet to ourselves would come back as a peer's");
    assert!(w.model.neighbours().is_empty());
    let states: Vec<_> = w.fabric.peers().into_iter().map(|p| p.state).collect();
    assert_eq!(states, [PeerState::Kernel, PeerState::ThisHost]);
}

#[test]
fn a_link_that_changes_or_goes_changes_the_next_hops_over_it() {
    let mut w = reached();
    w.step(Step::Link { ifindex: 1, name: 6, mtu: 9000, xdp: None, no_arp: false });
    let asked = commands(&mut w);
    assert!(asked.contains(&Command::QueryRoute { addr: peer(0), from: Some(peer(5)) }), "{asked:?}");
    assert_eq!(w.model.next_hop(peer(0)).max_inner, 8964);
    w.step(Step::Gone(1));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), NextHop::NONE);
    assert_eq!(w.fabric.peers()[0].state, PeerState::NoRoute);
}

#[test]
fn without_an_address_of_ours_no_peer_is_reached() {
    let mut w = reached();
    assert_eq!(w.fabric.peers()[0].state, PeerState::Up);
    // The interface gets another name: it is not the underlay any more, though the route is still there.
    w.step(Step::Link { ifindex: 1, name: 7, mtu: 1500, xdp: None, no_arp: false });
    w.settle();
    assert_eq!((w.model.next_hop(peer(0)), w.fabric.peers()[0].state), (NextHop::NONE, PeerState::NoRoute));
    w.step(Step::Link { ifindex: 1, name: 6, mtu: 1500, xdp: None, no_arp: false });
    w.settle();
    assert_eq!(w.fabric.peers()[0].state, PeerState::Up);
}

#[test]
fn a_restart_keeps_next_hops_until_the_kernel_has_answered() {
    let mut w = reached();
    let before = w.model.next_hop(peer(0));
    w.restart();
    assert_eq!(w.model.next_hop(peer(0)), before);
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), before, "same route: the link address stays until it is known better");
    w.fabric.neighbour(3, peer(0), None);
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)), before, "nor is it taken away because it is lost at this moment");
}

#[test]
fn a_next_hop_that_does_not_answer_is_sought_for_a_minute_and_then_taken_for_dead() {
    let mut w = reached();
    w.fabric.neighbour(3, peer(0), None);
    let questions = |w: &mut World| {
        let asked = commands(w);
        let route = asked.contains(&Command::QueryRoute { addr: peer(0), from: Some(peer(5)) });
        (route, asked.contains(&Command::ResolveNeighbour { ifindex: 3, addr: peer(0) }))
    };
    for second in 0..60 {
        // At first often: the way over it may be another by now.
        assert_eq!(questions(&mut w), (second <= 5, true), "second {second}");
        assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(1).0, "second {second}");
        w.fabric.route(peer(0), route(Via::OnLink, None));
        w.fabric.neighbour(3, peer(0), None);
        w.fabric.seek_next_hops();
    }
    questions(&mut w);
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, [0; 6], "from now on the kernel sends, or does not");
    w.fabric.seek_next_hops();
    assert_eq!(questions(&mut w), (false, false));
    w.fabric.retry();
    assert_eq!(questions(&mut w), (true, true), "more seldom");
    w.fabric.neighbour(3, peer(0), Some(mac(2)));
    w.settle();
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(2).0);
}

#[test]
fn next_hops_that_take_turns_and_do_not_answer_get_one_minute_together() {
    let mut w = reached();
    for second in 0..60 {
        assert_eq!(w.model.next_hop(peer(0)).dst_mac, mac(1).0, "second {second}");
        let gateway = Ipv4Addr::new(192, 0, 2, 253 + second % 2);
        w.fabric.route(peer(0), route(Via::Gateway(gateway), None));
        w.settle();
        w.fabric.neighbour(3, gateway, None);
        w.fabric.seek_next_hops();
        w.settle();
    }
    assert_eq!(w.model.next_hop(peer(0)).dst_mac, [0; 6]);
}
