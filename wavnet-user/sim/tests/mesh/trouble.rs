//! What goes wrong: paths that die, NATs that reboot, hosts that move, servers that fail.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use wavnet_proto::{
    mesh::{PathKind, Settings},
    time::Time,
};
use wavnet_sim::{Attached, Direction, Fate, Network, Place, Seed, SegmentId, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    world::{Site, World, cone, direct_within},
};

const DELAY: Duration = Duration::from_millis(20);

fn pair(seed: Seed) -> (World, Site, Site) {
    crate::world::pair(seed, DELAY)
}

/// Sends a frame each millisecond in both directions until `end`; the longest time without one on either side.
fn longest_gap(world: &mut World, a: Site, b: Site, end: Time) -> Duration {
    world.longest_gap(a, b, Duration::from_millis(1), end)
}

fn routers(a: Site, b: Site) -> (Attached, Attached) {
    (a.router.expect("a NAT").into(), b.router.expect("a NAT").into())
}

#[test]
fn a_direct_path_that_dies_is_replaced_by_the_relay_within_a_second() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed);
        let (ra, rb) = routers(a, b);
        let cut = world.net.now() + Duration::from_secs(2);
        world.net.at(cut, move |net: &mut Network<Host>| net.set_partition(&[ra], &[rb], true));
        let end = cut + Duration::from_secs(4);
        let gap = longest_gap(&mut world, a, b, end);
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Relayed), Some(PathKind::Relayed)));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
        // And back, when it works again.
        world.net.set_partition(&[ra], &[rb], false);
        let back = world.until_paths(a, b, Duration::from_secs(60), |kind| kind == PathKind::Direct);
        assert!(back.is_some(), "{}", world.net.trace());
    });
}

/// What a host says of itself while nobody hears it is said again at ever longer intervals; and at once when it is heard.
#[test]
fn a_peer_that_is_reached_again_is_told_what_has_changed_meanwhile() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed);
        let (ra, rb) = routers(a, b);
        let server = world.servers[0].into();
        world.net.set_partition(&[ra], &[rb, server], true);
        let left = Settings { vnis: BTreeSet::new(), ..world.settings("a") };
        world.configure(a, left);
        world.net.run_for(Duration::from_secs(60));
        assert_eq!((world.path(a, b), world.path(b, a)), (None, None));
        world.net.set_partition(&[ra], &[rb, server], false);
        let back = world.until_paths(a, b, Duration::from_secs(60), |_| true);
        assert!(back.is_some(), "{}", world.net.trace());
        // One way by a relay takes four times the delay of a link.
        world.net.run_for(4 * DELAY);
        assert_eq!(world.agent(b).admitted(a.key), Some(&BTreeSet::new()), "{}", world.net.trace());
    });
}

#[test]
fn an_idle_path_that_dies_is_replaced_within_fifteen_seconds() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed);
        let (ra, rb) = routers(a, b);
        world.net.run_for(Duration::from_secs(20));
        world.net.set_partition(&[ra], &[rb], true);
        let relayed = world.until_paths(a, b, Duration::from_secs(15), |kind| kind == PathKind::Relayed);
        assert!(relayed.is_some(), "{}", world.net.trace());
    });
}

/// It gives the host the port of before, or another one.
#[test]
fn a_nat_that_reboots_is_passed_again_within_a_second() {
    Seed::each(10, |seed| {
        for keeps in [true, false] {
            let mut world = World::new(seed, DELAY);
            let mut nat = NatConfig::port_restricted_cone();
            nat.ports.preserve = keeps;
            let [a, b] = ["a", "b"].map(|name| world.behind(name, nat.clone(), cone()));
            direct_within(&mut world, a, b, 5);
            let router = a.router.expect("a NAT");
            let at = world.net.now() + Duration::from_secs(2);
            world.net.at(at, move |net: &mut Network<Host>| net.reboot(router));
            let gap = longest_gap(&mut world, a, b, at + Duration::from_secs(4));
            assert!(gap < Duration::from_secs(1), "keeps {keeps}: {gap:?}\n{}", world.net.trace());
        }
    });
}

#[test]
fn a_host_that_moves_is_back_within_a_second() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed);
        let router = world.add_router(NatConfig::port_restricted_cone());
        let lan = world.net.lan(router);
        let addr = world.net.vacant_v4(lan);
        let at = world.net.now() + Duration::from_secs(2);
        world.net.at(at, move |net: &mut Network<Host>| net.move_host(a.host, lan, &[addr]));
        let gap = longest_gap(&mut world, a, b, at + Duration::from_secs(4));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
    });
}

#[test]
fn a_server_that_dies_takes_no_direct_path_with_it_and_one_that_returns_is_found() {
    Seed::each(5, |seed| {
        let (mut world, a, b) = pair(seed);
        let server = world.servers[0];
        world.net.kill(server);
        let end = world.net.now() + Duration::from_secs(600);
        let gap = world.longest_gap(a, b, Duration::from_millis(200), end);
        assert!(gap < Duration::from_secs(1), "{gap:?}");
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
        world.restart_server(0);
        let c = world.add_agent(SegmentId::INTERNET, "c", cone());
        for site in [a, b] {
            let met = world.until_paths(site, c, Duration::from_secs(60), |kind| kind == PathKind::Direct);
            assert!(met.is_some(), "{}", world.net.trace());
        }
    });
}

/// Nothing tells a host when what cut it off is over. Here a router is away for a while, as one is that starts again.
#[test]
fn after_an_outage_frames_are_back_within_a_second() {
    let short = [3, 8, 14, 40, 100].map(|seconds| (seconds, Duration::from_secs(1)));
    // By then the server has given up the host, and then all sessions are over: everything begins anew.
    let long = [300, 4200].map(|seconds| (seconds, Duration::from_secs(2)));
    Seed::each(4, |seed| {
        for (seconds, most) in short.into_iter().chain(long) {
            for (both, reboot) in [(false, false), (false, true), (true, true)] {
                let (mut world, a, b) = pair(seed);
                let (ra, rb) = routers(a, b);
                let server = world.servers[0].into();
                let start = world.net.now() + Duration::from_secs(10);
                longest_gap(&mut world, a, b, start);
                let cut = |net: &mut Network<Host>, cut| {
                    net.set_partition(&[ra], &[rb, server], cut);
                    if both {
                        net.set_partition(&[rb], &[server], cut);
                    }
                };
                cut(&mut world.net, true);
                // No timer of a round number is always due at the end.
                let end = start + Duration::from_secs(seconds) + Duration::from_millis(seed.0 * 130 % 500);
                world.longest_gap(a, b, Duration::from_millis(50), end);
                assert_eq!(world.path(a, b), None);
                if reboot {
                    world.net.reboot(a.router.expect("a NAT"));
                }
                cut(&mut world.net, false);
                let gap = longest_gap(&mut world, a, b, end + Duration::from_secs(4));
                let what = format!("{seconds} s, both {both}, reboot {reboot}: {gap:?}");
                assert!(gap < most, "{what}\n{}", world.net.trace());
            }
        }
    });
}

/// The servers went first, and then the host itself: it looks for both from then on.
#[test]
fn an_outage_while_no_server_is_there_ends_within_a_second_as_well() {
    Seed::each(4, |seed| {
        let (mut world, a, b) = pair(seed);
        let (ra, rb) = routers(a, b);
        let server = world.servers[0].into();
        world.net.set_partition(&[ra, rb], &[server], true);
        let start = world.net.now() + Duration::from_secs(60);
        world.longest_gap(a, b, Duration::from_millis(50), start);
        assert_eq!(world.path(a, b), Some(PathKind::Direct));
        world.net.set_partition(&[ra], &[rb], true);
        let end = start + Duration::from_secs(8) + Duration::from_millis(seed.0 * 130 % 500);
        world.longest_gap(a, b, Duration::from_millis(50), end);
        world.net.set_partition(&[ra, rb], &[server], false);
        let gap = longest_gap(&mut world, a, b, end + Duration::from_secs(4));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
    });
}

/// Who cannot reach anybody asks often; who reaches its peers, and only misses a server, does not.
#[test]
fn a_server_that_is_gone_for_good_is_not_asked_all_the_time() {
    for is_lost in [false, true] {
        let (mut world, a, b) = pair(Seed::from_env_or(1));
        let (server, (ra, rb)) = (world.servers[0], routers(a, b));
        world.net.kill(server);
        world.net.set_partition(&[ra], &[rb], is_lost);
        world.net.run_for(Duration::from_secs(300));
        let sent = world.net.host_stats(a.host).sent;
        world.net.run_for(Duration::from_secs(60));
        let sent = world.net.host_stats(a.host).sent - sent;
        assert_eq!(world.path(a, b), Some(PathKind::Direct).filter(|_| !is_lost));
        // Pulses and answers over the path, a pulse and a message to the server each five seconds, and HELLO. Else a pulse each 400 ms, a message
        // each two seconds, HELLO, and addresses that are tried every five minutes.
        assert!(sent < if is_lost { 230 } else { 70 }, "{is_lost}: {sent} datagrams in a minute");
    }
}

/// Both sides propose it to each other at the same moment: that is one try, and not two.
#[test]
fn addresses_are_tried_again_twelve_seconds_after_the_second_try() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        world.relays(false);
        let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
        let (ra, rb) = routers(a, b);
        world.net.set_partition(&[ra], &[rb], true);
        let tap = world.net.tap(Place::Link(a.host.into(), Direction::Up), 10_000);
        world.net.run_for(Duration::from_secs(20));
        let server = world.net.main_address(world.servers[0]);
        let times: Vec<Time> = world.net.captured(tap).filter(|c| c.datagram.to != server).map(|c| c.at).collect();
        let pauses = times.windows(2).filter(|pair| pair[1].since(pair[0]) > Duration::from_millis(1500)).count();
        assert!(pauses >= 1, "the third try is in vain as well, but there is one: {times:?}");
    });
}

/// Two hosts on the internet that have eight more addresses each: what one sends to the other one's n-th comes from its own n-th.
pub(crate) fn of_many_addresses(seed: Seed) -> (World, [Site; 2], Vec<[IpAddr; 2]>) {
    let mut world = World::new(seed, DELAY);
    let sites = ["x", "y"].map(|name| world.add_agent(SegmentId::INTERNET, name, Kind::Open.summary()));
    let main = sites.map(|site| world.net.main_address(site.host));
    let more: Vec<[IpAddr; 2]> = (0..8).map(|_| [0; 2].map(|_| world.net.vacant_v4(SegmentId::INTERNET))).collect();
    for (side, site) in sites.into_iter().enumerate() {
        let others = more.iter().map(|pair| (pair[side], main[side].port()).into());
        let all = std::iter::once(main[side]).chain(others).collect();
        world.net.act(site.host, |node, now| {
            let agent = node.agent_mut();
            agent.mesh.set_addresses(now, all);
            agent.settle(now);
        });
    }
    let pairs = more.clone();
    world.net.filter(Place::Segment(SegmentId::INTERNET), move |passing| {
        let (from, to) = (passing.datagram.from.ip(), passing.datagram.to.ip());
        for (mine, its) in [(0, 1), (1, 0)] {
            if let Some(pair) = pairs.iter().find(|pair| from == main[mine].ip() && to == pair[its]) {
                passing.datagram.from.set_ip(pair[mine]);
                passing.datagram.to.set_ip(main[its].ip());
            }
        }
        Fate::Pass
    });
    (world, sites, more)
}

/// Each side takes frames from four ways, and not from the same four. They do not take turns for ever.
#[test]
fn hosts_with_many_addresses_come_to_rest() {
    Seed::each(20, |seed| {
        let (mut world, [x, y], _) = of_many_addresses(seed);
        let direct = world.until_paths(x, y, Duration::from_secs(2), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        // Each way is proved anew once a minute, which may still change one side's mind.
        world.net.run_for(Duration::from_secs(240));
        let sent = world.net.totals().sent;
        world.net.run_for(Duration::from_secs(60));
        let sent = world.net.totals().sent - sent;
        // Pulses and answers over four paths of each side and to the server, REFRESH, and a probe of each of nine ways.
        assert!(sent < 60 / 5 * 2 * (2 * 4 + 2) + 60, "{sent} datagrams in a minute");
    });
}

/// There is room for four paths to a peer, and all of them end: another one was there all the time.
#[test]
fn a_path_that_was_proved_while_there_was_no_room_for_it_is_taken_when_there_is() {
    Seed::each(10, |seed| {
        let (mut world, [x, y], more) = of_many_addresses(seed);
        let direct = world.until_paths(x, y, Duration::from_secs(2), |kind| kind == PathKind::Direct);
        assert!(direct.is_some(), "{}", world.net.trace());
        // Both sides know that it works, and neither takes frames from it.
        let waits = |net: &Network<Host>, from: Site, to: Site, at: IpAddr| {
            let peer = net.node(from.host).agent().mesh.peer(&to.key).expect("a peer");
            let is_full = peer.paths.iter().filter(|path| path.id.is_some()).count() == 4;
            is_full && peer.paths.iter().any(|p| p.way.remote.ip() == at && p.id.is_none() && p.rtt.is_some())
        };
        let waiting = |net: &Network<Host>| {
            more.iter().find(|pair| waits(net, x, y, pair[1]) && waits(net, y, x, pair[0])).copied()
        };
        let end = world.net.now() + Duration::from_secs(30);
        let found = world.net.run_until_met(end, |net| waiting(net).is_some());
        assert!(found.is_some(), "{}", world.net.trace());
        let spared = waiting(&world.net).expect("it was there");
        world.net.filter(Place::Segment(SegmentId::INTERNET), move |passing| {
            let from = passing.datagram.from.ip();
            if spared.contains(&from) { Fate::Pass } else { Fate::Drop }
        });
        let end = world.net.now() + Duration::from_secs(15);
        let taken = world.net.run_until_met(end, |net| {
            let way = |from: Site, to: Site| net.node(from.host).agent().way_to(to.key).map(|way| way.remote.ip());
            way(x, y) == Some(spared[1]) && way(y, x) == Some(spared[0])
        });
        assert!(taken.is_some(), "{spared:?}\n{}", world.net.trace());
    });
}
