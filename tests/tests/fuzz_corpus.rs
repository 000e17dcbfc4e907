//! The fuzzers' corpora, replayed: what was found once is found again, on stable and without a fuzzer.
//!
//! `WAVNET_WRITE_CORPUS=1` writes the seeds (fixtures, the documented configuration, requests) first.

use std::{fs, path::PathBuf};

use wavnet_common::{
    abi::ConfigFlags,
    relay,
    testing::{
        Devices, Hook, fixtures,
        relay::{RelayDevices, relay_fixtures},
    },
};
use wavnet_tests::fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 6] = [
    ("underlay", fuzz::underlay),
    ("port", fuzz::port),
    ("relay", fuzz::relay),
    ("event", fuzz::event),
    ("config", fuzz::config),
    ("request", fuzz::request),
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
            all.push(("relay", file_name(&fixture.name), [&[flags][..], &s.frame].concat()));
        }
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
    all
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
