//! How the server is, for `status` and for metrics.

use std::{path::PathBuf, process, time::SystemTime};

use wavnet_proto::{
    rendezvous::{Done, Dropped},
    trust::PublicKey,
};

use super::{
    core::Shown,
    kernel::{Report, Side},
    stats::{Stats, get},
};
use crate::{
    api::model::{RendezvousCounters, RendezvousKernel, RendezvousNetwork, RendezvousSide, RendezvousStatus},
    config::RendezvousConfig,
};

/// What does not change while it runs.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) key: PublicKey,
    pub(super) config: RendezvousConfig,
    pub(super) source: String,
    pub(super) started: SystemTime,
    pub(super) metrics: Option<std::net::SocketAddr>,
}

/// The answer to `status`.
pub(super) fn status(
    facts: &Facts,
    shown: &Shown,
    kernel: &Report,
    stats: &Stats,
    warnings: Vec<String>,
) -> RendezvousStatus {
    let config = &facts.config;
    let counters = &shown.view.counters;
    let done = |what| counters.done(what);
    let state: PathBuf = config.state_dir.join(super::store::FILE);
    let stun_too_fast = get(&stats.stun_too_fast) + shown.relay.stun_too_fast;
    let dropped = Dropped::ALL.iter().map(|reason| counters.dropped(*reason)).sum::<u64>();
    RendezvousStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: process::id(),
        uptime_s: facts.started.elapsed().unwrap_or_default().as_secs(),
        config: facts.source.clone(),
        public_key: facts.key.to_string(),
        listen: config.listen.clone(),
        other_address: config.other_address.clone(),
        other_port: config.other_port,
        state: state.display().to_string(),
        metrics: facts.metrics,
        start: shown.view.incarnation,
        relay: mode(facts, shown).into(),
        relay_kernel: RendezvousKernel {
            interface: kernel.interface.clone(),
            address: kernel.address,
            why_not: kernel.why_not.clone(),
            sides: kernel.sides,
            left: kernel.left,
            counters: kernel.counts.iter().map(|(what, n)| (what.as_str().to_owned(), *n)).collect(),
            busiest: kernel.busiest.iter().map(side).collect(),
        },
        networks: shown
            .view
            .networks
            .iter()
            .map(|network| RendezvousNetwork {
                id: network.id.to_string(),
                hosts: network.hosts as u64,
                connected: network.connected as u64,
            })
            .collect(),
        visitors: shown.view.visitors as u64,
        relays: shown.view.relays as u64,
        hosts_max: config.limits.hosts as u64,
        relays_max: config.limits.relays as u64,
        counters: RendezvousCounters {
            stun_answered: get(&stats.stun_answered) + shown.relay.stun,
            stun_by_kernel: shown.relay.stun,
            stun_too_fast,
            handshakes: done(Done::Handshake),
            connects: done(Done::Connect),
            forwards: done(Done::Forward),
            leases_expired: done(Done::Expired),
            relay_frames: counters.relay_frames + shown.relay.xdp.0 + shown.relay.tc.0,
            relay_bytes: counters.relay_bytes + shown.relay.xdp.1 + shown.relay.tc.1,
            dropped: dropped
                + lost(stats).iter().map(|(_, lost)| lost).sum::<u64>()
                + shown.relay.dropped
                + stun_too_fast,
        },
        warnings,
    }
}

/// What relays.
pub(super) fn mode(facts: &Facts, shown: &Shown) -> &'static str {
    if facts.config.relay { shown.relay_name } else { "off" }
}

fn side(side: &Side) -> RendezvousSide {
    let Side { from, to, metered } = *side;
    RendezvousSide { from, to, datagrams: metered.frames, bytes: metered.bytes, too_fast: metered.dropped }
}

/// Datagrams that were lost beside the core, by reason.
pub(super) fn lost(stats: &Stats) -> [(&'static str, u64); 3] {
    [("queue_full", get(&stats.queue_full)), ("too_long", get(&stats.too_long)), ("not_sent", get(&stats.not_sent))]
}

/// What is wrong with what must outlive a restart, in words.
pub(super) fn store_warning(stats: &Stats) -> Option<String> {
    let [waiting, taken, lost] = [&stats.store_waiting, &stats.store_taken, &stats.store_lost].map(get);
    let waiting = if get(&stats.store_failing) > 0 { waiting + taken } else { 0 };
    (waiting + lost > 0).then(|| {
        format!(
            "what must outlive a restart could not always be written: {waiting} changes wait, {lost} were given up; the log says why"
        )
    })
}
