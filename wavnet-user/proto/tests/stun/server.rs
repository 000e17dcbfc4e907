//! The server: what it answers to whom, from where, and how long that is.

use std::net::SocketAddr;

use proptest::{collection::vec, prelude::*};
use wavnet_proto::{
    stun::{
        Attribute, AttributeType, Builder, Class, HEADER, Malformed, Message, TransactionId,
        server::{Answer, BadAddresses, Ignored, LONGEST_ANSWER, Responder},
    },
    transmit::Socket,
};

const SOCKETS: [Socket; 4] = [Socket::Main, Socket::Other(1), Socket::Other(2), Socket::Other(3)];
const ID: TransactionId = TransactionId::new([9; 12]);
const LEGACY: TransactionId = TransactionId::from_wire([3; 16]);
const IP: Attribute<'static> = Attribute::ChangeRequest { ip: true, port: false };
const PORT: Attribute<'static> = Attribute::ChangeRequest { ip: false, port: true };
const BOTH: Attribute<'static> = Attribute::ChangeRequest { ip: true, port: true };
const NONE: Attribute<'static> = Attribute::ChangeRequest { ip: false, port: false };

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn client() -> SocketAddr {
    at("198.51.100.9:40000")
}

fn one() -> Responder {
    Responder::new(at("192.0.2.1:3478"), None, None).unwrap()
}

fn two_ports() -> Responder {
    Responder::new(at("192.0.2.1:3478"), Some(3479), None).unwrap()
}

fn full() -> Responder {
    Responder::new(at("192.0.2.1:3478"), Some(3479), Some(at("192.0.2.2:1").ip())).unwrap()
}

/// Asks, and reads the answer.
fn ask(
    server: &Responder,
    by: Socket,
    id: TransactionId,
    attributes: &[Attribute<'_>],
) -> Result<(Answer, Vec<u8>), Ignored> {
    let request = Builder::message(Class::Request, id, attributes).unwrap();
    let mut out = [0; LONGEST_ANSWER];
    let answer = server.respond(by, client(), &request, &mut out)?;
    let bytes = out[..answer.len].to_vec();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.id, id);
    assert_eq!(message.class, if answer.error.is_some() { Class::Error } else { Class::Success });
    Ok((answer, bytes))
}

/// The attributes of an answer.
fn read(bytes: &[u8]) -> Vec<Attribute<'_>> {
    let message = Message::parse(bytes).unwrap();
    message.attributes().map(|a| a.decode(&message.id).unwrap()).collect()
}

/// The number of an error, and the attributes that it names.
fn error(server: &Responder, id: TransactionId, attributes: &[Attribute<'_>]) -> (u16, Vec<AttributeType>) {
    let (answer, bytes) = ask(server, Socket::Main, id, attributes).unwrap();
    assert_eq!((answer.from, answer.to), (Socket::Main, client()), "errors come from where it was asked");
    let unknown = match Message::parse(&bytes).unwrap().find(AttributeType::UNKNOWN_ATTRIBUTES).unwrap() {
        Some(Attribute::UnknownAttributes(types)) => types.iter().collect(),
        _ => Vec::new(),
    };
    match Message::parse(&bytes).unwrap().find(AttributeType::ERROR_CODE).unwrap() {
        Some(Attribute::ErrorCode { code, .. }) => assert_eq!(Some(code), answer.error),
        other => panic!("{other:?}"),
    }
    (answer.error.unwrap(), unknown)
}

/// Table 1 of RFC 5780 section 6.1, for each socket that a request may come in by.
#[test]
fn answers_leave_from_where_they_were_asked_to() {
    let server = full();
    let addresses = ["192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478", "192.0.2.2:3479"].map(at);
    for (by, socket) in SOCKETS.into_iter().enumerate() {
        assert_eq!(server.origin(socket), Some(addresses[by]));
        for (flags, change) in [(None, 0), (Some(NONE), 0), (Some(PORT), 1), (Some(IP), 2), (Some(BOTH), 3)] {
            let (answer, bytes) = ask(&server, socket, ID, flags.as_slice()).unwrap();
            assert_eq!((answer.from, answer.to), (SOCKETS[by ^ change], client()), "{socket:?} {flags:?}");
            assert_eq!(
                read(&bytes),
                [
                    Attribute::XorMappedAddress(client()),
                    Attribute::MappedAddress(client()),
                    Attribute::ResponseOrigin(addresses[by ^ change]),
                    Attribute::OtherAddress(addresses[by ^ 3]),
                ]
            );
        }
    }
}

#[test]
fn a_server_with_one_port_refuses_to_change() {
    let (answer, bytes) = ask(&one(), Socket::Main, ID, &[]).unwrap();
    assert_eq!((answer.from, answer.error), (Socket::Main, None));
    assert_eq!(Message::parse(&bytes).unwrap().address(AttributeType::OTHER_ADDRESS), None);
    for change in [NONE, IP, PORT, BOTH] {
        assert_eq!(error(&one(), ID, &[change]), (420, vec![AttributeType::CHANGE_REQUEST]));
    }
    assert_eq!(ask(&one(), Socket::Other(1), ID, &[]), Err(Ignored::NoSuchSocket));
}

#[test]
fn a_server_with_two_ports_changes_the_port_alone() {
    let server = two_ports();
    for (by, from, origin) in
        [(Socket::Main, Socket::Other(1), "192.0.2.1:3479"), (Socket::Other(1), Socket::Main, "192.0.2.1:3478")]
    {
        let (answer, bytes) = ask(&server, by, ID, &[PORT]).unwrap();
        assert_eq!((answer.from, answer.error), (from, None));
        assert_eq!(Message::parse(&bytes).unwrap().address(AttributeType::RESPONSE_ORIGIN), Some(at(origin)));
        assert_eq!(Message::parse(&bytes).unwrap().address(AttributeType::OTHER_ADDRESS), None);
    }
    assert_eq!(ask(&server, Socket::Main, ID, &[NONE]).unwrap().0.from, Socket::Main);
    for change in [IP, BOTH] {
        assert_eq!(error(&server, ID, &[change]), (420, vec![AttributeType::CHANGE_REQUEST]));
    }
    assert_eq!(ask(&server, Socket::Other(2), ID, &[]), Err(Ignored::NoSuchSocket));
}

#[test]
fn answers_go_to_the_port_that_was_asked_for() {
    let (answer, bytes) = ask(&full(), Socket::Main, ID, &[Attribute::ResponsePort(5000), BOTH]).unwrap();
    assert_eq!((answer.from, answer.to), (Socket::Other(3), at("198.51.100.9:5000")));
    assert_eq!(Message::parse(&bytes).unwrap().mapped_address(), Some(client()), "the address is that of the request");
    assert_eq!(error(&one(), ID, &[Attribute::ResponsePort(0)]), (400, vec![]));
    assert_eq!(error(&one(), ID, &[Attribute::ResponsePort(5000), Attribute::Padding(8)]), (400, vec![]));
}

#[test]
fn padding_is_answered_with_no_more_than_came() {
    for (asked, answered) in [(0, 0), (7, 7), (1500, 1500), (1501, 1500), (9000, 1500)] {
        let (_, bytes) = ask(&full(), Socket::Main, ID, &[Attribute::Padding(asked)]).unwrap();
        assert_eq!(read(&bytes).last(), Some(&Attribute::Padding(answered)));
    }
}

#[test]
fn unknown_attributes_are_named_if_they_must_be_understood() {
    let other = |kind| Attribute::Other(AttributeType(kind), &[1, 2, 3]);
    let (answer, _) = ask(&full(), Socket::Main, ID, &[other(0x8029), other(0xc001)]).unwrap();
    assert_eq!(answer.error, None, "these need not be");
    let request = [other(0x24), other(0x8029), other(0x7fff), BOTH];
    assert_eq!(error(&full(), ID, &request), (420, vec![AttributeType(0x24), AttributeType(0x7fff)]));
    // Where an answer shall go to is for nobody to say but RESPONSE-PORT.
    let reflect = Attribute::Other(AttributeType::RESPONSE_ADDRESS, &[0, 1, 0, 80, 192, 0, 2, 99]);
    for id in [ID, LEGACY] {
        let (code, named) = error(&full(), id, &[reflect]);
        assert_eq!((code, named[0]), (420, AttributeType::RESPONSE_ADDRESS));
    }
    let many: Vec<_> = (0x1000..0x1100).map(other).collect();
    let (code, named) = error(&full(), ID, &many);
    assert_eq!((code, named), (420, (0x1000..0x1010).map(AttributeType).collect()));
    // What follows MESSAGE-INTEGRITY does not count.
    let integrity = Attribute::Other(AttributeType::MESSAGE_INTEGRITY, &[0; 20]);
    assert_eq!(ask(&full(), Socket::Main, ID, &[integrity, other(0x24), BOTH]).unwrap().0.from, Socket::Main);
}

#[test]
fn values_that_cannot_be_read_are_bad_requests_where_they_matter() {
    let bad = |kind| Attribute::Other(kind, &[1]);
    for kind in [AttributeType::CHANGE_REQUEST, AttributeType::RESPONSE_PORT] {
        assert_eq!(error(&full(), ID, &[bad(kind)]), (400, vec![]));
    }
    for kind in [AttributeType::XOR_MAPPED_ADDRESS, AttributeType::ERROR_CODE, AttributeType::USERNAME] {
        assert_eq!(ask(&full(), Socket::Main, ID, &[bad(kind)]).unwrap().0.error, None);
    }
}

#[test]
fn a_fingerprint_is_answered_with_one() {
    let server = full();
    let mut request = [0; 100];
    let len = Builder::new(&mut request, Class::Request, ID).finish_with_fingerprint().unwrap();
    let mut out = [0; LONGEST_ANSWER];
    let answer = server.respond(Socket::Main, client(), &request[..len], &mut out).unwrap();
    assert!(Message::parse(&out[..answer.len]).unwrap().has_fingerprint());
    assert_eq!(answer.len, 76, "the longest over IPv4");
    request[len - 1] ^= 1;
    let wrong = server.respond(Socket::Main, client(), &request[..len], &mut out);
    assert_eq!(wrong, Err(Ignored::Malformed(Malformed::Fingerprint)));
}

#[test]
fn the_classic_client_is_answered_in_its_own_words() {
    let (answer, bytes) = ask(&full(), Socket::Main, LEGACY, &[NONE]).unwrap();
    assert_eq!((answer.from, answer.error), (Socket::Main, None));
    assert_eq!(
        read(&bytes),
        [
            Attribute::MappedAddress(client()),
            Attribute::SourceAddress(at("192.0.2.1:3478")),
            Attribute::ChangedAddress(at("192.0.2.2:3479")),
        ]
    );
    assert_eq!(ask(&full(), Socket::Main, LEGACY, &[BOTH]).unwrap().0.from, Socket::Other(3));
    // It sends CHANGE-REQUEST always, and takes any answer for success.
    assert_eq!(ask(&one(), Socket::Main, LEGACY, &[NONE]).unwrap().0.error, None);
    for change in [PORT, IP, BOTH] {
        assert_eq!(ask(&one(), Socket::Main, LEGACY, &[change]), Err(Ignored::NoSuchOrigin));
    }
    assert_eq!(ask(&two_ports(), Socket::Main, LEGACY, &[PORT]).unwrap().0.from, Socket::Other(1));
    assert_eq!(ask(&two_ports(), Socket::Main, LEGACY, &[IP]), Err(Ignored::NoSuchOrigin));
    // Lengths are multiples of four: the reason ends with blanks, and one of an odd number is named twice.
    let (_, bytes) = ask(&full(), Socket::Main, LEGACY, &[Attribute::Other(AttributeType(0x24), &[])]).unwrap();
    let lengths: Vec<_> = Message::parse(&bytes).unwrap().attributes().map(|a| a.value.len()).collect();
    assert_eq!(lengths, [24, 4]);
    let (code, named) = error(&full(), LEGACY, &[Attribute::Other(AttributeType(0x24), &[])]);
    assert_eq!((code, named), (420, vec![AttributeType(0x24); 2]));
}

#[test]
fn ipv6_is_answered_alike() {
    let server = Responder::new(at("[2001:db8::1]:3478"), Some(3479), Some(at("[2001:db8::2]:1").ip())).unwrap();
    let client = at("[2001:db8:5::9]:40000");
    let mut request = [0; 100];
    let len = Builder::new(&mut request, Class::Request, ID).finish_with_fingerprint().unwrap();
    let mut out = [0; LONGEST_ANSWER];
    let answer = server.respond(Socket::Main, client, &request[..len], &mut out).unwrap();
    let bytes = &out[..answer.len];
    assert_eq!(bytes.len(), 124, "the longest over IPv6");
    let attributes = read(bytes);
    assert_eq!(attributes[0], Attribute::XorMappedAddress(client));
    assert_eq!(attributes[3], Attribute::OtherAddress(at("[2001:db8::2]:3479")));
    // A socket for both families shows IPv4 addresses so; where it is sent to stays as it came.
    let dual = at("[::ffff:198.51.100.9]:40000");
    let answer = one().respond(Socket::Main, dual, &request[..len], &mut out).unwrap();
    assert_eq!(answer.to, dual);
    assert_eq!(Message::parse(&out[..answer.len]).unwrap().mapped_address(), Some(self::client()));
}

#[test]
fn what_is_no_request_is_not_answered() {
    let (server, mut out) = (full(), [0; LONGEST_ANSWER]);
    for class in [Class::Indication, Class::Success, Class::Error] {
        let bytes = Builder::message(class, ID, &[]).unwrap();
        assert_eq!(server.respond(Socket::Main, client(), &bytes, &mut out), Err(Ignored::NotARequest));
    }
    let mut allocate = Builder::message(Class::Request, ID, &[]).unwrap();
    assert_eq!(server.respond(Socket::Main, at("192.0.2.9:0"), &allocate, &mut out), Err(Ignored::NoPort));
    assert_eq!(server.respond(Socket::Extra(0), client(), &allocate, &mut out), Err(Ignored::NoSuchSocket));
    assert_eq!(server.respond(Socket::Other(0), client(), &allocate, &mut out), Err(Ignored::NoSuchSocket));
    assert_eq!(server.respond(Socket::Other(4), client(), &allocate, &mut out), Err(Ignored::NoSuchSocket));
    assert_eq!(server.respond(Socket::Main, client(), &allocate, &mut out[..67]), Err(Ignored::NoRoom));
    assert!(server.respond(Socket::Main, client(), &allocate, &mut out[..68]).is_ok());
    allocate[1] = 3;
    assert_eq!(server.respond(Socket::Main, client(), &allocate, &mut out), Err(Ignored::NotARequest));
    let vxlan = server.respond(Socket::Main, client(), &[8; 60], &mut out);
    assert_eq!(vxlan, Err(Ignored::Malformed(Malformed::Length)));
}

#[test]
fn addresses_that_cannot_be_are_refused() {
    let main = at("192.0.2.1:3478");
    let ip = |text: &str| Some(text.parse().unwrap());
    let new = |main, port, ip| Responder::new(main, port, ip).unwrap_err();
    for unusable in ["0.0.0.0:3478", "[::]:3478", "224.0.0.1:3478", "[ff02::1]:3478", "192.0.2.1:0"] {
        assert_eq!(new(at(unusable), None, None), BadAddresses::Unusable(at(unusable)));
    }
    assert_eq!(new(main, Some(3478), None), BadAddresses::SamePort(3478));
    assert_eq!(new(main, Some(0), None), BadAddresses::SamePort(3478));
    assert_eq!(new(main, None, ip("192.0.2.2")), BadAddresses::NoOtherPort);
    assert_eq!(new(main, Some(3479), ip("192.0.2.1")), BadAddresses::SameAddress(main.ip()));
    assert!(matches!(new(main, Some(3479), ip("2001:db8::1")), BadAddresses::Family(..)));
    assert!(matches!(new(main, Some(3479), ip("255.255.255.255")), BadAddresses::Unusable(_)));
}

proptest! {
    /// An answer answers its request, comes from a socket that there is, and is not much longer than the request.
    #[test]
    fn an_answer_is_at_most_twice_as_long_on_the_wire(
        id in any::<[u8; 16]>(), cookie: bool, by in 0..4_usize, layout in 0..3_usize,
        values in vec((prop_oneof![0_u16..0x30, 0x8020..0x8030_u16], vec(any::<u8>(), 0..2000)), 0..6),
    ) {
        let id = if cookie { TransactionId::new(*id.first_chunk().unwrap()) } else { TransactionId::from_wire(id) };
        let values: Vec<_> = values.iter().map(|(k, v)| Attribute::Other(AttributeType(*k), v)).collect();
        let request = Builder::message(Class::Request, id, &values).unwrap();
        let server = [one(), two_ports(), full()][layout].clone();
        let mut out = [0; LONGEST_ANSWER];
        if let Ok(answer) = server.respond(SOCKETS[by], client(), &request, &mut out) {
            prop_assert!(server.origin(answer.from).is_some());
            prop_assert_eq!(answer.to.ip(), client().ip());
            let message = Message::parse(&out[..answer.len]).unwrap();
            prop_assert_eq!(message.id, id);
            prop_assert_eq!(message.class == Class::Error, answer.error.is_some());
            prop_assert!(answer.len + 28 <= 2 * (request.len() + 28), "{} for {}", answer.len, request.len());
            prop_assert!(answer.len <= request.len() - HEADER + 76);
        }
    }
}
