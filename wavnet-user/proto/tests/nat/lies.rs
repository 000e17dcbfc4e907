//! Servers that lie or err, and others who answer in their place.

use std::net::SocketAddr;

use wavnet_proto::{
    nat::{Filtering, Note, PaperType, Report, Situation},
    stun::{Attribute, AttributeType, Builder, Class, Message, TransactionId, server::Responder},
    transmit::Socket,
};

use super::{
    grid::{FILTERINGS, MAPPINGS, assert_kind},
    model::{Alloc, Dice},
    world::{Server, Twist, World, at},
};

const SERVER: &str = "192.0.2.1:3478";

/// A world in which the server says whatever is answered to a request by id and source.
fn with_answers(says: impl Fn(TransactionId, SocketAddr) -> Vec<u8> + 'static) -> World {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[2], Alloc::Preserve, false, 8);
    world.servers[0].twist = Box::new(move |_, by, from, m| Twist::Says(by, says(m.id, from)));
    world
}

fn success(id: TransactionId, attributes: &[Attribute<'_>]) -> Vec<u8> {
    Builder::message(Class::Success, id, attributes).unwrap()
}

fn honest() -> Server {
    let other = at("203.0.113.2:1").ip();
    World::server(Responder::new(at("203.0.113.1:3478"), Some(3479), Some(other)).unwrap())
}

fn has_change(message: &Message<'_>) -> bool {
    message.attributes().any(|a| a.kind == AttributeType::CHANGE_REQUEST)
}

/// What it says is its other address is not there, and what should come from there does not come.
#[test]
fn another_address_that_does_not_answer_says_nothing() {
    let lie = at("192.0.2.200:9999");
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            let lying = || {
                let mut world = World::new(mapping, filtering, Alloc::Sequential(1), false, 8);
                world.servers[0].twist = Box::new(move |_, by, from, m| match (by, has_change(m)) {
                    (Socket::Main, false) => {
                        let mapped = [Attribute::XorMappedAddress(from), Attribute::OtherAddress(lie)];
                        Twist::Says(by, success(m.id, &mapped))
                    }
                    _ => Twist::Silent,
                });
                world
            };
            let report = lying().run();
            assert_eq!(report.summary.filtering, Filtering::Unknown, "{mapping:?} {filtering:?}");
            assert_eq!(report.summary.situation, Situation::Natted);
            assert_eq!(report.notes, [Note::OtherSilent { server: at(SERVER), other: lie }]);
            // A second server that does not lie knows everything.
            let mut world = lying();
            world.servers.push(honest());
            let report = world.run();
            assert_kind(&report, mapping, filtering, "by the honest one");
            assert_eq!(report.server, Some(at("203.0.113.1:3478")));
            assert_eq!(report.notes, [Note::OtherSilent { server: at(SERVER), other: lie }]);
        }
    }
}

/// Two that lie are asked one after the other, and no more than that.
#[test]
fn liars_in_a_row_come_to_an_end() {
    let mut world = World::new(MAPPINGS[0], FILTERINGS[2], Alloc::Preserve, false, 8);
    world.servers = (1..9)
        .map(|n| {
            let main = at(&format!("192.0.2.{n}:3478"));
            let lie = Attribute::OtherAddress(at(&format!("192.0.2.{}:9", n + 100)));
            let says = move |from, id| success(id, &[Attribute::XorMappedAddress(from), lie]);
            let responder = Responder::new(main, None, None).unwrap();
            Server { responder, twist: Box::new(move |_, by, from, m| Twist::Says(by, says(from, m.id))) }
        })
        .collect();
    let report = world.run();
    assert_eq!((report.summary.mapping, report.summary.filtering), (MAPPINGS[0], Filtering::Unknown));
    assert!(world.sent.len() < 400, "{}", world.sent.len());
}

#[test]
fn other_addresses_that_cannot_be_are_not_sent_to() {
    for lie in
        ["127.0.0.1:3479", "224.0.0.1:3479", "0.0.0.0:1", "192.0.2.2:0", "[2001:db8::5]:3479", "255.255.255.255:9"]
    {
        let lie = at(lie);
        let mut world = with_answers(move |id, from| {
            success(id, &[Attribute::XorMappedAddress(from), Attribute::OtherAddress(lie)])
        });
        let report = world.run();
        assert!(
            world.sent.iter().all(|(_, t)| t.to == at(SERVER) || t.to.ip() == report.mapped.unwrap().ip()),
            "{lie}"
        );
        assert!(report.notes.contains(&Note::NoOtherAddress(at(SERVER))), "{lie} {report:?}");
    }
}

#[test]
fn a_server_that_does_not_change_says_nothing_about_filters() {
    for filtering in FILTERINGS {
        // It answers from where it was asked.
        let mut world = World::new(MAPPINGS[0], filtering, Alloc::Preserve, false, 8);
        world.servers[0].twist = Box::new(|_, _, _, m| match has_change(m) {
            true => Twist::Instead(Builder::message(Class::Request, m.id, &[]).unwrap()),
            false => Twist::Honest,
        });
        ignored(&world.run());
        // It does not know CHANGE-REQUEST.
        let mut world = World::new(MAPPINGS[0], filtering, Alloc::Preserve, false, 8);
        world.servers[0].twist = Box::new(|_, _, _, m| match has_change(m) {
            true => Twist::Instead(
                Builder::message(Class::Request, m.id, &[Attribute::Other(AttributeType(9999), &[])]).unwrap(),
            ),
            false => Twist::Honest,
        });
        ignored(&world.run());
    }
    fn ignored(report: &Report) {
        assert_eq!((report.summary.mapping, report.summary.filtering), (MAPPINGS[0], Filtering::Unknown));
        assert_eq!(report.notes, [Note::ChangeIgnored(at(SERVER))]);
    }
}

#[test]
fn errors_are_told_and_another_server_is_asked() {
    let error = |id, code| {
        let elsewhere = Attribute::AlternateServer(at("192.0.2.66:66"));
        Builder::message(Class::Error, id, &[Attribute::ErrorCode { code, reason: "" }, elsewhere]).unwrap()
    };
    for code in [300, 400, 401, 500] {
        let mut world = with_answers(move |id, _| error(id, code));
        let report = world.run();
        assert_eq!(report.notes, [Note::Refused { server: at(SERVER), code: Some(code) }]);
        assert_eq!(report.paper_type(), PaperType::Unknown, "UDP gets through");
        assert_eq!(world.sent.len(), 1, "neither again nor to where the server would have it");
        world.servers.push(honest());
        let report = world.run();
        assert_kind(&report, MAPPINGS[0], FILTERINGS[2], "by the other server");
        assert!(world.sent.iter().all(|(_, t)| t.to != at("192.0.2.66:66")));
    }
}

#[test]
fn answers_without_a_mapped_address_that_can_be_are_refusals() {
    for attribute in [
        Attribute::Software("none"),
        Attribute::XorMappedAddress(at("224.0.0.1:5")),
        Attribute::XorMappedAddress(at("127.0.0.1:5")),
        Attribute::XorMappedAddress(at("198.51.100.7:0")),
        Attribute::XorMappedAddress(at("[2001:db8::7]:5")),
        Attribute::Other(AttributeType::XOR_MAPPED_ADDRESS, &[1, 2, 3]),
    ] {
        let report = with_answers(move |id, _| success(id, &[attribute])).run();
        assert_eq!(report.notes, [Note::Refused { server: at(SERVER), code: None }], "{attribute:?}");
    }
}

#[test]
fn an_old_server_has_mapped_address_alone() {
    let report = with_answers(|id, from| success(id, &[Attribute::MappedAddress(from)])).run();
    assert_eq!(report.mapped, Some(at("198.51.100.7:4789")));
}

#[test]
fn a_gateway_that_rewrites_addresses_is_noticed() {
    let inner = at("10.0.0.2:4789");
    let report = with_answers(move |id, from| {
        success(id, &[Attribute::XorMappedAddress(from), Attribute::MappedAddress(inner)])
    })
    .run();
    assert_eq!(report.mapped, Some(at("198.51.100.7:4789")), "the masked one counts");
    assert!(report.notes.contains(&Note::Rewritten));
}

/// Where the host seems to be is another place in each answer: it is called unstable, and that is all.
#[test]
fn a_server_that_makes_addresses_up_comes_to_an_end() {
    let mut dice = Dice(5);
    let mut world = World::new(MAPPINGS[0], FILTERINGS[0], Alloc::Preserve, false, 8);
    world.servers[0].twist = Box::new(move |_, by, _, m| {
        let [a, b, c, d, ..] = dice.next().to_be_bytes();
        let mapped = SocketAddr::from(([198, 51, a, b], u16::from_be_bytes([c | 1, d])));
        Twist::Says(
            by,
            success(m.id, &[Attribute::XorMappedAddress(mapped), Attribute::OtherAddress(at("192.0.2.2:3479"))]),
        )
    });
    let report = world.run();
    assert!(report.summary.unstable && report.notes.contains(&Note::Moved), "{report:?}");
    assert!(world.sent.len() < 100);
}

/// Answers with a wrong id, from a wrong place, at a wrong socket, requests, garbage, and what was sent before.
#[test]
fn answers_of_others_change_nothing() {
    for mapping in MAPPINGS {
        for filtering in FILTERINGS {
            for seed in 0..8 {
                let run = |attacked| {
                    let mut world = World::new(mapping, filtering, Alloc::Sequential(1), false, seed);
                    if attacked {
                        attack(&mut world, seed);
                    }
                    world.run()
                };
                assert_eq!(run(true), run(false), "{mapping:?} {filtering:?} seed {seed}");
            }
        }
    }
}

fn attack(world: &mut World, seed: u64) {
    let mut dice = Dice(seed);
    let mut first: Option<Vec<u8>> = None;
    world.attacker = Some(Box::new(move |t| {
        let id = Message::parse(&t.payload).unwrap().id;
        let evil = at("203.0.113.66:666");
        let lie = [Attribute::XorMappedAddress(evil), Attribute::OtherAddress(evil)];
        let right = success(id, &lie);
        let mut wrong = right.clone();
        wrong[4 + dice.below(16) as usize] ^= 1 << dice.below(8);
        let garbage = (0..dice.below(80)).map(|_| dice.next() as u8).collect();
        let port = SocketAddr::new(t.to.ip(), t.to.port().wrapping_add(1000));
        let error = Builder::message(Class::Error, id, &[Attribute::ErrorCode { code: 500, reason: "" }]).unwrap();
        let indication = Builder::message(Class::Indication, id, &lie).unwrap();
        let elsewhere = if t.from == Socket::Main { Socket::Extra(999) } else { Socket::Main };
        // On the way to the NAT itself: a request, to the socket that it was not for.
        let request = t.payload.clone();
        let mut all = vec![
            (t.from, t.to, wrong),
            (t.from, evil, right.clone()),
            (t.from, port, error),
            (elsewhere, t.to, right.clone()),
            (t.from, t.to, indication),
            (t.from, t.to, request),
            (t.from, t.to, garbage),
            (t.from, t.to, right[..right.len() - 4].to_vec()),
        ];
        // An answer to the first question, which is over by now, once more, with another address in it.
        let first = first.get_or_insert_with(|| right.clone());
        if first[8..20] != right[8..20] {
            all.push((t.from, t.to, first.clone()));
        }
        all
    }));
}
