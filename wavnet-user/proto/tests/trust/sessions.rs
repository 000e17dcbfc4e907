//! Sessions: what is sent arrives once, whatever the network does to it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wavnet_proto::{
    trust::{OpenError, SealError},
    wire::{Data, Label, MAX_DATA_PLAINTEXT},
};

use crate::world::{With, World, data};

/// What a network does with a datagram, in the order in which it does it.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// The next one is sent, and is on its way.
    Send,
    /// The one at this place among all that were sent is delivered, perhaps not for the first time.
    Deliver(prop::sample::Index),
    /// Many are sent, and lost.
    Lose(u16),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => Just(Deed::Send),
        6 => any::<prop::sample::Index>().prop_map(Deed::Deliver),
        1 => (1..1100u16).prop_map(Deed::Lose),
    ];
    prop::collection::vec(deed, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn each_datagram_is_accepted_once_and_in_time(deeds in deeds()) {
        let (mut ours, mut theirs, _) = World::new(With::Access, 50).shake();
        let mut sent = Vec::new();
        // Counter of those that arrived.
        let mut arrived = BTreeMap::new();
        let (mut counter, mut opened) = (0u64, Vec::new());
        for deed in deeds {
            match deed {
                Deed::Send | Deed::Lose(_) => {
                    for _ in 0..if let Deed::Lose(n) = deed { n } else { 1 } {
                        let mut datagram = Vec::new();
                        ours.seal(Label::ZERO, &counter.to_be_bytes(), &mut datagram).unwrap();
                        if let Deed::Send = deed {
                            sent.push(datagram);
                        }
                        counter += 1;
                    }
                }
                Deed::Deliver(_) if sent.is_empty() => {}
                Deed::Deliver(which) => {
                    let datagram = data(&sent[which.index(sent.len())]);
                    let highest = arrived.last_key_value().map(|(counter, ())| *counter);
                    let expected = match highest {
                        Some(highest) if highest >= datagram.counter + 1024 => Err(OpenError::TooOld),
                        _ if arrived.contains_key(&datagram.counter) => Err(OpenError::Replayed),
                        _ => Ok(()),
                    };
                    prop_assert_eq!(theirs.open(&datagram, &mut opened), expected);
                    if expected.is_ok() {
                        prop_assert_eq!(&opened, &datagram.counter.to_be_bytes());
                        arrived.insert(datagram.counter, ());
                    } else {
                        prop_assert!(opened.is_empty());
                    }
                }
            }
        }
    }
}

#[test]
fn a_forged_datagram_moves_no_window() {
    let (mut ours, mut theirs, _) = World::new(With::Access, 51).shake();
    let mut opened = Vec::new();
    for counter in [0, 1, 5000, (1 << 48) - 1, 1 << 48, u64::MAX - 1, u64::MAX] {
        let forged = Data { receiver: 2, counter, ciphertext: &[7; 40] };
        assert_eq!(theirs.open(&forged, &mut opened), Err(OpenError::Forged));
        let short = Data { receiver: 2, counter, ciphertext: &[7; 15] };
        assert_eq!(theirs.open(&short, &mut opened), Err(OpenError::Forged));
    }
    assert!(!theirs.is_confirmed());
    crate::world::carry(&mut ours, &mut theirs, b"the first");
}

#[test]
fn a_datagram_is_for_one_session_and_one_direction() {
    let mut world = World::new(With::Access, 52);
    let (mut ours, mut theirs, _) = world.shake();
    let (_, mut others, _) = world.shake();
    let (mut datagram, mut opened) = (Vec::new(), Vec::new());
    ours.seal(Label::ZERO, b"x", &mut datagram).unwrap();
    // The second pair has the same indices, and other keys.
    assert_eq!(others.open(&data(&datagram), &mut opened), Err(OpenError::Forged));
    let back = Data { receiver: 1, ..data(&datagram) };
    assert_eq!(ours.open(&back, &mut opened), Err(OpenError::Forged), "one's own, sent back");
    let elsewhere = Data { receiver: 3, ..data(&datagram) };
    assert_eq!(theirs.open(&elsewhere, &mut opened), Err(OpenError::Forged));
    theirs.open(&data(&datagram), &mut opened).unwrap();
}

#[test]
fn plaintexts_are_as_long_as_udp_carries() {
    let (mut ours, mut theirs, _) = World::new(With::Access, 53).shake();
    let mut out = b"before".to_vec();
    let long = vec![0; MAX_DATA_PLAINTEXT + 1];
    assert_eq!(ours.seal(Label::ZERO, &long, &mut out), Err(SealError::TooLong(long.len())));
    assert_eq!(out, b"before");
    ours.seal(Label::ZERO, &long[1..], &mut out).unwrap();
    assert_eq!(out.len(), 6 + 65_507);
    let mut opened = Vec::new();
    theirs.open(&data(&out[6..]), &mut opened).unwrap();
    assert_eq!(opened, long[1..]);
}

#[test]
fn a_relay_may_write_the_label() {
    let (mut ours, mut theirs, _) = World::new(With::Access, 54).shake();
    let (mut out, mut opened) = (Vec::new(), Vec::new());
    ours.seal(Label::new(0x12_3456).unwrap(), b"x", &mut out).unwrap();
    assert_eq!(out[..4], [b'W', 0x12, 0x34, 0x56]);
    out[1..4].copy_from_slice(&[0xff; 3]);
    theirs.open(&data(&out), &mut opened).unwrap();
    assert_eq!(opened, b"x");
}
