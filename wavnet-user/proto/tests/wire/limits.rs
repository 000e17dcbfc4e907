//! What no message may say, in either direction: refused when it is read, and not written.

use std::{collections::BTreeSet, net::SocketAddr};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    trust::KeyError,
    wire::{
        AddressError, Candidate, CandidateKind, Fault, Message, Messages, Name, NatSummary, Writer, check_address,
        message::{Candidates, NameError, PeerHello, ProbeAnswer, Register, Registered},
    },
};

/// What is wrong with a message of this type and value.
fn fault(kind: u8, value: &[u8]) -> Option<Fault> {
    let framed = [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat();
    Messages::new(&framed).find_map(Result::err).map(|error| error.fault)
}

fn unwritten(message: &Message) -> Option<Fault> {
    let mut out = b"before".to_vec();
    let fault = message.write(&mut out).err().map(|error| error.fault);
    assert_eq!(fault.is_some(), out == b"before", "nothing is appended on an error");
    fault
}

fn probe_answer(addr: &[u8]) -> Vec<u8> {
    [&[0; 9], addr].concat()
}

fn register() -> Register {
    Register {
        request: 1,
        flags: 0,
        nat: NatSummary::default(),
        name: Name::default(),
        candidates: Vec::new(),
        vnis: BTreeSet::new(),
    }
}

#[test]
fn addresses_are_of_single_hosts() {
    for (text, error) in [
        ("192.0.2.1:0", AddressError::Port),
        ("[2001:db8::1]:0", AddressError::Port),
        ("0.0.0.0:1", AddressError::Unspecified),
        ("[::]:1", AddressError::Unspecified),
        ("224.0.0.1:1", AddressError::Multicast),
        ("239.255.255.255:1", AddressError::Multicast),
        ("[ff02::1]:1", AddressError::Multicast),
        ("255.255.255.255:1", AddressError::Broadcast),
        ("[::ffff:192.0.2.1]:1", AddressError::Mapped),
    ] {
        let addr: SocketAddr = text.parse().unwrap();
        assert_eq!(check_address(addr), Err(error), "{text}");
        // What a socket of both families says is written in the right form.
        let expected = (error != AddressError::Mapped).then_some(Fault::Address(error));
        let written = unwritten(&Message::ProbeAnswer(ProbeAnswer { transaction: 1, flags: 0, from: addr }));
        assert_eq!(written, expected, "{text}");
        let candidate = Candidate { kind: CandidateKind::Host, addr };
        let message = Message::Register(Register { candidates: vec![candidate], ..register() });
        assert_eq!(unwritten(&message), expected, "{text}");
        let on_the_wire = match addr {
            SocketAddr::V4(v4) => [&[4][..], &v4.ip().octets(), &v4.port().to_be_bytes()].concat(),
            SocketAddr::V6(v6) => [&[6][..], &v6.ip().octets(), &v6.port().to_be_bytes()].concat(),
        };
        assert_eq!(fault(34, &probe_answer(&on_the_wire)), Some(Fault::Address(error)), "{text}");
    }
    for text in ["192.0.2.1:1", "10.0.0.255:65535", "[2001:db8::1]:4789", "[fe80::1]:4789", "127.0.0.1:4789"] {
        let from: SocketAddr = text.parse().unwrap();
        assert_eq!(unwritten(&Message::ProbeAnswer(ProbeAnswer { transaction: 1, flags: 0, from })), None, "{text}");
    }
    assert_eq!(fault(34, &probe_answer(&[4, 192, 0, 2, 1, 0x12, 0xb5])), None);
    let from = "[::ffff:192.0.2.1]:4789".parse().unwrap();
    let mut written = Vec::new();
    Message::ProbeAnswer(ProbeAnswer { transaction: 0, flags: 0, from }).write(&mut written).unwrap();
    assert_eq!(written[3..], probe_answer(&[4, 192, 0, 2, 1, 0x12, 0xb5]));
    for family in [0, 1, 5, 7, 255] {
        let addr = [family, 192, 0, 2, 1, 0x12, 0xb5];
        assert_eq!(fault(34, &probe_answer(&addr)), Some(Fault::Address(AddressError::Family(family))));
    }
}

#[test]
fn names_are_short_and_do_nothing() {
    assert_eq!(Name::new(&"x".repeat(63)).unwrap().as_str().len(), 63);
    assert_eq!(Name::new(&"x".repeat(64)), Err(NameError::Long(64)));
    assert_eq!(Name::new(&"愛".repeat(22)), Err(NameError::Long(66)));
    assert_eq!(Name::new("").unwrap(), Name::default());
    for c in
        ['\0', '\n', '\r', '\t', '\x1b', '\x7f', '\u{85}', '\u{2028}', '\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}']
    {
        assert_eq!(Name::new(&format!("a{c}b")), Err(NameError::Control(c)), "{c:?}");
    }
    assert_eq!(Name::new("a\x1b[2J").unwrap_err().to_string(), "a name with the control character U+001B");
    for name in ["host-1.example", "Grüße", "愛", "👩‍💻", "a b"] {
        assert_eq!(Name::new(name).unwrap().to_string(), name);
        assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
    }
    // In PAGE: request, version, more, key, state, name.
    let page = |name: &[u8]| {
        let mut key = [0; 32];
        key[0] = 9;
        [&[0; 12][..], &[0], &key, &[1, name.len() as u8], name].concat()
    };
    assert_eq!(fault(5, &page(b"fine")), None);
    assert_eq!(fault(5, &page(&[b'x'; 64])), Some(Fault::Name(NameError::Long(64))));
    assert_eq!(fault(5, &page(b"a\x1bb")), Some(Fault::Name(NameError::Control('\x1b'))));
    assert_eq!(fault(5, &page(b"\xff")), Some(Fault::Name(NameError::Encoding)));
}

#[test]
fn lists_have_an_end() {
    let candidate = Candidate { kind: CandidateKind::Mapped, addr: "192.0.2.1:4789".parse().unwrap() };
    let vni = |n| Vni::new(n).unwrap();
    for (len, ok) in [(16, true), (17, false), (300, false)] {
        let candidates = vec![candidate; len];
        let message = Message::Candidates(Candidates { generation: 1, candidates, nat: NatSummary::default() });
        let too_many = Fault::TooMany { what: "candidates", len, most: 16 };
        assert_eq!(unwritten(&message), (!ok).then_some(too_many));
    }
    for (len, ok) in [(256, true), (257, false), (70_000, false)] {
        let message = Message::Register(Register { vnis: (1..=len).map(vni).collect(), ..register() });
        let too_many = Fault::TooMany { what: "VNIs", len: len as usize, most: 256 };
        assert_eq!(unwritten(&message), (!ok).then_some(too_many));
    }
    let registered = |len| Registered {
        request: 1,
        lease: 60,
        mapped: candidate.addr,
        version: 1,
        stun: vec![candidate.addr; len],
        relay: true,
    };
    assert_eq!(unwritten(&Message::Registered(registered(8))), None);
    let too_many = |what, len, most| Some(Fault::TooMany { what, len, most });
    assert_eq!(unwritten(&Message::Registered(registered(9))), too_many("addresses", 9, 8));
    // Counts that are too high are refused before anything is made for them.
    assert_eq!(fault(35, &[0, 0, 0, 1, 17]), too_many("candidates", 17, 16));
    // Version, stages, generation, seen, answer, name; then how many VNIs.
    assert_eq!(fault(32, &[&[1, 0][..], &[0; 8], &[0, 0], &[0xff, 0xff]].concat()), too_many("VNIs", 65_535, 256));
    let addr = [4, 192, 0, 2, 1, 1, 1];
    assert_eq!(fault(2, &[&[0; 6][..], &addr, &[0; 8], &[255]].concat()), too_many("addresses", 255, 8));
}

#[test]
fn vnis_are_vnis_and_ascend() {
    let hello = |vnis: &[u8]| [&[1, 0][..], &[0; 8], &[0, 0], &[0, vnis.len() as u8 / 3], vnis, &[0; 9]].concat();
    assert_eq!(fault(32, &hello(&[0, 0, 1, 0, 0, 2, 0xff, 0xff, 0xff])), None);
    assert_eq!(fault(32, &hello(&[0, 0, 0])), Some(Fault::Vni));
    assert_eq!(fault(32, &hello(&[0, 0, 2, 0, 0, 2])), Some(Fault::Order));
    assert_eq!(fault(32, &hello(&[0, 0, 2, 0, 0, 1])), Some(Fault::Order));
}

#[test]
fn keys_and_flags_are_such() {
    // CONNECT to the point of order one; SYNC from it is from the beginning.
    assert_eq!(fault(7, &[0; 37]), Some(Fault::Key(KeyError::Weak)));
    assert_eq!(fault(4, &[0; 44]), None);
    let mut sync = [0; 44];
    sync[12] = 1;
    assert_eq!(fault(4, &sync), Some(Fault::Key(KeyError::Weak)));
    for flag in [0, 1, 2, 255] {
        let page = [&[0; 12][..], &[flag]].concat();
        assert_eq!(fault(5, &page), (flag > 1).then_some(Fault::Flag(flag)));
    }
}

#[test]
fn candidates_of_unknown_kinds_are_passed_over() {
    let addr = [4, 192, 0, 2, 1, 1, 1];
    let value = [&[0, 0, 0, 1, 3][..], &[0], &addr, &[1], &addr, &[5], &addr, &[0; 8]].concat();
    let framed = [&[35, 0, value.len() as u8][..], &value].concat();
    let read: Vec<_> = Messages::new(&framed).collect::<Result<_, _>>().unwrap();
    let [Message::Candidates(Candidates { candidates, .. })] = &read[..] else { panic!("{read:?}") };
    let addr = "192.0.2.1:257".parse().unwrap();
    assert_eq!(candidates[..], [Candidate { kind: CandidateKind::Host, addr }]);
}

#[test]
fn faults_say_what_they_are() {
    let error =
        Messages::new(&[34, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1, 0, 0]).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "PROBE_ANSWER: port 0 is nobody's");
}

#[test]
fn what_a_host_says_of_itself_fits_into_a_plaintext() {
    let addr = "[2001:db8::1]:4789".parse().unwrap();
    let candidates = vec![Candidate { kind: CandidateKind::Host, addr }; 16];
    let vnis: BTreeSet<Vni> = (1..=256).map(|n| Vni::new(n).unwrap()).collect();
    let name = Name::new(&"x".repeat(63)).unwrap();
    let nat = NatSummary::default();
    let register = Register { name: name.clone(), candidates: candidates.clone(), vnis: vnis.clone(), ..register() };
    let hello = PeerHello { version: 1, stages: 0, generation: 1, seen: 0, answer: true, name, vnis, candidates, nat };
    let mut writer = Writer::new();
    writer.push(&Message::Register(register)).unwrap();
    writer.push(&Message::PeerHello(hello)).unwrap();
    let lens: Vec<_> = writer.finish().iter().map(Vec::len).collect();
    assert_eq!(lens, [1171, 1177]);
}
