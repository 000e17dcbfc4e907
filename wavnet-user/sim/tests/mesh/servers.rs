//! Servers that die, return, and stand in for each other.

use std::time::Duration;

use wavnet_proto::{
    mesh::{Event, PathKind, ServerTrouble, Settings},
    rendezvous::persist::Saved,
    trust::SecretKey,
};
use wavnet_sim::{Direction, Network, Place, Seed, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    world::{Site, World, cone},
};

const DELAY: Duration = Duration::from_millis(10);

/// Two servers, and two hosts that one of them relays for.
fn relayed_by_one_of_two(seed: Seed) -> (World, Site, Site) {
    let mut world = World::new(seed, DELAY);
    world.add_server();
    let symmetric = Kind::Symmetric.summary();
    let a = world.behind("a", NatConfig::symmetric(), symmetric);
    let b = world.behind("b", NatConfig::symmetric(), symmetric);
    assert!(world.until_paths(a, b, Duration::from_secs(3), |_| true).is_some());
    world.net.run_for(Duration::from_secs(10));
    (world, a, b)
}

#[test]
fn a_server_that_dies_at_any_step_and_returns_brings_them_together() {
    // Deaths, and those of them that found the two without a direct path.
    let (mut runs, mut early) = (0, 0);
    for step in 1..=40 {
        Seed::each(2, |seed| {
            let mut world = World::new(seed, DELAY);
            let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            let server = world.servers[0];
            let deadline = world.net.now() + Duration::from_secs(30);
            let died = world.net.run_until_met(deadline, |net| net.host_stats(server).received >= step);
            assert!(died.is_some(), "step {step}");
            runs += 1;
            early += u32::from([world.path(a, b), world.path(b, a)] != [Some(PathKind::Direct); 2]);
            world.net.kill(server);
            world.net.run_for(Duration::from_secs(3));
            world.restart_server(0);
            let back = world.net.now();
            let direct = world.until_paths(a, b, Duration::from_secs(12), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "step {step}\n{}", world.net.trace());
            // It has forgotten both: so it is of use to others only when both have come to it again.
            let both = |net: &Network<Host>| {
                [a, b].iter().all(|site| net.node(server).server().core.hosts().any(|host| host.key == site.key))
            };
            let deadline = back + Duration::from_secs(15);
            let registered = world.net.run_until_met(deadline, both);
            assert!(registered.is_some(), "step {step}\n{}", world.net.trace());
            let c = world.behind("c", NatConfig::port_restricted_cone(), cone());
            for site in [a, b] {
                let met = world.until_paths(site, c, Duration::from_secs(2), |kind| kind == PathKind::Direct);
                assert!(met.is_some(), "step {step}\n{}", world.net.trace());
                assert!(world.agent(site).mesh.servers()[0].registered);
            }
        });
    }
    assert!(early * 2 > runs && early < runs, "it died early enough, and late enough, {early} times of {runs}");
}

/// The server dies while it relays frames for two hosts, and starts again after so long, from its store or without. For how long no frames came from
/// then on, and whether the relayed way is that of before.
fn gap_after_restart(seed: Seed, away: Duration, keeps: bool) -> (Duration, bool) {
    const OFTEN: Duration = Duration::from_millis(10);
    let mut world = World::new(seed, DELAY);
    let symmetric = Kind::Symmetric.summary();
    let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::symmetric(), symmetric));
    assert!(world.until_paths(a, b, Duration::from_secs(3), |_| true).is_some());
    // No timer is always due then.
    let at = world.net.now() + Duration::from_secs(10) + Duration::from_millis(170) * seed.0 as u32;
    world.longest_gap(a, b, OFTEN, at);
    let ways = |world: &World| [world.agent(a).way_to(b.key), world.agent(b).way_to(a.key)];
    let before = ways(&world);
    let killed = world.net.kill(world.servers[0]).expect("it ran");
    world.longest_gap(a, b, OFTEN, at + away);
    let saved = if keeps { killed.server().saved.clone() } else { Saved::default() };
    world.restart_server_with(0, saved);
    let gap = world.longest_gap(a, b, Duration::from_millis(5), at + away + Duration::from_secs(5));
    assert_eq!([world.path(a, b), world.path(b, a)], [Some(PathKind::Relayed); 2], "{}", world.net.trace());
    for site in [a, b] {
        assert!(world.agent(site).mesh.servers()[0].registered, "{}", world.net.trace());
    }
    (gap, ways(&world) == before)
}

/// Hosts that know of no restart go on; those that have given up the relayed way meanwhile look every 400 ms whether the server is there.
#[test]
fn a_server_that_returns_with_its_store_relays_at_once_or_within_a_second() {
    Seed::each(6, |seed| {
        for away in [0, 300, 700, 2000, 10_000, 100_000] {
            let most = Duration::from_millis(if away <= 300 { 100 } else { 1000 });
            let (gap, same) = gap_after_restart(seed, Duration::from_millis(away), true);
            assert!(same && gap < most, "away for {away} ms: {gap:?}");
        }
    });
}

/// Both hosts have to register first, and get other labels.
#[test]
fn a_server_that_returns_without_memory_relays_again_within_a_second_and_a_half() {
    Seed::each(10, |seed| {
        for away in [0, 300, 700, 2000, 10_000, 100_000] {
            let (gap, same) = gap_after_restart(seed, Duration::from_millis(away), false);
            assert!(!same && gap < Duration::from_millis(1500), "away for {away} ms: {gap:?}");
        }
    });
}

#[test]
fn another_server_stands_in_for_one_that_is_gone() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = relayed_by_one_of_two(seed);
        let used = world.agent(a).way_to(b.key).expect("a path").remote;
        let server = *world.servers.iter().find(|s| world.net.main_address(**s) == used).expect("a server");
        let at = world.net.now() + Duration::from_secs(2);
        world.net.at(at, move |net| drop(net.kill(server)));
        let gap = world.longest_gap(a, b, Duration::from_millis(1), at + Duration::from_secs(4));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
        // Somebody new is found by the one that is left.
        let c = world.behind("c", NatConfig::port_restricted_cone(), cone());
        for site in [a, b] {
            let met = world.until_paths(site, c, Duration::from_secs(5), |_| true);
            assert!(met.is_some(), "{}", world.net.trace());
        }
    });
}

#[test]
fn one_server_of_two_is_enough_from_the_start() {
    Seed::each(10, |seed| {
        for dead in [0, 1] {
            let mut world = World::new(seed, DELAY);
            world.add_server();
            world.net.kill(world.servers[dead]);
            let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            let direct = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{}", world.net.trace());
        }
    });
}

/// A server that has two addresses is one, and an agent that knows both does not drive itself out.
#[test]
fn a_server_with_two_addresses_is_one() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, DELAY);
        let server = world.servers[0];
        world.server_addrs = Some(world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect());
        let sites: Vec<_> = ["a", "b"]
            .into_iter()
            .map(|name| {
                let internet = wavnet_sim::SegmentId::INTERNET;
                let addrs = [world.net.vacant_v4(internet), world.net.vacant_v6(internet)];
                let secret = wavnet_proto::trust::SecretKey::generate(&mut world.rng);
                let settings = world.settings(name);
                world.add_agent_as(internet, &addrs, settings, secret, Kind::Open.summary())
            })
            .collect();
        let direct = world.until_paths(sites[0], sites[1], Duration::from_secs(2), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        let since = world.net.now();
        world.net.run_for(Duration::from_secs(300));
        for site in &sites {
            let agent = world.agent(*site);
            let lost: Vec<_> = agent.events.iter().filter(|(at, _)| *at > since).collect();
            assert!(lost.is_empty(), "{lost:?}");
            assert_eq!(agent.mesh.servers().iter().filter(|server| server.registered).count(), 1);
        }
        // The address in use is taken from the list: the other one is tried at once.
        let servers = world.agent(sites[0]).mesh.servers();
        world.server_addrs = Some(servers.iter().filter(|server| !server.registered).map(|s| s.addr).collect());
        let settings = world.settings("a");
        world.configure(sites[0], settings);
        world.net.run_for(Duration::from_secs(1));
        let servers = world.agent(sites[0]).mesh.servers();
        assert!(matches!(&servers[..], [server] if server.registered), "{servers:?}");
    });
}

/// HELLO or INIT.
fn is_greeting(payload: &[u8]) -> bool {
    payload.first() == Some(&b'W') && matches!(payload.get(5), Some(1 | 3))
}

#[test]
fn a_server_that_stays_on_a_changed_list_keeps_its_session_and_the_others_go() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = relayed_by_one_of_two(seed);
        let relay = world.agent(a).way_to(b.key).expect("a path").remote;
        world.add_server();
        let addrs: Vec<_> = world.servers.iter().map(|server| world.net.main_address(*server)).collect();
        let [gone, _] = if addrs[0] == relay { [1, 0] } else { [0, 1] };
        // The one that relays is in another place than before, behind one that is new.
        world.server_addrs = Some(vec![addrs[2], relay]);
        let taps = [a, b].map(|s| world.net.tap(Place::Link(s.router.expect("a NAT").into(), Direction::Up), 50_000));
        let since = world.net.now();
        for (site, name) in [(a, "a"), (b, "b")] {
            let settings = world.settings(name);
            world.configure(site, settings);
            let servers = world.agent(site).mesh.servers();
            let stays = &servers[1];
            assert!(stays.addr == relay && stays.registered && stays.hosts == 1 && stays.mapped.is_some(), "{stays:?}");
            assert!(!servers[0].registered);
        }
        let gap = world.longest_gap(a, b, Duration::from_millis(10), since + Duration::from_secs(5));
        assert!(gap < Duration::from_millis(100), "{gap:?}\n{}", world.net.trace());
        for site in [a, b] {
            let agent = world.agent(site);
            assert!(agent.mesh.servers().iter().all(|server| server.registered), "{:?}", agent.mesh.servers());
            let lost = |(at, event): &&(_, Event)| *at >= since && matches!(event, Event::ServerLost { .. });
            assert_eq!(agent.events.iter().find(lost), None);
            assert_eq!(agent.way_to(b.key).or(agent.way_to(a.key)).map(|way| way.remote), Some(relay));
        }
        for tap in taps {
            let greeted =
                world.net.captured(tap).filter(|c| c.datagram.to == relay && is_greeting(&c.datagram.payload));
            assert_eq!(greeted.count(), 0, "the session is the one before");
        }
        let hosts = |i: usize, world: &mut World| {
            let server = world.servers[i];
            world.net.act(server, |node, _| {
                node.server_mut().core.view().networks.iter().map(|n| n.connected).sum::<usize>()
            })
        };
        assert_eq!([gone, 2].map(|i| hosts(i, &mut world)), [0, 2], "who is removed is told");
    });
}

#[test]
fn a_server_key_that_is_named_later_leaves_the_session_that_proved_it() {
    Seed::each(4, |seed| {
        let (mut world, a, b) = crate::world::pair(seed, DELAY);
        let right = world.server_key(0);
        let wrong = SecretKey::generate(&mut world.rng).public();
        for (key, stays) in [(Some(right), true), (None, true), (Some(wrong), false), (Some(right), true)] {
            let mut settings = world.settings("a");
            settings.servers[0].key = key;
            let before = world.agent(a).mesh.servers()[0].registered;
            world.configure(a, Settings { ..settings });
            let now = world.agent(a).mesh.servers()[0].registered;
            assert_eq!(now, before && stays, "{key:?}");
            world.net.run_for(Duration::from_secs(10));
            assert_eq!(world.agent(a).mesh.servers()[0].registered, key != Some(wrong), "{key:?}");
        }
        assert_eq!(world.path(a, b), Some(PathKind::Direct));
    });
}

/// It is no silent one, and that it has no room is said once, however often it is asked.
#[test]
fn a_server_without_room_is_shown_as_such_and_asked_again() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, DELAY);
        world.limit(|limits| limits.hosts = 1);
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        world.net.run_for(Duration::from_secs(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        let views = |world: &World| {
            [a, b].map(|site| {
                let server = world.agent(site).mesh.servers()[0].clone();
                (server.registered, server.trouble)
            })
        };
        for _ in 0..10 {
            world.net.run_for(Duration::from_secs(20));
            assert_eq!(views(&world), [(true, None), (false, Some(ServerTrouble::Full))], "{}", world.net.trace());
        }
        let lost = |(_, event): &&(_, Event)| matches!(event, Event::ServerLost { .. });
        assert_eq!(world.agent(b).events.iter().filter(lost).count(), 1, "{:?}", world.agent(b).events);
        let sent = world.net.host_stats(b.host).sent;
        assert!(sent < 150, "{sent} datagrams");
        world.limit(|limits| limits.hosts = 2);
        let met = world.until_paths(a, b, Duration::from_secs(45), |kind| kind == PathKind::Direct);
        assert!(met.is_some(), "{}", world.net.trace());
        assert_eq!(views(&world), [(true, None); 2]);
    });
}
