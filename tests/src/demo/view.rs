//! The live view's picture.

use std::time::Instant;

use anyhow::Result;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Paragraph, Row, Table},
};
use wavnet_user::api::model::{AttachState, FdbKind, PeerState, PlaceInfo, TrafficInfo};

use super::{
    live::{Sample, Samples},
    network::Network,
};
use crate::lab::{binary, dhcp, host::Vm};

/// What to type in a second terminal.
///
/// # Errors
/// A machine has lost its address.
pub(super) fn hints(network: &Network) -> Result<Vec<String>> {
    let agent = &network.agents[0];
    let inside = |ns: &str| format!("sudo nsenter --net=/run/netns/{ns}");
    let tenant = &network.tenants[0];
    let (from, to) = (&tenant.vms[0], &tenant.vms[2]);
    let wavnet = binary::usable()?.display().to_string();
    let run_dir = agent.run_dir().display();
    Ok(vec![
        format!("metrics   {} curl -s {}", inside(agent.ns().name()), agent.metrics_url()),
        format!("agent     sudo {wavnet} fdb --run-dir {run_dir}     (status, ports, peers, drops, … --json)"),
        format!("ping      {} ping {}", inside(from.ns.name()), dhcp::address(&to.ns, Vm::NIC)?),
        format!("capture   {} tcpdump -nei r0 udp port 4789", inside(network.underlay.router.name())),
        "leave     q or Ctrl-C: everything is removed".to_owned(),
    ])
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, samples: &Samples, hints: &[String]) {
    let hint_lines = hints.len() as u16 + 2 + u16::from(samples.error.is_some());
    let count = |f: fn(&Sample) -> usize| -> u16 {
        samples.agents.iter().filter_map(|(_, now)| now.as_ref()).map(f).sum::<usize>() as u16 + 3
    };
    let [head, ports, peers, fdb, drops, foot] = Layout::vertical([
        Constraint::Length(1 + samples.agents.len() as u16),
        Constraint::Length(count(|s| s.ports.len())),
        Constraint::Length(count(|s| s.peers.len())),
        Constraint::Min(5),
        Constraint::Length(count(|s| s.drops.iter().filter(|d| d.frames > 0).count()).max(4)),
        Constraint::Length(hint_lines),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(samples)), head);
    table(frame, ports, "ports", &["agent", "port", "VNI", "state", "hook", "from VM", "to VM"], port_rows(samples));
    table(
        frame,
        peers,
        "peers",
        &["agent", "peer", "VNIs", "state", "next hop", "received", "sent"],
        peer_rows(samples),
    );
    table(frame, fdb, "forwarding table", &["agent", "VNI", "MAC", "behind", "kind", "age", ""], fdb_rows(samples));
    table(frame, drops, "drops", &["agent", "reason", "frames", "a second", "meaning", "", ""], drop_rows(samples));
    let mut lines: Vec<Line<'_>> = hints.iter().map(|h| Line::from(h.as_str())).collect();
    if let Some(error) = &samples.error {
        lines.insert(0, Line::styled(error.as_str(), Style::new().fg(Color::Red)));
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" what to type next ")), foot);
}

fn heading(samples: &Samples) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut lines = vec![Line::styled("wavnet: two agents, and a kernel vxlan device as a peer at 172.31.3.2", bold)];
    for (_, now) in &samples.agents {
        lines.push(now.as_ref().map_or_else(
            || Line::from("  waiting for the agent …"),
            |s| {
                let mode = s.status.underlay.hook_mode.map_or("not attached", |m| m.as_str());
                let address = s.status.underlay.address.map_or_else(String::new, |a| a.to_string());
                let metrics = s.status.metrics.as_deref().unwrap_or("off");
                Line::from(format!(
                    "  {}  VTEP {address}  {mode}  up {} s  {} MACs  metrics http://{metrics}/metrics",
                    s.status.name, s.status.uptime_s, s.status.counts.fdb_entries
                ))
            },
        ));
    }
    lines
}

fn table(frame: &mut Frame<'_>, area: Rect, title: &str, head: &[&'static str; 7], rows: Vec<Row<'static>>) {
    let dim = Style::new().fg(Color::DarkGray);
    let widths = if title == "drops" {
        [10, 24, 12, 12, 100, 0, 0].map(Constraint::Max)
    } else {
        [10, 20, 12, 14, 16, 26, 26].map(Constraint::Max)
    };
    let header = Row::new(head.iter().copied()).style(dim);
    let block = Block::bordered().title(format!(" {title} "));
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

/// Calls `f` with each agent's samples.
fn each<T>(samples: &Samples, mut f: impl FnMut(&Option<Sample>, &Sample) -> Vec<T>) -> Vec<T> {
    samples.agents.iter().filter_map(|(old, now)| now.as_ref().map(|now| f(old, now))).flatten().collect()
}

fn colour(good: bool) -> Style {
    Style::new().fg(if good { Color::Green } else { Color::Red })
}

fn port_rows(samples: &Samples) -> Vec<Row<'static>> {
    each(samples, |old, now| {
        let row = |p: &wavnet_user::api::model::PortInfo| {
            let before = old
                .as_ref()
                .and_then(|o| o.ports.iter().find(|q| q.interface == p.interface).map(|q| (o.at, q.traffic)));
            let [rx, tx] = rates(before, now.at, p.traffic);
            let hook = p.hook.clone().unwrap_or_default();
            let cells = [
                now.status.name.clone(),
                p.interface.clone(),
                p.vni.to_string(),
                p.state.as_str().into(),
                hook,
                rx,
                tx,
            ];
            Row::new(cells).style(colour(p.state == AttachState::Attached))
        };
        now.ports.iter().map(row).collect()
    })
}

fn peer_rows(samples: &Samples) -> Vec<Row<'static>> {
    each(samples, |old, now| {
        let row = |p: &wavnet_user::api::model::PeerInfo| {
            let before =
                old.as_ref().and_then(|o| o.peers.iter().find(|q| q.address == p.address).map(|q| (o.at, q.traffic)));
            let [rx, tx] = rates(before, now.at, p.traffic);
            let vnis: Vec<String> = p.vnis.iter().map(ToString::to_string).collect();
            let hop = p.next_hop.map_or_else(String::new, |h| h.to_string());
            let cells =
                [now.status.name.clone(), p.address.to_string(), vnis.join(","), p.state.as_str().into(), hop, rx, tx];
            Row::new(cells).style(colour(p.state == PeerState::Up))
        };
        now.peers.iter().map(row).collect()
    })
}

fn fdb_rows(samples: &Samples) -> Vec<Row<'static>> {
    each(samples, |_, now| {
        let row = |e: &wavnet_user::api::model::FdbEntry| {
            let place = match &e.place {
                PlaceInfo::Port(name) => name.clone(),
                PlaceInfo::Peer(address) => address.to_string(),
            };
            let kind = if e.kind == FdbKind::Static { "static" } else { "learned" };
            let age = e.age_s.map_or_else(String::new, |s| format!("{s} s"));
            Row::new([
                now.status.name.clone(),
                e.vni.to_string(),
                e.mac.to_string(),
                place,
                kind.into(),
                age,
                String::new(),
            ])
        };
        now.fdb.iter().map(row).collect()
    })
}

fn drop_rows(samples: &Samples) -> Vec<Row<'static>> {
    each(samples, |old, now| {
        let row = |d: &wavnet_user::api::model::DropRow| {
            let before =
                old.as_ref().and_then(|o| o.drops.iter().find(|x| x.reason == d.reason).map(|x| (o.at, x.frames)));
            let rate = before.map_or(0.0, |(at, frames)| per_second(frames, d.frames, at, now.at));
            let cells = [
                now.status.name.clone(),
                d.reason.clone(),
                d.frames.to_string(),
                format!("{rate:.0}"),
                d.help.clone(),
                String::new(),
                String::new(),
            ];
            Row::new(cells)
        };
        now.drops.iter().filter(|d| d.frames > 0).map(row).collect()
    })
}

fn per_second(old: u64, new: u64, from: Instant, to: Instant) -> f64 {
    let seconds = to.duration_since(from).as_secs_f64();
    if seconds > 0.0 { new.saturating_sub(old) as f64 / seconds } else { 0.0 }
}

/// Both directions as "frames a second, bits a second".
fn rates(before: Option<(Instant, TrafficInfo)>, at: Instant, now: TrafficInfo) -> [String; 2] {
    let Some((from, old)) = before else { return [String::new(), String::new()] };
    let text = |frames: (u64, u64), bytes: (u64, u64)| {
        let frames = per_second(frames.0, frames.1, from, at);
        let bits = per_second(bytes.0, bytes.1, from, at) * 8.0;
        format!("{frames:6.0} /s {:>10}", human(bits))
    };
    [
        text((old.rx_frames, now.rx_frames), (old.rx_bytes, now.rx_bytes)),
        text((old.tx_frames, now.tx_frames), (old.tx_bytes, now.tx_bytes)),
    ]
}

fn human(bits: f64) -> String {
    match bits {
        b if b >= 1e9 => format!("{:.2} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.2} Mbit/s", b / 1e6),
        b => format!("{:.1} kbit/s", b / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_per_second_and_survive_counters_that_began_anew() {
        let at = Instant::now();
        let old = TrafficInfo { rx_frames: 10, rx_bytes: 1000, tx_frames: 500, tx_bytes: 0 };
        let new = TrafficInfo { rx_frames: 30, rx_bytes: 251_000, tx_frames: 0, tx_bytes: 0 };
        let [rx, tx] = rates(Some((at, old)), at + Duration::from_secs(2), new);
        assert!(rx.contains("10 /s") && rx.contains("1.00 Mbit/s"), "{rx}");
        assert!(tx.contains("0 /s"), "{tx}");
        assert_eq!(rates(None, at, new), [String::new(), String::new()]);
    }

    #[test]
    fn an_empty_picture_fits_any_terminal() {
        for (width, height) in [(1, 1), (80, 24), (300, 100)] {
            let backend = ratatui::backend::TestBackend::new(width, height);
            let mut terminal = ratatui::Terminal::new(backend).unwrap();
            let samples = Samples { agents: vec![(None, None); 2], error: Some("no answer".into()) };
            terminal.draw(|frame| draw(frame, &samples, &["one".into(), "two".into()])).unwrap();
        }
    }
}
