//! Every datagram of every type with every bit flipped, cut at every place, and with a byte too many.

use wavnet_proto::{
    rng::Rng,
    trust::{Initiation, Request, Responder, Session},
    wire::{Datagram, Label, Unknown, opener, unknown},
};

use crate::world::{With, World, data, init, read_cookie};

/// A host that waits for whatever may come: HELLO and INIT of a peer, COOKIE and RESPONSE for handshakes of its own, DATA of a session.
struct Host {
    world: World,
    session: Session,
    /// One right datagram of each type that has something to protect.
    sent: Vec<(&'static str, Vec<u8>)>,
}

impl Host {
    fn new() -> Host {
        let mut world = World::new(With::Access, 60);
        let (mut ours, session, _) = world.shake();
        let [mut begun, mut called] = initiations(&world);
        let hello = begun.hello_datagram();
        let cookie = world.answer(&hello).unwrap();
        let init = begun.handle_cookie(&read_cookie(&cookie), None, b"init").unwrap();
        let call = called.init_without_cookie(world.responder.public(), b"").unwrap();
        let response = read_forwarded(&world, &call).respond(world.now, 3, b"response").unwrap().0;
        let mut data = Vec::new();
        ours.seal(Label::ZERO, b"data", &mut data).unwrap();
        let sent = vec![("HELLO", hello), ("COOKIE", cookie), ("INIT", init), ("RESPONSE", response), ("DATA", data)];
        Host { world, session, sent }
    }

    /// What the host makes of a datagram, if it takes it.
    fn take(&mut self, datagram: &[u8]) -> Option<String> {
        let (_, read) = Datagram::parse(datagram).ok()?;
        let world = &mut self.world;
        let [mut begun, mut called] = initiations(world);
        match read {
            Datagram::Hello(_) => world.answer(datagram).ok().map(|cookie| format!("{cookie:?}")),
            Datagram::Cookie(cookie) => begun.handle_cookie(&cookie, None, b"").ok().map(|init| format!("{init:?}")),
            Datagram::Init(_) => world.respond(datagram, 9, b"").ok().map(|responded| format!("{:?}", responded.said)),
            Datagram::Response(response) => {
                called.init_without_cookie(world.responder.public(), b"").unwrap();
                let taken = called.handle_response(world.now, &response).ok()?;
                Some(format!("{taken:?}"))
            }
            Datagram::Data(data) => {
                let mut opened = Vec::new();
                self.session.open(&data, &mut opened).ok().map(|()| format!("{opened:?}"))
            }
            Datagram::Opener | Datagram::Unknown(_) => None,
        }
    }
}

/// One that waits for COOKIE, and one that will wait for RESPONSE: the same each time, since RESPONSE ends a handshake.
fn initiations(world: &World) -> [Initiation; 2] {
    let mut rng = Rng::from_seed([61; 32]);
    [0x1000_0001, 0x2000_0002].map(|index| Initiation::start(&world.initiator, world.psk(), index, &mut rng))
}

fn read_forwarded(world: &World, datagram: &[u8]) -> Request {
    let responder = Responder::new(&world.responder, world.psk());
    let mut rng = Rng::from_seed([62; 32]);
    responder.read_forwarded_init(world.initiator.public(), &init(datagram), &mut rng).unwrap()
}

#[test]
fn what_was_changed_is_refused() {
    let mut host = Host::new();
    for (name, datagram) in host.sent.clone() {
        for bit in (0..datagram.len() * 8).filter(|bit| !(8..32).contains(bit)) {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(host.take(&changed), None, "{name}: bit {} of byte {}", bit % 8, bit / 8);
        }
        for len in 0..datagram.len() {
            assert_eq!(host.take(&datagram[..len]), None, "{name}: cut to {len} bytes");
        }
        for more in [0, 1, 0xff] {
            let longer = [&datagram[..], &[more]].concat();
            assert_eq!(host.take(&longer), None, "{name} and {more}");
        }
        for from in 0..datagram.len() {
            let changed = [&datagram[..from], &datagram[(from + 1).min(datagram.len())..]].concat();
            assert_eq!(host.take(&changed), None, "{name} without byte {from}");
        }
    }
    // None of that has done any harm: what was right is taken still.
    for (name, datagram) in host.sent.clone() {
        assert!(host.take(&datagram).is_some(), "{name}");
    }
}

#[test]
fn labels_are_not_looked_at() {
    for bit in 8..32 {
        let mut host = Host::new();
        for (name, mut datagram) in host.sent.clone() {
            let mut same = Host::new();
            let expected = same.take(&datagram);
            datagram[bit / 8] ^= 1 << (bit % 8);
            assert!(expected.is_some());
            assert_eq!(host.take(&datagram), expected, "{name}, bit {bit}");
        }
    }
}

/// OPENER and UNKNOWN prove nothing: there it is the shape alone.
#[test]
fn what_proves_nothing_has_a_shape_at_least() {
    let pulse = Unknown::Pulse([1, 2]);
    let of_data = Unknown::Data { receiver: 1, counter: 2, start: [3; 4] };
    for (datagram, len) in
        [(opener(Label::ZERO, [7; 8]), 16), (unknown(Label::ZERO, pulse), 10), (unknown(Label::ZERO, of_data), 24)]
    {
        assert_eq!(datagram.len(), len);
        let (header, read) = Datagram::parse(&datagram).unwrap();
        match read {
            Datagram::Opener => assert_eq!(len, 16),
            Datagram::Unknown(what) => assert_eq!(unknown(header.label, what), datagram),
            other => panic!("{other:?}"),
        }
        for bit in (0..64).filter(|bit| !(8..32).contains(bit)) {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            Datagram::parse(&changed).unwrap_err();
        }
        for len in 0..len {
            // One is the other cut short.
            let cut = Datagram::parse(&datagram[..len]);
            assert!(cut.is_err() || len == 10 && datagram.len() == 24, "{len} of {}: {cut:?}", datagram.len());
        }
        Datagram::parse(&[&datagram[..], &[0]].concat()).unwrap_err();
    }
}

#[test]
fn unknown_says_what_was_not_known() {
    let (mut ours, ..) = World::new(With::Access, 63).shake();
    let mut datagram = Vec::new();
    ours.seal(Label::ZERO, b"x", &mut datagram).unwrap();
    let answer = unknown(Label::new(5).unwrap(), Unknown::from(&data(&datagram)));
    assert!(answer.len() <= datagram.len());
    assert_eq!(answer[..8], [b'W', 0, 0, 5, 1, 7, 0, 0]);
    assert_eq!(answer[8..], datagram[8..24]);
}
