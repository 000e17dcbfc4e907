//! What is built is read as it was, and arbitrary bytes are read or refused.

use std::net::SocketAddr;

use proptest::{collection::vec, prelude::*};
use wavnet_proto::stun::{
    Attribute, AttributeType, BINDING, BadAttribute, Builder, Class, Malformed, Message, NoRoom, TransactionId,
    TypeList,
};

/// An attribute that owns what it is made of.
#[derive(Clone, Debug)]
enum Made {
    Address(u8, SocketAddr),
    Change(bool, bool),
    Port(u16),
    Padding(u16),
    Software(String),
    Error(u16, String),
    Unknown(Vec<u8>),
    Other(u16, Vec<u8>),
}

impl Made {
    fn attribute(&self) -> Attribute<'_> {
        match self {
            Made::Address(which, a) => match which % 7 {
                0 => Attribute::MappedAddress(*a),
                1 => Attribute::XorMappedAddress(*a),
                2 => Attribute::SourceAddress(*a),
                3 => Attribute::ChangedAddress(*a),
                4 => Attribute::ResponseOrigin(*a),
                5 => Attribute::OtherAddress(*a),
                _ => Attribute::AlternateServer(*a),
            },
            Made::Change(ip, port) => Attribute::ChangeRequest { ip: *ip, port: *port },
            Made::Port(port) => Attribute::ResponsePort(*port),
            Made::Padding(len) => Attribute::Padding(*len),
            Made::Software(text) => Attribute::Software(text),
            Made::Error(code, reason) => Attribute::ErrorCode { code: *code, reason },
            Made::Unknown(bytes) => Attribute::UnknownAttributes(TypeList::new(bytes).unwrap()),
            Made::Other(kind, value) => Attribute::Other(AttributeType(*kind), value),
        }
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| SocketAddr::from((ip, port))),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        4 => (any::<u8>(), address()).prop_map(|(which, a)| Made::Address(which, a)),
        1 => any::<(bool, bool)>().prop_map(|(ip, port)| Made::Change(ip, port)),
        1 => any::<u16>().prop_map(Made::Port),
        1 => (0..2000_u16).prop_map(Made::Padding),
        1 => ".{0,40}".prop_map(Made::Software),
        1 => (300..700_u16, ".{0,40}").prop_map(|(code, reason)| Made::Error(code, reason)),
        1 => vec(any::<[u8; 2]>(), 0..9).prop_map(|types| Made::Unknown(types.concat())),
        // Above all that have a meaning: what is read must be what was written.
        1 => (0x4000..0x7fff_u16, vec(any::<u8>(), 0..50)).prop_map(|(kind, value)| Made::Other(kind, value)),
    ]
}

fn class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Request), Just(Class::Indication), Just(Class::Success), Just(Class::Error)]
}

fn read<'a>(message: &Message<'a>) -> Vec<Result<Attribute<'a>, BadAttribute>> {
    message.attributes().map(|a| a.decode(&message.id)).collect()
}

proptest! {
    #[test]
    fn what_is_built_is_read_as_it_was(
        class in class(), id in any::<[u8; 12]>(), made in vec(made(), 0..8), fingerprint: bool,
    ) {
        let id = TransactionId::new(id);
        let mut out = vec![0xaa; 20_000];
        let mut builder = Builder::new(&mut out, class, id);
        for one in &made {
            builder.add(&one.attribute());
        }
        let len = if fingerprint { builder.finish_with_fingerprint() } else { builder.finish() }.unwrap();
        let message = Message::parse(&out[..len]).unwrap();
        prop_assert_eq!((message.class, message.method, message.id), (class, BINDING, id));
        prop_assert_eq!(message.has_fingerprint(), fingerprint);
        let mut attributes = read(&message);
        if fingerprint {
            prop_assert!(matches!(attributes.pop(), Some(Ok(Attribute::Fingerprint(_)))));
        }
        prop_assert_eq!(attributes, made.iter().map(|m| Ok(m.attribute())).collect::<Vec<_>>());
        // The same in a vector, and in a buffer that is too short by any number of bytes.
        let attributes: Vec<_> = made.iter().map(Made::attribute).collect();
        let whole = Builder::message(class, id, &attributes).unwrap();
        if !fingerprint {
            prop_assert_eq!(&whole, &out[..len]);
        }
        for short in 0..whole.len() {
            let mut builder = Builder::new(&mut out[..short], class, id);
            for one in &attributes {
                builder.add(one);
            }
            prop_assert_eq!(builder.finish(), Err(NoRoom));
        }
    }

    #[test]
    fn arbitrary_bytes_are_read_or_refused(mut bytes in vec(any::<u8>(), 0..200), header: bool) {
        if header && bytes.len() >= 20 {
            bytes.truncate(bytes.len() / 4 * 4);
            bytes[0] &= 0x3f;
            let len = (bytes.len() - 20) as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
        }
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        prop_assert!(message.attributes().map(|a| a.value.len()).sum::<usize>() <= bytes.len());
        for attribute in read(&message) {
            let shown = format!("{attribute:?}");
            prop_assert!(!shown.is_empty());
        }
    }

    /// Such as many values of few bytes, of types that have a meaning.
    #[test]
    fn arbitrary_values_are_read_or_refused(
        id in any::<[u8; 12]>(), values in vec((0_u16..0x30, any::<bool>(), vec(any::<u8>(), 0..24)), 0..6),
    ) {
        let id = TransactionId::new(id);
        let kind = |low, optional| AttributeType(if optional { 0x8000 | low } else { low });
        let values: Vec<_> = values.iter().map(|(low, o, v)| Attribute::Other(kind(*low, *o), v)).collect();
        let bytes = Builder::message(Class::Success, id, &values).unwrap();
        let message = match Message::parse(&bytes) {
            Ok(message) => message,
            Err(why) => {
                prop_assert_eq!(why, Malformed::Fingerprint);
                return Ok(());
            }
        };
        for attribute in read(&message).into_iter().flatten() {
            let again = Builder::message(Class::Success, id, &[attribute]).unwrap();
            prop_assert_eq!(read(&Message::parse(&again).unwrap()), vec![Ok(attribute)]);
        }
    }
}

/// A message with one attribute, its length given.
fn with(attribute: &[u8], len: u16) -> Vec<u8> {
    let mut bytes = vec![0, 1];
    bytes.extend(len.to_be_bytes());
    bytes.extend(TransactionId::new([7; 12]).to_wire());
    bytes.extend(attribute);
    bytes
}

#[test]
fn what_is_no_message_is_told() {
    assert_eq!(Message::parse(&[]), Err(Malformed::Header));
    assert_eq!(Message::parse(&with(&[], 0)[..19]), Err(Malformed::Header));
    assert!(Message::parse(&with(&[], 0)).is_ok());
    assert_eq!(Message::parse(&with(&[], 4)), Err(Malformed::Length));
    assert_eq!(Message::parse(&with(&[0; 3], 3)), Err(Malformed::Length));
    let mut channel = with(&[], 0);
    channel[0] = 0x40;
    assert_eq!(Message::parse(&channel), Err(Malformed::Header));
    let software = AttributeType::SOFTWARE;
    assert_eq!(Message::parse(&with(&[0x80, 0x22, 0, 1], 4)), Err(Malformed::Attribute(software)));
    assert_eq!(Message::parse(&with(&[0x80, 0x22, 0xff, 0xff, 1, 2, 3, 4], 8)), Err(Malformed::Attribute(software)));
    assert!(Message::parse(&with(&[0x80, 0x22, 0, 1, b'x', 0, 0, 0], 8)).is_ok());
    for error in [Malformed::Header, Malformed::Length, Malformed::Attribute(software), Malformed::Fingerprint] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn classes_and_methods_are_told_apart() {
    for (kind, class, method) in [
        (0x0001, Class::Request, 1),
        (0x0111, Class::Error, 1),
        (0x0003, Class::Request, 3),
        (0x0017, Class::Indication, 7),
        (0x3eef, Class::Request, 0xfff),
        (0x3fff, Class::Error, 0xfff),
    ] {
        let mut bytes = with(&[], 0);
        bytes[..2].copy_from_slice(&u16::to_be_bytes(kind));
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method), (class, method), "{kind:#06x}");
    }
}

#[test]
fn what_follows_message_integrity_does_not_count() {
    let id = TransactionId::new([1; 12]);
    let here = "192.0.2.1:1".parse().unwrap();
    let integrity = Attribute::Other(AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    let sha256 = Attribute::Other(AttributeType::MESSAGE_INTEGRITY_SHA256, &[0; 32]);
    let attributes = [integrity, Attribute::MappedAddress(here), sha256, Attribute::XorMappedAddress(here)];
    let bytes = Builder::message(Class::Success, id, &attributes).unwrap();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(read(&message), [Ok(integrity), Ok(sha256)]);
    assert_eq!(message.mapped_address(), None);
}

#[test]
fn the_first_of_a_type_counts() {
    let (one, two) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let attributes = [Attribute::MappedAddress(one), Attribute::MappedAddress(two)];
    let bytes = Builder::message(Class::Success, TransactionId::new([0; 12]), &attributes).unwrap();
    assert_eq!(Message::parse(&bytes).unwrap().mapped_address(), Some(one));
}

#[test]
fn messages_without_end_are_refused() {
    let id = TransactionId::new([0; 12]);
    assert_eq!(Builder::message(Class::Request, id, &[Attribute::Padding(u16::MAX)]), Err(NoRoom));
    assert_eq!(Builder::message(Class::Request, id, &[Attribute::Padding(40_000); 2]), Err(NoRoom));
    assert!(Builder::message(Class::Request, id, &[Attribute::Padding(60_000)]).is_ok());
}

#[test]
fn types_have_names() {
    assert_eq!(AttributeType::OTHER_ADDRESS.to_string(), "OTHER-ADDRESS");
    assert_eq!(AttributeType(0x24).to_string(), "attribute 0x0024");
    assert!(!AttributeType(0x24).is_optional() && AttributeType(0x8024).is_optional());
}

#[test]
fn values_that_are_none_of_their_type_are_told() {
    let read = |kind, value| {
        let bytes =
            Builder::message(Class::Success, TransactionId::new([0; 12]), &[Attribute::Other(kind, value)]).unwrap();
        Message::parse(&bytes).unwrap().find(kind).map(|a| a.is_some())
    };
    type Row = (AttributeType, &'static [&'static [u8]], &'static [&'static [u8]]);
    let table: [Row; 6] = [
        (
            AttributeType::MAPPED_ADDRESS,
            &[&[9, 1, 0, 1, 1, 2, 3, 4]],
            &[&[0, 3, 0, 1, 1, 2, 3, 4], &[0, 1, 0, 1, 1, 2, 3], &[0, 2, 0, 1, 1, 2, 3, 4], &[0, 1], &[]],
        ),
        (AttributeType::CHANGE_REQUEST, &[&[0, 0, 0, 6], &[9, 9, 9, 9]], &[&[0, 0, 6], &[0, 0, 0, 0, 6], &[]]),
        (AttributeType::RESPONSE_PORT, &[&[0, 1], &[0, 1, 9, 9]], &[&[1], &[0, 0, 1], &[]]),
        (
            AttributeType::ERROR_CODE,
            &[&[9, 9, 3, 0], &[0, 0, 0xfe, 99, 0xff]],
            &[&[0, 0, 2, 0], &[0, 0, 7, 0], &[0, 0, 4, 100], &[0, 0, 4]],
        ),
        (AttributeType::UNKNOWN_ATTRIBUTES, &[&[], &[0, 1]], &[&[1], &[0, 1, 2]]),
        (AttributeType::SOFTWARE, &[&[], &[0xff]], &[]),
    ];
    for (kind, good, bad) in table {
        for value in good {
            assert_eq!(read(kind, value), Ok(true), "{kind} {value:?}");
        }
        for value in bad {
            assert_eq!(read(kind, value), Err(BadAttribute(kind)), "{kind} {value:?}");
        }
    }
}
