//! From a [`Snapshot`] to the text that Prometheus reads.

use prometheus::{
    TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use wavnet_common::{
    abi::{ABI_VERSION, Count, Traffic},
    reason::Reason,
};

use super::snapshot::Snapshot;
use crate::api::model::HookMode;

/// The type of what [`render`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Writes every metric. Pure: the same numbers give the same text.
///
/// # Errors
/// The encoder refuses a family, which none of ours makes it do.
pub fn render(s: &Snapshot) -> prometheus::Result<String> {
    let mut families = Families::default();
    agent(&mut families, s);
    traffic(&mut families, s);
    drops(&mut families, s);
    fdb(&mut families, s);
    flooding(&mut families, s);
    paths(&mut families, s);
    underlay(&mut families, s);
    programs(&mut families, s);
    if let Some(m) = &s.mesh {
        super::mesh::mesh(&mut families, m);
    }
    families.encode()
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Metrics with their samples.
#[derive(Default)]
pub(crate) struct Families(Vec<MetricFamily>);

impl Families {
    /// All of them as text.
    pub(crate) fn encode(mut self) -> prometheus::Result<String> {
        // The encoder refuses families without samples; one may be a host without ports.
        self.0.retain(|f| !f.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&self.0)
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, samples: impl Iterator<Item = Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples.collect());
        self.0.push(family);
    }

    pub(crate) fn counters(&mut self, name: &str, help: &str, samples: impl Iterator<Item = Metric>) {
        self.add(name, help, MetricType::COUNTER, samples);
    }

    pub(crate) fn gauges(&mut self, name: &str, help: &str, samples: impl Iterator<Item = Metric>) {
        self.add(name, help, MetricType::GAUGE, samples);
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

pub(crate) fn counter(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut counter = Counter::default();
    counter.set_value(value);
    metric.set_counter(counter);
    metric
}

pub(crate) fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

/// A counter for each direction.
fn both(labels: Labels<'_>, rx: u64, tx: u64) -> [Metric; 2] {
    [("rx", rx), ("tx", tx)].map(|(direction, value)| {
        let labels: Vec<_> = labels.iter().copied().chain([("direction", direction)]).collect();
        counter(&labels, value as f64)
    })
}

fn agent(f: &mut Families, s: &Snapshot) {
    let abi = ABI_VERSION.to_string();
    let info = [("version", env!("CARGO_PKG_VERSION")), ("abi", &abi)];
    f.gauges(
        "wavnet_build_info",
        "Always 1; the labels say which release runs (version) and which version its kernel maps have (abi).",
        [gauge(&info, 1.0)].into_iter(),
    );
    f.gauges(
        "wavnet_agent_start_time_seconds",
        "When the agent started, in seconds since the Unix epoch. time() - this = uptime. \
         Counters outlive the agent: they live in the kernel.",
        [gauge(&[], s.start_time_s)].into_iter(),
    );
    let (good, bad) = s.reloads;
    f.counters(
        "wavnet_agent_reloads_total",
        "Reloads of the configuration since the agent started, by result. After a failed one the old configuration stays.",
        [counter(&[("result", "ok")], good as f64), counter(&[("result", "failed")], bad as f64)].into_iter(),
    );
}

fn traffic(f: &mut Families, s: &Snapshot) {
    type Get = fn(&Traffic) -> (u64, u64);
    let frames: Get = |t| (t.rx_frames, t.tx_frames);
    let bytes: Get = |t| (t.rx_bytes, t.tx_bytes);
    for (unit, get, what) in [
        ("frames", frames, "Inner Ethernet frames"),
        ("bytes", bytes, "Bytes of inner Ethernet frames, without FCS and outer headers,"),
    ] {
        f.counters(
            &format!("wavnet_port_{unit}_total"),
            &format!("{what} received from (rx) and sent to (tx) the VM on each port. A segmentation-offload super-packet counts as its segments."),
            s.ports.iter().flat_map(|p| {
                let (rx, tx) = get(&p.traffic);
                both(&[("port", &p.port), ("vni", &p.vni.to_string())], rx, tx)
            }),
        );
        f.counters(
            &format!("wavnet_vni_{unit}_total"),
            &format!("{what} received from (rx) and sent to (tx) the underlay in each VNI. Traffic between local ports is not in here."),
            s.vnis.iter().flat_map(|v| {
                let (rx, tx) = get(&v.traffic);
                both(&[("vni", &v.vni.to_string())], rx, tx)
            }),
        );
        f.counters(
            &format!("wavnet_peer_{unit}_total"),
            &format!("{what} received from (rx) and sent to (tx) each peer, in all VNIs."),
            s.peers.iter().flat_map(|p| {
                let (rx, tx) = get(&p.traffic);
                both(&[("peer", &p.peer.to_string())], rx, tx)
            }),
        );
    }
    f.gauges(
        "wavnet_peer_up",
        "1 if the underlay is attached and the route to the peer and the link address of its next hop are known; else 0. \
         It says nothing about the peer being alive: VXLAN has no keepalive.",
        s.peers.iter().map(|p| gauge(&[("peer", &p.peer.to_string())], f64::from(u8::from(p.up)))),
    );
    f.gauges(
        "wavnet_port_xdp",
        "1 if XDP carries the small datagrams that the port's VM sends, 0 if TC carries all.",
        s.ports.iter().map(|p| gauge(&[("port", &p.port), ("vni", &p.vni.to_string())], f64::from(u8::from(p.xdp)))),
    );
    f.gauges(
        "wavnet_ports_unattached",
        "Ports that are configured or added but not attached, because the interface is missing or refused. See wavnet ports.",
        [gauge(&[], s.ports_unattached as f64)].into_iter(),
    );
}

fn drops(f: &mut Families, s: &Snapshot) {
    let frames = |r: Reason| s.drops.iter().filter(|(q, _)| *q == r).map(|(_, n)| n).sum::<u64>();
    f.counters(
        "wavnet_drops_total",
        "Frames discarded, by reason; every discarded frame counts under exactly one. wavnet drops explains each reason.",
        Reason::ALL.iter().map(|r| counter(&[("reason", r.label())], frames(*r) as f64)),
    );
}

fn count(s: &Snapshot, which: Count) -> f64 {
    s.counts.iter().filter(|(c, _)| *c == which).map(|(_, n)| n).sum::<u64>() as f64
}

/// One unlabelled counter of the programs.
fn plain(f: &mut Families, s: &Snapshot, which: Count, name: &str, help: &str) {
    f.counters(name, help, [counter(&[], count(s, which))].into_iter());
}

fn fdb(f: &mut Families, s: &Snapshot) {
    f.gauges(
        "wavnet_fdb_entries",
        "MACs in the forwarding table by VNI and kind: learned from frames, or static by configuration or command.",
        s.vnis.iter().flat_map(|v| {
            let vni = v.vni.to_string();
            [("learned", v.fdb_learned), ("static", v.fdb_static)]
                .map(|(kind, n)| gauge(&[("vni", vni.as_str()), ("kind", kind)], n as f64))
        }),
    );
    f.gauges(
        "wavnet_fdb_capacity_entries",
        "MACs that the forwarding table has room for in all VNIs together (fdb.entries).",
        [gauge(&[], s.fdb_capacity as f64)].into_iter(),
    );
    plain(
        f,
        s,
        Count::Learned,
        "wavnet_fdb_learned_total",
        "MACs seen for the first time (or again after ageing) and entered into the forwarding table.",
    );
    plain(
        f,
        s,
        Count::Moved,
        "wavnet_fdb_moved_total",
        "MACs seen at another port or peer than before. A migration moves each MAC once; a steady rate means a loop or \
         the same MAC in two places.",
    );
    f.counters(
        "wavnet_fdb_aged_total",
        "Learned MACs removed because no frame came from them for the ageing time, since the agent started.",
        [counter(&[], s.fdb_aged as f64)].into_iter(),
    );
    plain(
        f,
        s,
        Count::FdbFull,
        "wavnet_fdb_full_total",
        "Frames whose source MAC could not be learned for want of room. They were forwarded, but frames to those MACs are \
         flooded: raise fdb.entries.",
    );
    plain(
        f,
        s,
        Count::StaticKept,
        "wavnet_fdb_static_kept_total",
        "Frames from a MAC whose static entry points elsewhere. The entry stayed: either it is wrong or somebody is \
         spoofing.",
    );
    plain(
        f,
        s,
        Count::EventsLost,
        "wavnet_events_lost_total",
        "Events about learned and moved MACs that found no room in the ring buffer to the agent. Forwarding is not \
         affected; fdb --watch is incomplete.",
    );
}

fn flooding(f: &mut Families, s: &Snapshot) {
    plain(
        f,
        s,
        Count::Flooded,
        "wavnet_flooded_frames_total",
        "Broadcast, multicast and unknown-unicast frames that were flooded, each counted once.",
    );
    plain(
        f,
        s,
        Count::FloodCopies,
        "wavnet_flood_copies_total",
        "Copies made of flooded frames for peers and local ports. Divided by wavnet_flooded_frames_total: the fan-out.",
    );
    plain(
        f,
        s,
        Count::KernelNextHop,
        "wavnet_kernel_next_hop_frames_total",
        "Frames sent by the kernel's own routing because the agent's next hop was not resolved (any more) or the agent was \
         not running. Slower, not lost.",
    );
    plain(
        f,
        s,
        Count::PassedUp,
        "wavnet_underlay_passed_frames_total",
        "Frames on the underlay that were not for this VTEP and passed to the network stack untouched.",
    );
}

fn paths(f: &mut Families, s: &Snapshot) {
    plain(
        f,
        s,
        Count::PulseAnswered,
        "wavnet_pulses_answered_total",
        "Pulses of peers behind NATs that the kernel programs answered. Each peer sends one every few seconds by every path.",
    );
    plain(
        f,
        s,
        Count::PulseReturned,
        "wavnet_pulses_returned_total",
        "Answers to pulses of this host: the paths that they came by are alive.",
    );
    plain(
        f,
        s,
        Count::PulseUnknown,
        "wavnet_pulses_unknown_total",
        "Pulses by paths that are not known (any more), which went up to the agent. A steady rate from one peer means that it \
         has not noticed.",
    );
    plain(
        f,
        s,
        Count::Held,
        "wavnet_held_frames_total",
        "Frames held back for a moment so that they do not overtake those before them while a peer changes its path.",
    );
}

fn underlay(f: &mut Families, s: &Snapshot) {
    let (interface, in_use) = &s.underlay;
    f.gauges(
        "wavnet_underlay_hook_mode",
        "1 for the hook that the underlay's programs use, 0 for the others, and for all while nothing is attached: \
         xdp-driver is the fastest, xdp-generic and tc are fallbacks.",
        HookMode::ALL.into_iter().map(|mode| {
            let labels = [("interface", interface.as_str()), ("mode", mode.as_str())];
            gauge(&labels, f64::from(u8::from(Some(mode) == *in_use)))
        }),
    );
}

fn programs(f: &mut Families, s: &Snapshot) {
    f.counters(
        "wavnet_program_run_time_seconds_total",
        "Time spent in each eBPF program, all CPUs together; since the agent's start; only with metrics.program_run_time. Divided by \
         wavnet_program_runs_total: the cost of a frame.",
        s.programs.iter().map(|p| counter(&[("program", &p.program)], p.run_time.as_secs_f64())),
    );
    f.counters(
        "wavnet_program_runs_total",
        "How often each eBPF program ran since the agent's start; only with metrics.program_run_time.",
        s.programs.iter().map(|p| counter(&[("program", &p.program)], p.run_count as f64)),
    );
}
