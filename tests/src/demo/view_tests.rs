//! The live view at the sizes that terminals have.

use std::{net::Ipv4Addr, time::Instant};

use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

use super::*;
use crate::demo::live::Sample;

const URL: &str = "http://127.0.0.1:9810/metrics";
const HINT: &str = "ping      sudo nsenter --net=/run/netns/wav-123456t0-red-1 ping 10.0.0.199";
const LONG: &str =
    "metrics   sudo nsenter --net=/run/netns/wav-123456t0-hv1 curl -s http://127.0.0.1:9810/metrics --fail";

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn nat(n: u8) -> Value {
    json!({"family": "ipv4", "type": "full-cone", "situation": "natted", "mapping": "unknown", "filtering": "unknown",
           "filtering_at_most": false, "ports": "preserving", "port_step": null, "preserves_port": true, "hairpin": null,
           "many_addresses": false, "unstable": false, "local": format!("172.31.{n}.2:4789"),
           "mapped": format!("198.18.{n}.2:4789"), "server": null, "lifetime": null, "notes": []})
}

/// What an agent of the demonstration says, with as many rows as there are.
fn sample(n: u8) -> Sample {
    let port = |name: &str, vni| {
        json!({"interface": name, "ifindex": 3, "vni": vni, "state": "attached", "error": null, "hook": "tcx",
               "delivery": "xdp", "mtu": 1500, "vlan": "pass", "origin": "config", "rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4})
    };
    let peer = |i: u8| {
        json!({"address": format!("172.31.{i}.2"), "udp_port": 4789, "vnis": [100, 200], "state": "up",
               "next_hop": "172.31.100.101", "interface": "u0", "mtu": 1600, "origin": "config", "rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4})
    };
    let mesh = json!({"key": "a", "nat": nat(n), "servers": [], "peers": [
        {"key": "b", "name": "hv9", "connected": true, "vnis": [100, 200],
         "nat": {"type": "full-cone", "mapping": "unknown", "filtering": "unknown"},
         "first_path_ms": 5, "direct_path_ms": 9, "rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4,
         "paths": [{"kind": "direct", "remote": "198.18.3.2:4789", "local_port": 4789, "selected": true, "rtt_ms": 30.25, "loss": 0.0}]}]});
    let entry = |i: u8| {
        json!({"vni": 100, "mac": format!("52:54:00:00:00:{i:02x}"), "place": {"peer": "172.31.3.2"},
               "kind": "learned", "age_s": 1, "epoch": 1})
    };
    let drop = |i: u8| json!({"reason": format!("neighbour_unresolved{i}"), "frames": 7, "help": "Long. ".repeat(30)});
    let status = json!({"name": format!("hv{n}"), "version": "0.1.0", "abi": 1, "pid": 1, "uptime_s": 86_399,
        "counting_s": 1, "config": "/x", "bpffs": "/y", "metrics": "127.0.0.1:9810",
        "underlay": {"interface": "u0", "address": format!("172.31.{n}.2"), "udp_port": 4789,
                     "hook_mode": "xdp-driver", "mtu": 1600, "state": "attached", "error": null},
        "counts": {"vnis": 2, "ports": 2, "ports_attached": 2, "peers": 2, "peers_up": 2, "fdb_entries": 10,
                   "fdb_static": 0, "fdb_capacity": 16384, "dropped_frames": 14},
        "warnings": []});
    Sample {
        at: Instant::now(),
        status: from(status),
        ports: from(json!([port("tap-red-2", 100), port("p-blue-2", 200)])),
        peers: from(json!([peer(3), peer(4)])),
        mesh: from(mesh),
        fdb: (1..11).map(|i| from(entry(i))).collect(),
        drops: (1..3).map(|i| from(drop(i))).collect(),
    }
}

fn watched(n: u8) -> Watched {
    let earlier = Sample { at: Instant::now(), ..sample(n) };
    Watched { name: format!("hv{n}"), before: Some(earlier), now: Some(sample(n)), silent: false }
}

fn samples() -> Samples {
    Samples { agents: vec![watched(1), watched(2)], kernel: Ipv4Addr::new(172, 31, 3, 2) }
}

fn screen(width: u16, height: u16, samples: &Samples) -> (Vec<String>, ratatui::buffer::Buffer) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, samples, &[HINT.into(), LONG.into()])).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let symbol = |y: u16, x: u16| buffer.cell((x, y)).unwrap().symbol().to_owned();
    let lines = (0..height).map(|y| (0..width).map(|x| symbol(y, x)).collect::<String>()).collect();
    (lines, buffer)
}

#[test]
fn every_section_the_url_and_a_command_are_visible_on_small_and_large_terminals() {
    for (width, height) in [(80, 24), (150, 45)] {
        let (lines, _) = screen(width, height, &samples());
        let text = lines.join("\n");
        for wanted in [" ports", " peers", " forwarding table", " drops", " what to type", "172.31.3.2", URL, HINT] {
            assert!(text.contains(wanted), "{width}x{height} lacks {wanted:?}:\n{text}");
        }
        // A row of each table.
        for wanted in
            ["tap-red-2", "hv9", "direct", "30.2 ms", "full-cone", "52:54:00:00:00:01", "neighbour_unresolved1"]
        {
            assert!(text.contains(wanted), "{width}x{height} lacks {wanted:?}:\n{text}");
        }
        for name in ["hv1", "hv2"] {
            assert!(lines.iter().any(|l| l.contains(name) && l.contains(URL)), "{width}x{height}: {text}");
        }
    }
}

#[test]
fn rows_that_do_not_fit_are_counted() {
    let (lines, _) = screen(80, 24, &samples());
    let text = lines.join("\n");
    let shown = lines.iter().filter(|l| l.contains("52:54:00")).count();
    assert!(text.contains(&format!("forwarding table: … {} more", 20 - shown)), "{text}");
    let (lines, _) = screen(150, 60, &samples());
    let text = lines.join("\n");
    assert!(!text.contains(" more "), "{text}");
    assert_eq!(lines.iter().filter(|l| l.contains("52:54:00")).count(), 20, "{text}");
}

#[test]
fn an_agent_that_does_not_answer_is_told_and_its_rows_are_not_green() {
    let mut samples = samples();
    samples.agents[0].silent = true;
    for (width, height) in [(80, 24), (150, 45)] {
        let (lines, buffer) = screen(width, height, &samples);
        let told = lines.iter().filter(|l| l.contains("agent does not answer")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains("hv1"), "{lines:#?}");
        let port = lines.iter().position(|l| l.contains("hv1") && l.contains("tap-red-2")).unwrap();
        assert!(lines[port].contains("unknown") && !lines[port].contains("attached"), "{}", lines[port]);
        assert_eq!(buffer.cell((0, port as u16)).unwrap().fg, Color::DarkGray);
    }
}

#[test]
fn long_hints_are_wrapped_between_words_and_lose_nothing() {
    let wrapped = wrap(LONG, 80);
    assert_eq!(wrapped.len(), 2);
    assert!(wrapped.iter().all(|line| line.chars().count() <= 80), "{wrapped:?}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&wrapped.join(" ")), words(LONG));
    assert!(wrap(&"x".repeat(500), 20).len() > 20);
    assert_eq!(wrap("… … … ä", 5), ["… … … ä"]);
}

#[test]
fn an_empty_picture_fits_any_terminal() {
    let silent = Watched { name: "hv1".into(), silent: true, ..Watched::default() };
    let empty = Samples { agents: vec![Watched::default(), silent], kernel: Ipv4Addr::LOCALHOST };
    for (width, height) in [(1, 1), (10, 5), (40, 12), (80, 24), (300, 100)] {
        screen(width, height, &empty);
        screen(width, height, &samples());
    }
}
