//! Who lies, repeats, changes and floods: a server, somebody on the way, somebody elsewhere.

use std::{cell::Cell, collections::BTreeMap, net::SocketAddr, time::Duration};

use wavnet_proto::{
    mesh::{Dropped, Event, PathKind, Settings},
    policy::Policy,
    rng::Rng,
    wire::{
        Candidate, CandidateKind, Label, Message,
        message::{Forward, Invite},
    },
};
use wavnet_sim::{Chance, Datagram, Direction, Fate, HostId, Place, Seed, SegmentId, nat::NatConfig};

use crate::{
    liar::{Liar, invented},
    node::Host,
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(10);

pub(crate) fn add_liar(world: &mut World, change: impl Fn(&mut Liar)) -> HostId {
    let mut liar = Liar::new(world.network.access(), world.rng.fork());
    change(&mut liar);
    let addr = world.net.vacant_v4(SegmentId::INTERNET);
    let host = world.net.add_host(SegmentId::INTERNET, &[addr], Host::Liar(Box::new(liar)));
    world.servers.push(host);
    host
}

/// Which servers the agents of a world are told.
pub(crate) fn servers(world: &mut World, hosts: &[HostId]) {
    world.server_addrs = Some(hosts.iter().map(|host| world.net.main_address(*host)).collect());
}

/// A world with two servers, of which the one that agents are told first lies.
pub(crate) fn beside_a_liar(seed: Seed, change: impl Fn(&mut Liar)) -> (World, HostId) {
    let mut world = World::new(seed, DELAY);
    let (liar, honest) = (add_liar(&mut world, change), world.servers[0]);
    servers(&mut world, &[liar, honest]);
    (world, liar)
}

pub(crate) fn direct_within(world: &mut World, a: Site, b: Site, seconds: u64) {
    let direct = world.until_paths(a, b, Duration::from_secs(seconds), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
}

/// A victim that has nothing to do with all this: how much comes to it and to all others, but for the servers.
#[test]
fn a_server_that_invites_to_floods_makes_no_amplifier() {
    Seed::each(4, |seed| {
        let (mut world, liar) = beside_a_liar(seed, |_| {});
        let victim = SocketAddr::from(([203, 0, 113, 9], 53));
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 3);
        let tap = world.net.tap(Place::Segment(SegmentId::INTERNET), 1_000_000);
        let mut rng = Rng::from_seed([5; 32]);
        let start = world.net.now();
        for n in 0..3000 {
            let peer = if n % 3 == 0 { b.key } else { invented(rng.u32()) };
            let elsewhere = |rng: &mut Rng| SocketAddr::from(([198, 51, 100, rng.u32() as u8], rng.u32() as u16 | 1));
            let candidates: Vec<Candidate> = (0..8)
                .map(|i| {
                    if i % 2 == 0 {
                        (victim.ip(), 1000 + i + rng.u32() as u16 % 5000).into()
                    } else {
                        elsewhere(&mut rng)
                    }
                })
                .map(|addr| Candidate { kind: CandidateKind::Host, addr })
                .collect();
            let label = Label::from_bytes([1, 2, n as u8]);
            let invite = Invite { peer, label, flags: 0, nat: cone(), mapped: victim, candidates };
            let junk = Forward { peer: b.key, datagram: vec![0x57; 150] };
            world.net.act(liar, |node, _| node.liar_mut().say(&[Message::Invite(invite), Message::Forwarded(junk)]));
            world.net.run_for(Duration::from_millis(2));
        }
        let took = world.net.now().since(start).as_secs_f64();
        let known: Vec<SocketAddr> = world.servers.iter().map(|s| world.net.main_address(*s)).collect();
        let (mut to_victim, mut to_strangers) = (0u32, 0u32);
        for c in world.net.captured(tap) {
            let pair =
                [a, b].map(|s| world.net.mappings(s.router.expect("a NAT")).any(|m| m.external == c.datagram.to));
            let is_ours = pair.contains(&true);
            to_victim += u32::from(c.datagram.to.ip() == victim.ip());
            to_strangers += u32::from(!is_ours && !known.contains(&c.datagram.to));
        }
        // Two hosts were lied to.
        assert!(f64::from(to_victim) <= 2.0 * (250.0 + 50.0 * took), "{to_victim} in {took} s");
        assert!(f64::from(to_strangers) <= 2.0 * (2000.0 + 1000.0 * took), "{to_strangers} in {took} s");
        assert!(to_victim > 100, "the lies were believed as far as they may be");
        for site in [a, b] {
            assert!(world.agent(site).mesh.peers().count() <= Settings::PEERS);
        }
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
    });
}

/// Each of its lies is told to all servers and peers, but they are believed ever more seldom.
#[test]
fn a_server_that_says_all_the_time_that_hosts_have_moved_makes_no_storm() {
    Seed::each(4, |seed| {
        let (mut world, _) = beside_a_liar(seed, |liar| liar.restless = true);
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 3);
        let before = world.net.totals().sent;
        world.net.run_for(Duration::from_secs(60));
        let sent = world.net.totals().sent - before;
        assert!(sent < 3000, "{sent} datagrams in a minute of nothing");
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
    });
}

/// Neither the time nor the room for those who do not exist is taken from those who do.
#[test]
fn a_server_with_a_hundred_thousand_invented_hosts_keeps_out_nobody() {
    let seed = Seed::from_env_or(0);
    let (mut world, _) = beside_a_liar(seed, |liar| liar.invented = 100_000);
    let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
    world.net.run_for(Duration::from_secs(60));
    let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
    direct_within(&mut world, a, b, 30);
    for site in [a, b] {
        let agent = world.agent(site);
        assert!(agent.mesh.peers().count() <= Settings::PEERS);
        assert!(agent.mesh.servers().iter().all(|server| server.hosts <= Settings::PEERS));
    }
    let sent = world.net.host_stats(a.host).sent;
    world.net.run_for(Duration::from_secs(60));
    let sent = world.net.host_stats(a.host).sent - sent;
    assert!(sent < 60 * 500, "{sent} datagrams in a minute");
}

#[test]
fn where_a_server_says_that_hosts_are_does_not_matter_if_another_one_is_right() {
    Seed::each(5, |seed| {
        let wrong = SocketAddr::from(([203, 0, 113, 9], 53));
        let (mut world, _) = beside_a_liar(seed, |liar| liar.mapped = Some(wrong));
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 3);
    });
}

/// What was said once and is said again, from where it came and from elsewhere, moves nothing. (Frames are as VXLAN has them: whoever can send
/// from a peer's address is believed.)
#[test]
fn what_is_repeated_changes_nothing() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let tap = world.net.tap(Place::Everywhere, 4000);
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 3);
        world.net.run_for(Duration::from_secs(20));
        let captured: Vec<Datagram> = world.net.captured(tap).map(|c| c.datagram.clone()).collect();
        assert!(captured.len() > 100 && captured.len() < 4000);
        world.net.run_for(Duration::from_secs(5));
        let ways = [(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key));
        let since = world.net.now();
        let replayed = |world: &World| [a, b].map(|site| world.agent(site).mesh.dropped(Dropped::Replayed));
        let before = replayed(&world);
        let elsewhere = SocketAddr::from(([203, 0, 113, 9], 4789));
        for turn in 0..3 {
            for datagram in &captured {
                let from = if turn == 1 { elsewhere } else { datagram.from };
                world.net.inject(SegmentId::INTERNET, Datagram { from, ..datagram.clone() });
                if turn == 2 {
                    world.net.run_for(Duration::from_millis(3));
                }
            }
            world.net.run_for(Duration::from_secs(5));
        }
        assert_eq!(world.path_changes(a, since) + world.path_changes(b, since), 0, "{:?}", world.agent(a).events);
        assert_eq!([(a, b), (b, a)].map(|(x, y)| world.agent(x).way_to(y.key)), ways);
        let gap = world.longest_gap(a, b, Duration::from_millis(10), world.net.now() + Duration::from_secs(5));
        assert!(gap < Duration::from_millis(100), "{gap:?}");
        assert!(world.agent(a).mesh.servers()[0].registered && world.agent(b).mesh.servers()[0].registered);
        let after = replayed(&world);
        assert!(after[0] > before[0] && after[1] > before[1], "{before:?} were counted, then {after:?}");
    });
}

#[test]
fn bits_that_are_changed_on_the_way_do_no_harm() {
    let dropped = [Dropped::Forged, Dropped::Session].map(|reason| (reason, Cell::new(0)));
    Seed::each(10, |seed| {
        let mut world = World::new(seed, DELAY);
        let mut rng = seed.rng();
        world.net.filter(Place::Segment(SegmentId::INTERNET), move |passing| {
            if Chance::percent(15).happens(&mut rng) && !passing.datagram.payload.is_empty() {
                let place = rng.below(passing.datagram.payload.len() as u64) as usize;
                passing.datagram.payload[place] ^= 1 << rng.below(8);
            }
            Fate::Pass
        });
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 15);
        world.net.run_for(Duration::from_secs(120));
        assert!(world.agent(a).mesh.servers()[0].registered);
        assert_eq!((world.path(a, b), world.path(b, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
        for (reason, all) in &dropped {
            all.set(all.get() + [a, b].map(|site| world.agent(site).mesh.dropped(*reason)).iter().sum::<u64>());
        }
    });
    assert!(dropped.iter().all(|(_, all)| all.get() > 0), "{dropped:?}");
}

/// Somebody who can send from any address, and does not see what the others send.
#[test]
fn pulses_and_hints_of_somebody_else_disturb_nothing() {
    Seed::each(5, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let inner = world.net.segment(a.host);
        let (to, from) = (world.net.main_address(a.host), world.agent(a).way_to(b.key).expect("a path").remote);
        let server = world.net.main_address(world.servers[0]);
        world.net.run_for(Duration::from_secs(1));
        let since = world.net.now();
        let mut rng = Rng::from_seed([6; 32]);
        for n in 0..20_000u32 {
            let from = if n % 4 == 0 { server } else { from };
            let mut payload = match n % 5 {
                0 | 1 => vec![rng.u32() as u8, n as u8],
                2 => [&[0x57, 0, 0, 0, 1, 7, 0, 0][..], &rng.bytes::<2>()].concat(),
                3 => [&[0x57, 0, 0, 0, 1, 7, 0, 0][..], &rng.bytes::<16>()].concat(),
                _ => [&[0x57, 0, 0, 0, 1, 1 + n as u8 % 8, 0, 0][..], &rng.bytes::<112>()].concat(),
            };
            payload.truncate(120);
            world.net.inject(inner, Datagram { from, to, payload });
            world.net.run_for(Duration::from_micros(500));
        }
        assert_eq!(
            world.path_changes(a, since) + world.path_changes(b, since),
            0,
            "{:?} {:?}",
            world.agent(a).events,
            world.agent(b).events
        );
        for reason in [Dropped::Pulse, Dropped::Unwanted, Dropped::Malformed] {
            assert!(world.agent(a).mesh.dropped(reason) > 100, "{reason:?}");
        }
        // And what it makes a host send is bounded.
        let sent = world.net.host_stats(a.host).sent;
        assert!(sent < 20_000 / 4, "{sent}");
        let gap = world.longest_gap(a, b, Duration::from_millis(10), world.net.now() + Duration::from_secs(5));
        assert!(gap < Duration::from_millis(100), "{gap:?}");
    });
}

/// What strangers hint at from anywhere takes nothing from what a server says that has started anew.
#[test]
fn a_flood_of_hints_keeps_no_true_one_from_being_heard() {
    Seed::each(4, |seed| {
        let (mut world, a, _) = pair(seed, DELAY);
        world.net.run_for(Duration::from_secs(6));
        let mut rng = Rng::from_seed([11; 32]);
        let (inner, to) = (world.net.segment(a.host), world.net.main_address(a.host));
        world.restart_server(0);
        let tap = world.net.tap(Place::Link(world.servers[0].into(), Direction::Up), 100_000);
        let end = world.net.now() + Duration::from_secs(15);
        let is_back = |world: &World| world.net.node(world.servers[0]).server().core.hosts().any(|h| h.key == a.key);
        // Not in step with what hosts do.
        world.net.run_for(Duration::from_micros(1300));
        while !is_back(&world) && world.net.now() < end {
            let from = SocketAddr::from(([192, 0, 2, rng.u32() as u8], rng.u32() as u16 | 1));
            let payload = [&[0x57, 0, 0, 0, 1, 7, 0, 0][..], &rng.bytes::<16>()].concat();
            world.net.inject(inner, Datagram { from, to, payload });
            world.net.run_for(Duration::from_micros(20 + rng.below(150)));
        }
        let router = world.net.mappings(a.router.expect("a NAT")).map(|m| m.external).next();
        let hint = |c: &&wavnet_sim::Captured| c.datagram.payload.get(5) == Some(&7) && Some(c.datagram.to) == router;
        let first = world.net.captured(tap).find(hint).map(|c| c.at).expect("a hint");
        let took = world.net.now().since(first);
        // A request, its answer, and a handshake: three round trips and a half.
        assert!(took < Duration::from_millis(250), "{took:?}\n{}", world.net.trace());
        assert!(world.agent(a).mesh.dropped(Dropped::Hint) > 0);
    });
}

#[test]
fn a_peer_that_asks_who_we_are_all_the_time_is_answered_now_and_then() {
    Seed::each(4, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.net.run_for(Duration::from_secs(5));
        let sent = world.net.host_stats(a.host).sent;
        for n in 0..500 {
            let settings = world.settings(&format!("b{n}"));
            world.net.act(b.host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.configure(now, settings);
                agent.settle(now);
            });
            world.net.run_for(Duration::from_millis(4));
        }
        let sent = world.net.host_stats(a.host).sent - sent;
        assert!(sent < 60, "{sent} in two seconds");
        // Who asks again is told.
        world.net.run_for(Duration::from_secs(2));
        let name = world.agent(a).mesh.peers().find(|peer| peer.key == b.key).and_then(|peer| peer.name);
        assert_eq!(name.as_deref(), Some("b499"));
    });
}

#[test]
fn who_is_no_longer_allowed_is_out_at_once() {
    Seed::each(6, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let c = world.behind("c", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, c, 3);
        world.set_busy(a, b);
        world.set_busy(b, a);
        // It is not on the list any more, or it is on that of the revoked ones.
        let policy = match seed.0 % 2 {
            0 => Policy::Listed(BTreeMap::from([(a.key, None), (c.key, None)])),
            _ => Policy::Network.without([b.key].into()),
        };
        let settings = Settings { policy, ..world.settings("a") };
        world.configure(a, settings);
        assert!(!world.agent(a).is_admitted(b.key) && world.path(a, b).is_none());
        let before = world.agent(a).frames.len();
        for number in 0..200 {
            world.send(b, a, number);
            world.net.run_for(Duration::from_millis(20));
        }
        let from_b = world.agent(a).frames.iter().skip(before).filter(|f| f.from == b.key).count();
        assert_eq!(from_b, 0);
        // It tries, in vain, and the log says so once.
        world.restart_agent(b, "b", cone());
        world.net.run_for(Duration::from_secs(30));
        assert!(world.path(b, a).is_none() && !world.agent(a).is_admitted(b.key));
        let refused = world.agent(a).events.iter().filter(|(_, e)| matches!(e, Event::Refused { .. })).count();
        assert_eq!(refused, 1, "{:?}", world.agent(a).events);
        assert_eq!((world.path(a, c), world.path(c, a)), (Some(PathKind::Direct), Some(PathKind::Direct)));
        // And back.
        let settings = world.settings("a");
        world.net.act(a.host, |node, now| node.agent_mut().mesh.configure(now, settings));
        direct_within(&mut world, a, b, 40);
    });
}

/// It keeps its mapping with pulses that the server does not answer, and is not let in again.
#[test]
fn who_is_no_longer_allowed_by_the_server_is_not_brought_together_with_anybody() {
    Seed::each(5, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        world.revoke_at_server(0, b.key);
        world.net.run_for(Duration::from_secs(1));
        assert!(!world.agent(b).mesh.servers()[0].registered);
        let c = world.behind("c", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, c, 3);
        world.net.run_for(Duration::from_secs(100));
        assert_eq!((world.path(b, c), world.path(c, b)), (None, None));
        let sent = world.net.link_stats(b.router.expect("a NAT"), Direction::Up).carried;
        world.net.run_for(Duration::from_secs(100));
        let sent = world.net.link_stats(b.router.expect("a NAT"), Direction::Up).carried - sent;
        assert!(sent < 200, "{sent}");
    });
}
