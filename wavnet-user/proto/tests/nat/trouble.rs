//! Networks, servers and shells that do less than one would wish.

use std::{net::SocketAddr, time::Duration};

use wavnet_proto::{
    nat::{
        Classifier, Event, Filtering, Mapping, NatSummary, Note, Options, PaperType, Ports, Report, Retransmission,
        Situation, StunServer,
    },
    stun::{Message, server::Responder},
    time::Time,
    transmit::Socket,
};

use super::{
    grid::{FILTERINGS, MAPPINGS, assert_kind},
    model::Alloc,
    world::{Server, Sockets, Twist, World, at},
};

fn server(main: &str, port: Option<u16>) -> Server {
    World::server(Responder::new(at(main), port, None).unwrap())
}

fn silent(main: &str) -> Server {
    Server { twist: Box::new(|_, _, _, _| Twist::Silent), ..server(main, None) }
}

fn classify(mapping: Mapping, filtering: Filtering, servers: Vec<Server>) -> (Report, World) {
    let mut world = World::new(mapping, filtering, Alloc::Random, false, 11);
    world.servers = servers;
    (world.run(), world)
}

#[test]
fn no_answer_at_all_is_blocked() {
    let (report, world) =
        classify(MAPPINGS[0], FILTERINGS[0], vec![silent("192.0.2.1:3478"), silent("192.0.2.9:3478")]);
    assert_eq!(report.paper_type(), PaperType::Blocked);
    assert_eq!((report.mapped, report.server), (None, None));
    assert_eq!(report.notes, [Note::Silent(at("192.0.2.1:3478")), Note::Silent(at("192.0.2.9:3478"))]);
    let sent: Vec<_> = world.sent.iter().map(|(when, t)| (when.since(world.sent[0].0).as_millis(), t.to)).collect();
    let (one, two) = (at("192.0.2.1:3478"), at("192.0.2.9:3478"));
    let mut expected: Vec<_> = [0, 200, 600, 1400, 3000].map(|ms| (ms, one)).to_vec();
    expected.extend([100, 300, 700, 1500, 3100].map(|ms| (ms, two)));
    expected.sort();
    assert_eq!(sent, expected, "twice as long each time");
    assert_eq!(world.now.since(world.sent[0].0), Duration::from_millis(100 + 3000 + 800));
}

/// RFC 8489 section 6.2.1: at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, and given up at 39500.
#[test]
fn the_rfc_s_own_timers() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 1);
    world.servers = vec![silent("192.0.2.1:3478")];
    world.options.retransmission = Retransmission::RFC8489;
    let start = world.now;
    world.run();
    let sent: Vec<_> = world.sent.iter().map(|(when, _)| when.since(start).as_millis()).collect();
    assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    assert_eq!(world.now.since(start).as_millis(), 39500);
}

#[test]
fn servers_of_another_family_are_not_asked() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 1);
    world.servers = vec![server("[2001:db8::1]:3478", None)];
    let report = world.run();
    assert_eq!((report.summary, report.notes), (NatSummary::default(), vec![Note::NoServer]));
    assert_eq!((world.sent.len(), world.reports.len()), (0, 1));
    assert_eq!(world.run_with(&[]).notes, [Note::NoServer]);
    // Beside one that can be, they do no harm.
    let mut world = World::new(MAPPINGS[0], FILTERINGS[1], Alloc::Random, true, 1);
    world.servers.insert(0, server("192.0.2.1:3478", None));
    assert_kind(&world.run(), MAPPINGS[0], FILTERINGS[1], "IPv6");
}

#[test]
fn a_dead_server_is_not_waited_for() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 1);
    world.servers.insert(0, silent("192.0.2.77:3478"));
    let start = world.now;
    let report = world.run();
    assert_kind(&report, MAPPINGS[0], FILTERINGS[0], "the second");
    assert_eq!((report.server, report.notes), (Some(at("192.0.2.1:3478")), vec![]));
    assert!(world.now.since(start) < Duration::from_secs(5));
}

#[test]
fn two_servers_with_one_address_each_tell_the_mapping() {
    for filtering in FILTERINGS {
        let servers = || vec![server("192.0.2.1:3478", None), server("203.0.113.1:3478", None)];
        let (report, _) = classify(MAPPINGS[0], filtering, servers());
        assert_eq!((report.summary.mapping, report.summary.filtering), (MAPPINGS[0], Filtering::Unknown));
        assert_eq!(report.paper_type(), PaperType::Unknown);
        assert_eq!(report.notes, [Note::NoOtherAddress(at("192.0.2.1:3478"))]);
        for mapping in [MAPPINGS[1], MAPPINGS[2]] {
            let (report, _) = classify(mapping, filtering, servers());
            assert_eq!(report.summary.mapping, Mapping::AddressAndPortDependent, "the worse of two");
            assert_eq!((report.paper_type(), report.summary.ports), (PaperType::Symmetric, Ports::Unknown));
        }
    }
}

/// REGISTERED tells of the other port, and the server answers from there (CHANGE-REQUEST).
#[test]
fn a_second_port_alone_tells_whether_ports_count() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let mut world = World::new(mapping, filtering, Alloc::Random, false, 4);
            world.servers = vec![server("192.0.2.1:3478", Some(3479))];
            let known = [StunServer { address: at("192.0.2.1:3478"), others: vec![at("192.0.2.1:3479")] }];
            let s = world.run_with(&known).summary;
            match filtering {
                Filtering::AddressAndPortDependent => {
                    assert_eq!((s.filtering, s.filtering_at_most), (filtering, false))
                }
                _ => assert_eq!((s.filtering, s.filtering_at_most), (Filtering::AddressDependent, true)),
            }
            match mapping {
                Mapping::AddressAndPortDependent => assert_eq!(s.mapping, mapping),
                _ => assert_eq!(s.mapping, Mapping::Unknown),
            }
            // With a second server's address the mapping is known, too.
            world.servers.push(server("203.0.113.1:3478", None));
            let mut known = known.to_vec();
            known.extend([StunServer { address: at("203.0.113.1:3478"), others: Vec::new() }]);
            assert_eq!(world.run_with(&known).summary.mapping, mapping);
        }
    }
}

#[test]
fn one_port_of_one_address_tells_the_mapped_address() {
    let (report, _) = classify(MAPPINGS[2], FILTERINGS[2], vec![server("192.0.2.1:3478", None)]);
    let s = report.summary;
    assert_eq!((s.situation, s.mapping, s.filtering), (Situation::Natted, Mapping::Unknown, Filtering::Unknown));
    assert!(report.mapped.is_some());
}

#[test]
fn without_sockets_the_main_one_must_do() {
    for sockets in [Sockets::Refused, Sockets::Forgotten] {
        for mapping in MAPPINGS {
            for filtering in FILTERINGS {
                let mut world = World::new(mapping, filtering, Alloc::Preserve, false, 9);
                world.sockets = sockets;
                let report = world.run();
                assert_kind(&report, mapping, filtering, "by the main socket");
                assert_eq!((report.summary.hairpin, report.notes), (None, vec![Note::NoSocket]));
                assert!(world.sent.iter().all(|(_, t)| t.from == Socket::Main));
            }
        }
    }
}

#[test]
fn a_socket_that_comes_too_late_is_closed() {
    let known = [StunServer { address: at("192.0.2.1:3478"), others: Vec::new() }];
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let start = Time::ZERO;
    let mut c = Classifier::new(start, at("10.0.0.2:4789"), &known, Options::default(), random);
    assert_eq!(c.poll_event(), Some(Event::OpenSocket(0)));
    let later = start + Duration::from_secs(1);
    c.handle_timeout(later);
    c.handle_socket(later, 0, true);
    assert_eq!((c.poll_event(), c.poll_event()), (Some(Event::CloseSocket(0)), None));
    c.handle_socket(later, 5, true);
    assert_eq!(c.poll_event(), Some(Event::CloseSocket(5)), "one that was never asked for");
    c.handle_socket(later, 6, false);
    assert_eq!(c.poll_event(), None);
}

#[test]
fn a_reboot_is_noticed_and_all_is_done_again() {
    // Whenever it comes: during the mapping tests, while silence is waited for, and before the last question.
    for ms in [30, 150, 250, 400, 1000, 3000, 4000, 4500] {
        for mapping in MAPPINGS {
            for filtering in FILTERINGS {
                let run = |reboots: &[Time]| {
                    let mut world = World::new(mapping, filtering, Alloc::Random, false, ms);
                    world.nat.as_mut().unwrap().hairpin = Some(false);
                    world.reboots = reboots.to_vec();
                    let start = world.now;
                    (world.run(), start, world.now)
                };
                let (_, start, end) = run(&[]);
                let when = start + Duration::from_millis(ms);
                let (report, ..) = run(&[when]);
                let what = format!("reboot after {ms} ms, {mapping:?} {filtering:?}");
                assert_kind(&report, mapping, filtering, &what);
                assert_eq!(report.notes.contains(&Note::Moved), when < end, "{what} {report:?}");
            }
        }
    }
}

#[test]
fn a_mapping_that_moves_again_is_unstable() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[2], Alloc::Random, false, 2);
    world.reboots = [2, 7, 12].map(|s| world.now + Duration::from_secs(s)).to_vec();
    let report = world.run();
    assert!(report.summary.unstable);
    assert_eq!(report.summary.mapping, MAPPINGS[0]);
    assert_eq!(report.summary.hairpin, None, "nothing was where it was sought");
    assert_eq!(report.notes, [Note::Moved]);
    let (first, last) = (world.sent.first().unwrap().0, world.now);
    assert!(last.since(first) < Duration::from_secs(12));
}

/// The NAT loses the fresh socket's mapping alone while an answer is waited for.
#[test]
fn a_mapping_that_is_lost_is_no_filter() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            for ms in [430, 510, 590, 1000] {
                let mut world = World::new(mapping, filtering, Alloc::Random, false, 2);
                world.forgets = Some((world.now + Duration::from_millis(ms), Socket::Extra(0)));
                assert_kind(
                    &world.run(),
                    mapping,
                    filtering,
                    &format!("lost after {ms} ms, {mapping:?} {filtering:?}"),
                );
            }
        }
    }
}

#[test]
fn a_server_that_dies_during_the_tests_is_no_filter() {
    for ms in [330, 450, 505] {
        let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 2);
        let dies = world.now + Duration::from_millis(ms);
        world.servers[0].twist = Box::new(move |now, _, _, _| if now < dies { Twist::Honest } else { Twist::Silent });
        let report = world.run();
        assert_eq!((report.summary.mapping, report.summary.filtering), (MAPPINGS[0], Filtering::Unknown), "{ms}");
        assert_eq!(report.notes, [Note::Vanished(at("192.0.2.1:3478"))], "{ms}");
    }
}

#[test]
fn servers_that_are_not_needed_are_left_alone() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Random, false, 1);
    world.servers.extend([server("203.0.113.1:3478", None), server("203.0.113.2:3478", None)]);
    world.run();
    assert!(world.sent.iter().all(|(_, t)| !t.to.to_string().starts_with("203")), "{:?}", world.sent);
}

#[test]
fn a_clock_that_jumps_makes_no_burst() {
    let known: Vec<_> =
        (1..9).map(|n| StunServer { address: at(&format!("192.0.2.{n}:3478")), others: vec![] }).collect();
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let mut now = Time::ZERO;
    let mut c = Classifier::new(now, at("10.0.0.2:4789"), &known, Options::default(), random);
    let mut finished = false;
    for _ in 0..100 {
        let mut to: Vec<SocketAddr> = std::iter::from_fn(|| c.poll_transmit()).map(|t| t.to).collect();
        let count = to.len();
        to.sort();
        to.dedup();
        assert_eq!(to.len(), count, "one to each at a time");
        finished |= std::iter::from_fn(|| c.poll_event()).any(|e| e == Event::Finished);
        if c.poll_timeout().is_none() {
            break;
        }
        now += Duration::from_secs(3600);
        c.handle_timeout(now);
    }
    assert!(finished);
    assert_eq!(c.report().paper_type(), PaperType::Blocked);
}

#[test]
fn what_is_not_its_own_is_left_to_others() {
    let known = [StunServer { address: at("192.0.2.1:3478"), others: vec![] }];
    let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let mut c = Classifier::new(Time::ZERO, at("10.0.0.2:4789"), &known, Options::default(), random);
    let request = c.poll_transmit().unwrap();
    let mut other = request.payload.clone();
    other[19] ^= 1;
    let from = at("192.0.2.1:3478");
    assert!(!c.handle_input(Time::ZERO, Socket::Main, from, &other));
    assert!(!c.handle_input(Time::ZERO, Socket::Main, from, b"W nothing of STUN's"));
    assert!(c.handle_input(Time::ZERO, Socket::Main, from, &request.payload), "reflected: its own, and of no use");
    assert!(Message::parse(&request.payload).is_ok());
    assert_eq!(c.report().mapped, None);
}
