//! Every kind of NAT, and what must be said of it.

use std::time::Duration;

use wavnet_proto::{
    nat::{Filtering, Mapping, NatSummary, PaperType, Ports, Report, Situation},
    transmit::Socket,
};

use super::{
    model::{Alloc, Nat},
    world::{MAIN_PORT, World, at},
};

pub(crate) const MAPPINGS: [Mapping; 3] =
    [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
pub(crate) const FILTERINGS: [Filtering; 3] =
    [Filtering::EndpointIndependent, Filtering::AddressDependent, Filtering::AddressAndPortDependent];
const ALLOCS: [Alloc; 5] =
    [Alloc::Preserve, Alloc::Sequential(1), Alloc::Sequential(2), Alloc::Sequential(-3), Alloc::Random];

pub(crate) fn paper_type(mapping: Mapping, filtering: Filtering) -> PaperType {
    match (mapping, filtering) {
        (Mapping::EndpointIndependent, Filtering::EndpointIndependent) => PaperType::FullCone,
        (Mapping::EndpointIndependent, Filtering::AddressDependent) => PaperType::RestrictedCone,
        (Mapping::EndpointIndependent, _) => PaperType::PortRestrictedCone,
        _ => PaperType::Symmetric,
    }
}

/// What must be said whatever the conditions.
pub(crate) fn assert_kind(report: &Report, mapping: Mapping, filtering: Filtering, what: &str) {
    let s = &report.summary;
    assert_eq!((s.situation, s.mapping, s.filtering), (Situation::Natted, mapping, filtering), "{what}: {report:?}");
    assert_eq!(report.paper_type(), paper_type(mapping, filtering), "{what}");
    assert!(!s.filtering_at_most && !s.unstable && !s.many_addresses, "{what}: {report:?}");
}

#[test]
fn every_kind_is_told() {
    let mut seed = 0;
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            for alloc in ALLOCS {
                for hairpin in [None, Some(false), Some(true)] {
                    for ipv6 in [false, true] {
                        seed += 1;
                        let what =
                            format!("{mapping:?} {filtering:?} {alloc:?} hairpin {hairpin:?} {ipv6} seed {seed}");
                        let mut world = World::new(mapping, filtering, alloc, ipv6, seed);
                        world.nat.as_mut().unwrap().hairpin = hairpin;
                        let report = world.run();
                        assert_kind(&report, mapping, filtering, &what);
                        check(&report, &world, alloc, hairpin, &what);
                        assert_eq!(report.notes, [], "{what}");
                    }
                }
            }
        }
    }
}

fn check(report: &Report, world: &World, alloc: Alloc, hairpin: Option<bool>, what: &str) {
    let s = &report.summary;
    let nat = world.nat.as_ref().unwrap();
    let mapped = report.mapped.unwrap();
    assert_eq!(mapped.ip(), nat.ips[0], "{what}");
    assert_eq!(report.server, world.servers[0].responder.origin(Socket::Main), "{what}");
    assert_eq!(s.preserves_port, Some(alloc == Alloc::Preserve), "{what}");
    let ports = match (alloc, nat.mapping) {
        (Alloc::Preserve, Mapping::EndpointIndependent) => Ports::Preserving,
        (_, Mapping::EndpointIndependent) => Ports::Unknown,
        (Alloc::Sequential(step), _) => Ports::Sequential(step),
        // There are two mappings only, one step.
        (_, Mapping::AddressDependent) => Ports::Unknown,
        _ => Ports::Random,
    };
    assert_eq!(s.ports, ports, "{what}");
    let reached = nat.mapping == Mapping::EndpointIndependent || nat.filtering == Filtering::EndpointIndependent;
    let expected = match (hairpin, nat.mapping) {
        (Some(_), _) if reached => Some(true),
        // Where both filter and neither knows where the other one will be, a NAT that hairpins looks like one that does not.
        (None, Mapping::EndpointIndependent) => Some(false),
        _ => None,
    };
    assert_eq!(s.hairpin, expected, "{what}");
    assert_eq!(NatSummary::decode(s.encode()), *s, "{what}");
}

/// A NAT that takes a port that is in use from the host's other program for another mapping.
#[test]
fn a_port_that_is_taken_is_not_preserved() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[2], Alloc::Preserve, false, 3);
    let neighbour = at("10.0.0.3:4789");
    world.nat.as_mut().unwrap().outbound(world.now, neighbour, at("192.0.2.1:3478"));
    let report = world.run();
    assert_kind(&report, MAPPINGS[0], FILTERINGS[2], "taken");
    assert_eq!((report.summary.preserves_port, report.summary.ports), (Some(false), Ports::Unknown));
    assert_ne!(report.mapped.unwrap().port(), MAIN_PORT);
}

#[test]
fn addresses_in_turns_are_told() {
    let mut world = World::new(MAPPINGS[2], FILTERINGS[2], Alloc::Random, false, 5);
    world.nat.as_mut().unwrap().ips.push(at("198.51.100.8:1").ip());
    let report = world.run();
    assert!(report.summary.many_addresses);
    assert_eq!(report.paper_type(), PaperType::Symmetric);
}

#[test]
fn without_a_nat() {
    let server = || World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 0).servers;
    let report = World::direct("203.0.113.5", server(), 0).run();
    let s = report.summary;
    assert_eq!((report.paper_type(), s.situation, s.mapping), (PaperType::Open, Situation::Direct, MAPPINGS[0]));
    assert_eq!((s.filtering, s.hairpin, s.preserves_port), (FILTERINGS[0], None, Some(true)));
    assert_eq!((report.mapped, report.notes), (Some(at("203.0.113.5:4789")), vec![]));
    // A firewall is a NAT that changes nothing.
    for filtering in [FILTERINGS[1], FILTERINGS[2]] {
        let mut world = World::direct("203.0.113.5", server(), 0);
        world.nat = Some(Nat::new("203.0.113.5", MAPPINGS[0], filtering, Alloc::Preserve, 0));
        let report = world.run();
        assert_eq!((report.paper_type(), report.summary.filtering), (PaperType::SymmetricFirewall, filtering));
    }
}

/// 5 % of the packets get lost each way, some come twice and late, and a round trip takes 200 ms.
#[test]
fn loss_and_delay_change_nothing() {
    let mut lost = 0;
    for seed in 0..60 {
        for mapping in MAPPINGS {
            for filtering in FILTERINGS {
                let what = format!("{mapping:?} {filtering:?} seed {seed}");
                let mut world = World::new(mapping, filtering, Alloc::Sequential(1), seed % 2 == 0, seed);
                world.nat.as_mut().unwrap().hairpin = Some(false);
                (world.loss, world.twice, world.delay) = (5, 5, Duration::from_millis(100));
                let start = world.now;
                let report = world.run();
                assert_kind(&report, mapping, filtering, &what);
                lost += world.lost;
                assert!(world.now.since(start) < Duration::from_secs(12), "{what}: {:?}", world.now.since(start));
            }
        }
    }
    assert!(lost > 540, "{lost}");
}

#[test]
fn it_takes_seconds_and_few_packets() {
    for filtering in FILTERINGS {
        let mut world = World::new(MAPPINGS[0], filtering, Alloc::Preserve, false, 1);
        world.nat.as_mut().unwrap().hairpin = Some(false);
        let start = world.now;
        world.run();
        let took = world.now.since(start);
        let silence = filtering != FILTERINGS[0];
        assert!(took < Duration::from_millis(if silence { 5000 } else { 1200 }), "{filtering:?}: {took:?}");
        assert!(world.sent.len() <= if silence { 20 } else { 10 }, "{filtering:?}: {}", world.sent.len());
        // No more than ten questions a second are begun (RFC 5780 section 5).
        let first = |n: usize| {
            let (_, t) = &world.sent[n];
            world.sent[..n].iter().all(|(_, before)| before.payload != t.payload)
        };
        let begun: Vec<_> = (0..world.sent.len()).filter(|n| first(*n)).map(|n| world.sent[n].0).collect();
        for pair in begun.windows(2) {
            assert!(pair[1].since(pair[0]) >= Duration::from_millis(100), "{begun:?}");
        }
    }
}
