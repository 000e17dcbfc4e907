//! Handshakes that succeed.

use wavnet_proto::{
    rng::Rng,
    trust::{HandshakeError, Initiation, NetworkKey, Psk, Responder, SecretKey},
    wire::{COOKIE_LEN, Datagram, INIT_LEN, MAX_PAYLOAD, RESPONSE_LEN},
};

use crate::world::{Responded, With, World, carry, init, read_cookie, read_response};

#[test]
fn two_sides_come_to_a_session() {
    for with in [With::Access, With::Member] {
        let mut world = World::new(with, 1);
        let (mut ours, mut theirs, _) = world.shake();
        assert_eq!((ours.local_index(), ours.remote_index()), (1, 2));
        assert_eq!((theirs.local_index(), theirs.remote_index()), (2, 1));
        assert_eq!(ours.peer(), world.responder.public());
        assert_eq!(theirs.peer(), world.initiator.public());
        assert!(ours.is_initiator() && !theirs.is_initiator());
        assert_eq!((ours.established(), theirs.established()), (world.now, world.now));

        assert!(!ours.is_confirmed() && !theirs.is_confirmed());
        carry(&mut ours, &mut theirs, b"");
        assert!(!ours.is_confirmed() && theirs.is_confirmed());
        carry(&mut theirs, &mut ours, b"hello");
        assert!(ours.is_confirmed());
        for n in 0..10 {
            carry(&mut ours, &mut theirs, &vec![n; usize::from(n) * 100]);
            carry(&mut theirs, &mut ours, &vec![n; usize::from(n) * 100]);
        }
    }
}

#[test]
fn nothing_amplifies() {
    let mut world = World::new(With::Access, 2);
    for said in [0, 1, 20, 500, MAX_PAYLOAD - 84, MAX_PAYLOAD - 83, MAX_PAYLOAD] {
        let mut initiation = world.start(1);
        let hello = initiation.hello_datagram();
        let cookie = world.answer(&hello).unwrap();
        assert!(cookie.len() <= hello.len());
        let init = initiation.handle_cookie(&read_cookie(&cookie), None, &vec![1; said]).unwrap();
        assert_eq!(init.len(), INIT_LEN + said);
        let room = MAX_PAYLOAD.min(said + INIT_LEN - RESPONSE_LEN);
        for answer in [0, room / 2, room, room + 1, MAX_PAYLOAD + 1] {
            match world.respond(&init, 2, &vec![2; answer]) {
                Ok(Responded { response, .. }) => {
                    assert_eq!(response.len(), RESPONSE_LEN + answer);
                    assert!(answer <= room && response.len() <= init.len(), "{said} {answer}");
                }
                Err(error) => {
                    assert_eq!(error, HandshakeError::TooLong { len: answer, most: room });
                    assert!(answer > room, "{said} {answer}");
                }
            }
        }
    }
}

#[test]
fn agents_shake_hands_by_way_of_a_server() {
    let world = World::new(With::Member, 3);
    let mut rng = Rng::from_seed([4; 32]);
    let mut initiation = Initiation::start(&world.initiator, world.psk(), 1, &mut rng);
    let datagram = initiation.init_without_cookie(world.responder.public(), b"short").unwrap();
    assert_eq!(initiation.remote(), Some(world.responder.public()));
    assert_eq!(init(&datagram).cookie, &[0; COOKIE_LEN]);
    assert_eq!(initiation.init_without_cookie(world.responder.public(), b"other").unwrap(), datagram, "the same again");

    let responder = Responder::new(&world.responder, world.psk());
    let request = responder.read_forwarded_init(world.initiator.public(), &init(&datagram), &mut rng).unwrap();
    assert_eq!((request.remote_index(), request.payload(), request.room()), (1, &b"short"[..], MAX_PAYLOAD));
    let (response, mut theirs) = request.respond(world.now, 2, &[9; MAX_PAYLOAD]).unwrap();
    let (mut ours, said) = initiation.handle_response(world.now, &read_response(&response)).unwrap();
    assert_eq!(said, [9; MAX_PAYLOAD]);
    carry(&mut ours, &mut theirs, b"there");
    carry(&mut theirs, &mut ours, b"and back");

    // Not forwarded, it has no right cookie.
    let read = responder.read_init(&world.jar, world.now, world.from, &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Cookie);
    // The server says that it is from somebody else.
    let other = SecretKey::generate(&mut rng).public();
    let read = responder.read_forwarded_init(other, &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Peer { wanted: other, found: world.initiator.public() });
}

#[test]
fn hosts_without_a_network_key_share_the_open_one() {
    let mut rng = Rng::from_seed([5; 32]);
    let (a, b) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let (here, there) = (NetworkKey::open().member(), NetworkKey::open().member());
    let mut initiation = Initiation::start(&a, Psk::Member(&here), 1, &mut rng);
    let datagram = initiation.init_without_cookie(b.public(), b"").unwrap();
    let responder = Responder::new(&b, Psk::Member(&there));
    let request = responder.read_forwarded_init(a.public(), &init(&datagram), &mut rng).unwrap();
    assert_eq!(request.peer(), a.public());
}

#[test]
fn lost_datagrams_are_sent_again() {
    let mut world = World::new(With::Access, 6);
    let mut initiation = world.start(1);
    let hello = initiation.hello_datagram();
    assert_eq!(initiation.hello_datagram(), hello);
    let cookie = world.answer(&hello).unwrap();
    assert_eq!(world.answer(&hello).unwrap(), cookie, "nothing was kept that could make a difference");

    let first = initiation.handle_cookie(&read_cookie(&cookie), None, b"first").unwrap();
    assert_eq!(initiation.handle_cookie(&read_cookie(&cookie), None, b"second").unwrap(), first);
    // Much later the cookie is another one, and the Noise message the same.
    world.later(600);
    let cookie = world.answer(&hello).unwrap();
    let second = initiation.handle_cookie(&read_cookie(&cookie), None, b"second").unwrap();
    assert_ne!(init(&second).cookie, init(&first).cookie);
    assert_eq!(init(&second).noise, init(&first).noise);
    assert_eq!(init(&second).ephemeral(), init(&first).ephemeral());
    let responder = Responder::new(&world.responder, world.psk());
    let check = |datagram| responder.check_init(&world.jar, world.now, world.from, &init(datagram));
    assert_eq!((check(&first), check(&second)), (Err(HandshakeError::Cookie), Ok(())));
    assert_eq!(world.respond(&first, 2, b"").unwrap_err(), HandshakeError::Cookie, "too old");

    // Two answers to one INIT: either will do, and the other is passed over.
    let lost = world.respond(&second, 2, b"").unwrap();
    let Responded { said, response, mut session } = world.respond(&second, 3, b"").unwrap();
    assert_eq!(said, b"first");
    let (mut ours, _) = initiation.handle_response(world.now, &read_response(&response)).unwrap();
    let again = initiation.handle_response(world.now, &read_response(&lost.response));
    assert_eq!(again.unwrap_err(), HandshakeError::State);
    carry(&mut ours, &mut session, b"x");
    assert!(!lost.session.is_confirmed());
}

#[test]
fn the_same_seeds_make_the_same_bytes() {
    let run = || {
        let mut world = World::new(With::Access, 7);
        let (mut ours, mut theirs, sent) = world.shake();
        let mut data = Vec::new();
        ours.seal(Default::default(), b"there", &mut data).unwrap();
        theirs.seal(Default::default(), b"back", &mut data).unwrap();
        [sent.hello, sent.cookie, sent.init, sent.response, data]
    };
    assert_eq!(run(), run());
    let mut other = World::new(With::Access, 8);
    assert_ne!(run()[2], other.shake().2.init);
}

#[test]
fn initiations_of_one_generator_differ() {
    let mut world = World::new(With::Access, 9);
    let mut rng = world.rng.fork();
    let mut one = Initiation::start(&world.initiator, world.psk(), 1, &mut rng);
    let mut two = Initiation::start(&world.initiator, world.psk(), 1, &mut rng);
    let to = world.responder.public();
    assert_ne!(one.init_without_cookie(to, b"").unwrap(), two.init_without_cookie(to, b"").unwrap());
}

#[test]
fn datagrams_have_the_lengths_of_the_document() {
    let (.., sent) = World::new(With::Access, 10).shake();
    assert_eq!([sent.hello.len(), sent.cookie.len()], [120, 76]);
    assert_eq!([sent.init.len(), sent.response.len()], [148 + 18, 64 + 18]);
    for datagram in [sent.hello, sent.cookie, sent.init, sent.response] {
        let (header, _) = Datagram::parse(&datagram).unwrap();
        assert_eq!(header.to_bytes(), datagram[..8]);
        assert_eq!(header.label.get(), 0);
    }
}
