//! Answers as tables for people. Pure: a model in, text out.

mod human;
mod mesh;
mod nat;
mod rendezvous;

#[cfg(test)]
mod tests;

use comfy_table::{Cell, CellAlignment, Color, ContentArrangement, Table, presets};

pub use human::{bytes, counted, duration, number};
pub use mesh::mesh;
pub use nat::{nat, nat_lifetime, nat_no_lifetime, nat_progress};
pub use rendezvous::rendezvous;

use crate::api::model::{
    AttachState, Done, DropRow, FdbEntry, FdbEvent, FdbKind, LinkState, PeerInfo, PeerState, PlaceInfo, PortInfo,
    Status,
};

/// A table without lines, like those of `ip` and `ss`: easy to read and to cut.
pub(crate) fn table(headings: &[&str], color: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headings.iter().map(Cell::new));
    table
}

/// The table as text, without blanks at the ends of lines.
pub(crate) fn finish(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .fold(String::new(), |text, line| text + line.strip_prefix(' ').unwrap_or(line).trim_end() + "\n")
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |v| v.to_string())
}

fn attach_color(state: AttachState) -> Color {
    match state {
        AttachState::Attached => Color::Green,
        AttachState::Missing => Color::Yellow,
        AttachState::Error => Color::Red,
    }
}

/// The answer to `status`.
pub fn status(s: &Status, color: bool) -> String {
    let (u, c) = (&s.underlay, &s.counts);
    let mut table = table(&["agent", &s.name], color);
    let mut row = |key: &str, value: String| {
        table.add_row([Cell::new(key), Cell::new(value)]);
    };
    row("version", format!("{} (map ABI {}), process {}", s.version, s.abi, s.pid));
    row("running for", format!("{}, counting for {}", duration(s.uptime_s), duration(s.counting_s)));
    row("configuration", s.config.clone());
    row("pins", s.bpffs.clone());
    row("metrics", s.metrics.as_ref().map_or_else(|| "off".into(), |a| format!("http://{a}/metrics")));
    let address = optional(u.address);
    row("underlay", format!("{}, {address}, UDP port {}, MTU {}", u.interface, u.udp_port, optional(u.mtu)));
    table.add_row([Cell::new("state"), Cell::new(u.state.as_str()).fg(attach_color(u.state))]);
    let mut row = |key: &str, value: String| {
        table.add_row([Cell::new(key), Cell::new(value)]);
    };
    row("hook", optional(u.hook_mode.map(|m| m.as_str())));
    if let Some(error) = &u.error {
        row("", error.clone());
    }
    for (key, value) in s.nat.iter().flat_map(nat::nat_rows) {
        row(key, value);
    }
    row("VNIs", number(c.vnis));
    row("ports", format!("{}, {} attached", number(c.ports), number(c.ports_attached)));
    row("peers", format!("{}, {} up", number(c.peers), number(c.peers_up)));
    let entries = (number(c.fdb_entries), number(c.fdb_capacity), number(c.fdb_static));
    row("MACs", format!("{} of {}, {} static", entries.0, entries.1, entries.2));
    row("dropped", counted(c.dropped_frames, "frame"));
    let mut text = finish(&table);
    for warning in &s.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

/// The answer to `peers`.
pub fn peers(peers: &[PeerInfo], color: bool) -> String {
    let mut table = table(
        &[
            "PEER",
            "PORT",
            "VNIS",
            "STATE",
            "NEXT HOP",
            "INTERFACE",
            "MTU",
            "RX FRAMES",
            "RX",
            "TX FRAMES",
            "TX",
            "ORIGIN",
        ],
        color,
    );
    for p in peers {
        let state = match p.state {
            PeerState::Up => Color::Green,
            PeerState::Unresolved => Color::Yellow,
            PeerState::NoRoute => Color::Red,
        };
        let vnis: Vec<_> = p.vnis.iter().map(ToString::to_string).collect();
        table.add_row([
            Cell::new(p.address),
            Cell::new(p.udp_port),
            Cell::new(vnis.join(",")),
            Cell::new(p.state.as_str()).fg(state),
            Cell::new(optional(p.next_hop)),
            Cell::new(optional(p.interface.as_ref())),
            Cell::new(optional(p.mtu)),
            right(number(p.traffic.rx_frames)),
            right(bytes(p.traffic.rx_bytes)),
            right(number(p.traffic.tx_frames)),
            right(bytes(p.traffic.tx_bytes)),
            Cell::new(p.origin.as_str()),
        ]);
    }
    finish(&table)
}

/// The answer to `ports`.
pub fn ports(ports: &[PortInfo], color: bool) -> String {
    let mut table = table(
        &[
            "PORT",
            "VNI",
            "STATE",
            "LINK",
            "HOOK",
            "DELIVERY",
            "MTU",
            "VLAN",
            "RX FRAMES",
            "RX",
            "TX FRAMES",
            "TX",
            "ORIGIN",
        ],
        color,
    );
    for p in ports {
        table.add_row([
            Cell::new(&p.interface),
            Cell::new(p.vni),
            Cell::new(p.state.as_str()).fg(attach_color(p.state)),
            link(p.link),
            Cell::new(port_hooks(p)),
            Cell::new(optional(p.delivery.map(|d| d.as_str()))),
            Cell::new(optional(p.mtu)),
            Cell::new(p.vlan.as_str()),
            right(number(p.traffic.rx_frames)),
            right(bytes(p.traffic.rx_bytes)),
            right(number(p.traffic.tx_frames)),
            right(bytes(p.traffic.tx_bytes)),
            Cell::new(p.origin.as_str()),
        ]);
    }
    let errors = ports.iter().filter_map(|p| Some((&p.interface, p.error.as_ref()?)));
    errors.fold(finish(&table), |text, (port, error)| text + &format!("{port}: {error}\n"))
}

/// `tcx`, or `xdp+tcx`.
fn port_hooks(port: &PortInfo) -> String {
    match &port.hook {
        Some(hook) if port.xdp == Some(true) => format!("xdp+{hook}"),
        hook => optional(hook.as_ref()),
    }
}

fn link(state: Option<LinkState>) -> Cell {
    let cell = Cell::new(optional(state.map(LinkState::as_str)));
    if state == Some(LinkState::Down) { cell.fg(Color::Red) } else { cell }
}

fn place(p: &PlaceInfo) -> String {
    match p {
        PlaceInfo::Port(name) => format!("port {name}"),
        PlaceInfo::Peer(address) => format!("peer {address}"),
        PlaceInfo::Host(key) => format!("host {key}"),
    }
}

/// The answer to `fdb`.
pub fn fdb(entries: &[FdbEntry], color: bool) -> String {
    let mut table = table(&["VNI", "MAC", "PLACE", "KIND", "AGE"], color);
    for e in entries {
        let kind = match e.kind {
            FdbKind::Learned => "learned",
            FdbKind::Static => "static",
        };
        let age = optional(e.age_s.map(duration));
        table.add_row([e.vni.to_string(), e.mac.to_string(), place(&e.place), kind.into(), age]);
    }
    finish(&table)
}

/// The answer to `drops`.
pub fn drops(rows: &[DropRow], color: bool) -> String {
    let mut table = table(&["REASON", "FRAMES", "MEANING"], color);
    for r in rows {
        let frames = right(number(r.frames));
        let frames = if r.frames > 0 { frames.fg(Color::Yellow) } else { frames };
        table.add_row([Cell::new(&r.reason), frames, Cell::new(&r.help)]);
    }
    finish(&table)
}

/// What a change did.
pub fn done(done: &Done) -> String {
    let mut text: String = done.changes.iter().map(|c| format!("{c}\n")).collect();
    if done.changes.is_empty() {
        text += "nothing has changed\n";
    }
    text.extend(done.warnings.iter().map(|w| format!("warning: {w}\n")));
    text
}

/// One change of the FDB.
pub fn event(e: &FdbEvent) -> String {
    let (vni, mac, what) = (e.vni, e.mac, e.event.as_str());
    match (&e.from, &e.to) {
        (Some(from), Some(to)) => format!("{what} {mac} in VNI {vni}: {} -> {}\n", place(from), place(to)),
        (Some(at), None) | (None, Some(at)) => format!("{what} {mac} in VNI {vni}: {}\n", place(at)),
        (None, None) => format!("{what} {mac} in VNI {vni}\n"),
    }
}
