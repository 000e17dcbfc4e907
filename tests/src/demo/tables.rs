//! The live view's tables: what is in their rows.

use std::{net::Ipv4Addr, time::Instant};

use ratatui::style::{Color, Style};
use wavnet_common::addr::Vni;
use wavnet_user::api::model::{
    AttachState, DropRow, FdbEntry, FdbKind, MeshPeer, PeerInfo, PeerState, PlaceInfo, PortInfo, TrafficInfo,
};

use super::live::{Sample, Samples, Watched};

/// A table before it is fitted into an area.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) title: &'static str,
    pub(super) head: Vec<&'static str>,
    /// Columns that may go on a narrow terminal, the first of them first.
    pub(super) spare: Vec<&'static str>,
    pub(super) rows: Vec<Cells>,
}

/// All tables, from top to bottom.
pub(super) fn contents(samples: &Samples) -> [Content; 4] {
    [ports(samples), peers(samples), fdb(samples), drops(samples)]
}

/// Cells and their style.
type Cells = (Vec<String>, Style);

/// Something that an agent listed.
struct Seen<'a, T> {
    agent: &'a Watched,
    at: Instant,
    item: &'a T,
    /// The same thing in the sample before, and when that was taken.
    before: Option<(Instant, &'a T)>,
}

/// One row for each thing that `list` gives for an agent; those of an agent that does not answer are history, and grey. `key` tells
/// things apart.
fn rows<T, K: PartialEq>(
    samples: &Samples,
    list: fn(&Sample) -> &[T],
    key: fn(&T) -> K,
    row: impl Fn(Seen<'_, T>) -> Option<Cells>,
) -> Vec<Cells> {
    let mut rows = Vec::new();
    for agent in &samples.agents {
        let Some(now) = &agent.now else { continue };
        for item in list(now) {
            let same = |old: &&T| key(old) == key(item);
            let before = agent.before.as_ref().and_then(|old| Some((old.at, list(old).iter().find(same)?)));
            if let Some((mut cells, style)) = row(Seen { agent, at: now.at, item, before }) {
                cells.insert(0, agent.name.clone());
                rows.push((cells, if agent.silent { Style::new().fg(Color::DarkGray) } else { style }));
            }
        }
    }
    rows
}

/// What to show for a state: that of an agent that does not answer is not known.
fn state(agent: &Watched, state: &str) -> String {
    if agent.silent { "unknown".into() } else { state.into() }
}

fn colour(good: bool) -> Style {
    Style::new().fg(if good { Color::Green } else { Color::Red })
}

fn ports(samples: &Samples) -> Content {
    let row = |Seen { agent, at, item: p, before }: Seen<'_, PortInfo>| {
        let hook = p.hook.clone().unwrap_or_default();
        let what = [p.interface.clone(), p.vni.to_string(), state(agent, p.state.as_str()), hook];
        let rates = rates(before.map(|(at, old)| (at, old.traffic)), at, p.traffic);
        Some(([what.as_slice(), &rates].concat(), colour(p.state == AttachState::Attached)))
    };
    Content {
        title: "ports",
        head: vec!["agent", "port", "VNI", "state", "hook", "from VM", "to VM"],
        spare: vec!["hook", "VNI", "to VM", "from VM"],
        rows: rows(samples, |s| &s.ports, |p| p.interface.clone(), row),
    }
}

/// Peers that were found by the rendezvous server, and those of the configuration.
fn peers(samples: &Samples) -> Content {
    let found = |Seen { agent, at, item: p, before }: Seen<'_, MeshPeer>| {
        let path = p.selected();
        let kind = path.map_or("none", |path| path.kind.as_str());
        let rtt = path.and_then(|path| path.rtt_ms).map_or_else(String::new, |ms| format!("{ms:.1} ms"));
        let at_or_via = path.map_or_else(String::new, |path| path.remote.to_string());
        let name = p.name.clone().unwrap_or_else(|| p.key.chars().take(8).collect());
        let what = [name, state(agent, kind), rtt, vnis(&p.vnis), at_or_via];
        let rates = rates(before.map(|(at, old)| (at, old.traffic)), at, p.traffic);
        Some(([what.as_slice(), &rates].concat(), colour(path.is_some())))
    };
    let configured = |Seen { agent, at, item: p, before }: Seen<'_, PeerInfo>| {
        let is_up = p.state == PeerState::Up;
        let kind = if is_up { "static" } else { p.state.as_str() };
        let hop = p.next_hop.map_or_else(String::new, |h: Ipv4Addr| h.to_string());
        let what = [p.address.to_string(), state(agent, kind), String::new(), vnis(&p.vnis), hop];
        let rates = rates(before.map(|(at, old)| (at, old.traffic)), at, p.traffic);
        Some(([what.as_slice(), &rates].concat(), colour(is_up)))
    };
    let found = rows(samples, |s| &s.mesh.peers, |p| p.key.clone(), found);
    let configured = rows(samples, |s| &s.peers, |p| p.address, configured);
    Content {
        title: "peers",
        head: vec!["agent", "peer", "path", "RTT", "VNIs", "by", "received", "sent"],
        spare: vec!["by", "VNIs", "sent", "received"],
        rows: [found, configured].concat(),
    }
}

/// What a host calls itself whose key begins so.
fn name(agent: &Watched, key: &str) -> String {
    let peers = agent.now.iter().flat_map(|sample| &sample.mesh.peers);
    let name = peers.filter(|peer| peer.key.starts_with(key)).find_map(|peer| peer.name.clone());
    name.unwrap_or_else(|| key.to_owned())
}

fn vnis(all: &[Vni]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn fdb(samples: &Samples) -> Content {
    let row = |Seen { agent, item: e, .. }: Seen<'_, FdbEntry>| {
        let place = match &e.place {
            PlaceInfo::Port(name) => name.clone(),
            PlaceInfo::Peer(address) => address.to_string(),
            PlaceInfo::Host(key) => name(agent, key),
        };
        let kind = if e.kind == FdbKind::Static { "static" } else { "learned" };
        let age = e.age_s.map_or_else(String::new, |s| format!("{s} s"));
        Some((vec![e.vni.to_string(), e.mac.to_string(), place, kind.into(), age], Style::new()))
    };
    Content {
        title: "forwarding table",
        head: vec!["agent", "VNI", "MAC", "behind", "kind", "age"],
        spare: vec!["kind", "age"],
        rows: rows(samples, |s| &s.fdb, |e| (e.vni, e.mac), row),
    }
}

fn drops(samples: &Samples) -> Content {
    let row = |Seen { at, item: d, before, .. }: Seen<'_, DropRow>| {
        let rate = before.map_or(0.0, |(then, old)| per_second(old.frames, d.frames, then, at));
        let cells = vec![d.reason.clone(), d.frames.to_string(), format!("{rate:.0}"), d.help.clone()];
        (d.frames > 0).then_some((cells, Style::new()))
    };
    Content {
        title: "drops",
        head: vec!["agent", "reason", "frames", "a second", "meaning"],
        // The last column is cut, not left out.
        spare: Vec::new(),
        rows: rows(samples, |s| &s.drops, |d| d.reason.clone(), row),
    }
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
        format!("{frames:5.0} /s {:>11}", human(bits))
    };
    [
        text((old.rx_frames, now.rx_frames), (old.rx_bytes, now.rx_bytes)),
        text((old.tx_frames, now.tx_frames), (old.tx_bytes, now.tx_bytes)),
    ]
}

fn human(bits: f64) -> String {
    match bits {
        b if b >= 1e9 => format!("{:.1} Gbit/s", b / 1e9),
        b if b >= 1e6 => format!("{:.1} Mbit/s", b / 1e6),
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
        assert!(rx.contains("10 /s") && rx.contains("1.0 Mbit/s"), "{rx}");
        assert!(tx.contains("0 /s"), "{tx}");
        assert_eq!(rates(None, at, new), [String::new(), String::new()]);
    }
}
