//! Hosts that move, sleep, restart, lose addresses, and whose clocks jump.

use std::time::Duration;

use wavnet_proto::{
    mesh::{self, PathKind, Settings},
    trust::SecretKey,
};
use wavnet_sim::{Asleep, Attached, Network, RouterConfig, Seed, SegmentId, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(20);
const FRAMES: Duration = Duration::from_millis(1);

#[test]
fn both_sides_move_at_once_and_are_back_within_two_seconds() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let at = world.net.now() + Duration::from_secs(2);
        for site in [a, b] {
            let router = world.add_router(NatConfig::port_restricted_cone());
            let lan = world.net.lan(router);
            let addr = world.net.vacant_v4(lan);
            world.net.at(at, move |net: &mut Network<Host>| net.move_host(site.host, lan, &[addr]));
        }
        let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(6));
        assert!(gap < Duration::from_millis(1200), "{gap:?}\n{}", world.net.trace());
        let direct = world.until_paths(a, b, Duration::from_secs(30), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
    });
}

/// The other side still believes in the session of before, whichever of the two has to begin.
#[test]
fn an_agent_that_restarts_is_back_within_two_seconds() {
    Seed::each(12, |seed| {
        for (busy, memory) in [(true, true), (false, true), (false, false)] {
            let (mut world, a, b) = pair(seed, DELAY);
            world.net.run_for(Duration::from_secs(7));
            if !memory {
                // Nor does the server know it any more.
                world.restart_server(0);
                world.net.run_for(Duration::from_secs(10));
            }
            if busy {
                world.set_busy(a, b);
                world.set_busy(b, a);
            }
            world.restart_agent(a, "a", cone());
            // What is left over of the session before is none.
            let met = world.until_paths(a, b, Duration::from_secs(2), |_| true);
            assert!(met.is_some(), "{busy} {memory}\n{}", world.net.trace());
            let at = world.net.now();
            let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(3));
            assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
            let direct = world.until_paths(a, b, Duration::from_secs(5), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{}", world.net.trace());
        }
    });
}

/// Nobody is left at its old address to say that it does not know the session.
#[test]
fn an_agent_that_restarts_elsewhere_is_back_within_two_seconds() {
    Seed::each(12, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(Duration::from_secs(7));
        world.net.kill(a.host);
        let router = world.add_router(NatConfig::port_restricted_cone());
        let lan = world.net.lan(router);
        let addr = world.net.vacant_v4(lan);
        world.net.move_host(a.host, lan, &[addr]);
        world.restart_agent(a, "a", cone());
        let met = world.until_paths(a, b, Duration::from_secs(2), |_| true);
        assert!(met.is_some(), "{}", world.net.trace());
        let at = world.net.now();
        let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(3));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
    });
}

/// Servers believe for two minutes more that it is there; and they are asked for it anew, as each is another one.
#[test]
fn who_is_gone_without_a_word_is_asked_for_ever_more_seldom() {
    Seed::each(12, |seed| {
        let mut world = World::new(seed, DELAY);
        world.add_server();
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        let direct = world.until_paths(a, b, Duration::from_secs(5), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        world.net.run_for(Duration::from_secs(7));
        world.net.kill(b.host);
        let mut settings = world.settings("a");
        settings.servers.reverse();
        world.net.act(a.host, |node, now| {
            let agent = node.agent_mut();
            agent.mesh.configure(now, settings);
            agent.settle(now);
        });
        world.net.run_for(Duration::from_secs(20));
        let sent = world.net.host_stats(a.host).sent;
        world.net.run_for(Duration::from_secs(60));
        let sent = world.net.host_stats(a.host).sent - sent;
        assert!(sent < 300, "{sent} datagrams in a minute");
        assert_eq!(world.path(a, b), None);
    });
}

#[test]
fn an_agent_that_stops_says_so_and_is_gone_at_once() {
    Seed::each(5, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.act(a.host, |node, now| node.agent_mut().mesh.close(now));
        world.net.run_for(Duration::from_millis(200));
        assert_eq!(world.agent(b).mesh.peers().count(), 0, "{:?}", world.agent(b).mesh.peers().collect::<Vec<_>>());
        assert!(!world.agent(b).is_admitted(a.key) && world.agent(b).paths() == 0);
        assert!(!world.agent(a).is_admitted(b.key) && world.agent(a).paths() == 0);
        world.restart_agent(a, "a", cone());
        let met = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
        assert!(met.is_some(), "{}", world.net.trace());
    });
}

#[test]
fn a_partition_heals() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let routers: [Attached; 2] = [a, b].map(|site| site.router.expect("a NAT").into());
        let server: Attached = world.servers[0].into();
        for lasts in [16, 100, 400] {
            // A is alone.
            world.net.set_partition(&routers[..1], &[routers[1], server], true);
            world.net.run_for(Duration::from_secs(lasts));
            assert_eq!((world.path(a, b), world.path(b, a)), (None, None), "{lasts} s");
            world.net.set_partition(&routers[..1], &[routers[1], server], false);
            let met = world.until_paths(a, b, Duration::from_secs(25), |kind| kind == PathKind::Direct);
            assert!(met.is_some(), "{lasts} s\n{}", world.net.trace());
        }
    });
}

#[test]
fn a_host_that_slept_is_back_within_two_seconds() {
    Seed::each(6, |seed| {
        for asleep in [Asleep::Counts, Asleep::StandsStill] {
            for seconds in [5, 60, 600, 7200] {
                let (mut world, a, b) = pair(seed, DELAY);
                world.net.run_for(Duration::from_secs(10));
                world.net.suspend(a.host);
                world.net.run_for(Duration::from_secs(seconds));
                world.net.resume(a.host, asleep);
                let since = world.net.now();
                let met = world.until_paths(a, b, Duration::from_secs(6), |_| true);
                assert!(met.is_some(), "{asleep:?} {seconds} s\n{}", world.net.trace());
                let gap = world.longest_gap(a, b, FRAMES, since + Duration::from_secs(12));
                assert!(gap < Duration::from_secs(3), "{asleep:?} {seconds} s: {gap:?}\n{}", world.net.trace());
            }
        }
    });
}

#[test]
fn clocks_that_jump_do_no_harm() {
    Seed::each(8, |seed| {
        for forward in [true, false] {
            for seconds in [1, 30, 600] {
                let (mut world, a, b) = pair(seed, DELAY);
                world.net.run_for(Duration::from_secs(3));
                let at = world.net.now() + Duration::from_secs(1);
                let by = Duration::from_secs(seconds);
                world.net.at(
                    at,
                    move |net: &mut Network<Host>| {
                        if forward { net.clock_forward(a.host, by) } else { net.clock_back(a.host, by) }
                    },
                );
                let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(4));
                assert!(gap < Duration::from_secs(1), "{forward} {seconds} s: {gap:?}\n{}", world.net.trace());
                // And what it does by itself goes on.
                let sent = world.net.host_stats(a.host).sent;
                world.net.run_for(Duration::from_secs(20));
                assert!(world.net.host_stats(a.host).sent > sent + 3);
                assert!(world.agent(a).mesh.servers()[0].registered);
            }
        }
    });
}

#[test]
fn a_clock_that_jumps_beyond_a_sessions_life_ends_it_and_another_one_begins() {
    Seed::each(8, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        for (site, other) in [(a, b), (b, a)] {
            world.net.clock_forward(site.host, Duration::from_secs(2 * 3600));
            world.net.run_for(Duration::from_millis(200));
            let met = world.until_paths(site, other, Duration::from_secs(4), |_| true);
            assert!(met.is_some(), "{}", world.net.trace());
            let at = world.net.now();
            let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(5));
            assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
        }
    });
}

fn dual(world: &mut World, name: &str, v4: bool, v6: bool) -> Site {
    let internet = SegmentId::INTERNET;
    let addrs: Vec<_> = [v4.then(|| world.net.vacant_v4(internet)), v6.then(|| world.net.vacant_v6(internet))]
        .into_iter()
        .flatten()
        .collect();
    let secret = SecretKey::generate(&mut world.rng);
    let settings = world.settings(name);
    world.add_agent_as(internet, &addrs, settings, secret, Kind::Open.summary())
}

#[test]
fn hosts_with_one_family_or_two_meet_where_they_share_one_and_by_the_relay_where_not() {
    Seed::each(5, |seed| {
        for (a, b) in [((true, true), (true, true)), ((false, true), (true, true)), ((true, false), (false, true))] {
            let mut world = World::new(seed, DELAY);
            let server = world.servers[0];
            world.server_addrs = Some(world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect());
            let (x, y) = (dual(&mut world, "x", a.0, a.1), dual(&mut world, "y", b.0, b.1));
            let shared = a.0 && b.0 || a.1 && b.1;
            let wanted = if shared { PathKind::Direct } else { PathKind::Relayed };
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == wanted);
            assert!(met.is_some(), "{a:?} {b:?}\n{}", world.net.trace());
        }
    });
}

/// While it had IPv6 alone, its server saw it there. Who has IPv4 alone needs to know where its NAT has it.
#[test]
fn a_family_that_is_back_leads_through_the_nat_again() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let server = world.servers[0];
        let of = |world: &World| world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect::<Vec<_>>();
        let inside = ["192.168.1.0/24", "2001:db8:1::/64"].map(|text| text.parse().expect("a prefix")).to_vec();
        let external = world.net.vacant_v4(SegmentId::INTERNET);
        let nat = RouterConfig::nat(external, inside[0], NatConfig::port_restricted_cone());
        let router = world.net.add_router(SegmentId::INTERNET, RouterConfig { inside, ..nat });
        let lan = world.net.lan(router);
        let addrs = [world.net.vacant_v4(lan), world.net.vacant_v6(lan)];
        let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings("y"));
        let servers = of(&world).into_iter().map(|addr| mesh::Server { addr, key: None }).collect();
        let y = world.add_agent_as(lan, &addrs, Settings { servers, ..settings }, secret, cone());
        let x = world.behind("x", NatConfig::port_restricted_cone(), cone());
        for has in [&addrs[..], &addrs[1..], &addrs[..]] {
            world.net.move_host(y.host, lan, has);
            let wanted = if has.len() == 2 { PathKind::Direct } else { PathKind::Relayed };
            let met = world.until_paths(x, y, Duration::from_secs(60), |kind| kind == wanted);
            assert!(met.is_some(), "{has:?}\n{}", world.net.trace());
            world.net.run_for(Duration::from_secs(30));
        }
        // It is one server, and is not told of two hosts in turn.
        let (since, view) = (world.net.now(), |world: &World| world.agent(y).events.len());
        let before = view(&world);
        world.net.run_for(Duration::from_secs(300));
        assert_eq!(view(&world), before, "since {since:?}: {:?}", world.agent(y).events);
    });
}

#[test]
fn a_family_that_vanishes_is_made_up_for_by_the_other_one() {
    Seed::each(6, |seed| {
        for v4_goes in [true, false] {
            let mut world = World::new(seed, DELAY);
            let server = world.servers[0];
            world.server_addrs = Some(world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect());
            let (x, y) = (dual(&mut world, "x", true, true), dual(&mut world, "y", true, true));
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == PathKind::Direct);
            assert!(met.is_some(), "{}", world.net.trace());
            world.net.run_for(Duration::from_secs(5));
            let left: Vec<_> = world.net.addresses(x.host).iter().copied().filter(|a| a.is_ipv6() == v4_goes).collect();
            let at = world.net.now() + Duration::from_secs(1);
            world.net.at(at, move |net: &mut Network<Host>| net.move_host(x.host, SegmentId::INTERNET, &left));
            let gap = world.longest_gap(x, y, FRAMES, at + Duration::from_secs(4));
            assert!(gap < Duration::from_secs(1), "{v4_goes} {gap:?}\n{}", world.net.trace());
            world.net.run_for(Duration::from_secs(60));
            assert!(world.agent(x).mesh.servers().iter().any(|server| server.registered), "{v4_goes}");
        }
    });
}
