//! The fuzzers' corpora, replayed: what was found once is found again, on stable and without a fuzzer.
//!
//! `WAVNET_WRITE_CORPUS=1` writes the seeds (fixtures, the documented configuration, requests) first.

use std::{fs, path::PathBuf};

use wavnet_common::testing::{Devices, Hook, fixtures};
use wavnet_proto::stun::{Attribute, AttributeType, Builder, Class, TransactionId};
use wavnet_tests::fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("underlay", fuzz::underlay),
    ("port", fuzz::port),
    ("event", fuzz::event),
    ("config", fuzz::config),
    ("request", fuzz::request),
    ("stun", fuzz::stun),
    ("nat", fuzz::nat),
];

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

/// Name and contents of each seed, by target.
fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    for fixture in fixtures(&Devices::NUMBERS) {
        let s = &fixture.stimulus;
        // Cut frames are what a fuzzer finds by itself.
        if fixture.name.contains("cut to") || s.hook == Hook::UnderlayXdp {
            continue;
        }
        let mut flags = u8::from(s.stale_agent) | u8::from(s.gso.0 != 0) << 1 | u8::from(s.linear < 64) << 2;
        let target = match s.hook {
            Hook::Port(place) | Hook::PortXdp(place) => {
                flags |= u8::from(s.raw) << 2;
                flags |= u8::from(s.meta_tag.is_some()) << 3 | (place as u8) << 4;
                "port"
            }
            _ => "underlay",
        };
        let name: String = fixture.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        all.push((target, name.to_ascii_lowercase(), [&[flags][..], &s.frame].concat()));
    }
    all.push(("event", "zeros".into(), vec![0; 32]));
    all.push(("event", "ones".into(), vec![0xff; 32]));
    all.push(("event", "short".into(), vec![0; 31]));
    all.push(("config", "example".into(), include_bytes!("../../docs/wavnet.example.toml").to_vec()));
    for (name, line) in [
        ("status", r#"{"v": 1, "request": "status"}"#),
        ("version", r#"{"v": 2, "request": "status"}"#),
        ("unknown", r#"{"v": 1, "request": "nonsense"}"#),
        ("fdb", r#"{"v": 1, "request": "fdb", "vni": 100}"#),
    ] {
        all.push(("request", name.into(), line.as_bytes().to_vec()));
    }
    all.extend(stun_seeds());
    all.extend(nat_seeds());
    all
}

/// A server with all addresses, asked for everything, and what others send it.
fn stun_seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    const FULL: u8 = 4 | 8;
    let (id, legacy) = (TransactionId::new([7; 12]), TransactionId::from_wire([7; 16]));
    let here = "[2001:db8::7]:40000".parse().expect("an address");
    let change = Attribute::ChangeRequest { ip: true, port: true };
    let unknown = Attribute::Other(AttributeType(0x24), &[1, 2, 3]);
    let error = Attribute::ErrorCode { code: 420, reason: "Unknown Attribute" };
    let seeds: [(&str, Class, TransactionId, &[Attribute<'_>]); 10] = [
        ("plain", Class::Request, id, &[]),
        ("change", Class::Request, id, &[change]),
        ("response-port", Class::Request, id, &[Attribute::ResponsePort(5000), change]),
        ("padding", Class::Request, id, &[Attribute::Padding(1500)]),
        ("padding-and-response-port", Class::Request, id, &[Attribute::Padding(9), Attribute::ResponsePort(1)]),
        ("unknown", Class::Request, id, &[unknown, Attribute::Software("fuzz")]),
        ("classic", Class::Request, legacy, &[change]),
        ("classic-unknown", Class::Request, legacy, &[unknown]),
        ("success", Class::Success, id, &[Attribute::XorMappedAddress(here), Attribute::OtherAddress(here)]),
        ("error", Class::Error, id, &[error, unknown]),
    ];
    let mut all = Vec::new();
    for (name, class, id, attributes) in seeds {
        let bytes = Builder::message(class, id, attributes).expect("it is short");
        all.push(("stun", name.to_owned(), [&[FULL], &bytes[..]].concat()));
    }
    let mut fingerprinted = [0; 28];
    Builder::new(&mut fingerprinted, Class::Request, id).finish_with_fingerprint().expect("it fits");
    all.push(("stun", "fingerprint-over-ipv6".to_owned(), [&[16 | FULL | 1], &fingerprinted[..]].concat()));
    all
}

/// Steps as `fuzz::nat` takes them: time passes until a timeout, or the newest request is answered.
fn nat_seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    const WAIT: &[u8] = &[0];
    // Newest request; a success with another address from there (4), from the other address (16), from the other port (24).
    const ANSWER: &[u8] = &[4, 0, 4, 7, 9];
    const FROM_OTHER: &[u8] = &[4, 0, 4 | 16, 7, 9];
    const FROM_PORT: &[u8] = &[4, 0, 4 | 24, 7, 9];
    const MOVED: &[u8] = &[4, 0, 4, 7, 10];
    const ERROR: &[u8] = &[4, 0, 2, 7, 9];
    let seeds: [(&str, u8, &[&[u8]]); 9] = [
        ("no-server", 0, &[]),
        ("no-answer", 0x20, &[]),
        ("error", 0x20, &[ERROR, WAIT, ERROR]),
        ("cone", 0x10, &[&[ANSWER, WAIT].concat().repeat(9), FROM_OTHER, WAIT, FROM_PORT, WAIT, ANSWER]),
        ("symmetric", 0x10, &[&[ANSWER, WAIT, MOVED, WAIT].concat().repeat(6)]),
        ("other-address-that-is-not-there", 0x30, &[ANSWER]),
        ("no-sockets", 0x11, &[&[ANSWER, WAIT].concat().repeat(9)]),
        (
            "forgotten-socket",
            0x14,
            &[&[ANSWER, WAIT].concat().repeat(4), &[2, 0, 1], &[ANSWER, WAIT].concat().repeat(9)],
        ),
        ("lifetime", 0x12, &[&[ANSWER, WAIT].concat().repeat(40)]),
    ];
    seeds.map(|(name, flags, steps)| ("nat", name.to_owned(), [&[flags], &steps.concat()[..]].concat())).to_vec()
}

#[test]
fn the_corpus_finds_nothing() {
    if std::env::var_os("WAVNET_WRITE_CORPUS").is_some() {
        for (target, name, bytes) in seeds() {
            fs::create_dir_all(corpus(target)).expect("a directory for the corpus");
            fs::write(corpus(target).join(name), bytes).expect("writing a seed");
        }
    }
    for (target, run) in TARGETS {
        let entries: Vec<_> =
            fs::read_dir(corpus(target)).expect("a corpus").map(|e| e.expect("an entry").path()).collect();
        assert!(!entries.is_empty(), "no corpus for {target}");
        for path in entries {
            println!("{}", path.display());
            run(&fs::read(&path).expect("reading a corpus file"));
        }
    }
}

#[test]
fn seeds_find_nothing() {
    for (target, name, bytes) in seeds() {
        println!("{target}: {name}");
        for (known, run) in TARGETS {
            if known == target {
                run(&bytes);
            }
        }
    }
}
