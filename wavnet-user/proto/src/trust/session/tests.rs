use super::*;
use crate::{
    rng::Rng,
    trust::{Initiation, NetworkKey, Psk, Responder, SecretKey},
    wire::Datagram,
};

fn two_sessions(now: Time) -> (Session, Session) {
    let mut rng = Rng::from_seed([80; 32]);
    let (a, b, key) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng), NetworkKey::generate(&mut rng));
    let key = key.member();
    let mut initiation = Initiation::start(&a, Psk::Member(&key), 1, &mut rng);
    let datagram = initiation.init_without_cookie(b.public(), b"").unwrap();
    let Ok((_, Datagram::Init(init))) = Datagram::parse(&datagram) else { panic!("INIT") };
    let request = Responder::new(&b, Psk::Member(&key)).read_forwarded_init(a.public(), &init, &mut rng).unwrap();
    let (datagram, theirs) = request.respond(now, 2, b"").unwrap();
    let Ok((_, Datagram::Response(response))) = Datagram::parse(&datagram) else { panic!("RESPONSE") };
    (initiation.handle_response(now, &response).unwrap().0, theirs)
}

fn minutes(n: u64) -> Time {
    Time::ZERO + Duration::from_secs(60 * n)
}

fn carry(from: &mut Session, to: &mut Session) {
    let (mut datagram, mut opened) = (Vec::new(), Vec::new());
    from.seal(Label::ZERO, b"x", &mut datagram).unwrap();
    let Ok((_, Datagram::Data(data))) = Datagram::parse(&datagram) else { panic!("DATA") };
    to.open(&data, &mut opened).unwrap();
    assert_eq!(opened, b"x");
}

#[test]
fn keys_are_used_for_an_hour() {
    let (ours, theirs) = two_sessions(minutes(1000));
    let second = Duration::from_secs(1);
    assert!(!ours.needs_rekey(minutes(1045) - second));
    assert!(ours.needs_rekey(minutes(1045)));
    assert!(!theirs.needs_rekey(minutes(2000)), "that is the initiator's affair");
    for session in [ours, theirs] {
        assert!(!session.is_expired(minutes(1060) - second));
        assert!(session.is_expired(minutes(1060)));
        // A clock that stepped back.
        assert!(!session.is_expired(minutes(10)));
        assert!(!session.needs_rekey(minutes(10)));
    }
}

#[test]
fn keys_are_used_two_to_the_48_times() {
    let now = minutes(1);
    let (mut ours, mut theirs) = two_sessions(now);
    ours.next = MANY - 1;
    assert!(!ours.needs_rekey(now));
    carry(&mut ours, &mut theirs);
    assert!(ours.needs_rekey(now));
    ours.next = MOST - 1;
    assert!(!ours.is_expired(now));
    carry(&mut ours, &mut theirs);
    assert!(ours.is_expired(now) && !theirs.is_expired(now));
    let mut out = b"before".to_vec();
    for _ in 0..3 {
        assert_eq!(ours.seal(Label::ZERO, b"x", &mut out), Err(SealError::Exhausted));
    }
    assert_eq!(out, b"before");
    // The other direction has its own counter.
    carry(&mut theirs, &mut ours);
}

#[test]
fn the_initiator_begins_anew_when_the_responder_has_sent_much() {
    let now = minutes(1);
    let (mut ours, mut theirs) = two_sessions(now);
    theirs.next = MANY - 1;
    carry(&mut theirs, &mut ours);
    assert!(ours.needs_rekey(now) && !theirs.needs_rekey(now));
}

#[test]
fn counters_from_2_to_the_48_on_are_refused() {
    let (mut ours, mut theirs) = two_sessions(minutes(1));
    // A peer that does not keep to the limit: the tag is right.
    let mut ciphertext = vec![0; TAG_LEN + 1];
    ours.noise.write_message(MOST, b"x", &mut ciphertext).unwrap();
    let data = Data { receiver: 2, counter: MOST, ciphertext: &ciphertext };
    let mut opened = Vec::new();
    assert_eq!(theirs.open(&data, &mut opened), Err(OpenError::Forged));
    carry(&mut ours, &mut theirs);
}
