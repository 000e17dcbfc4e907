//! The sample messages of RFC 5769.

use wavnet_proto::{
    stun::{Attribute, AttributeType, BINDING, Builder, Class, Malformed, Message, TransactionId, server::Responder},
    transmit::Socket,
};

/// Section 2.1.
const REQUEST: &str =
    "00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74 00240004 6e0001ff
    80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020 00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf";
/// Section 2.2.
const IPV4_RESPONSE: &str =
    "0101003c 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200008 0001a147
    e112a643 00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96";
/// Section 2.3.
const IPV6_RESPONSE: &str =
    "01010048 2112a442 b7e7a701 bc34d686 fa87dfae 8022000b 74657374 20766563 746f7220 00200014 0002a147
    0113a9fa a5d3f179 bc25f4b5 bed2b9d9 00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c";
/// Section 2.4: authenticated for long, without FINGERPRINT.
const LONG_TERM_REQUEST: &str =
    "00010060 2112a442 78ad3433 c6ad72c0 29da412e 00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341 0014000b 6578616d 706c652e 6f726700 00080014
    f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const ID: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

fn kinds(message: &Message<'_>) -> Vec<AttributeType> {
    message.attributes().map(|a| a.kind).collect()
}

#[test]
fn the_request() {
    let bytes = bytes(REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, BINDING));
    assert_eq!(message.id, TransactionId::new(ID));
    assert!(message.has_fingerprint() && !message.id.is_legacy());
    let (priority, controlled) = (AttributeType(0x24), AttributeType(0x8029));
    assert_eq!(
        kinds(&message),
        [
            AttributeType::SOFTWARE,
            priority,
            controlled,
            AttributeType::USERNAME,
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::FINGERPRINT
        ]
    );
    assert_eq!(message.find(AttributeType::SOFTWARE), Ok(Some(Attribute::Software("STUN test client"))));
    assert_eq!(message.find(priority), Ok(Some(Attribute::Other(priority, &[0x6e, 0, 1, 0xff]))));
    let user = Attribute::Other(AttributeType::USERNAME, b"evtj:h6vY");
    assert_eq!(message.find(AttributeType::USERNAME), Ok(Some(user)));
    assert_eq!(message.find(AttributeType::FINGERPRINT), Ok(Some(Attribute::Fingerprint(0xe57a_3bcf))));
}

#[test]
fn the_responses() {
    for (hex, mapped) in
        [(IPV4_RESPONSE, "192.0.2.1:32853"), (IPV6_RESPONSE, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")]
    {
        let bytes = bytes(hex);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.class, message.method, message.id), (Class::Success, BINDING, TransactionId::new(ID)));
        assert!(message.has_fingerprint());
        let mapped = mapped.parse().unwrap();
        assert_eq!(message.find(AttributeType::XOR_MAPPED_ADDRESS), Ok(Some(Attribute::XorMappedAddress(mapped))));
        assert_eq!(message.mapped_address(), Some(mapped));
        assert_eq!(message.find(AttributeType::SOFTWARE), Ok(Some(Attribute::Software("test vector"))));
    }
}

#[test]
fn the_request_that_is_authenticated_for_long() {
    let bytes = bytes(LONG_TERM_REQUEST);
    let message = Message::parse(&bytes).unwrap();
    assert!(!message.has_fingerprint());
    let user = Attribute::Other(AttributeType::USERNAME, "マトリックス".as_bytes());
    assert_eq!(message.find(AttributeType::USERNAME), Ok(Some(user)));
    let realm = Attribute::Other(AttributeType::REALM, b"example.org");
    assert_eq!(message.find(AttributeType::REALM), Ok(Some(realm)));
    // The service is anonymous: credentials are known, and nobody asks for them.
    let server = Responder::new("192.0.2.7:3478".parse().unwrap(), None, None).unwrap();
    let mut out = [0; 200];
    let source = "192.0.2.1:32853".parse().unwrap();
    let answer = server.respond(Socket::Main, source, &bytes, &mut out).unwrap();
    assert_eq!((answer.error, answer.to), (None, source));
    assert_eq!(Message::parse(&out[..answer.len]).unwrap().mapped_address(), Some(source));
}

#[test]
fn every_bit_of_a_fingerprinted_message_counts() {
    let good = bytes(IPV4_RESPONSE);
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // Without the magic cookie, or with another attribute in FINGERPRINT's place, it is another message, without one.
        assert!(!Message::parse(&bad).is_ok_and(|m| m.has_fingerprint()), "bit {bit}");
    }
}

/// The blanks that pad the sample are not those that we write, and neither is the integrity: the rest is the same.
#[test]
fn what_is_built_is_what_the_samples_say() {
    let sample = bytes(IPV4_RESPONSE);
    let mut out = [0; 200];
    let mut builder = Builder::new(&mut out, Class::Success, TransactionId::new(ID));
    builder.add(&Attribute::Software("test vector "));
    builder.add(&Attribute::XorMappedAddress("192.0.2.1:32853".parse().unwrap()));
    builder.add(&Attribute::Other(AttributeType::MESSAGE_INTEGRITY, &sample[52..72]));
    let len = builder.finish_with_fingerprint().unwrap();
    // SOFTWARE is 12 bytes long instead of 11 and a blank; FINGERPRINT differs with that.
    assert_eq!((&out[..23], &out[24..76]), (&sample[..23], &sample[24..76]));
    assert_eq!((out[23], sample[23], len), (12, 11, 80));
    assert!(Message::parse(&out[..len]).unwrap().has_fingerprint());
}

#[test]
fn a_fingerprint_must_be_the_last() {
    let mut bytes = bytes(IPV6_RESPONSE);
    bytes.extend([0x80, 0x22, 0, 0]);
    bytes[3] += 4;
    assert_eq!(Message::parse(&bytes), Err(Malformed::Fingerprint));
}
