//! The systemd unit in docs: its commands are commands, and systemd understands its keys.

use std::{path::Path, process};

use crate::config::{Agent, RendezvousConfig};

const UNIT: &str = include_str!("../../../docs/wavnet.service");
const SERVER_UNIT: &str = include_str!("../../../docs/wavnet-rendezvous.service");
const BINARY: &str = "/usr/local/bin/wavnet";

/// Values of a key, in order.
fn values(key: &str) -> Vec<&'static str> {
    UNIT.lines().filter_map(|line| line.split_once('=')).filter(|(k, _)| *k == key).map(|(_, value)| value).collect()
}

#[test]
fn the_unit_starts_and_reloads_with_commands_there_are() {
    for key in ["ExecStart", "ExecReload"] {
        let [command] = values(key)[..] else { panic!("{key}") };
        assert!(command.starts_with(BINARY), "{command}");
        assert!(super::parses(command.split(' ')), "{command}");
    }
    // What the agent tells the service manager is asked for, and what it keeps is kept.
    assert_eq!(values("Type"), ["notify"]);
    assert_eq!(values("WatchdogSec").len(), 1);
    assert_eq!(values("RuntimeDirectoryPreserve"), ["yes"]);
    assert_eq!(Path::new("/run").join(values("RuntimeDirectory")[0]), Path::new(Agent::RUN_DIR));
    let refused = super::failure::Exit::Refused as u8;
    let usage = super::failure::Exit::Usage as u8;
    assert_eq!(values("RestartPreventExitStatus"), [format!("{usage} {refused}")]);
    for capability in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"] {
        assert!(values("CapabilityBoundingSet")[0].split(' ').any(|c| c == capability), "{capability}");
    }
}

#[test]
fn the_unit_of_the_server_starts_and_reloads_with_commands_there_are() {
    let values = |key: &str| {
        let lines = SERVER_UNIT.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(k, _)| *k == key).map(|(_, value)| value).collect::<Vec<_>>()
    };
    for key in ["ExecStart", "ExecReload"] {
        let [command] = values(key)[..] else { panic!("{key}") };
        assert!(command.starts_with(BINARY) && super::parses(command.split(' ')), "{command}");
    }
    assert_eq!(values("Type"), ["notify"]);
    for set in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(values(set), ["CAP_BPF CAP_NET_ADMIN CAP_PERFMON"], "for the relay in the kernel");
    }
    assert_eq!(Path::new("/run").join(values("RuntimeDirectory")[0]), RendezvousConfig::new().run_dir);
    assert_eq!(Path::new("/var/lib").join(values("StateDirectory")[0]), RendezvousConfig::new().state_dir);
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
