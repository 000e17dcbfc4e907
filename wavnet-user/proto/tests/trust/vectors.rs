//! A handshake, byte by byte, as an implementation of docs/wire.md in another language has it: Python, with nothing but its library's
//! BLAKE2s, and X25519 (RFC 7748) and ChaCha20-Poly1305 (RFC 8439) written down from their RFCs.
//!
//! The ephemeral secrets are
//! b066b2f2c8b84002dd7319a2c023597bcebd2d2f63eca4c43a9d2db47cf71740 (initiator) and
//! f2ae8d74fe56ba8436762917bd7a7de153ea3c514fdabc6bc74175e6eea36abe (responder).

use wavnet_proto::{
    rng::Rng,
    time::Time,
    trust::{AccessKey, CookieJar, Initiation, NetworkKey, Psk, Responder, SecretKey},
    wire::Label,
};

use crate::world::{data, hello, init, read_cookie, read_response};

const INITIATOR: [&str; 2] =
    ["wavnet-host:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8="];
const RESPONDER: [&str; 2] =
    ["wavnet-host:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=", "NYBy1jZYgNGu6jKa35EhODhR7SGijjt16WXQ0s0WYlQ="];
const NETWORK: &str = "wavnet-network:QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=";
const ACCESS: &str = "wavnet-access:yGK/4TSGLQr1QNm3jIlAjpBjFh6bosoVHhlnt/ZOiKHYIIJ3xCXf0A==";
const FROM: &str = "198.51.100.7:4789";
const INDICES: [u32; 2] = [0x0102_0304, 0xa0b0_c0d0];

fn bytes(hex: &[&str]) -> Vec<u8> {
    let hex = hex.concat();
    let digits = hex.as_bytes().chunks_exact(2).map(|pair| str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn keys_come_from_the_networks_key() {
    let network: NetworkKey = NETWORK.parse().unwrap();
    assert_eq!(network.id().to_string(), "c862bfe134862d0a");
    assert_eq!(network.access().to_text().as_str(), ACCESS);
    assert_eq!(NetworkKey::open().id().to_string(), "3e29a6c3ff17aac0");
    for [secret, public] in [INITIATOR, RESPONDER] {
        assert_eq!(secret.parse::<SecretKey>().unwrap().public().to_string(), public);
    }
}

#[test]
fn a_handshake_is_as_documented() {
    let hello_datagram = bytes(&[
        "57000000010100000102030401000000c862bfe134862d0a00000000000000000000000000000000000000000000000000000000",
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        "5c0e0973f62b4bea21cf043444f65c3b",
    ]);
    let cookie_datagram = bytes(&[
        "570000000102000001020304358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254b490d640e2d30cba",
        "60fcd231ea95c50549c10dc69ca6bafa08ef905ea65546fd",
    ]);
    let init_datagram = bytes(&[
        "570000000103000001020304c862bfe134862d0ab490d640e2d30cba60fcd231ea95c505ca61c6620c3ebe44e997e0d6aa4d2ea4",
        "08d2e1272a5e19c4942f4d3a29f9ac15b24733e8be8fcbeda78cceb678a7e7caf4686ecde14120107d6f94c33d22a8845052494a",
        "dd7800de61e6074a0fb25395a3311c8a8b1d807b513e9a8f6cb19d40d5ff465f160a5439a6f8c07ee2f983717b57f3f47fd37972",
        "a6baaa5a9416d1b0ecf2",
    ]);
    let response_datagram = bytes(&[
        "57000000010400000102030400c58baa279c58dfd06d4d6862d06e9cc51074e9b088651802c32d7d2439512f388ac9a3220bd5f5",
        "8f0cb69385dc4e46f3a276a7b42acbcc988e34abdcb9e4876b44094ab42e",
    ]);
    let [ours, theirs]: [SecretKey; 2] = [INITIATOR, RESPONDER].map(|[secret, _]| secret.parse().unwrap());
    let access: AccessKey = ACCESS.parse().unwrap();
    let (from, now) = (FROM.parse().unwrap(), Time::ZERO);
    let mut jar = CookieJar::new(Rng::from_seed([3; 32]));

    let mut initiation = Initiation::start(&ours, Psk::Access(&access), INDICES[0], &mut Rng::from_seed([1; 32]));
    assert_eq!(initiation.hello_datagram(), hello_datagram);
    let responder = Responder::new(&theirs, Psk::Access(&access));
    let answer = responder.answer_hello(&mut jar, now, from, &hello(&hello_datagram)).unwrap();
    assert_eq!(answer, cookie_datagram);
    let expected = Some(theirs.public());
    let call = initiation.handle_cookie(&read_cookie(&cookie_datagram), expected, b"from the initiator").unwrap();
    assert_eq!(call, init_datagram);
    let mut rng = Rng::from_seed([2; 32]);
    let request = responder.read_init(&jar, now, from, &init(&init_datagram), &mut rng).unwrap();
    assert_eq!(request.payload(), b"from the initiator");
    let (answer, mut there) = request.respond(now, INDICES[1], b"from the responder").unwrap();
    assert_eq!(answer, response_datagram);
    let (mut here, said) = initiation.handle_response(now, &read_response(&response_datagram)).unwrap();
    assert_eq!(said, b"from the responder");

    let label = Label::new(0x12_3456).unwrap();
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    here.seal(Label::ZERO, b"", &mut sealed).unwrap();
    assert_eq!(sealed, bytes(&["5700000001050000a0b0c0d0000000000000000083ec965d6fbd5c747355585ab8c779fd"]));
    there.open(&data(&sealed), &mut opened).unwrap();
    assert_eq!(opened, b"");
    sealed.clear();
    there.seal(label, b"first", &mut sealed).unwrap();
    assert_eq!(sealed, bytes(&["5712345601050000010203040000000000000000c418fa1712f696d4a017a31be86b0cc8c1a525645c"]));
    here.open(&data(&sealed), &mut opened).unwrap();
    assert_eq!(opened, b"first");
    sealed.clear();
    here.seal(Label::ZERO, b"second", &mut sealed).unwrap();
    assert_eq!(
        sealed,
        bytes(&["5700000001050000a0b0c0d0000000000000000104d8bab010c2b98905d67b700c4f034a438206a284f8"])
    );
    there.open(&data(&sealed), &mut opened).unwrap();
    assert_eq!(opened, b"second");
    sealed.clear();
}
