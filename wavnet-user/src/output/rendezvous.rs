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
    let k = &s.relay_kernel;
    let place = k.interface.as_ref().map(|interface| format!(" at {interface}")).unwrap_or_default();
    row("relay", format!("{}{place}, {} of {} pairs", s.relay, number(s.relays), number(s.relays_max)));
    if let (Some(why), "user-space") = (&k.why_not, s.relay.as_str()) {
        row("not the kernel", why.clone());
    }
    row("relayed", format!("{}, {}", counted(c.relay_frames, "datagram"), bytes(c.relay_bytes)));
    let kernel = |what: &str| k.counters.get(what).copied().unwrap_or_default();
    if k.interface.is_some() {
        let (xdp, tc) = (number(kernel("relayed_by_xdp")), number(kernel("relayed_by_tc")));
        let left = number(kernel("left_to_server"));
        row("by the kernel", format!("{xdp} by XDP, {tc} by TC; {left} left to the server"));
        let refused = ["unknown_label", "other_sender", "too_fast", "too_long", "ttl_expired"].map(kernel);
        let [unknown, other, fast, long, ttl] = refused.map(number);
        row(
            "not relayed",
            format!("{unknown} unknown, {other} of others, {fast} too fast, {long} too long, {ttl} too far"),
        );
    }
    for side in &k.busiest {
        let of = format!("{} to {}", side.from, side.to);
        row("busiest", format!("{of}: {}, {}", counted(side.datagrams, "datagram"), bytes(side.bytes)));
    }
    let [stun, by_kernel, too_fast] = [c.stun_answered, c.stun_by_kernel, c.stun_too_fast].map(number);
    row("STUN", format!("{stun} answered, {by_kernel} of them by the kernel; {too_fast} too fast"));
    row("handshakes", format!("{}, {} forwarded", number(c.handshakes), number(c.forwards)));
    row("invitations", format!("{}, {} ended", counted(c.connects, "pair"), counted(c.leases_expired, "lease")));
    row("dropped", counted(c.dropped, "datagram"));
    let mut text = finish(&table);
    for warning in &s.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}
