//! Results: medians with their spread, as a table, as JSON and as plots.

pub mod plots;
mod svg;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use super::{
    case::{Case, duel::Lane},
    contender::Contender,
    entry::Entry,
    machine::Disturbance,
};

/// Several runs of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub runs: usize,
    /// Median.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Summary {
    /// Of some runs; `None` if there are none.
    pub fn of(runs: &[f64]) -> Option<Summary> {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Summary { runs: sorted.len(), median, min, max })
    }
}

/// One line of the results. The shape is what scripts read: fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// Which of a case's several figures, where it has several: program and number of MACs, or the mode of ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Name of the contender.
    pub contender: String,
    /// `frames/s`, `copies/s`, `bit/s` or `ns`.
    pub unit: String,
    /// How often it was measured.
    pub runs: usize,
    /// Median of the runs.
    pub median: f64,
    /// The smallest run.
    pub min: f64,
    /// The largest run.
    pub max: f64,
    /// Median over that of `kernel-vxlan` in the same case, or over that of `against` (lookups: the other way round); `null` where
    /// that was not measured.
    pub ratio: Option<f64>,
    /// What a case of our own is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// More than one number can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
    /// What the hypervisor under the machine took of its CPUs meanwhile, as a share: median of the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal: Option<f64>,
    /// What processes took of the CPUs meanwhile that are not the benchmark's, as a share: median of the runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_load: Option<f64>,
}

/// What a row's ratio refers to, where that is no contender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// In a few words.
    pub what: String,
    /// Median of as many runs.
    pub median: f64,
    /// The smallest run.
    pub min: f64,
    /// The largest run.
    pub max: f64,
}

/// A row's figure over something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What changes from point to point: `percentile`, `MACs`.
    pub over: String,
    /// By ascending [`Point::at`].
    pub points: Vec<Point>,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Where.
    pub at: f64,
    /// Median of the runs, in the row's unit.
    pub median: f64,
    /// The smallest run.
    pub min: f64,
    /// The largest run.
    pub max: f64,
}

/// All results of one run of the benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order of measurement.
    pub rows: Vec<Row>,
    /// What a reader should know: who was not measured and why, what disturbed the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What could not be measured: case and contender, whose rows are missing, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// From this share on, what others took of the CPUs during a run is worth a note.
const NOTICEABLE: f64 = 0.02;

impl Report {
    /// Adds those who were measured in a case, with their runs.
    pub(super) fn add(&mut self, case: Case, figures: &[(Entry, Vec<f64>)]) {
        let summaries: Vec<_> = figures.iter().filter_map(|(e, runs)| Some((*e, Summary::of(runs)?))).collect();
        let reference = summaries.iter().find(|(e, _)| e.contender == Contender::KernelVxlan).map(|(_, s)| s.median);
        for (entry, summary) in summaries {
            let ratio = reference.filter(|r| *r > 0.0).map(|r| summary.median / r);
            self.rows.push(row(case, entry.variant().map(str::to_owned), entry.contender, &summary, ratio));
        }
    }

    /// Adds a figure that only we have.
    pub(super) fn add_own(&mut self, case: Case, variant: &str, runs: &[f64], disturbances: &[Disturbance]) {
        if let Some(summary) = Summary::of(runs) {
            self.rows.push(row(case, Some(variant.to_owned()), Contender::Wavnet, &summary, None));
        }
        self.add_disturbance(&[case], Contender::Wavnet, Some(variant), disturbances);
    }

    /// Adds a case that compares us with the second of some lanes; each has its runs.
    pub(super) fn add_duel(&mut self, case: Case, variant: Option<&str>, lanes: &[Lane], samples: &[Vec<f64>]) {
        let summaries: Vec<_> = samples.iter().filter_map(|runs| Summary::of(runs)).collect();
        let [ours, other, ..] = summaries[..] else { return };
        let (over, under) = if case.unit() == "ns" { (other, ours) } else { (ours, other) };
        let ratio = (under.median > 0.0).then(|| over.median / under.median);
        let mut row = row(case, variant.map(str::to_owned), Contender::Wavnet, &ours, ratio);
        let Point { median, min, max, .. } = point(0.0, &other);
        row.against = Some(Against { what: lanes[1].name.clone(), median, min, max });
        let mut points: Vec<_> =
            lanes.iter().zip(&summaries).filter_map(|(lane, summary)| Some(point(lane.at?.into(), summary))).collect();
        points.sort_by(|a, b| a.at.total_cmp(&b.at));
        if matches!(case, Case::ScaleMacs) {
            row.curve = Some(Curve { over: "MACs".into(), points });
        }
        self.rows.push(row);
    }

    /// Adds a curve to a row that is there; each point has its runs.
    pub(super) fn add_curve(
        &mut self,
        case: Case,
        contender: Contender,
        over: &str,
        points: impl IntoIterator<Item = (f64, Vec<f64>)>,
    ) {
        let points = points.into_iter().filter_map(|(at, runs)| Some(point(at, &Summary::of(&runs)?))).collect();
        let row = self.rows.iter_mut().rev().find(|row| row.case == case.name() && row.contender == contender.name());
        if let Some(row) = row {
            row.curve = Some(Curve { over: over.to_owned(), points });
        }
    }

    /// Says what the machine did during the runs behind rows that were just added: those of cases that were measured together.
    pub(super) fn add_disturbance(
        &mut self,
        cases: &[Case],
        contender: Contender,
        variant: Option<&str>,
        runs: &[Disturbance],
    ) {
        let shares = |share: fn(&Disturbance) -> f64| Summary::of(&runs.iter().map(share).collect::<Vec<_>>());
        let (Some(steal), Some(others)) = (shares(|d| d.steal), shares(|d| d.others)) else { return };
        let behind = |row: &&mut Row| {
            row.contender == contender.name()
                && row.variant.as_deref() == variant
                && cases.iter().any(|c| c.name() == row.case)
        };
        for row in self.rows.iter_mut().filter(behind) {
            row.steal = Some(rounded(steal.median, 10_000.0));
            row.other_load = Some(rounded(others.median, 10_000.0));
        }
        let names: Vec<_> = cases.iter().map(|case| case.name()).collect();
        let who = variant.map_or(contender.to_string(), |variant| format!("{contender}, {variant}"));
        let took = [(steal.max, "the hypervisor under this machine"), (others.max, "other processes")];
        for (share, others) in took.into_iter().filter(|(share, _)| *share >= NOTICEABLE) {
            let (names, percent) = (names.join(" and "), share * 100.0);
            self.notes.push(format!("{names}, {who}: {others} took up to {percent:.0} % of the CPUs in a run"));
        }
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["case", "contender", "median", "min", "max", "runs", "ratio"]);
        for column in 2..=6 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for row in &self.rows {
            let case = row.variant.as_ref().map_or(row.case.clone(), |variant| format!("{}: {variant}", row.case));
            let [median, min, max] = [row.median, row.min, row.max].map(|figure| human(figure, &row.unit));
            let ratio = row.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            table.add_row([case, row.contender.clone(), median, min, max, row.runs.to_string(), ratio]);
            if let Some(against) = &row.against {
                let [median, min, max] =
                    [against.median, against.min, against.max].map(|figure| human(figure, &row.unit));
                table.add_row([String::new(), format!("against {}", against.what), median, min, max]);
            }
        }
        let notes = self.notes.iter().map(|note| format!("\nNote: {note}"));
        let failures = self.failures.iter().map(|failure| format!("\nFAILED: {failure}"));
        table.to_string() + &notes.chain(failures).collect::<String>()
    }
}

fn row(case: Case, variant: Option<String>, contender: Contender, summary: &Summary, ratio: Option<f64>) -> Row {
    let Point { median, min, max, .. } = point(0.0, summary);
    Row {
        case: case.name().to_owned(),
        variant,
        contender: contender.name().to_owned(),
        unit: case.unit().to_owned(),
        runs: summary.runs,
        median,
        min,
        max,
        ratio: ratio.map(|ratio| rounded(ratio, 10_000.0)),
        against: None,
        curve: None,
        steal: None,
        other_load: None,
    }
}

fn point(at: f64, summary: &Summary) -> Point {
    let [median, min, max] = [summary.median, summary.min, summary.max].map(|figure| rounded(figure, 10.0));
    Point { at, median, min, max }
}

fn rounded(figure: f64, parts: f64) -> f64 {
    (figure * parts).round() / parts
}

/// A figure with three or four digits that mean something.
pub(super) fn human(figure: f64, unit: &str) -> String {
    match unit {
        "frames/s" | "copies/s" => format!("{:.1} k/s", figure / 1e3),
        "bit/s" => format!("{:.2} Gbit/s", figure / 1e9),
        "ns" if figure >= 10_000.0 => format!("{:.1} µs", figure / 1e3),
        "ns" if figure < 100.0 => format!("{figure:.1} ns"),
        _ => format!("{figure:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::setting::Setting;

    fn entry(contender: Contender) -> Entry {
        Entry { contender, setting: Setting::TapSender }
    }

    #[test]
    fn medians_of_odd_and_even_numbers_of_runs() {
        let summary = Summary::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!(summary, Summary { runs: 3, median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_json_has_the_documented_shape() {
        let mut report = Report::default();
        report.add(
            Case::SmallFrames,
            &[(entry(Contender::Wavnet), vec![380.0, 400.0, 420.0]), (entry(Contender::KernelVxlan), vec![200.0])],
        );
        report.add_own(Case::ProgramNs, "port_tc, 1 MACs", &[61.25], &[]);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "rows": [
                { "case": "small_frames", "contender": "wavnet", "unit": "frames/s", "runs": 3,
                  "median": 400.0, "min": 380.0, "max": 420.0, "ratio": 2.0 },
                { "case": "small_frames", "contender": "kernel-vxlan", "unit": "frames/s", "runs": 1,
                  "median": 200.0, "min": 200.0, "max": 200.0, "ratio": 1.0 },
                { "case": "program_ns", "variant": "port_tc, 1 MACs", "contender": "wavnet", "unit": "ns", "runs": 1,
                  "median": 61.3, "min": 61.3, "max": 61.3, "ratio": null },
            ] })
        );
    }

    #[test]
    fn duels_say_what_they_are_against_and_latencies_count_the_other_way_round() {
        let lane = |name: &str, at| Lane { name: name.into(), at };
        let samples = |figures: &[f64]| figures.iter().map(|figure| vec![*figure]).collect::<Vec<_>>();
        let mut report = Report::default();
        let lanes = [lane("9 MACs", Some(9)), lane("1 MAC", Some(1)), lane("3 MACs", Some(3))];
        report.add_duel(Case::ScaleMacs, None, &lanes, &samples(&[80.0, 100.0, 90.0]));
        report.add_duel(Case::FdbLookup1k, None, &[lane("a", None), lane("b", None)], &samples(&[4.0, 20.0]));
        let json = serde_json::to_value(&report).unwrap();
        let point =
            |at: f64, figure: f64| serde_json::json!({ "at": at, "median": figure, "min": figure, "max": figure });
        assert_eq!(json["rows"][0]["ratio"], 0.8);
        assert_eq!(
            json["rows"][0]["against"],
            serde_json::json!({ "what": "1 MAC", "median": 100.0, "min": 100.0, "max": 100.0 })
        );
        assert_eq!(
            json["rows"][0]["curve"],
            serde_json::json!({ "over": "MACs", "points": [point(1.0, 100.0), point(3.0, 90.0), point(9.0, 80.0)] })
        );
        assert_eq!(json["rows"][1]["ratio"], 5.0);
        assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report, "it is read back");
    }

    #[test]
    fn what_disturbed_is_in_the_row_and_noted_where_it_counts() {
        let mut report = Report::default();
        let who = Entry::all(&[Contender::Wavnet, Contender::KernelVxlan], Setting::TapSender);
        report.add(Case::Tcp1FromTap, &[(who[0], vec![1.0; 3]), (who[1], vec![1.0; 3]), (who[2], vec![0.9; 3])]);
        let runs = [(0.001, 0.0), (0.003, 0.01), (0.002, 0.31)].map(|(steal, others)| Disturbance { steal, others });
        report.add_disturbance(&[Case::Tcp1FromTap], who[2].contender, who[2].variant(), &runs);
        let json = serde_json::to_value(&report).unwrap();
        let row = &json["rows"][2];
        assert_eq!(
            (&row["variant"], &row["contender"], &row["ratio"]),
            (&"packet-rate".into(), &"wavnet".into(), &0.9.into())
        );
        assert_eq!((&row["steal"], &row["other_load"]), (&0.002.into(), &0.01.into()));
        assert!((0..2).all(|n| json["rows"][n].get("steal").is_none() && json["rows"][n].get("variant").is_none()));
        let note = "tcp_1_from_tap, wavnet, packet-rate: other processes took up to 31 % of the CPUs in a run";
        assert_eq!(report.notes, [note]);
        assert!(report.table().ends_with(&format!("Note: {}", report.notes[0])));
    }

    #[test]
    fn failures_are_the_last_that_is_said() {
        let report = Report {
            notes: vec!["noisy".into()],
            failures: vec!["encap, wavnet: nothing".into()],
            ..Report::default()
        };
        assert!(report.table().ends_with("Note: noisy\nFAILED: encap, wavnet: nothing"));
        assert_eq!(serde_json::to_value(&report).unwrap()["failures"][0], report.failures[0]);
    }

    #[test]
    fn results_of_older_versions_are_read() {
        let report: Report = serde_json::from_str(r#"{"rows": []}"#).unwrap();
        assert_eq!(report, Report::default());
    }

    #[test]
    fn without_the_kernels_vxlan_there_is_no_ratio() {
        let mut report = Report::default();
        report.add(Case::Tcp1, &[(entry(Contender::Bridge), vec![1e9])]);
        assert_eq!(report.rows[0].ratio, None);
        let table = report.table();
        assert!(table.contains("1.00 Gbit/s") && table.contains('–'), "{table}");
    }
}
