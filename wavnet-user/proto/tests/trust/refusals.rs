//! Handshakes that are refused, by either side, and go on when the right datagram comes.

use wavnet_proto::{
    rng::Rng,
    trust::{AccessKey, HandshakeError, Initiation, NetworkKey, Psk, Responder, SecretKey},
    wire::{MAX_PAYLOAD, Response},
};

use crate::world::{Responded, With, World, carry, hello, init, read_cookie, read_response};

#[test]
fn another_network_is_refused_before_anything_is_computed() {
    let mut world = World::new(With::Access, 20);
    let mut rng = Rng::from_seed([21; 32]);
    let stranger = NetworkKey::generate(&mut rng).access();
    let mut initiation = Initiation::start(&world.initiator, Psk::Access(&stranger), 1, &mut rng);
    assert_eq!(world.answer(&initiation.hello_datagram()), Err(HandshakeError::Network(stranger.network())));
    let datagram = initiation.init_without_cookie(world.responder.public(), b"").unwrap();
    assert_eq!(world.respond(&datagram, 2, b"").unwrap_err(), HandshakeError::Network(stranger.network()));
}

/// Knows a network's id, which is no secret, but not its key.
fn pretender(of: &AccessKey, rng: &mut Rng) -> AccessKey {
    use base64ct::{Base64, Encoding as _};
    let bytes = [&of.network().to_bytes()[..], &rng.bytes::<32>()].concat();
    format!("wavnet-access:{}", Base64::encode_string(&bytes)).parse().unwrap()
}

#[test]
fn the_id_without_the_key_is_refused() {
    let mut rng = Rng::from_seed([22; 32]);
    let (ours, theirs) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let access = NetworkKey::generate(&mut rng).access();
    let pretended = pretender(&access, &mut rng);
    assert_eq!(pretended.network(), access.network());
    let mut world = World::new(With::Access, 22);

    let (client, server) = (Psk::Access(&pretended), Responder::new(&theirs, Psk::Access(&access)));
    let mut initiation = Initiation::start(&ours, client, 1, &mut rng);
    let datagram = initiation.hello_datagram();
    let answer = server.answer_hello(&mut world.jar, world.now, world.from, &hello(&datagram));
    assert_eq!(answer, Err(HandshakeError::Mac));
    let datagram = initiation.init_without_cookie(theirs.public(), b"").unwrap();
    let read = server.read_init(&world.jar, world.now, world.from, &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Mac);
    let read = server.read_forwarded_init(ours.public(), &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Mac);

    // The other way round: a false server.
    let mut initiation = Initiation::start(&ours, Psk::Access(&access), 1, &mut rng);
    let server = Responder::new(&theirs, client);
    let datagram = Initiation::start(&ours, client, 1, &mut rng).hello_datagram();
    let cookie = server.answer_hello(&mut world.jar, world.now, world.from, &hello(&datagram)).unwrap();
    assert_eq!(initiation.handle_cookie(&read_cookie(&cookie), None, b""), Err(HandshakeError::Mac));
}

#[test]
fn a_server_cannot_take_part_in_the_network() {
    let mut rng = Rng::from_seed([23; 32]);
    let network = NetworkKey::generate(&mut rng);
    let (server, host) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let (access, member) = (network.access(), network.member());
    // It begins, or forwards, with the only key that it has.
    let mut initiation = Initiation::start(&server, Psk::Access(&access), 1, &mut rng);
    let datagram = initiation.init_without_cookie(host.public(), b"").unwrap();
    let responder = Responder::new(&host, Psk::Member(&member));
    let read = responder.read_forwarded_init(server.public(), &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Mac);
    // It answers.
    let mut initiation = Initiation::start(&host, Psk::Member(&member), 1, &mut rng);
    let datagram = initiation.init_without_cookie(server.public(), b"").unwrap();
    let read =
        Responder::new(&server, Psk::Access(&access)).read_forwarded_init(host.public(), &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Mac);
}

#[test]
fn only_the_expected_server_is_answered() {
    let mut world = World::new(With::Access, 24);
    let wanted = SecretKey::generate(&mut world.rng.fork()).public();
    let mut initiation = world.start(1);
    let cookie = world.answer(&initiation.hello_datagram()).unwrap();
    let found = world.responder.public();
    let refused = initiation.handle_cookie(&read_cookie(&cookie), Some(wanted), b"");
    assert_eq!(refused, Err(HandshakeError::Peer { wanted, found }));
    // Whoever is called once is called until the end.
    initiation.handle_cookie(&read_cookie(&cookie), None, b"").unwrap();
    let mut other = World::new(With::Access, 24);
    other.responder = SecretKey::generate(&mut world.rng.fork());
    let cookie = other.answer(&initiation.hello_datagram()).unwrap();
    let refused = initiation.handle_cookie(&read_cookie(&cookie), None, b"");
    assert_eq!(refused, Err(HandshakeError::Peer { wanted: found, found: other.responder.public() }));
}

#[test]
fn somebody_else_cannot_read_init_nor_answer_it() {
    let mut world = World::new(With::Access, 25);
    let mut initiation = world.start(1);
    let cookie = world.answer(&initiation.hello_datagram()).unwrap();
    let datagram = initiation.handle_cookie(&read_cookie(&cookie), None, b"").unwrap();
    let mut rng = world.rng.fork();
    // It has the network's key, and sits on the way.
    let other = SecretKey::generate(&mut rng);
    let read =
        Responder::new(&other, world.psk()).read_forwarded_init(world.initiator.public(), &init(&datagram), &mut rng);
    assert_eq!(read.unwrap_err(), HandshakeError::Forged);
    // It answers all the same, with what it can have: the response to a call of its own.
    let mut own = Initiation::start(&other, world.psk(), 1, &mut rng);
    let call = own.init_without_cookie(world.responder.public(), b"").unwrap();
    let responder = Responder::new(&world.responder, world.psk());
    let request = responder.read_forwarded_init(other.public(), &init(&call), &mut rng).unwrap();
    let (response, _) = request.respond(world.now, 2, b"").unwrap();
    let taken = initiation.handle_response(world.now, &read_response(&response));
    assert_eq!(taken.unwrap_err(), HandshakeError::Forged);
    let noise = [0; 52];
    let taken = initiation.handle_response(world.now, &Response { receiver: 1, noise: &noise });
    assert_eq!(taken.unwrap_err(), HandshakeError::Forged, "an ephemeral key of low order");
    // The right answer still counts.
    let Responded { response, mut session, .. } = world.respond(&datagram, 2, b"").unwrap();
    let (mut ours, _) = initiation.handle_response(world.now, &read_response(&response)).unwrap();
    carry(&mut ours, &mut session, b"x");
}

#[test]
fn a_host_does_not_shake_hands_with_itself() {
    let mut world = World::new(With::Member, 26);
    world.responder = world.initiator.clone();
    let mut initiation = world.start(1);
    let cookie = world.answer(&initiation.hello_datagram()).unwrap();
    assert_eq!(initiation.handle_cookie(&read_cookie(&cookie), None, b""), Err(HandshakeError::Ourselves));
    let own = world.initiator.public();
    assert_eq!(initiation.init_without_cookie(own, b""), Err(HandshakeError::Ourselves));
}

#[test]
fn datagrams_out_of_turn_are_refused() {
    let mut world = World::new(With::Access, 27);
    let mut initiation = world.start(1);
    let response = Response { receiver: 1, noise: &[1; 52] };
    assert_eq!(
        initiation.handle_response(world.now, &response).unwrap_err(),
        HandshakeError::State,
        "nobody is called"
    );
    let other = world.start(2);
    let cookie = world.answer(&other.hello_datagram()).unwrap();
    assert_eq!(initiation.handle_cookie(&read_cookie(&cookie), None, b""), Err(HandshakeError::Index));
    let response = Response { receiver: 2, noise: &[1; 52] };
    assert_eq!(initiation.handle_response(world.now, &response).unwrap_err(), HandshakeError::Index);
}

#[test]
fn long_payloads_are_refused_and_shorter_ones_may_follow() {
    let mut world = World::new(With::Access, 28);
    let mut initiation = world.start(1);
    let to = world.responder.public();
    let long = HandshakeError::TooLong { len: MAX_PAYLOAD + 1, most: MAX_PAYLOAD };
    assert_eq!(initiation.init_without_cookie(to, &[0; MAX_PAYLOAD + 1]), Err(long));
    assert_eq!(initiation.remote(), None);
    initiation.init_without_cookie(to, &[0; MAX_PAYLOAD]).unwrap();
}

#[test]
fn cookies_are_for_one_address_and_one_index() {
    let mut world = World::new(With::Access, 29);
    let mut initiation = world.start(1);
    let cookie = world.answer(&initiation.hello_datagram()).unwrap();
    let datagram = initiation.handle_cookie(&read_cookie(&cookie), None, b"").unwrap();
    for elsewhere in ["192.0.2.1:4790", "192.0.2.2:4789", "[2001:db8::1]:4789"] {
        world.from = elsewhere.parse().unwrap();
        assert_eq!(world.respond(&datagram, 2, b"").unwrap_err(), HandshakeError::Cookie);
    }
    world.from = "192.0.2.1:4789".parse().unwrap();
    world.respond(&datagram, 2, b"").unwrap();
    world.later(240);
    assert_eq!(world.respond(&datagram, 2, b"").unwrap_err(), HandshakeError::Cookie);
}

#[test]
fn a_replayed_init_changes_nothing() {
    let mut world = World::new(With::Access, 30);
    let (mut ours, mut theirs, sent) = world.shake();
    carry(&mut ours, &mut theirs, b"x");
    let mut replayed = world.respond(&sent.init, 7, b"").unwrap().session;
    // Who replays it has no keys: what it has seen does not open.
    let (mut seen, mut opened) = (Vec::new(), Vec::new());
    ours.seal(Default::default(), b"secret", &mut seen).unwrap();
    // Readdressed to the replayed session's index.
    seen[8..12].copy_from_slice(&7u32.to_be_bytes());
    replayed.open(&crate::world::data(&seen), &mut opened).unwrap_err();
    assert!(!replayed.is_confirmed());
    carry(&mut ours, &mut theirs, b"goes on");
    carry(&mut theirs, &mut ours, b"goes on");
}
