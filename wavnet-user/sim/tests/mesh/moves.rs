//! Hosts that move, sleep, restart, lose addresses, and whose clocks jump.

use std::time::Duration;

use wavnet_proto::{mesh::PathKind, transmit::Socket};
use wavnet_sim::{Asleep, Attached, Network, Seed, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    world::{World, cone, pair},
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

/// Frames for it and of its own are there when it wakes up. Who has slept for longer than two minutes has been given up by the other side and by the
/// server; for longer than an hour, no session is left.
#[test]
fn a_host_that_slept_is_back_within_a_second_and_after_long_within_a_second_and_a_half() {
    let (short, long) = (Duration::from_secs(1), Duration::from_millis(1500));
    Seed::each(6, |seed| {
        for asleep in [Asleep::Counts, Asleep::StandsStill] {
            for (seconds, most) in [(5, short), (20, short), (60, short), (600, long), (3500, long), (7200, long)] {
                let (mut world, a, b) = pair(seed, DELAY);
                let start = world.net.now() + Duration::from_secs(10);
                world.longest_gap(a, b, Duration::from_millis(20), start);
                world.net.suspend(a.host);
                // No timer of a round number is always due when it wakes up.
                world.net.run_for(Duration::from_secs(seconds) + Duration::from_millis(seed.0 * 370));
                world.net.resume(a.host, asleep);
                let end = world.net.now() + Duration::from_secs(3);
                let gap = world.longest_gap(a, b, FRAMES, end);
                assert!(gap < most, "{asleep:?} {seconds} s: {gap:?}\n{}", world.net.trace());
            }
        }
    });
}

/// While no frames flow, a clock that stands still (as the one that agents go by) tells a host nothing of its sleep: its next pulse does, which is due
/// in five seconds.
#[test]
fn a_host_that_slept_and_has_nothing_to_send_is_back_with_its_next_pulse() {
    Seed::each(6, |seed| {
        for (asleep, most) in [(Asleep::Counts, 2), (Asleep::StandsStill, 6)] {
            for seconds in [5, 20, 21, 60, 600, 7200] {
                let (mut world, a, b) = pair(seed, DELAY);
                world.net.run_for(Duration::from_secs(10));
                world.net.suspend(a.host);
                world.net.run_for(Duration::from_secs(seconds) + Duration::from_millis(seed.0 * 370));
                world.net.resume(a.host, asleep);
                let met = world.until_paths(a, b, Duration::from_secs(most), |_| true);
                assert!(met.is_some(), "{asleep:?} {seconds} s\n{}", world.net.trace());
                let end = world.net.now() + Duration::from_secs(3);
                let gap = world.longest_gap(a, b, FRAMES, end);
                assert!(gap < Duration::from_millis(500), "{asleep:?} {seconds} s: {gap:?}\n{}", world.net.trace());
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

/// It goes on as if its NAT were still that of before, until it has found out about the new one.
#[test]
fn a_move_during_a_search_ends_on_a_direct_path() {
    Seed::each(8, |seed| {
        for offset in [0_u64, 20, 100, 250, 450, 700, 1100, 1700, 2400, 2900] {
            let mut world = World::new(seed, DELAY);
            let a = world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            // Or the search would have found something, sooner or later.
            let [one, other]: [Attached; 2] = [a, b].map(|site| site.router.expect("a NAT").into());
            world.net.set_partition(&[one], &[other], true);
            let searches = move |net: &Network<Host>| net.sockets(a.host).len() > 1;
            let deadline = world.net.now() + Duration::from_secs(5);
            let begun = world.net.run_until_met(deadline, searches).expect("a search");
            let router = world.add_router(NatConfig::full_cone());
            let lan = world.net.lan(router);
            let addr = world.net.vacant_v4(lan);
            let at = begun + Duration::from_millis(offset);
            world.net.at(at, move |net: &mut Network<Host>| {
                assert!(searches(net), "the search is over");
                net.move_host(a.host, lan, &[addr]);
            });
            let gap = world.longest_gap(a, b, FRAMES, at + Duration::from_secs(2));
            assert!(gap < Duration::from_secs(1), "{offset} {gap:?}");
            let direct = world.until_paths(a, b, Duration::from_secs(3), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{offset} {:?} {:?}", world.agent(a).events, world.agent(b).events);
            // What it was searched with is not left open.
            world.net.run_for(Duration::from_secs(5));
            let used = world.agent(a).ways().filter(|(_, way)| way.socket != Socket::Main).count();
            assert_eq!(world.net.sockets(a.host).len(), 1 + used, "{offset}");
        }
    });
}
