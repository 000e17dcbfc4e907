//! The systemd units in docs: their commands are commands, and systemd understands their keys.

use std::{path::Path, process};

use crate::config::{Agent, RendezvousConfig};

const UNIT: &str = include_str!("../../../docs/wavnet.service");
const SERVER_UNIT: &str = include_str!("../../../docs/wavnet-rendezvous.service");
const BINARY: &str = "/usr/local/bin/wavnet";

/// Values of a unit's key, in order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.split_once('=')).filter(|(k, _)| *k == key).map(|(_, value)| value).collect()
}

/// What both units have, and a directory of its own below /run.
fn check(unit: &str, run_dir: &Path) {
    for key in ["ExecStart", "ExecReload"] {
        let [command] = values(unit, key)[..] else { panic!("{key}") };
        assert!(command.starts_with(BINARY), "{command}");
        assert!(super::parses(command.split(' ')), "{command}");
    }
    // What is told to the service manager is asked for.
    assert_eq!(values(unit, "Type"), ["notify"]);
    assert_eq!(values(unit, "WatchdogSec").len(), 1);
    assert_eq!(Path::new("/run").join(values(unit, "RuntimeDirectory")[0]), run_dir);
    // Whatever may mend itself is waited for, however long it takes: five starts in ten seconds are not too many.
    assert_eq!(values(unit, "Restart"), ["on-failure"]);
    let (before_service, _) = unit.split_once("[Service]").unwrap();
    assert_eq!(values(before_service, "StartLimitIntervalSec"), ["0"]);
    let refused = super::failure::Exit::Refused as u8;
    let usage = super::failure::Exit::Usage as u8;
    assert_eq!(values(unit, "RestartPreventExitStatus"), [format!("{usage} {refused}")]);
}

#[test]
fn the_unit_starts_and_reloads_with_commands_there_are() {
    check(UNIT, Path::new(Agent::RUN_DIR));
    assert_eq!(values(UNIT, "RuntimeDirectoryPreserve"), ["yes"], "what it keeps is kept");
    for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
        assert!(values(UNIT, "CapabilityBoundingSet")[0].split(' ').any(|c| c == capability), "{capability}");
    }
}

#[test]
fn the_unit_of_the_server_starts_and_reloads_with_commands_there_are() {
    check(SERVER_UNIT, &RendezvousConfig::new().run_dir);
    for set in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(values(SERVER_UNIT, set), ["CAP_BPF CAP_NET_ADMIN CAP_PERFMON"], "for the relay in the kernel");
    }
    assert_eq!(Path::new("/var/lib").join(values(SERVER_UNIT, "StateDirectory")[0]), RendezvousConfig::new().state_dir);
}

/// systemd gives a RuntimeDirectory that is there, and all in it, to the user of the unit that starts last.
#[test]
fn agent_and_server_on_one_host_have_directories_of_their_own() {
    assert_ne!(values(UNIT, "RuntimeDirectory"), values(SERVER_UNIT, "RuntimeDirectory"));
    assert_ne!(RendezvousConfig::new().run_dir, Path::new(Agent::RUN_DIR));
}

#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let files = [("wavnet.service", UNIT), ("wavnet-rendezvous.service", SERVER_UNIT)];
    for (name, unit) in files {
        // The binary need not be installed here, and the user need not exist.
        let unit = unit
            .replace(BINARY, "/bin/true")
            .replace("=wavnet\nGroup", "=root\nGroup")
            .replace("Group=wavnet", "Group=root");
        std::fs::write(dir.path().join(name), unit).unwrap();
        verify(&dir.path().join(name), name);
    }
}

fn verify(file: &Path, name: &str) {
    let Ok(said) = process::Command::new("systemd-analyze").arg("verify").arg(file).output() else {
        eprintln!("SKIPPED systemd_has_nothing_to_say_about_the_unit: no systemd-analyze");
        return;
    };
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success() && !words.contains(name), "{words}");
}
