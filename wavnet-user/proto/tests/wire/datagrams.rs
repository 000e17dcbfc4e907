//! Control datagrams: which shapes are read at all.

use proptest::{collection::vec, prelude::*};
use wavnet_proto::{
    trust::KeyError,
    wire::{
        Datagram, HELLO_LEN, INIT_LEN, Kind, Label, MAX_DATA_PLAINTEXT, MAX_PAYLOAD, RESPONSE_LEN, Unknown, WireError,
        opener, unknown,
    },
};

fn datagram(kind: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![9; len];
    let header = [b'W', 0, 0, 0, 1, kind, 0, 0];
    bytes.iter_mut().zip(header).for_each(|(byte, header)| *byte = header);
    bytes
}

#[test]
fn each_type_has_its_lengths() {
    let exactly = |len: usize| len..=len;
    for (kind, lens) in [
        (Kind::Hello, exactly(HELLO_LEN)),
        (Kind::Cookie, exactly(76)),
        (Kind::Init, INIT_LEN..=INIT_LEN + MAX_PAYLOAD),
        (Kind::Response, RESPONSE_LEN..=RESPONSE_LEN + MAX_PAYLOAD),
        (Kind::Data, 36..=36 + MAX_DATA_PLAINTEXT),
        (Kind::Opener, exactly(16)),
    ] {
        for len in (8..1300).chain([65_507, 65_508]) {
            let bytes = datagram(kind as u8, len);
            match Datagram::parse(&bytes) {
                Ok((header, _)) => {
                    assert!(lens.contains(&len), "{kind} of {len}");
                    assert_eq!(header.kind, kind);
                }
                Err(error) => {
                    assert!(!lens.contains(&len), "{kind} of {len}");
                    assert_eq!(error, WireError::Length { kind, len });
                }
            }
        }
    }
}

#[test]
fn headers_of_others_are_refused_by_reason() {
    let good = datagram(1, HELLO_LEN);
    Datagram::parse(&good).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Datagram::parse(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, b'P'), WireError::Foreign);
    assert_eq!([0, 2, 255].map(|version| with(4, version)), [0, 2, 255].map(WireError::Version));
    assert_eq!([0, 8, 255].map(|kind| with(5, kind)), [0, 8, 255].map(WireError::Kind));
    assert_eq!([with(6, 1), with(7, 0x80)], [WireError::Reserved, WireError::Reserved]);
    for len in 0..8 {
        assert_eq!(Datagram::parse(&good[..len]), Err(WireError::Foreign));
    }
    let mut cookie = datagram(2, 76);
    cookie[12..44].fill(0);
    assert_eq!(Datagram::parse(&cookie), Err(WireError::Key(KeyError::Weak)));
}

#[test]
fn fields_are_where_the_document_has_them() {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes[..8].copy_from_slice(&[b'W', 0xaa, 0xbb, 0xcc, 1, 1, 0, 0]);
    let (header, read) = Datagram::parse(&bytes[..120]).unwrap();
    assert_eq!(header.label, Label::new(0xaa_bbcc).unwrap());
    let Datagram::Hello(hello) = read else { panic!("{read:?}") };
    assert_eq!((hello.sender, hello.highest), (0x0809_0a0b, 12));
    assert_eq!(hello.network.to_bytes(), [16, 17, 18, 19, 20, 21, 22, 23]);
    bytes[5] = 2;
    let (_, read) = Datagram::parse(&bytes[..76]).unwrap();
    let Datagram::Cookie(cookie) = read else { panic!("{read:?}") };
    assert_eq!((cookie.receiver, cookie.cookie[0]), (0x0809_0a0b, 44));
    assert_eq!(cookie.responder.as_bytes()[..], bytes[12..44]);
    bytes[5] = 3;
    let (_, read) = Datagram::parse(&bytes[..200]).unwrap();
    let Datagram::Init(init) = read else { panic!("{read:?}") };
    assert_eq!((init.sender, init.network.to_bytes()[0], init.cookie[0]), (0x0809_0a0b, 12, 20));
    assert_eq!((init.noise, &init.ephemeral()[..]), (&bytes[36..184], &bytes[36..68]));
    bytes[5] = 4;
    let (_, read) = Datagram::parse(&bytes[..100]).unwrap();
    let Datagram::Response(response) = read else { panic!("{read:?}") };
    assert_eq!((response.receiver, response.noise), (0x0809_0a0b, &bytes[12..100]));
    bytes[5] = 5;
    let (_, read) = Datagram::parse(&bytes[..100]).unwrap();
    let Datagram::Data(data) = read else { panic!("{read:?}") };
    assert_eq!((data.receiver, data.counter), (0x0809_0a0b, 0x0c0d_0e0f_1011_1213));
    assert_eq!(data.ciphertext, &bytes[20..100]);
}

#[test]
fn labels_have_24_bits() {
    for n in [0, 1, 0x12_3456, (1 << 24) - 1] {
        let label = Label::new(n).unwrap();
        assert_eq!((label.get(), Label::from_bytes(label.to_bytes())), (n, label));
    }
    assert_eq!(Label::new(1 << 24), None);
    assert_eq!(Label::new(0xabc).unwrap().to_string(), "000abc");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in vec(any::<u8>(), 0..300),
        header in prop::option::of((any::<[u8; 3]>(), 0..=8u8)),
    ) {
        if let (Some((label, kind)), [a, b, c, d, version, kind_byte, r, s, ..]) = (header, &mut bytes[..]) {
            (*a, [*b, *c, *d]) = (b'W', label);
            (*version, *kind_byte, *r, *s) = (1, kind, 0, 0);
        }
        match Datagram::parse(&bytes) {
            Ok((header, _)) => prop_assert_eq!(&header.to_bytes()[..], &bytes[..8]),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn what_proves_nothing_is_read_as_written(
        label in 0..1u32 << 24,
        random in any::<[u8; 8]>(),
        (receiver, counter, start, pulse) in any::<(u32, u64, [u8; 4], [u8; 2])>(),
    ) {
        let label = Label::new(label).unwrap();
        let opener = opener(label, random);
        let (header, read) = Datagram::parse(&opener).unwrap();
        prop_assert_eq!((header.label, read), (label, Datagram::Opener));
        for what in [Unknown::Data { receiver, counter, start }, Unknown::Pulse(pulse)] {
            let written = unknown(label, what);
            let (header, read) = Datagram::parse(&written).unwrap();
            prop_assert_eq!((header.label, read), (label, Datagram::Unknown(what)));
        }
    }
}
