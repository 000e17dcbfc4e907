//! From the text of a TOML file to [`Raw`].

use toml::de::DeTable;

use super::{
    diagnostic::{At, Diagnostics},
    mesh,
    raw::{Raw, RawPeer, RawPort, RawStatic, RawVni},
    section::{Section, boolean, integer, parsed, text, within},
    types::{Agent, Fdb, HookChoice, Limits, Log, Metrics, StaticPlace, TcChoice, Underlay},
    value,
};
use crate::api::model::{PortMode, VlanMode};

/// Smallest MTU that makes sense: IPv4's minimum (RFC 791).
const MTU_MIN: u32 = 68;
/// Largest MTU: the length field of IPv4.
const MTU_MAX: u32 = 65_535;

/// Reads the text. `None` if its syntax is wrong, for then what it says is a guess.
pub(super) fn read(input: &str, d: &mut Diagnostics) -> Option<Raw> {
    let (document, errors) = DeTable::parse_recoverable(input);
    for e in &errors {
        d.add(&At::Span(e.span().unwrap_or_default()), "", e.message().trim_end());
    }
    if !errors.is_empty() {
        return None;
    }
    let mut root = Section::new("", At::Span(document.span().start..document.span().start), document.get_ref());
    let mut raw = Raw {
        whole: root.at().clone(),
        agent: Agent::default(),
        log: Log::default(),
        metrics: Metrics::default(),
        interface: None,
        address: None,
        udp_port: Underlay::UDP_PORT,
        mtu: None,
        hook: HookChoice::Auto,
        tc: TcChoice::Auto,
        mesh: None,
        fdb: Fdb::default(),
        limits: Limits::default(),
        vnis: Vec::new(),
        ports: Vec::new(),
        peers: Vec::new(),
        statics: Vec::new(),
        incomplete: false,
    };
    agent(&mut root, &mut raw.agent, d);
    log_and_metrics(&mut root, &mut raw, d);
    underlay(&mut root, &mut raw, d);
    raw.mesh = mesh::read(&mut root, d);
    tables(&mut root, &mut raw, d);
    lists(&mut root, &mut raw, d);
    root.finish(d);
    Some(raw)
}

fn agent(root: &mut Section<'_, '_>, agent: &mut Agent, d: &mut Diagnostics) {
    let Some(mut s) = root.table(d, "agent") else { return };
    s.set(d, "name", &mut agent.name, parsed(|t| value::label(t).map(Some)));
    s.set(d, "bpffs", &mut agent.bpffs, parsed(value::bpffs));
    s.set(d, "run_dir", &mut agent.run_dir, parsed(value::run_dir));
    s.set(d, "socket_mode", &mut agent.socket_mode, parsed(value::mode));
    s.set(d, "socket_group", &mut agent.socket_group, parsed(|t| value::label(t).map(Some)));
    s.finish(d);
}

fn log_and_metrics(root: &mut Section<'_, '_>, raw: &mut Raw, d: &mut Diagnostics) {
    if let Some(mut s) = root.table(d, "log") {
        s.set(d, "level", &mut raw.log.level, parsed(value::word));
        s.set(d, "format", &mut raw.log.format, parsed(value::word));
        s.finish(d);
    }
    if let Some(mut s) = root.table(d, "metrics") {
        s.set(d, "listen", &mut raw.metrics.listen, parsed(value::listen));
        s.set(d, "program_run_time", &mut raw.metrics.program_run_time, boolean);
        s.finish(d);
    }
}

fn underlay(root: &mut Section<'_, '_>, raw: &mut Raw, d: &mut Diagnostics) {
    let errors = d.0.len();
    let Some(mut s) = root.table(d, "underlay") else {
        if d.0.len() == errors {
            d.add(&raw.whole, "underlay.interface", "the table [underlay] is missing")
                .help("name the NIC that reaches the peers:\n            [underlay]\n            interface = \"eth1\"");
        }
        return;
    };
    raw.interface = s.require(d, "interface", parsed(value::interface));
    raw.address = s.get(d, "address", parsed(value::vtep));
    s.set(d, "port", &mut raw.udp_port, udp_port);
    raw.mtu = s.get(d, "mtu", within(MTU_MIN..=MTU_MAX));
    s.set(d, "hook", &mut raw.hook, parsed(value::word));
    s.set(d, "tc", &mut raw.tc, parsed(value::word));
    s.finish(d);
}

fn tables(root: &mut Section<'_, '_>, raw: &mut Raw, d: &mut Diagnostics) {
    if let Some(mut s) = root.table(d, "fdb") {
        let buckets = |v: &_| within(1..=Fdb::ENTRIES_MAX)(v).map(Fdb::buckets_for);
        s.set(d, "entries", &mut raw.fdb.buckets, buckets);
        s.set(d, "ageing", &mut raw.fdb.ageing, |v| match integer(v) {
            Ok(n) => Err(format!("{n} has no unit: write \"{n}s\"")),
            Err(_) => value::ageing(text(v)?),
        });
        s.finish(d);
    }
    if let Some(mut s) = root.table(d, "limits") {
        s.set(d, "ports", &mut raw.limits.ports, within(1..=Limits::MAX));
        s.set(d, "vnis", &mut raw.limits.vnis, within(1..=Limits::MAX));
        s.set(d, "peers", &mut raw.limits.peers, within(1..=Limits::MAX));
        s.finish(d);
    }
}

fn udp_port(v: &toml::de::DeValue<'_>) -> Result<u16, String> {
    within(1..=65_535)(v).map(|n| n as u16)
}

fn lists(root: &mut Section<'_, '_>, raw: &mut Raw, d: &mut Diagnostics) {
    for mut s in root.tables(d, "vni") {
        let vni = s.require(d, "id", |v| value::vni(integer(v)?));
        let name = s.get(d, "name", parsed(value::label));
        let mtu = s.get(d, "mtu", within(MTU_MIN..=MTU_MAX));
        let mut learning = true;
        s.set(d, "learning", &mut learning, boolean);
        s.finish(d);
        match vni {
            Some(vni) => raw.vnis.push(RawVni { vni, name, mtu, learning }),
            None => raw.incomplete = true,
        }
    }
    for mut s in root.tables(d, "port") {
        let interface = s.require(d, "interface", parsed(value::pattern));
        let vni = s.require(d, "vni", |v| value::vni(integer(v)?));
        let mut vlan = VlanMode::default();
        s.set(d, "vlan", &mut vlan, parsed(value::word));
        let mut mode = PortMode::default();
        s.set(d, "mode", &mut mode, parsed(value::word));
        s.finish(d);
        match (interface, vni) {
            (Some(interface), Some(vni)) => raw.ports.push(RawPort { interface, vni, vlan, mode }),
            _ => raw.incomplete = true,
        }
    }
    for mut s in root.tables(d, "peer") {
        let address = s.require(d, "address", parsed(value::vtep));
        let port = s.get(d, "port", udp_port).map(|p| p.value);
        let errors = d.0.len();
        let vnis = s.list(d, "vnis", |v| value::vni(integer(v)?));
        let wrong = d.0.len() > errors;
        if vnis.is_none() && !wrong {
            d.add(s.at(), s.key("vnis"), "the key `vnis` is missing")
                .help("list the networks that the peer is a member of: vnis = [100]");
        }
        s.finish(d);
        match (address, vnis) {
            (Some(address), Some(vnis)) if !wrong => raw.peers.push(RawPeer { address, udp_port: port, vnis }),
            _ => raw.incomplete = true,
        }
    }
    for s in root.tables(d, "static") {
        match static_entry(s, d) {
            Some(entry) => raw.statics.push(entry),
            None => raw.incomplete = true,
        }
    }
}

fn static_entry(mut s: Section<'_, '_>, d: &mut Diagnostics) -> Option<RawStatic> {
    let vni = s.require(d, "vni", |v| value::vni(integer(v)?));
    let mac = s.require(d, "mac", parsed(value::station));
    let errors = d.0.len();
    let port = s.get(d, "port", parsed(|t| value::interface(t).map(StaticPlace::Port)));
    let peer = s.get(d, "peer", parsed(|t| value::vtep(t).map(StaticPlace::Peer)));
    let place = match (port, peer) {
        (Some(place), None) | (None, Some(place)) => Some(place),
        (Some(_), Some(peer)) => {
            d.add(&peer.at, s.key("peer"), "a MAC is either behind a `port` or behind a `peer`, not both");
            None
        }
        (None, None) => {
            if d.0.len() == errors {
                d.add(s.at(), s.key("port"), "say where the MAC is: with `port` or with `peer`");
            }
            None
        }
    };
    s.finish(d);
    Some(RawStatic { vni: vni?, mac: mac?, place: place? })
}
