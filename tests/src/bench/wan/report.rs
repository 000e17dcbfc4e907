//! Results of the overlay over a WAN: medians with their spread, as a table and as JSON.

use std::{fmt, time::Duration};

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use crate::bench::{machine::Disturbance, report::Summary};

/// TCP over the overlay against the bare underlay: the goal.
const GOAL: f64 = 0.95;
/// How much round trips may differ: the goal.
const RTT_GOAL: f64 = 0.01;
/// From this share on, what others took of the CPUs is worth a note.
const NOTICEABLE: f64 = 0.02;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Hosts' own packets through both NATs, without agents.
    Underlay,
    /// VMs' frames over the punched path through the same NATs.
    Overlay,
    /// VMs' frames over the same path without NATs.
    WithoutNat,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lane::Underlay => "the bare underlay",
            Lane::Overlay => "the overlay",
            Lane::WithoutNat => "the overlay without NATs",
        })
    }
}

/// All runs of a lane in one cell.
pub(super) struct Samples {
    pub(super) lane: Lane,
    /// Milliseconds.
    pub(super) trips: Vec<f64>,
    /// Mbit/s.
    pub(super) rates: Vec<f64>,
}

/// The smallest and the largest run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

/// One cell. The shape is what scripts read: fields are added, never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The link's round trip, milliseconds.
    pub rtt_ms: f64,
    /// The link's rate.
    pub link_mbps: u64,
    /// What one TCP stream carries between the hosts, without an overlay: median of the runs.
    pub underlay_mbps: f64,
    /// Its spread.
    pub underlay_spread: Spread,
    /// What one carries between their VMs.
    pub overlay_mbps: f64,
    /// Its spread.
    pub overlay_spread: Spread,
    /// The second over the first.
    pub ratio: f64,
    /// Round trips between the hosts, median, milliseconds.
    pub underlay_rtt_ms: f64,
    /// Round trips between the VMs.
    pub overlay_rtt_ms: f64,
    /// The second over the first.
    pub rtt_ratio: f64,
    /// What one TCP stream carries between VMs over the same path without NATs, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_nat_mbps: Option<f64>,
    /// `overlay_mbps` over that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_ratio: Option<f64>,
    /// How often each was measured.
    pub runs: usize,
    /// Frames that the emulator dropped though no WAN would have: more than a few, and the machine was too slow for this link.
    pub faults: u64,
    /// Those of them that it did not take in time.
    pub missed: u64,
    /// What the hypervisor under the machine took of its CPUs, as a share.
    pub steal: f64,
    /// What processes took that are not the benchmark's.
    pub other_load: f64,
    /// How long the cell took, seconds.
    pub seconds: f64,
}

impl Row {
    /// Of the samples of two or three lanes; `None` if one is missing or empty.
    pub(super) fn of(
        rtt: Duration,
        link: u64,
        samples: &[Samples],
        faults: [u64; 2],
        disturbance: Disturbance,
        took: Duration,
    ) -> Option<Row> {
        let of = |lane| samples.iter().find(|s| s.lane == lane);
        let rates = |lane| Summary::of(&of(lane)?.rates);
        let trips = |lane| Some(Summary::of(&of(lane)?.trips)?.median);
        let (under, over) = (rates(Lane::Underlay)?, rates(Lane::Overlay)?);
        let (under_rtt, over_rtt) = (trips(Lane::Underlay)?, trips(Lane::Overlay)?);
        let spread = |s: &Summary| Spread { min: rounded(s.min, 100.0), max: rounded(s.max, 100.0) };
        let without_nat = rates(Lane::WithoutNat).map(|s| s.median);
        Some(Row {
            rtt_ms: rtt.as_secs_f64() * 1e3,
            link_mbps: link,
            underlay_mbps: rounded(under.median, 100.0),
            underlay_spread: spread(&under),
            overlay_mbps: rounded(over.median, 100.0),
            overlay_spread: spread(&over),
            ratio: rounded(over.median / under.median, 1e4),
            underlay_rtt_ms: rounded(under_rtt, 1e4),
            overlay_rtt_ms: rounded(over_rtt, 1e4),
            rtt_ratio: rounded(over_rtt / under_rtt, 1e4),
            without_nat_mbps: without_nat.map(|rate| rounded(rate, 100.0)),
            nat_ratio: without_nat.map(|rate| rounded(over.median / rate, 1e4)),
            runs: under.runs.min(over.runs),
            faults: faults[0],
            missed: faults[1],
            steal: rounded(disturbance.steal, 1e4),
            other_load: rounded(disturbance.others, 1e4),
            seconds: rounded(took.as_secs_f64(), 10.0),
        })
    }

    /// The cell, for people.
    fn name(&self) -> String {
        format!("{} Mbit/s at {} ms", self.link_mbps, self.rtt_ms)
    }

    /// What a reader should know of it.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |is: bool, what: String| notes.extend(is.then(|| format!("{}: {what}", self.name())));
        note(self.ratio < GOAL, format!("the overlay carries {:.3} of the underlay, less than {GOAL}", self.ratio));
        if let Some(ratio) = self.nat_ratio {
            note(ratio < GOAL, format!("{ratio:.3} of what it carries without NATs, less than {GOAL}"));
        }
        let longer = self.overlay_rtt_ms - self.underlay_rtt_ms;
        let apart = (self.rtt_ratio - 1.0).abs() > RTT_GOAL;
        note(apart, format!("round trips are longer by {longer:.3} ms, more than {:.0} %", RTT_GOAL * 100.0));
        let Row { faults, missed, .. } = self;
        let dropped =
            format!("the emulator dropped {faults} frames that no WAN would have, {missed} of them for want of CPU");
        note(*faults > 0, dropped);
        let percent = (self.other_load + self.steal) * 100.0;
        note(percent >= NOTICEABLE * 100.0, format!("others took {percent:.0} % of the CPUs"));
        notes
    }
}

/// All results of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of measurement.
    pub rows: Vec<Row>,
    /// What the lab itself adds to every round trip; the link's delay is so much shorter than `rtt_ms`.
    pub own_rtt_ms: f64,
    /// What a reader should know beside the rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Found {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header([
            "rtt, ms",
            "link, Mbit/s",
            "underlay (min–max)",
            "overlay (min–max)",
            "ratio",
            "without NATs",
            "underlay rtt, ms",
            "overlay rtt, ms",
            "rtt ratio",
        ]);
        for row in &self.rows {
            let rate = |median: f64, spread: Spread| format!("{median:.1} ({:.1}–{:.1})", spread.min, spread.max);
            let without = row.without_nat_mbps.zip(row.nat_ratio);
            table.add_row([
                row.rtt_ms.to_string(),
                row.link_mbps.to_string(),
                rate(row.underlay_mbps, row.underlay_spread),
                rate(row.overlay_mbps, row.overlay_spread),
                format!("{:.3}", row.ratio),
                without.map_or("–".to_owned(), |(rate, ratio)| format!("{rate:.1}, ratio {ratio:.3}")),
                format!("{:.3}", row.underlay_rtt_ms),
                format!("{:.3}", row.overlay_rtt_ms),
                format!("{:.3}", row.rtt_ratio),
            ]);
        }
        let notes = self.notes.iter().cloned().chain(self.rows.iter().flat_map(Row::notes));
        let notes: String = notes.map(|note| format!("\nNote: {note}")).collect();
        format!(
            "{table}\nThe lab's own part of every round trip: {:.3} ms; the link's delay is so much shorter.{notes}",
            self.own_rtt_ms
        )
    }
}

fn rounded(figure: f64, parts: f64) -> f64 {
    (figure * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(lane: Lane, rates: &[f64], trips: &[f64]) -> Samples {
        Samples { lane, rates: rates.to_vec(), trips: trips.to_vec() }
    }

    fn row(all: &[Samples]) -> Option<Row> {
        let none = Disturbance::default();
        Row::of(Duration::from_micros(500), 100, all, [0, 0], none, Duration::from_secs(1))
    }

    #[test]
    fn a_row_has_medians_their_spread_and_what_they_come_to() {
        let all = [
            samples(Lane::Underlay, &[95.0, 96.0, 90.0], &[0.5, 0.6, 0.5]),
            samples(Lane::Overlay, &[91.2, 92.0, 60.0], &[0.51, 0.505, 0.5]),
        ];
        let row = row(&all).unwrap();
        assert_eq!((row.rtt_ms, row.link_mbps, row.runs), (0.5, 100, 3));
        assert_eq!((row.underlay_mbps, row.overlay_mbps, row.ratio), (95.0, 91.2, 0.96));
        assert_eq!(row.overlay_spread, Spread { min: 60.0, max: 92.0 });
        assert_eq!((row.underlay_rtt_ms, row.overlay_rtt_ms, row.rtt_ratio), (0.5, 0.505, 1.01));
        assert_eq!((row.without_nat_mbps, row.nat_ratio), (None, None));
    }

    #[test]
    fn what_misses_a_goal_is_noted() {
        let all = [
            samples(Lane::Underlay, &[100.0], &[1.0]),
            samples(Lane::Overlay, &[90.0], &[1.2]),
            samples(Lane::WithoutNat, &[91.0], &[1.2]),
        ];
        let row = row(&all).unwrap();
        assert_eq!(row.nat_ratio, Some(0.989));
        let found = Found { rows: vec![row], own_rtt_ms: 0.25, notes: Vec::new() };
        let table = found.table();
        assert!(table.contains("0.900 of the underlay") && table.contains("longer by 0.200 ms"), "{table}");
        assert!(!table.contains("without NATs, less"), "{table}");
    }

    #[test]
    fn a_lane_without_figures_gives_no_row() {
        assert!(row(&[samples(Lane::Underlay, &[1.0], &[1.0])]).is_none());
        assert!(row(&[samples(Lane::Underlay, &[1.0], &[1.0]), samples(Lane::Overlay, &[], &[1.0])]).is_none());
    }
}
