//! A rendezvous server's status for people.

use comfy_table::Cell;

use super::{bytes, counted, duration, finish, number, optional, table};
use crate::api::model::RendezvousStatus;

/// The answer to `rendezvous`.
pub fn rendezvous(s: &RendezvousStatus, color: bool) -> String {
    let c = &s.counters;
    let mut table = table(&["rendezvous", &s.public_key], color);
    let mut row = |key: &str, value: String| {
        table.add_row([Cell::new(key), Cell::new(value)]);
    };
    row("version", format!("{}, process {}", s.version, s.pid));
    row("running for", format!("{}, start {}", duration(s.uptime_s), s.start));
    row("configuration", s.config.clone());
    row("state", s.state.clone());
    row("metrics", s.metrics.as_ref().map_or_else(|| "off".into(), |a| format!("http://{a}/metrics")));
    let list = |addrs: &mut dyn Iterator<Item = String>| addrs.collect::<Vec<_>>().join(", ");
    row("listens at", list(&mut s.listen.iter().map(ToString::to_string)));
    let others = list(&mut s.other_address.iter().map(ToString::to_string));
    row(
        "for STUN",
        match (s.other_port, others.as_str()) {
            (None, _) => "no other port: agents cannot tell how their NAT filters".into(),
            (port, "") => format!("port {}, too", optional(port)),
            (port, others) => format!("port {} and address {others}, too", optional(port)),
        },
    );
    for network in &s.networks {
        let hosts = counted(network.hosts, "host");
        row("network", format!("{}: {hosts}, {} connected", network.id, number(network.connected)));
    }
    let hosts: u64 = s.networks.iter().map(|network| network.hosts).sum();
    row("hosts", format!("{} of {}, {}", number(hosts), number(s.hosts_max), counted(s.visitors, "visitor")));
    row("relay", format!("{}, {} of {} pairs", s.relay, number(s.relays), number(s.relays_max)));
    row("relayed", format!("{}, {}", counted(c.relay_frames, "datagram"), bytes(c.relay_bytes)));
    row("STUN", format!("{} answered", number(c.stun_answered)));
    row("handshakes", format!("{}, {} forwarded", number(c.handshakes), number(c.forwards)));
    row("invitations", format!("{}, {} ended", counted(c.connects, "pair"), counted(c.leases_expired, "lease")));
    row("dropped", counted(c.dropped, "datagram"));
    let mut text = finish(&table);
    for warning in &s.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}
