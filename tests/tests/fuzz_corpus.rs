//! The fuzzers' corpora, replayed: what was found once is found again, on stable and without a fuzzer.
//!
//! `WAVNET_WRITE_CORPUS=1` writes the seeds (fixtures, the documented configuration, requests) first.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf};

use wavnet_common::{
    abi::ConfigFlags,
    addr::Vni,
    relay,
    testing::{
        Devices, Hook, fixtures,
        relay::{RelayDevices, relay_fixtures},
    },
};
use wavnet_proto::{
    rng::Rng,
    stun::{Attribute, AttributeType, Builder, Class, TransactionId},
    trust::{NetworkKey, SecretKey},
    wire::{Candidate, CandidateKind, Label, Message, Name, NatSummary, message},
};
use wavnet_tests::{fuzz, fuzz_datagrams, fuzz_mesh, fuzz_nat, fuzz_rendezvous};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 13] = [
    ("underlay", fuzz::underlay),
    ("port", fuzz::port),
    ("relay", fuzz::relay),
    ("event", fuzz::event),
    ("config", fuzz::config),
    ("request", fuzz::request),
    ("control", fuzz::control),
    ("handshake", fuzz::handshake),
    ("rendezvous", fuzz_rendezvous::rendezvous),
    ("stun", fuzz_nat::stun),
    ("nat", fuzz_nat::nat),
    ("mesh", |data| _ = fuzz_mesh::mesh(data)),
    ("datagrams", fuzz_datagrams::datagrams),
];

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn file_name(fixture: &str) -> String {
    let name: String = fixture.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.to_ascii_lowercase()
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
            _ => {
                let bits = [(8, ConfigFlags::CONTROL), (16, ConfigFlags::DYNAMIC), (32, ConfigFlags::XDP_TX)];
                flags |= bits.iter().filter(|(_, flag)| s.flags & flag == 0).map(|(bit, _)| bit).sum::<u8>();
                "underlay"
            }
        };
        all.push((target, file_name(&fixture.name), [&[flags][..], &s.frame].concat()));
    }
    for fixture in relay_fixtures(&RelayDevices::NUMBERS) {
        let s = &fixture.stimulus;
        if !fixture.name.contains("cut to") && s.hook == relay::Hook::Tc {
            let flags = u8::from(s.gso.0 != 0) | u8::from(s.linear < 64) << 1;
            let flags = flags | u8::from(s.incomplete) << 2 | u8::from(s.meta_tag.is_some()) << 3;
            let flags = flags | u8::from(s.spent) << 4;
            all.push(("relay", file_name(&fixture.name), [&[flags][..], &s.frame].concat()));
        }
    }
    all.push(("event", "zeros".into(), vec![0; 32]));
    all.push(("event", "ones".into(), vec![0xff; 32]));
    all.push(("event", "short".into(), vec![0; 31]));
    all.extend(config_seeds());
    for (name, line) in [
        ("status", r#"{"v": 1, "request": "status"}"#),
        ("version", r#"{"v": 2, "request": "status"}"#),
        ("unknown", r#"{"v": 1, "request": "nonsense"}"#),
        ("fdb", r#"{"v": 1, "request": "fdb", "vni": 100}"#),
    ] {
        all.push(("request", name.into(), line.as_bytes().to_vec()));
    }
    all.extend(control_seeds().into_iter().map(|(name, bytes)| ("control", name, bytes)));
    for (which, name) in ["hello", "cookie", "init", "response", "data"].into_iter().enumerate() {
        let which = which as u8;
        all.push(("handshake", name.into(), vec![which]));
        all.push(("handshake", format!("{name}-with-a-bit-changed"), vec![which, 0, 30, 1]));
        all.push(("handshake", format!("{name}-changed-with-a-mac"), vec![which | 16, 0, 30, 1]));
        all.push(("handshake", format!("{name}-cut"), vec![which, 0xff, 0xff, 9]));
    }
    // Three hosts shake hands, register and meet; then time, a restart, a revocation, what came before, and frames.
    let met = [1, 0, 2, 0, 0, 1, 1, 2, 1, 0, 2, 0, 0x14, 2, 1, 2, 2, 0, 0x15, 2, 1, 3];
    all.extend(stun_seeds());
    all.extend(nat_seeds());
    all.extend(mesh_seeds());
    all.push(("rendezvous", "met".into(), met.to_vec()));
    let lived =
        [&met[..], &[11, 0, 7, 17, 8, 0, 1, 0, 2, 0, 0, 11, 1, 9, 1, 5, 3, 4, 40, 1, 10, 2, 2, 0, 0x12]].concat();
    all.push(("rendezvous", "lived".into(), lived));
    all.push((
        "rendezvous",
        "strange".into(),
        vec![0, 1, 2, 1, 2, 0, 3, 8, 8, 1, 2, 3, 4, 5, 6, 7, 1, 0, 6, 0, 3, 1, 0, 1],
    ));
    all
}

/// The documented configurations, a list of identities, and a key of each kind.
fn config_seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut rng = Rng::from_seed([1; 32]);
    let (host, network) = (SecretKey::generate(&mut rng), NetworkKey::generate(&mut rng));
    let other = SecretKey::generate(&mut rng).public();
    let seeds = [
        (0, "example", include_str!("../../docs/wavnet.example.toml").to_owned()),
        (1, "rendezvous-example", include_str!("../../docs/wavnet-rendezvous.example.toml").to_owned()),
        (2, "list", format!("# hosts\n{} # all\n\n  {other} 100, 200\n", host.public())),
        (3, "host-key", host.to_text().to_string()),
        (3, "network-key", format!("{}\n", *network.to_text())),
        (3, "access-key", network.access().to_text().to_string()),
    ];
    seeds.map(|(which, name, text)| ("config", name.to_owned(), [&[which][..], text.as_bytes()].concat())).into()
}

/// Each message once, several in a plaintext, and a datagram that the first byte names.
fn control_seeds() -> Vec<(String, Vec<u8>)> {
    let key = SecretKey::generate(&mut Rng::from_seed([4; 32])).public();
    let addr = SocketAddr::from(([192, 0, 2, 1], 4789));
    let v6 = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 4789));
    let candidates: Vec<_> = [(CandidateKind::Host, v6), (CandidateKind::Mapped, addr)]
        .map(|(kind, addr)| Candidate { kind, addr })
        .to_vec();
    let (nat, name) = (NatSummary::decode([1; 8]), Name::new("host").expect("a name"));
    let vnis: BTreeSet<Vni> = [1, 100, Vni::MAX].map(|n| Vni::new(n).expect("a VNI")).into();
    let entry = message::Entry { key, state: message::HostState::HERE, name: name.clone() };
    let forward = message::Forward { peer: key, datagram: vec![7; 20] };
    let (request, flags, transaction) = (1, 0, 5);
    let messages = [
        Message::Register(message::Register {
            request,
            flags,
            nat,
            name: name.clone(),
            candidates: candidates.clone(),
            vnis: vnis.clone(),
        }),
        Message::Registered(message::Registered {
            request,
            lease: 60,
            mapped: addr,
            version: 3,
            stun: vec![addr, v6],
            relay: true,
        }),
        Message::Refresh { request },
        Message::Sync(message::Sync { request, since: 2, after: Some(key) }),
        Message::Page(message::Page { request, version: 3, more: false, entries: vec![entry.clone(), entry] }),
        Message::Changed { version: 4 },
        Message::Connect(message::Connect { request, peer: key, candidates: candidates.clone() }),
        Message::Invite(message::Invite {
            peer: key,
            label: Label::from_bytes([1, 2, 3]),
            flags,
            nat,
            mapped: addr,
            candidates: candidates.clone(),
        }),
        Message::Forward(forward.clone()),
        Message::Forwarded(forward),
        Message::Refused(message::Refused { request, code: message::RefusedCode::BUSY }),
        Message::Bye { reason: message::ByeReason::STOPS },
        Message::Check { token: 5 },
        Message::Checked { token: 5 },
        Message::PeerHello(message::PeerHello {
            version: 1,
            stages: 0,
            generation: 2,
            seen: 1,
            answer: true,
            name,
            vnis,
            candidates: candidates.clone(),
            nat,
        }),
        Message::Probe(message::Probe { transaction, flags }),
        Message::ProbeAnswer(message::ProbeAnswer { transaction, flags, from: v6 }),
        Message::Candidates(message::Candidates { generation: 1, candidates, nat }),
        Message::Search(message::Search { transaction, phase: message::Search::ASK }),
        Message::Selected(message::Selected { transaction, flags }),
        Message::Marker { transaction },
        Message::MarkerSeen { transaction },
    ];
    let write = |messages: &[Message]| {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.write(&mut out).expect("a message"));
        out
    };
    let one = |message: &Message| {
        let name = message.kind().1.to_ascii_lowercase().replace('_', "-");
        (format!("message-{name}"), write(std::slice::from_ref(message)))
    };
    let mut seeds: Vec<_> = messages.iter().map(one).collect();
    seeds.push(("plaintext".into(), write(&messages)));
    for (kind, len) in [(1, 112), (2, 68), (3, 140), (4, 56), (5, 28), (6, 8), (7, 16), (7, 2)] {
        seeds.push((format!("datagram-{kind}-of-{len}"), [vec![kind], vec![9; len]].concat()));
    }
    seeds
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
    // One that may have three answers a second asks at once, later, and as if the clock had gone back.
    let moments = [0_u32, 0, 0, 0, 0, 1 << 18, 1 << 19, 1 << 20, 1 << 19, 0, 1 << 22, u32::MAX, 1, u32::MAX];
    all.push(("stun", "moments".to_owned(), [&[2][..], &moments.map(u32::to_be_bytes).concat()].concat()));
    all
}

/// Stories as `fuzz_mesh` takes them: hosts and servers, what is in front of each host, then steps.
fn mesh_seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    // Two seconds; frames from host 0 to host 1.
    const MEET: &[u8] = &[0, 11];
    const FRAMES: &[u8] = &[10, 0x10, 0x8a, 0x01];
    let stories: [(&str, &[&[u8]]); 27] = [
        ("cones", &[&[0, 3, 3], MEET, FRAMES]),
        ("symmetric", &[&[0, 4, 4], MEET, FRAMES, &[4, 0, 0, 13]]),
        ("neighbours", &[&[1, 3, 0x83, 3], MEET, FRAMES, &[8, 0x10, 0, 12, 8, 0x10]]),
        ("open-input", &[&[0, 5, 5], MEET, FRAMES]),
        ("two-servers", &[&[12, 4, 4], MEET, FRAMES, &[7, 0, 0, 13, 7, 0x10, 0, 13, 7, 0]]),
        ("cut", &[&[0, 3, 3], MEET, &[2, 0x10], FRAMES, &[0, 14, 2, 0x10]]),
        ("alone", &[&[0, 3, 0], MEET, &[3, 0, 2, 0x10, 0, 16, 3, 0, 2, 0x10]]),
        ("roam", &[&[0, 3, 3], MEET, &[5, 0x10, 5, 0x31], FRAMES]),
        ("restarts", &[&[0, 1, 2], MEET, &[6, 0, 6, 0, 0, 8, 6, 1, 6, 1, 7, 0, 7, 0], FRAMES]),
        ("repeats", &[&[0, 3, 3], MEET, &[9, 1, 0, 0, 9, 67, 3, 1, 9, 5, 20, 1, 9, 9, 0, 0], FRAMES]),
        ("clocks", &[&[0, 3, 3], MEET, &[11, 0xf0, 0x8b, 0xf1, 0x8b, 0xf1], FRAMES]),
        ("forged", &[&[0x20, 1, 0], &[14, 0x10, 0x8e, 0x10, 14, 1, 0x8e, 1]]),
        ("doubled", &[&[0x28, 3, 3], &[15, 0xf0, 0x8f, 0xf1], FRAMES]),
        ("search", &[&[0xd8, 3, 4]]),
        ("a-search-that-fills-a-router", &[&[0xf0, 5, 4]]),
        ("counting", &[&[0x80, 12, 3], MEET, FRAMES, &[4, 0, 0, 13], FRAMES]),
        ("both-counting", &[&[0xa8, 12, 12], FRAMES]),
        ("two-nats-in-a-row", &[&[0, 13, 3], MEET, FRAMES, &[0x84, 0], FRAMES, &[4, 0], FRAMES]),
        ("one-carrier", &[&[0, 13, 0x4d], MEET, FRAMES, &[4, 0, 0, 16], FRAMES]),
        ("relays-that-are-full", &[&[1, 0x24, 4, 4], MEET, FRAMES, &[10, 0x20, 6, 0, 0, 16], FRAMES]),
        ("other-vnis", &[&[0, 3, 3], MEET, FRAMES, &[0x50, 0], FRAMES, &[0x60, 1], FRAMES, &[0x60, 0], FRAMES]),
        ("vnis-of-one-peer", &[&[0x20, 3, 3], &[0x54, 0x10], FRAMES, &[0x64, 0x10], FRAMES]),
        ("families", &[&[0, 0x14, 0x14], MEET, FRAMES, &[0x48, 0], FRAMES, &[0x48, 0, 0x48, 1, 0, 14], FRAMES]),
        ("a-server-that-says-nobodys-addresses", &[&[12, 0x43, 3], MEET, FRAMES, &[4, 0, 0, 13], FRAMES]),
        ("a-server-that-mistakes-hosts", &[&[13, 0x83, 3, 0x83], MEET, FRAMES, &[5, 0x10, 0, 13], FRAMES]),
        ("twins", &[&[9, 3, 3, 3], MEET, &[0x4e, 0x12], MEET, FRAMES, &[10, 0x20, 0, 14, 0x4e, 0], FRAMES]),
        ("loss", &[&[0x42, 3, 3, 0, 4], &[12, 0xf0, 12, 0xf1], MEET, FRAMES, &[13, 0xff, 0x57, 0, 0, 0, 1, 2]]),
    ];
    let mut all: Vec<_> = stories.iter().map(|(name, steps)| ("mesh", (*name).to_owned(), steps.concat())).collect();
    for (kind, len) in [(2, 68), (3, 140), (4, 56), (5, 28), (6, 8), (7, 16), (7, 2)] {
        let header = [0x57, 0, 0, 0, 1, kind, 0, 0];
        let bytes = [&[23, len + 8][..], &header, &vec![9; len.into()], &[18, 0, 22, 0x20, 5, 7, 9, 1]].concat();
        all.push(("datagrams", format!("kind-{kind}-of-{len}"), bytes));
    }
    all.push(("datagrams", "times".into(), vec![16, 20, 17, 23, 18, 0, 18, 0, 18, 0, 19, 9, 20, 3, 21, 1, 18, 0]));
    all.push(("datagrams", "pulses".into(), vec![7, 2, 0x80, 1, 7, 2, 0, 1, 71, 6, 0x50, 0, 0, 1, 0, 1]));
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
