//! How long an idle mapping lives.

use std::time::Duration;

use wavnet_proto::{
    nat::{Filtering, Lifetime, LifetimeSearch, Mapping, Note, PaperType, Report},
    stun::{Attribute, AttributeType, Builder, Class, Message},
    transmit::Socket,
};

use super::{
    grid::{FILTERINGS, MAPPINGS},
    model::Alloc,
    world::{Sockets, Twist, World, at},
};

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

const PLAN: LifetimeSearch = LifetimeSearch { shortest: secs(15), longest: secs(300), sockets: 6, rounds: 2 };

fn world(mapping: Mapping, filtering: Filtering, timeout: u64, plan: LifetimeSearch) -> World {
    let mut world = World::new(mapping, filtering, Alloc::Random, timeout.is_multiple_of(2), timeout);
    world.nat.as_mut().unwrap().timeout = secs(timeout);
    world.options.lifetime = Some(plan);
    world
}

fn found(report: &Report) -> Lifetime {
    report.lifetime.unwrap_or_else(|| panic!("{report:?}"))
}

#[test]
fn it_is_found_for_every_kind() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            for timeout in [30, 120, 290] {
                let what = format!("{mapping:?} {filtering:?} {timeout} s");
                let mut world = world(mapping, filtering, timeout, PLAN);
                let start = world.now;
                let report = world.run();
                let Lifetime { alive_after, dead_after } = found(&report);
                let dead_after = dead_after.unwrap();
                assert!(alive_after < secs(timeout) && secs(timeout) <= dead_after, "{what}: {report:?}");
                assert!(dead_after.as_secs_f64() < alive_after.as_secs_f64() * 1.08, "{what}: {report:?}");
                assert_eq!(u64::from(report.summary.lifetime), alive_after.as_secs(), "{what}");
                assert!(!report.summary.lifetime_at_least, "{what}");
                assert_eq!(report.notes, [], "{what}");
                // Two rounds, and none longer than the shortest that was found not to be survived.
                assert!(
                    world.now.since(start) < secs(2 * timeout * 5 / 3 + 20),
                    "{what}: {:?}",
                    world.now.since(start)
                );
                assert_eq!(world.reports.len(), 2, "{what}: without the lifetime and with it");
                assert_eq!(world.reports[0].1.lifetime, None);
                assert!(world.reports[0].0.since(start) < secs(10), "{what}");
            }
        }
    }
}

#[test]
fn a_lifetime_beyond_the_longest_is_at_least_that() {
    let mut world = world(MAPPINGS[0], FILTERINGS[2], 3600, PLAN);
    let start = world.now;
    let report = world.run();
    let Lifetime { alive_after, dead_after } = found(&report);
    assert_eq!((alive_after.as_secs(), dead_after), (300, None));
    assert_eq!((report.summary.lifetime, report.summary.lifetime_at_least), (300, true));
    assert!(world.now.since(start) < secs(320), "one round is enough");
}

#[test]
fn a_lifetime_below_the_shortest_is_found_as_well() {
    let report = world(MAPPINGS[0], FILTERINGS[2], 12, PLAN).run();
    let Lifetime { alive_after, dead_after } = found(&report);
    assert!(alive_after < secs(12) && dead_after.unwrap() >= secs(12), "{report:?}");
    assert!(dead_after.unwrap() < secs(20));
}

#[test]
fn one_socket_makes_it_a_binary_search() {
    for timeout in [30, 75, 120] {
        let plan = LifetimeSearch { shortest: secs(10), longest: secs(160), sockets: 1, rounds: 8 };
        let mut world = world(MAPPINGS[0], FILTERINGS[1], timeout, plan);
        let report = world.run();
        let Lifetime { alive_after, dead_after } = found(&report);
        assert!(alive_after < secs(timeout) && dead_after.unwrap() >= secs(timeout), "{report:?}");
        assert!(dead_after.unwrap() - alive_after < secs(7), "{report:?}");
        let extras = world.sent.iter().filter(|(_, t)| matches!(t.from, Socket::Extra(n) if n > 0)).count();
        assert_eq!(extras, 1 + 8, "one mapping a round, and one to see whether it can be done");
    }
}

/// What was said before is not said again, and the shell's sockets are numbered from where it wants.
#[test]
fn a_search_is_bounded() {
    let huge = LifetimeSearch { shortest: Duration::ZERO, longest: Duration::MAX, sockets: 255, rounds: 255 };
    let mut world = world(MAPPINGS[0], FILTERINGS[2], 40, huge);
    world.options.first_socket = 100;
    world.run();
    let mut sockets: Vec<_> = world.sent.iter().map(|(_, t)| t.from).collect();
    sockets.sort();
    sockets.dedup();
    let most = usize::from(LifetimeSearch::MOST_SOCKETS) * usize::from(LifetimeSearch::MOST_ROUNDS) + 3;
    assert!(sockets.len() <= most);
    assert!(sockets.iter().all(|s| *s == Socket::Main || *s >= Socket::Extra(100)));
}

#[test]
fn loss_does_not_shorten_it() {
    for seed in 0..40 {
        let mut world = world(MAPPINGS[0], FILTERINGS[2], 60, PLAN);
        (world.loss, world.delay, world.seed) = (5, Duration::from_millis(100), seed);
        let report = world.run();
        let Lifetime { alive_after, dead_after } = found(&report);
        // A question that is sent again comes up to three seconds late.
        assert!(alive_after < secs(60) && dead_after.unwrap() >= secs(56), "seed {seed}: {report:?}");
        assert!(alive_after > secs(52), "seed {seed}: {report:?}");
    }
}

#[test]
fn a_firewall_s_state_has_a_lifetime_and_an_open_host_has_none() {
    let servers = || world(MAPPINGS[0], FILTERINGS[0], 31, PLAN).servers;
    let mut open = World::direct("203.0.113.5", servers(), 1);
    open.options.lifetime = Some(PLAN);
    let report = open.run();
    assert_eq!((report.lifetime, report.summary.lifetime, report.notes), (None, 0, vec![]));
    let mut firewall = World::direct("203.0.113.5", servers(), 1);
    firewall.options.lifetime = Some(PLAN);
    let mut nat = world(MAPPINGS[0], FILTERINGS[2], 31, PLAN).nat.unwrap();
    (nat.ips, nat.alloc) = (vec![at("203.0.113.5:1").ip()], Alloc::Preserve);
    firewall.nat = Some(nat);
    let report = firewall.run();
    assert_eq!(report.paper_type(), PaperType::SymmetricFirewall);
    assert!((25..31).contains(&report.summary.lifetime), "{report:?}");
}

#[test]
fn a_server_that_does_not_answer_elsewhere_cannot_tell() {
    let port = |m: &Message<'_>| m.attributes().any(|a| a.kind == AttributeType::RESPONSE_PORT);
    for unknown in [false, true] {
        let mut world = world(MAPPINGS[0], FILTERINGS[2], 31, PLAN);
        world.servers[0].twist = Box::new(move |_, _, _, m| {
            let instead: &[_] = if unknown { &[Attribute::Other(AttributeType(9999), &[])] } else { &[] };
            match port(m) {
                true => Twist::Instead(Builder::message(Class::Request, m.id, instead).unwrap()),
                false => Twist::Honest,
            }
        });
        let start = world.now;
        let report = world.run();
        assert_eq!(report.lifetime, None);
        assert_eq!(report.notes, [Note::NoResponsePort(at("192.0.2.1:3478"))]);
        assert!(world.now.since(start) < secs(20), "it is not waited for");
    }
    let mut world = world(MAPPINGS[0], FILTERINGS[2], 31, PLAN);
    world.servers[0].twist = Box::new(move |_, _, _, m| if port(m) { Twist::Silent } else { Twist::Honest });
    assert_eq!(world.run().notes, [Note::NoResponsePort(at("192.0.2.1:3478"))]);
}

#[test]
fn without_sockets_there_is_no_lifetime() {
    for sockets in [Sockets::Refused, Sockets::Forgotten] {
        let mut world = world(MAPPINGS[0], FILTERINGS[2], 31, PLAN);
        world.sockets = sockets;
        let report = world.run();
        assert_eq!((report.lifetime, report.notes), (None, vec![Note::NoSocket, Note::NotIdle]));
    }
    // A NAT that gives each mapping another address: the server cannot answer to the idle one.
    let mut world = world(MAPPINGS[0], FILTERINGS[2], 31, PLAN);
    let ips = (8..250).map(|n| at(&format!("198.51.100.{n}:1")).ip());
    world.nat.as_mut().unwrap().ips.extend(ips);
    assert_eq!(world.run().notes, [Note::NotIdle]);
}
