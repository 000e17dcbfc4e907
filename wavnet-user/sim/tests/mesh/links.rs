//! Links that lose, double, delay and reorder.

use std::time::Duration;

use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Chance, Direction, Jitter, LinkConfig, Network, Order, Seed, nat::NatConfig};

use crate::{
    node::Host,
    world::{Site, World, cone},
};

/// Two hosts behind NATs, whose links to the internet are like this in the direction out of the site.
fn pair_over(seed: Seed, delay: Duration, change: impl Fn(&mut LinkConfig)) -> (World, Site, Site) {
    let mut world = World::new(seed, delay);
    let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
    let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
    for site in [a, b] {
        change(world.net.link_mut(site.router.expect("a NAT"), Direction::Up));
    }
    change(world.net.link_mut(world.servers[0], Direction::Up));
    (world, a, b)
}

/// Direct soon, and then ten minutes of traffic during which nothing changes.
fn stays_direct(seed: Seed, delay: Duration, change: impl Fn(&mut LinkConfig)) {
    let (mut world, a, b) = pair_over(seed, delay, change);
    let direct = world.until_paths(a, b, Duration::from_secs(10), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
    world.net.run_for(Duration::from_secs(2));
    let since = world.net.now();
    let gap = world.longest_gap(a, b, Duration::from_millis(50), since + Duration::from_secs(600));
    let changes = world.path_changes(a, since) + world.path_changes(b, since);
    assert_eq!(changes, 0, "{:?} {:?}", world.agent(a).events, world.agent(b).events);
    assert!(gap < Duration::from_secs(1), "{gap:?}");
}

#[test]
fn loss_of_a_twentieth_and_a_long_way_do_not_unsettle_a_path() {
    Seed::each(10, |seed| stays_direct(seed, Duration::from_millis(50), |link| link.loss = Chance::percent(5)));
}

#[test]
fn jitter_and_reordering_do_not_unsettle_a_path() {
    Seed::each(6, |seed| {
        stays_direct(seed, Duration::from_millis(20), |link| {
            link.order = Order::AsJitter;
            link.jitter = Jitter::Pareto { scale: Duration::from_millis(8), longest: Duration::from_millis(150) };
            link.loss = Chance::percent(1);
        });
    });
    Seed::each(6, |seed| {
        stays_direct(seed, Duration::from_millis(20), |link| {
            link.order = Order::HeldBack { chance: Chance::percent(10), by: Duration::from_millis(40) };
            link.duplication = Chance::percent(10);
        });
    });
}

#[test]
fn a_direct_path_is_found_over_any_links() {
    Seed::each(60, |seed| {
        let mut rng = seed.rng();
        let delay = Duration::from_millis(rng.below(80));
        let (mut world, a, b) = pair_over(seed, delay, |link| {
            link.loss = Chance::percent(10);
            link.duplication = Chance::percent(20);
            link.order = Order::AsJitter;
            link.jitter = Jitter::Uniform(Duration::from_millis(60));
        });
        let direct = world.until_paths(a, b, Duration::from_secs(20), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
    });
}

/// The relay of one server becomes slow: that of the other one takes over, and no frame is lost or overtaken.
#[test]
fn the_faster_of_two_relays_takes_over() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, Duration::from_millis(10));
        world.add_server();
        let summary = crate::grid::Kind::Symmetric.summary();
        let a = world.behind("a", NatConfig::symmetric(), summary);
        let b = world.behind("b", NatConfig::symmetric(), summary);
        assert!(world.until_paths(a, b, Duration::from_secs(3), |_| true).is_some(), "{}", world.net.trace());
        world.net.run_for(Duration::from_secs(10));
        world.set_busy(a, b);
        let slow = world.agent(a).way_to(b.key).expect("a path").remote;
        let server = *world.servers.iter().find(|s| world.net.main_address(**s) == slow).expect("a server");
        let at = world.net.now() + Duration::from_secs(5);
        world.net.at(at, move |net: &mut Network<Host>| {
            net.set_link(server, &LinkConfig::delayed(Duration::from_millis(40)));
        });
        let mut sent = 0;
        while world.net.now() < at + Duration::from_secs(30) {
            sent += u64::from(world.send(a, b, sent));
            world.net.run_for(Duration::from_millis(5));
        }
        world.net.run_for(Duration::from_secs(1));
        assert_ne!(world.agent(a).way_to(b.key).map(|way| way.remote), Some(slow), "{seed}");
        let came: Vec<u64> = world.agent(b).frames.iter().map(|f| f.number).collect();
        assert_eq!(came, (0..sent).collect::<Vec<u64>>());
        assert!(world.agent(a).holds > 0);
    });
}
