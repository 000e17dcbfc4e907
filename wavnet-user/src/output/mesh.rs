//! The answer to `mesh` as tables.

use comfy_table::{Cell, Color};

use super::{bytes, finish, number, optional, right, table};
use crate::api::model::{MeshInfo, MeshPeer};

fn ms(rtt: Option<f64>) -> String {
    rtt.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"))
}

/// The answer to `mesh`.
pub fn mesh(m: &MeshInfo, color: bool) -> String {
    let mut about = table(&["this host", &m.key], color);
    let nat = m.nat.as_ref().map_or_else(
        || "not known yet".to_owned(),
        |nat| {
            let mapped = nat.mapped.map_or_else(String::new, |at| format!(", seen at {at}"));
            format!("{} (mapping {}, filtering {}, ports {}{mapped})", nat.kind, nat.mapping, nat.filtering, nat.ports)
        },
    );
    about.add_row([Cell::new("NAT"), Cell::new(nat)]);
    about.add_row([Cell::new("dropped"), Cell::new(number(m.drops.values().sum()))]);
    let mut servers = table(&["SERVER", "STATE", "MAPPED", "RELAYS", "HOSTS", "RTT"], color);
    for s in &m.servers {
        let (state, shade) = match (&s.error, s.registered) {
            (None, true) => ("registered", Color::Green),
            (None, false) => ("asked", Color::Yellow),
            (Some(_), true) => ("doubtful", Color::Yellow),
            (Some(_), false) => ("lost", Color::Red),
        };
        servers.add_row([
            Cell::new(s.address),
            Cell::new(state).fg(shade),
            Cell::new(optional(s.mapped)),
            Cell::new(if s.relays { "yes" } else { "no" }),
            right(number(s.hosts)),
            right(ms(s.rtt_ms)),
        ]);
    }
    let mut peers = table(
        &["PEER", "KEY", "VNIS", "NAT", "PATH", "TO", "RTT", "LOSS", "RX FRAMES", "RX", "TX FRAMES", "TX"],
        color,
    );
    for p in &m.peers {
        peers.add_row(row(p));
    }
    let mut text = format!("{}\n{}\n{}", finish(&about), finish(&servers), finish(&peers));
    if m.held_frames_lost > 0 {
        let lost = number(m.held_frames_lost);
        text += &format!(
            "warning: {lost} frames were lost while their peers changed paths: there were too many, or it took too long\n"
        );
    }
    for s in &m.servers {
        if let Some(error) = &s.error {
            text += &format!("warning: {}: {error}\n", s.address);
        }
    }
    text
}

fn row(p: &MeshPeer) -> Vec<Cell> {
    let path = p.selected();
    let (kind, shade) = match path.map(|p| p.kind.as_str()) {
        Some("relayed") => ("relayed", Color::Yellow),
        Some(kind) => (kind, Color::Green),
        None if p.connected => ("none", Color::Red),
        None => ("connecting", Color::Yellow),
    };
    let vnis: Vec<_> = p.vnis.iter().map(ToString::to_string).collect();
    vec![
        Cell::new(optional(p.name.as_ref())),
        Cell::new(p.key.get(..8).unwrap_or(&p.key)),
        Cell::new(if vnis.is_empty() { "-".to_owned() } else { vnis.join(",") }),
        Cell::new(&p.nat.kind),
        Cell::new(kind).fg(shade),
        Cell::new(optional(path.map(|p| p.remote))),
        right(ms(path.and_then(|p| p.rtt_ms))),
        right(path.map_or_else(|| "-".into(), |p| format!("{:.1} %", p.loss * 100.0))),
        right(number(p.traffic.rx_frames)),
        right(bytes(p.traffic.rx_bytes)),
        right(number(p.traffic.tx_frames)),
        right(bytes(p.traffic.tx_bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{MeshNat, MeshPath, MeshServer, TrafficInfo};

    #[test]
    fn a_mesh_is_shown_with_its_troubles() {
        let nat = MeshNat { kind: "symmetric".into(), mapping: "m".into(), filtering: "f".into() };
        let path = MeshPath {
            kind: "direct".into(),
            remote: "198.51.100.7:4789".parse().unwrap(),
            local_port: 4789,
            selected: true,
            rtt_ms: Some(30.04),
            loss: 0.05,
        };
        let peer = |name: &str, paths| MeshPeer {
            key: format!("{name}KEYKEYKEY"),
            name: Some(name.into()),
            connected: true,
            vnis: vec![wavnet_common::addr::Vni::new(7).unwrap()],
            nat: nat.clone(),
            first_path_ms: Some(120),
            direct_path_ms: None,
            paths,
            traffic: TrafficInfo::default(),
        };
        let server = MeshServer {
            address: "192.0.2.1:4789".parse().unwrap(),
            registered: false,
            error: Some("it does not answer".into()),
            mapped: None,
            relays: true,
            hosts: 2,
            rtt_ms: None,
        };
        let info = MeshInfo {
            key: "ME".into(),
            nat: None,
            held_frames_lost: 3,
            refused: 0,
            drops: [("foreign".to_owned(), 1200), ("replayed".to_owned(), 34)].into(),
            servers: vec![server],
            peers: vec![peer("a", vec![path]), peer("b", vec![])],
        };
        let text = mesh(&info, false);
        for shown in [
            "198.51.100.7:4789",
            "30.0 ms",
            "5.0 %",
            "none",
            "lost",
            "warning: 192.0.2.1:4789: it does not answer",
            "warning: 3 frames",
            "1,234",
        ] {
            assert!(text.contains(shown), "{shown} in\n{text}");
        }
    }
}
