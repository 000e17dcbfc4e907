//! The server's metrics. docs/metrics.md lists all of them.

use std::{sync::Arc, time::UNIX_EPOCH};

use wavnet_proto::rendezvous::{Done, Dropped};

use super::{
    core::Shown,
    kernel::Report,
    stats::{Stats, get},
    view::{Facts, lost, mode},
};
use crate::metrics::{Families, counter, gauge};

/// What may relay.
const MODES: [&str; 5] = ["xdp-driver", "xdp-generic", "tc", "user-space", "off"];

/// What a scrape shows.
pub(super) struct Numbers {
    pub(super) facts: Arc<Facts>,
    pub(super) shown: Shown,
    pub(super) kernel: Report,
    pub(super) stats: Arc<Stats>,
    pub(super) reloads: (u64, u64),
}

/// Writes every metric. Pure.
///
/// # Errors
/// The encoder refuses a family, which none of ours makes it do.
pub(super) fn render(n: &Numbers) -> prometheus::Result<String> {
    let mut f = Families::default();
    process(&mut f, n);
    hosts(&mut f, n);
    requests(&mut f, n);
    relay(&mut f, n);
    drops(&mut f, n);
    f.encode()
}

fn process(f: &mut Families, n: &Numbers) {
    f.gauges(
        "wavnet_build_info",
        "Always 1; the label says which release runs.",
        [gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)].into_iter(),
    );
    let start = n.facts.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    f.gauges(
        "wavnet_rendezvous_start_time_seconds",
        "When the server started, in seconds since the Unix epoch.",
        [gauge(&[], start)].into_iter(),
    );
    let (good, bad) = n.reloads;
    f.counters(
        "wavnet_rendezvous_reloads_total",
        "Reloads of the configuration, by result. After a failed one the old configuration stays.",
        [counter(&[("result", "ok")], good as f64), counter(&[("result", "failed")], bad as f64)].into_iter(),
    );
    f.counters(
        "wavnet_rendezvous_store_errors_total",
        "Times that what must outlive a restart could not be written.",
        [counter(&[], get(&n.stats.store_errors) as f64)].into_iter(),
    );
    f.gauges(
        "wavnet_rendezvous_store_waiting",
        "Changes that are not written yet. They are written when the store can be.",
        [gauge(&[], (get(&n.stats.store_waiting) + get(&n.stats.store_taken)) as f64)].into_iter(),
    );
    f.counters(
        "wavnet_rendezvous_store_lost_total",
        "Changes that were given up because too many waited: after a restart their hosts register anew.",
        [counter(&[], get(&n.stats.store_lost) as f64)].into_iter(),
    );
}

fn hosts(f: &mut Families, n: &Numbers) {
    let view = &n.shown.view;
    let networks: Vec<_> = view.networks.iter().map(|network| (network.id.to_string(), network)).collect();
    f.gauges(
        "wavnet_rendezvous_hosts",
        "Registered hosts, by network.",
        networks.iter().map(|(id, network)| gauge(&[("network", id)], network.hosts as f64)),
    );
    f.gauges(
        "wavnet_rendezvous_hosts_connected",
        "Registered hosts that have a session; after a restart, those that have come back.",
        networks.iter().map(|(id, network)| gauge(&[("network", id)], network.connected as f64)),
    );
    f.gauges(
        "wavnet_rendezvous_hosts_max",
        "Hosts that may register (limits.hosts).",
        [gauge(&[], n.facts.config.limits.hosts as f64)].into_iter(),
    );
    f.gauges(
        "wavnet_rendezvous_visitors",
        "Hosts that have shaken hands and not registered yet.",
        [gauge(&[], view.visitors as f64)].into_iter(),
    );
}

fn requests(f: &mut Families, n: &Numbers) {
    let counters = &n.shown.view.counters;
    f.counters(
        "wavnet_rendezvous_done_total",
        "What the server did, by kind: handshakes, requests, invitations, answers to pulses, ends of leases.",
        Done::ALL.iter().map(|what| counter(&[("what", what.label())], counters.done(*what) as f64)),
    );
    let stun = [
        ("success", "xdp", n.shown.relay.stun),
        ("success", "user", get(&n.stats.stun_answered)),
        ("error", "user", get(&n.stats.stun_refused)),
        ("too_fast", "xdp", n.shown.relay.stun_too_fast),
        ("too_fast", "user", get(&n.stats.stun_too_fast)),
        ("ignored", "user", get(&n.stats.stun_ignored)),
    ];
    f.counters(
        "wavnet_rendezvous_stun_total",
        "STUN requests, by result: answered, answered by an error, not answered as its source has had as many answers as it may, or no Binding request; by the kernel's program in XDP, or in user space.",
        stun.into_iter().map(|(result, by, count)| counter(&[("result", result), ("by", by)], count as f64)),
    );
}

fn relay(f: &mut Families, n: &Numbers) {
    let (view, table) = (&n.shown.view, &n.shown.relay);
    f.gauges(
        "wavnet_rendezvous_relays",
        "Pairs of hosts that may talk over the relay.",
        [gauge(&[], view.relays as f64)].into_iter(),
    );
    f.gauges(
        "wavnet_rendezvous_relays_max",
        "Pairs that there may be (limits.relays).",
        [gauge(&[], n.facts.config.limits.relays as f64)].into_iter(),
    );
    let in_force = mode(&n.facts, &n.shown);
    f.gauges(
        "wavnet_rendezvous_relay_mode",
        "1 for what relays, 0 for the others: xdp-driver is the fastest, user-space is the server itself.",
        MODES.into_iter().map(|mode| gauge(&[("mode", mode)], f64::from(u8::from(mode == in_force)))),
    );
    let by = |xdp: u64, tc: u64, user: u64| {
        let all = [("xdp", xdp), ("tc", tc), ("user", user)];
        all.map(|(by, value)| counter(&[("by", by)], value as f64)).into_iter()
    };
    f.counters(
        "wavnet_rendezvous_relay_frames_total",
        "Datagrams that were relayed, by the kernel's programs in XDP or TC, or in user space.",
        by(table.xdp.0, table.tc.0, view.counters.relay_frames),
    );
    f.counters(
        "wavnet_rendezvous_relay_bytes_total",
        "Bytes of UDP payload that were relayed.",
        by(table.xdp.1, table.tc.1, view.counters.relay_bytes),
    );
    f.counters(
        "wavnet_rendezvous_relay_dropped_total",
        "Datagrams that were more than a side of a pair may have relayed.",
        [("kernel", table.dropped), ("user", view.counters.dropped(Dropped::RelayLimit))]
            .map(|(by, value)| counter(&[("by", by)], value as f64))
            .into_iter(),
    );
    let datagrams = n.kernel.counts.iter().filter(|(what, _)| !what.is_bytes());
    f.counters(
        "wavnet_rendezvous_relay_kernel_datagrams_total",
        "Datagrams to the server's port that the relay's programs saw, by what became of them.",
        datagrams.map(|(what, count)| counter(&[("what", what.as_str())], *count as f64)),
    );
}

fn drops(f: &mut Families, n: &Numbers) {
    let counters = &n.shown.view.counters;
    let core = Dropped::ALL.iter().map(|reason| (reason.label(), counters.dropped(*reason)));
    let all: Vec<_> = core.chain(lost(&n.stats)).collect();
    f.counters(
        "wavnet_rendezvous_drops_total",
        "Datagrams and messages that were dropped, by reason.",
        all.into_iter().map(|(reason, count)| counter(&[("reason", reason)], count as f64)),
    );
}
