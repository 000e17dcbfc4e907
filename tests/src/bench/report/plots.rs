//! Plots of the results, drawn from what is in the JSON.

mod bars;
mod curves;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::Report;

/// Draws what there are results for: names of files and their content.
pub fn draw(report: &Report) -> Vec<(&'static str, String)> {
    let plots = [
        ("packet-rate.svg", bars::packet_rates(report)),
        ("tcp.svg", bars::tcp(report)),
        ("macs.svg", curves::macs(report)),
        ("latency.svg", curves::latency(report)),
        ("latency-blocking.svg", curves::latency_blocking(report)),
    ];
    plots.into_iter().filter_map(|(name, plot)| Some((name, plot?))).collect()
}

/// Draws into a directory, which is made if it is not there. Returns what was written.
///
/// # Errors
/// It cannot be written.
pub fn write(report: &Report, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let write = |(name, text): (&str, String)| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    };
    draw(report).into_iter().map(write).collect()
}

/// The colour of a contender: always the same. Ours and what it is measured against are told apart by those who do not see red or
/// green; what has no overlay is grey.
fn colour(contender: &str) -> &'static str {
    match contender {
        "wavnet" => "#0072b2",
        "kernel-vxlan" => "#d55e00",
        "metadata-vxlan" => "#e69f00",
        "bridge" => "#7f7f7f",
        "tc-redirect" => "#a6a6a6",
        "xdp-redirect" => "#4d4d4d",
        "ovs" => "#009e73",
        "n2n" => "#cc79a7",
        "tinc" => "#8c6d31",
        "vpncloud" => "#5e3c99",
        _ => "#56b4e9",
    }
}

/// Round values from zero to at least `max`, about `count` of them.
fn ticks(max: f64, count: f64) -> Vec<f64> {
    let raw = (max / count).max(f64::MIN_POSITIVE);
    let decade = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|part| part * decade).find(|step| *step >= raw);
    let step = step.unwrap_or(10.0 * decade);
    (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick < max + step).collect()
}

/// A number without needless zeros.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Curve, Point, Row};

    fn row(case: &str, contender: &str, unit: &str, curve: Option<Curve>) -> Row {
        Row {
            case: case.into(),
            variant: None,
            contender: contender.into(),
            unit: unit.into(),
            runs: 3,
            median: 1.5e6,
            min: 1.4e6,
            max: 1.6e6,
            ratio: None,
            against: None,
            curve,
            steal: None,
            other_load: None,
        }
    }

    #[test]
    fn ticks_are_round_and_reach_the_largest_value() {
        assert_eq!(ticks(1.6, 4.0), [0.0, 0.5, 1.0, 1.5, 2.0]);
        assert_eq!(ticks(80.0, 4.0), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!([short(0.5), short(20.0), short(1.25)], ["0.5", "20", "1.25"]);
    }

    #[test]
    fn draws_what_there_is_and_nothing_else() {
        assert!(draw(&Report::default()).is_empty());
        let points = [1.0, 1e5].map(|at| Point { at, median: 2e6, min: 1e6, max: 3e6 }).to_vec();
        let curve = Some(Curve { over: "MACs".into(), points });
        let rows = vec![
            row("small_frames", "wavnet", "frames/s", None),
            row("small_frames", "a & b", "frames/s", None),
            row("scale_macs_100k", "wavnet", "frames/s", curve),
        ];
        let plots = draw(&Report { rows, ..Report::default() });
        assert_eq!(plots.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["packet-rate.svg", "macs.svg"]);
        assert!(plots[0].1.contains(">1.50<") && plots[0].1.contains("a &amp; b"), "{}", plots[0].1);
        assert!(plots[1].1.contains("100,000"), "{}", plots[1].1);
    }
}
