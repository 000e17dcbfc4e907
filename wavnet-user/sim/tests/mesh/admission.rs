//! Hosts that have a session, and one does not know yet what the other one is: none of its frames is taken, and no way to it is pulsed.

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;
use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Chance, Direction, Fate, FilterId, LinkConfig, Network, Place, Seed, nat::NatConfig};

use crate::{
    node::Host,
    relays::{cut, routers},
    world::{Site, World, cone},
};

const DELAY: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_millis(10);
/// Of a host that is in many VNIs only what says so is longer than this.
const SHORT: usize = 300;
/// PEER_HELLO is repeated no more seldom.
const REPEATED: Duration = Duration::from_secs(10);

/// Two hosts in many VNIs behind NATs that let nothing from one to the other, and two servers.
fn pair_by_relays(seed: Seed) -> (World, Site, Site) {
    let mut world = World::new(seed, DELAY);
    world.add_server();
    let vnis: BTreeSet<Vni> = (1..=120).map(|vni| Vni::new(vni).expect("a VNI")).collect();
    let [a, b] = ["a", "b"].map(|name| {
        let router = world.add_router(NatConfig::port_restricted_cone());
        let lan = world.net.lan(router);
        Site { router: Some(router), ..world.add_agent_in(lan, name, cone(), vnis.clone()) }
    });
    cut(&mut world.net, routers(a, b), true);
    (world, a, b)
}

/// What the other one is does not come to this host any more.
fn keep_from(world: &mut World, site: Site) -> FilterId {
    world.net.filter(Place::Link(site.host.into(), Direction::Down), |passing| {
        if passing.datagram.payload.len() > SHORT { Fate::Drop } else { Fate::Pass }
    })
}

fn knows(net: &Network<Host>, one: Site, other: Site) -> bool {
    net.node(one.host).agent().admitted(other.key).is_some()
}

/// Two relayed ways, one longer than the other one, are found while PEER_HELLO does not arrive, and one may die so long before it does. How many of
/// the frames that both send from then on are lost, of which none overtakes another.
fn lost_after(seed: Seed, dies: Option<usize>, before: Duration) -> usize {
    let (mut world, a, b) = pair_by_relays(seed);
    world.net.set_link(world.servers[1], &LinkConfig::delayed(3 * DELAY));
    let filter = keep_from(&mut world, a);
    world.net.run_for(20 * SECOND);
    assert_eq!((knows(&world.net, a, b), knows(&world.net, b, a)), (false, true), "{}", world.net.trace());
    let view = world.agent(a).mesh.peer(&b.key).expect("a session");
    assert_eq!(view.paths.iter().filter(|path| path.kind == PathKind::Relayed && path.rtt.is_some()).count(), 2);
    if let Some(dies) = dies {
        let (router, server) = (b.router.expect("a NAT"), world.servers[dies]);
        world.net.set_partition(&[router.into()], &[server.into()], true);
    }
    world.net.run_for(before);
    assert_eq!(world.path(a, b), None);
    world.net.remove_filter(filter);
    let (ways, mut sent) = ([(a, b), (b, a)], [0; 2]);
    let steps = ((REPEATED + 3 * SECOND).as_millis() / EVERY.as_millis()) as u64;
    for number in 0..steps {
        for ((from, to), sent) in ways.iter().zip(&mut sent) {
            *sent += usize::from(world.send(*from, *to, number));
        }
        world.net.run_for(EVERY);
    }
    world.net.run_for(SECOND);
    let lost = ways.iter().zip(sent).map(|((from, to), sent)| {
        assert!(sent > 200, "{sent} of {steps}: {}", world.net.trace());
        let frames = world.agent(*to).frames.iter().filter(|frame| frame.from == from.key);
        let numbers: Vec<u64> = frames.map(|frame| frame.number as u32 as u64).collect();
        assert!(numbers.is_sorted(), "{:?}\n{}", world.agent(*from).events, world.net.trace());
        sent - numbers.len()
    });
    lost.sum()
}

#[test]
fn a_way_that_has_died_before_the_peer_was_known_takes_no_frames() {
    Seed::each(10, |seed| {
        for dies in [None, Some(0), Some(1)] {
            assert_eq!(lost_after(seed, dies, 20 * SECOND), 0, "{dies:?}");
        }
    });
}

/// Nobody could have noticed: what is answered first tells.
#[test]
fn a_way_that_dies_as_the_peer_becomes_known_takes_frames_for_no_longer_than_a_round_trip() {
    Seed::each(10, |seed| {
        for (dies, before) in [(0, 0), (0, 2), (0, 5), (1, 0), (1, 2), (1, 5)] {
            let lost = lost_after(seed, Some(dies), before * SECOND);
            assert!(lost <= 40, "{dies} {before} s: {lost}");
        }
    });
}

/// When they know each other it is long ago that the ways were proved, and what each says of them now may be lost.
#[test]
fn those_who_know_each_other_late_have_a_path_soon_even_if_much_is_lost() {
    Seed::each(100, |seed| {
        let (mut world, a, b) = pair_by_relays(seed);
        let filters = [a, b].map(|site| keep_from(&mut world, site));
        world.net.run_for(20 * SECOND);
        assert!(!knows(&world.net, a, b) && !knows(&world.net, b, a));
        filters.into_iter().for_each(|filter| world.net.remove_filter(filter));
        for router in routers(a, b) {
            world.net.link_mut(router, Direction::Up).loss = Chance::percent(30);
        }
        let end = world.net.now() + 60 * SECOND;
        let met = world.net.run_until_met(end, |net| knows(net, a, b) && knows(net, b, a));
        assert!(met.is_some(), "{}", world.net.trace());
        let path = world.until_paths(a, b, 4 * SECOND, |_| true);
        assert!(path.is_some(), "{:?} {:?}\n{}", world.path(a, b), world.path(b, a), world.net.trace());
    });
}
