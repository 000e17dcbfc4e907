//! Messages, and plaintexts made of them.

use proptest::{collection::vec, prelude::*};
use wavnet_proto::wire::{Fault, MAX_PLAINTEXT, Message, MessageError, Messages, Writer, message::Entry};

use crate::strategies::message;

fn written(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(&mut out).unwrap();
    out
}

fn read(plaintext: &[u8]) -> Result<Vec<Message>, MessageError> {
    Messages::new(plaintext).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(message in message()) {
        let bytes = written(&message);
        prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[1], bytes[2]])), bytes.len() - 3);
        prop_assert_eq!(bytes[0], message.kind().0);
        prop_assert_eq!(read(&bytes), Ok(vec![message]));
    }

    #[test]
    fn a_value_that_is_cut_or_too_long_is_an_error(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = written(&message);
        let (kind, value) = (bytes[0], &bytes[3..]);
        let framed = |value: &[u8]| [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat();
        // FORWARD's datagram and PAGE's entries have no end of their own.
        let open = matches!(message, Message::Forward(_) | Message::Forwarded(_));
        let cut = read(&framed(&value[..at.index(value.len())]));
        if let Ok(messages) = cut {
            prop_assert!(open || matches!(messages[..], [Message::Page(_)]), "{:?}", messages);
        }
        let longer = read(&framed(&[value, &[0]].concat()));
        prop_assert!(longer.is_err() || open);
        // The frame itself is cut.
        let cut = at.index(bytes.len());
        let fault = read(&bytes[..cut]);
        prop_assert_eq!(fault.err(), (cut > 0).then_some(MessageError { message: "a message", fault: Fault::Short }));
    }

    #[test]
    fn plaintexts_are_packed_in_order(messages in vec(message(), 0..20)) {
        let mut writer = Writer::new();
        prop_assert!(writer.is_empty());
        messages.iter().for_each(|message| writer.push(message).unwrap());
        prop_assert_eq!(writer.is_empty(), messages.is_empty());
        let plaintexts = writer.finish();
        prop_assert_eq!(read(&plaintexts.concat()), Ok(messages));
        for plaintext in &plaintexts {
            prop_assert!(!plaintext.is_empty() && plaintext.len() <= MAX_PLAINTEXT);
            read(plaintext).unwrap();
        }
        for pair in plaintexts.windows(2) {
            let first = written(&read(&pair[1]).unwrap()[0]);
            prop_assert!(pair[0].len() + first.len() > MAX_PLAINTEXT, "there was room");
        }
    }

    #[test]
    fn unknown_messages_are_passed_over(
        messages in vec(message(), 1..5),
        kind in prop_oneof![Just(0u8), 15..32u8, 40..=255u8],
        value in vec(any::<u8>(), 0..50),
    ) {
        let unknown = [&[kind, 0, value.len() as u8][..], &value].concat();
        let mut plaintext = unknown.clone();
        for message in &messages {
            message.write(&mut plaintext).unwrap();
            plaintext.extend(&unknown);
        }
        prop_assert_eq!(read(&plaintext), Ok(messages));
    }

    #[test]
    fn messages_before_an_error_count(good in vec(message(), 0..4), rest in vec(message(), 0..4)) {
        let mut plaintext = Vec::new();
        good.iter().for_each(|message| message.write(&mut plaintext).unwrap());
        // REFRESH with a byte too many.
        plaintext.extend([3, 0, 5, 1, 2, 3, 4, 5]);
        rest.iter().for_each(|message| message.write(&mut plaintext).unwrap());
        let mut read = Messages::new(&plaintext);
        for message in good {
            prop_assert_eq!(read.next(), Some(Ok(message)));
        }
        prop_assert_eq!(read.next(), Some(Err(MessageError { message: "REFRESH", fault: Fault::Trailing(1) })));
        prop_assert_eq!(read.next(), None);
    }

    #[test]
    fn what_is_read_can_be_written(bytes in vec(any::<u8>(), 0..300), kind in prop_oneof![1..=12u8, 32..=38u8]) {
        // Any bytes as the value of any message, and as a plaintext.
        let framed = [&[kind][..], &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
        for plaintext in [&framed, &bytes] {
            for message in Messages::new(plaintext).flatten() {
                prop_assert_eq!(read(&written(&message)), Ok(vec![message]));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_harmless(message in message(), at in any::<prop::sample::Index>(), by in 1..=255u8) {
        let mut bytes = written(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        for changed in Messages::new(&bytes).flatten() {
            let mut again = Vec::new();
            changed.write(&mut again).unwrap();
            prop_assert_eq!(read(&again), Ok(vec![changed]));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let forward = |len| {
        let peer = wavnet_proto::trust::SecretKey::generate(&mut wavnet_proto::rng::Rng::from_seed([1; 32])).public();
        Message::Forward(wavnet_proto::wire::message::Forward { peer, datagram: vec![7; len] })
    };
    let mut writer = Writer::new();
    writer.push(&Message::Changed { version: 1 }).unwrap();
    let error = writer.push(&forward(MAX_PLAINTEXT - 35 + 1)).unwrap_err();
    assert_eq!(error, MessageError { message: "FORWARD", fault: Fault::TooLong(MAX_PLAINTEXT + 1) });
    // Longer than a length says.
    let error = writer.push(&forward(1 << 16)).unwrap_err();
    assert_eq!(error.fault, Fault::TooLong((1 << 16) + 32));
    writer.push(&Message::Changed { version: 2 }).unwrap();
    writer.push(&forward(MAX_PLAINTEXT - 35)).unwrap();
    let plaintexts = writer.finish();
    assert_eq!(plaintexts.iter().map(Vec::len).collect::<Vec<_>>(), [22, MAX_PLAINTEXT]);
}

#[test]
fn pages_hold_what_they_promise() {
    use wavnet_proto::wire::{
        Name,
        message::{HostState, Page},
    };
    let mut rng = wavnet_proto::rng::Rng::from_seed([2; 32]);
    let mut page = Page { request: 1, version: 2, more: false, entries: Vec::new() };
    let mut taken = 0;
    for n in 0.. {
        let key = wavnet_proto::trust::SecretKey::generate(&mut rng).public();
        let entry = Entry { key, state: HostState::HERE, name: Name::new(&"x".repeat(n % 64)).unwrap() };
        taken += entry.len_in_page();
        let len = entry.len_in_page();
        page.entries.push(entry);
        if taken > Page::ROOM {
            let whole = written(&Message::Page(page.clone()));
            assert_eq!(whole.len() - MAX_PLAINTEXT, taken - Page::ROOM);
            page.entries.pop();
            assert_eq!(written(&Message::Page(page)).len(), whole.len() - len);
            break;
        }
    }
}
