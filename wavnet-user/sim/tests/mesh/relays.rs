//! Relayed ways that only stand by: they cost the relay nothing while no frames flow, and are there when they are needed.

use std::time::Duration;

use wavnet_proto::{
    mesh::{PathKind, Way},
    rendezvous::Dropped,
};
use wavnet_sim::{Attached, Direction, Network, Place, Seed, SegmentId, TapId, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    trouble::of_many_addresses,
    world::{Site, World, pair},
};

const DELAY: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
/// By then a way that nothing uses is forgotten by both hosts and by the server.
const FORGOTTEN: Duration = Duration::from_secs(300);

pub(crate) fn routers(a: Site, b: Site) -> [Attached; 2] {
    [a, b].map(|site| site.router.expect("a NAT").into())
}

/// Nothing goes from one router to the other any more, or it does again.
pub(crate) fn cut(net: &mut Network<Host>, [a, b]: [Attached; 2], cut: bool) {
    net.set_partition(&[a], &[b], cut);
}

fn tap(world: &mut World) -> TapId {
    world.net.tap(Place::Link(world.servers[0].into(), Direction::Down), 100_000)
}

/// Pulses for the relay that the tap has seen so far.
fn relayed_pulses(world: &World, tap: TapId) -> usize {
    world.net.captured(tap).filter(|c| matches!(c.datagram.payload[..], [b'P', _, _, _, _, _])).count()
}

fn pairs(world: &World) -> usize {
    world.net.node(world.servers[0]).server().core.view().relays
}

fn symmetric(world: &mut World, name: &str) -> Site {
    world.behind(name, NatConfig::symmetric(), Kind::Symmetric.summary())
}

#[test]
fn while_no_frames_flow_no_pulse_is_relayed_and_a_dead_path_is_replaced_all_the_same() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(10 * SECOND);
        let tap = tap(&mut world);
        for round in 0..2 {
            world.net.run_for(FORGOTTEN);
            assert_eq!((pairs(&world), world.agent(a).paths(), world.agent(b).paths()), (0, 1, 1), "{round}");
            if round == 0 {
                assert_eq!(relayed_pulses(&world, tap), 0);
            }
            cut(&mut world.net, routers(a, b), true);
            let relayed = world.until_paths(a, b, 15 * SECOND, |kind| kind == PathKind::Relayed);
            assert!(relayed.is_some(), "{round}\n{}", world.net.trace());
            world.net.run_for(30 * SECOND);
            assert_eq!(pairs(&world), 1);
            cut(&mut world.net, routers(a, b), false);
            let back = world.until_paths(a, b, 120 * SECOND, |kind| kind == PathKind::Direct);
            assert!(back.is_some(), "{round}\n{}", world.net.trace());
        }
    });
}

#[test]
fn while_frames_flow_a_relayed_way_is_ready_for_two_pulses_a_minute() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(10 * SECOND);
        let tap = tap(&mut world);
        let every = Duration::from_millis(50);
        let end = world.net.now() + 2 * FORGOTTEN;
        let gap = world.longest_gap(a, b, every, end);
        assert!(gap < SECOND, "{gap:?}");
        // Asked and answered, by both sides, and some more of them in doubt.
        let pulses = relayed_pulses(&world, tap);
        assert!((20..60).contains(&pulses), "{pulses} in ten minutes");
        assert_eq!(pairs(&world), 1);
        let (at, between) = (world.net.now() + SECOND, routers(a, b));
        world.net.at(at, move |net: &mut Network<Host>| cut(net, between, true));
        let gap = world.longest_gap(a, b, Duration::from_millis(1), at + 4 * SECOND);
        assert!(gap < SECOND, "{gap:?}\n{}", world.net.trace());
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Relayed), Some(PathKind::Relayed)));
    });
}

/// Nothing is ready: the server is asked when the direct path comes into doubt.
#[test]
fn frames_that_begin_to_flow_as_their_path_dies_are_back_within_a_second() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(FORGOTTEN);
        assert_eq!(pairs(&world), 0);
        let (at, between) = (world.net.now() + SECOND, routers(a, b));
        world.net.at(at, move |net: &mut Network<Host>| cut(net, between, true));
        let gap = world.longest_gap(a, b, Duration::from_millis(1), at + 4 * SECOND);
        assert!(gap < SECOND, "{gap:?}\n{}", world.net.trace());
    });
}

/// Servers tell those who share a relayed way where a host is that has moved; others are told because it asks for that.
#[test]
fn who_moves_after_a_long_silence_is_back_within_a_second() {
    Seed::each(10, |seed| {
        for reboot in [true, false] {
            let (mut world, a, b) = pair(seed, DELAY);
            world.net.run_for(FORGOTTEN);
            assert_eq!(pairs(&world), 0);
            let router = world.add_router(NatConfig::port_restricted_cone());
            let lan = world.net.lan(router);
            let addr = world.net.vacant_v4(lan);
            let (at, old) = (world.net.now() + SECOND, a.router.expect("a NAT"));
            world.net.at(at, move |net: &mut Network<Host>| match reboot {
                true => net.reboot(old),
                false => net.move_host(a.host, lan, &[addr]),
            });
            let gap = world.longest_gap(a, b, Duration::from_millis(1), at + 4 * SECOND);
            assert!(gap < SECOND, "reboot {reboot}: {gap:?}\n{}", world.net.trace());
        }
    });
}

#[test]
fn who_gets_no_relayed_way_asks_again_until_there_is_one() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        world.limit(|limits| limits.relays = 1);
        let [a, b] = ["a", "b"].map(|name| symmetric(&mut world, name));
        let met = world.until_paths(a, b, 3 * SECOND, |_| true);
        assert!(met.is_some(), "{}", world.net.trace());
        let c = symmetric(&mut world, "c");
        world.net.run_for(60 * SECOND);
        assert_eq!((world.path(a, c), world.path(b, c), world.path(a, b)), (None, None, Some(PathKind::Relayed)));
        let sent = world.net.host_stats(c.host).sent;
        world.net.run_for(60 * SECOND);
        let sent = world.net.host_stats(c.host).sent - sent;
        assert!(sent < 200, "{sent} datagrams in a minute in vain");
        world.limit(|limits| limits.relays = 3);
        for other in [a, b] {
            let met = world.until_paths(other, c, 180 * SECOND, |_| true);
            assert!(met.is_some(), "{}", world.net.trace());
        }
    });
}

/// Whoever has a direct path can do without; and what was given up before its time is asked for when it is missed.
#[test]
fn a_relayed_way_that_stands_by_gives_way_to_one_that_is_needed() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(70 * SECOND);
        world.limit(|limits| limits.relays = 1);
        assert_eq!((pairs(&world), world.agent(a).paths()), (1, 2));
        let c = symmetric(&mut world, "c");
        let met = world.until_paths(b, c, 30 * SECOND, |_| true).or(world.until_paths(a, c, SECOND, |_| true));
        assert!(met.is_some(), "{}", world.net.trace());
        world.limit(|limits| limits.relays = 3);
        let (at, between) = (world.net.now() + SECOND, routers(a, b));
        world.net.at(at, move |net: &mut Network<Host>| cut(net, between, true));
        let gap = world.longest_gap(a, b, Duration::from_millis(1), at + 4 * SECOND);
        assert!(gap < SECOND, "{gap:?}\n{}", world.net.trace());
    });
}

#[test]
fn a_dead_relayed_way_keeps_frames_from_asking_for_no_other() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let every = Duration::from_millis(50);
        let end = world.net.now() + 20 * SECOND;
        world.longest_gap(a, b, every, end);
        let paths = |world: &World| [a, b].map(|site| world.agent(site).paths());
        assert_eq!(paths(&world), [2, 2]);
        // The server does not relay for a while.
        world.relays(false);
        let end = world.net.now() + 150 * SECOND;
        world.longest_gap(a, b, every, end);
        assert_eq!(paths(&world), [1, 1]);
        world.rest(a, b);
        world.net.run_for(120 * SECOND);
        world.relays(true);
        world.net.run_for(120 * SECOND);
        let end = world.net.now() + 8 * SECOND;
        world.longest_gap(a, b, every, end);
        assert_eq!(paths(&world), [2, 2], "{}", world.net.trace());
    });
}

/// It is at another address each day. What its relay was at former ones takes no room.
#[test]
fn a_server_that_moves_often_leaves_nothing_behind() {
    let (mut world, a, b) = pair(Seed::from_env_or(1), DELAY);
    for _ in 0..45 {
        let (server, addr) = (world.servers[0], world.net.vacant_v4(SegmentId::INTERNET));
        world.net.move_host(server, SegmentId::INTERNET, &[addr]);
        for (site, name) in [(a, "a"), (b, "b")] {
            let settings = world.settings(name);
            world.configure(site, settings);
        }
        let end = world.net.now() + 70 * SECOND;
        world.longest_gap(a, b, Duration::from_millis(200), end);
    }
    for (site, peer) in [(a, b), (b, a)] {
        let paths = world.agent(site).mesh.peer(&peer.key).expect("a peer").paths;
        assert!(paths.len() <= 4, "{paths:?}");
    }
    cut(&mut world.net, routers(a, b), true);
    let relayed = world.until_paths(a, b, 15 * SECOND, |kind| kind == PathKind::Relayed);
    assert!(relayed.is_some(), "{}", world.net.trace());
}

/// New keys go by the relay as well, and not to the server.
#[test]
fn a_relayed_pair_shakes_hands_by_the_relay() {
    let mut world = World::new(Seed::from_env_or(1), DELAY);
    let [a, b] = ["a", "b"].map(|name| symmetric(&mut world, name));
    assert!(world.until_paths(a, b, 3 * SECOND, |_| true).is_some());
    world.net.run_for(Duration::from_secs(2 * 3600));
    let counters = world.net.node(world.servers[0]).server().core.view().counters;
    assert_eq!(counters.dropped(Dropped::Mac), 0, "{counters:?}");
    assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Relayed), Some(PathKind::Relayed)));
}

/// There is room for four paths, and there are nine that are direct. Should these all end at once, as those of one search do, the relay is ready: also
/// if it was forgotten, and comes when they have taken all places.
#[test]
fn while_frames_flow_the_relay_has_its_place_beside_direct_paths_however_many() {
    Seed::each(6, |seed| {
        let (mut world, [x, y], _) = of_many_addresses(seed);
        let direct = world.until_paths(x, y, 2 * SECOND, |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        let every = Duration::from_millis(50);
        for round in 0..2 {
            // That frames flow counts from the fifth second on.
            let end = world.net.now() + 7 * SECOND;
            world.longest_gap(x, y, every, end);
            for _ in 0..20 {
                let end = world.net.now() + SECOND;
                world.longest_gap(x, y, every, end);
                for site in [x, y] {
                    let ways: Vec<Way> = world.agent(site).ways().map(|(_, way)| way).collect();
                    let relayed = ways.iter().filter(|way| way.is_relayed()).count();
                    assert_eq!((relayed, ways.len()), (1, 4), "{round}: {ways:?}\n{}", world.net.trace());
                }
            }
            world.rest(x, y);
            world.net.run_for(FORGOTTEN);
            assert_eq!(pairs(&world), 0);
        }
    });
}

/// Relayed ways of this host to that one; whether it takes frames from each.
fn relayed(world: &World, from: Site, to: Site) -> Vec<bool> {
    let peer = world.agent(from).mesh.peer(&to.key).expect("a peer");
    peer.paths.iter().filter(|path| path.way.is_relayed()).map(|path| path.id.is_some()).collect()
}

/// Frames flow when a second server relays, too, and there is no place for its way. It is not kept for ever when nothing flows any more.
#[test]
fn a_relayed_way_that_there_was_no_place_for_is_forgotten_as_well() {
    Seed::each(6, |seed| {
        let (mut world, [x, y], _) = of_many_addresses(seed);
        let direct = world.until_paths(x, y, 2 * SECOND, |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        world.add_server();
        for (site, name) in [(x, "x"), (y, "y")] {
            let settings = world.settings(name);
            world.configure(site, settings);
        }
        world.net.run_for(2 * FORGOTTEN);
        let end = world.net.now() + 10 * SECOND;
        world.longest_gap(x, y, Duration::from_millis(50), end);
        assert!(relayed(&world, x, y).contains(&false), "{:?}", relayed(&world, x, y));
        world.rest(x, y);
        world.net.run_for(FORGOTTEN);
        assert_eq!([relayed(&world, x, y), relayed(&world, y, x)].concat(), []);
        for server in &world.servers {
            assert_eq!(world.net.node(*server).server().core.view().relays, 0);
        }
    });
}

/// Frames must flow for a while until they count: the relay that is given up meanwhile comes back.
#[test]
fn frames_that_begin_when_the_relay_is_about_to_be_given_up_have_one() {
    Seed::each(2, |seed| {
        for wait in 140..160 {
            let (mut world, a, b) = pair(seed, DELAY);
            world.net.run_for(wait * SECOND);
            let end = world.net.now() + 10 * SECOND;
            world.longest_gap(a, b, Duration::from_millis(50), end);
            assert_eq!((relayed(&world, a, b), relayed(&world, b, a)), (vec![true], vec![true]), "after {wait} s");
        }
    });
}
