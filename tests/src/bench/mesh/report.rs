//! Results of many hosts that all have tunnels to each other: as tables and as JSON.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use crate::bench::report::Summary;

/// How much less a pair may carry among many hosts than among few: the goal.
const GOAL: f64 = 0.05;

/// Several figures of the same kind, one for each host or pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many.
    pub count: usize,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub median: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Percentiles {
    /// Of some figures; all zero if there are none.
    pub(super) fn of(figures: &[f64]) -> Percentiles {
        let Some(summary) = Summary::of(figures) else { return Percentiles::default() };
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let p99 = sorted[(sorted.len() - 1) * 99 / 100];
        let [min, median, p99, max] =
            [summary.min, summary.median, p99, summary.max].map(|figure| (figure * 1000.0).round() / 1000.0);
        Percentiles { count: figures.len(), min, median, p99, max }
    }
}

/// How the pairs came to their paths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Formation {
    /// All of them.
    pub pairs: usize,
    /// Frames take a direct path, both ways.
    pub direct: usize,
    /// They take the relay, and always will: two symmetric NATs.
    pub relayed: usize,
    /// They take the relay until a search has found a direct path: a symmetric NAT and a port-restricted one.
    pub relayed_until_found: usize,
    /// They take the relay although both could have a direct path without a search.
    pub not_yet_direct: usize,
    /// One of them has no path to the other.
    pub without_path: usize,
    /// Seconds from when the last host was there until all pairs had a path; `null` if that never was.
    pub all_up_s: Option<f64>,
    /// The same until all that can had a direct one without a search.
    pub all_direct_s: Option<f64>,
    /// Milliseconds from when the later of a pair first wanted to reach the other one until it could send frames, of all pairs.
    pub first_path_ms: Percentiles,
    /// The same until it could do so without the relay, of pairs that need no search.
    pub direct_path_ms: Percentiles,
}

/// What each host's process takes, and what it sends and receives, while all VMs are silent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// For how long that was watched.
    pub seconds: f64,
    /// Percent of one CPU, of the process: what the kernel programs take is not in it.
    pub cpu_percent: Percentiles,
    /// Resident memory (`VmRSS`), MiB; it includes the program's own pages, which all processes share.
    pub resident_mib: Percentiles,
    /// The part of it that is the process's alone (`RssAnon`), MiB.
    pub private_mib: Percentiles,
    /// Bytes of IP packets a second that it sent.
    pub sent: Percentiles,
    /// The same received.
    pub received: Percentiles,
    /// The part of `sent` that is pulses and answers to them.
    pub pulses_sent: Percentiles,
    /// The part of `received`.
    pub pulses_received: Percentiles,
    /// Pulses and answers that it sent in a second.
    pub pulses_per_second: Percentiles,
}

/// A pair's TCP among few hosts and among all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Which pair.
    pub pair: String,
    /// Among few hosts, median of the runs, Mbit/s.
    pub few_mbps: f64,
    /// The runs, those before the others came and those after they had gone.
    pub few: Vec<f64>,
    /// Among all hosts, median of the runs.
    pub many_mbps: f64,
    /// The runs.
    pub many: Vec<f64>,
    /// The second over the first.
    pub ratio: f64,
}

impl Throughput {
    pub(super) fn of(pair: &str, few: Vec<f64>, many: Vec<f64>) -> Option<Throughput> {
        let median = |runs: &[f64]| Some((Summary::of(runs)?.median * 100.0).round() / 100.0);
        let (of_few, of_many) = (median(&few)?, median(&many)?);
        let ratio = (of_many / of_few * 1e4).round() / 1e4;
        Some(Throughput { pair: pair.to_owned(), few_mbps: of_few, few, many_mbps: of_many, many, ratio })
    }
}

/// What one system does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `wavnet` or `n2n`.
    pub system: String,
    /// How many hosts.
    pub hosts: usize,
    /// How many they were at first.
    pub few: usize,
    /// Which pairs have which paths; of n2n only what can be seen from outside.
    pub formation: Formation,
    /// What it costs.
    pub cost: Cost,
    /// What a pair carries.
    pub throughput: Vec<Throughput>,
}

/// All results of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// A row for each system.
    pub rows: Vec<Row>,
    /// What a reader should know beside them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Found {
    /// True if each pair of ours has the path that it can have.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let ours = self.rows.iter().filter(|row| row.system == super::OURS);
        ours.map(|row| &row.formation).all(|f| f.without_path == 0 && f.not_yet_direct == 0)
    }

    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        let names = self.rows.iter().map(|row| format!("{}, {} hosts", row.system, row.hosts));
        table.set_header(["".to_owned()].into_iter().chain(names));
        for (name, show) in LINES {
            table.add_row([(*name).to_owned()].into_iter().chain(self.rows.iter().map(show)));
        }
        let mut text = table.to_string();
        for row in &self.rows {
            for t in &row.throughput {
                let Throughput { pair, few_mbps, many_mbps, ratio, .. } = t;
                let _ = write!(
                    text,
                    "\n{}, {pair}: {few_mbps:.1} Mbit/s among {} hosts, {many_mbps:.1} among {}: ratio {ratio:.3}",
                    row.system, row.few, row.hosts
                );
                if row.system == super::OURS && (ratio - 1.0).abs() > GOAL {
                    let _ = write!(text, "; that is more than {:.0} % apart", GOAL * 100.0);
                }
            }
        }
        let notes: String = self.notes.iter().map(|note| format!("\nNote: {note}")).collect();
        text + &notes
    }
}

/// A line of the table.
type Line = (&'static str, fn(&Row) -> String);

const LINES: &[Line] = &[
    ("pairs", |row| row.formation.pairs.to_string()),
    ("direct", |row| row.formation.direct.to_string()),
    ("relayed: both symmetric", |row| row.formation.relayed.to_string()),
    ("relayed until a search finds a path", |row| row.formation.relayed_until_found.to_string()),
    ("relayed for another reason", |row| row.formation.not_yet_direct.to_string()),
    ("without a path", |row| row.formation.without_path.to_string()),
    ("all have a path after, s", |row| seconds(row.formation.all_up_s)),
    ("all that need no search are direct after, s", |row| seconds(row.formation.all_direct_s)),
    ("first path, ms: median, 99 %, most", |row| times(&row.formation.first_path_ms)),
    ("direct path, ms: median, 99 %, most", |row| times(&row.formation.direct_path_ms)),
    ("CPU of a process, %: median, most", |row| two(&row.cost.cpu_percent, 2)),
    ("resident, MiB: median, most", |row| two(&row.cost.resident_mib, 1)),
    ("of it its own, MiB: median, most", |row| two(&row.cost.private_mib, 1)),
    ("sent, B/s: median, most", |row| two(&row.cost.sent, 0)),
    ("of it pulses and answers", |row| two(&row.cost.pulses_sent, 0)),
    ("received, B/s: median, most", |row| two(&row.cost.received, 0)),
    ("of it pulses and answers", |row| two(&row.cost.pulses_received, 0)),
];

fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1}"))
}

fn times(p: &Percentiles) -> String {
    if p.count == 0 { "–".to_owned() } else { format!("{:.0}, {:.0}, {:.0}", p.median, p.p99, p.max) }
}

fn two(p: &Percentiles, digits: usize) -> String {
    format!("{:.digits$}, {:.digits$}", p.median, p.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_none_one_and_many() {
        assert_eq!(Percentiles::of(&[]), Percentiles::default());
        assert_eq!(Percentiles::of(&[2.0]), Percentiles { count: 1, min: 2.0, median: 2.0, p99: 2.0, max: 2.0 });
        let many: Vec<_> = (0..=200).rev().map(f64::from).collect();
        let want = Percentiles { count: 201, min: 0.0, median: 100.0, p99: 198.0, max: 200.0 };
        assert_eq!(Percentiles::of(&many), want);
    }

    #[test]
    fn what_is_more_than_five_percent_apart_is_said() {
        let throughput = Throughput::of("a pair", vec![100.0, 90.0, 110.0], vec![80.0]).unwrap();
        assert_eq!((throughput.few_mbps, throughput.ratio), (100.0, 0.8));
        let row = |system: &str| Row {
            system: system.into(),
            hosts: 64,
            few: 8,
            throughput: vec![throughput.clone()],
            ..Row::default()
        };
        let table = |row| Found { rows: vec![row], notes: Vec::new() }.table();
        assert!(table(row(super::super::OURS)).contains("ratio 0.800; that is more than 5 % apart"));
        assert!(table(row("n2n")).ends_with("ratio 0.800"));
        assert!(Throughput::of("a pair", Vec::new(), vec![1.0]).is_none());
    }

    #[test]
    fn a_pair_without_its_path_is_not_as_expected() {
        let found = |f| Found {
            rows: vec![Row { system: super::super::OURS.into(), formation: f, ..Row::default() }],
            notes: Vec::new(),
        };
        assert!(found(Formation { relayed: 3, relayed_until_found: 2, ..Formation::default() }).is_as_expected());
        assert!(!found(Formation { without_path: 1, ..Formation::default() }).is_as_expected());
        assert!(!found(Formation { not_yet_direct: 1, ..Formation::default() }).is_as_expected());
    }
}
