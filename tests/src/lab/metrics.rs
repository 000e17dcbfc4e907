//! Pages of metrics: what they say, and whether Prometheus likes them.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Lab, tools};

/// Sums the series of a metric that carry all labels; `None` if there is none.
pub fn sum_of(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let values: Vec<f64> = page
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (series, value) = rest.rsplit_once(' ')?;
            let named = series.is_empty() || series.starts_with('{');
            (named && labels.iter().all(|l| series.contains(l))).then(|| value.parse().ok())?
        })
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Runs promtool over a page of metrics.
///
/// # Errors
/// What promtool criticises.
pub fn promtool_check(lab: &Lab, page: &str) -> Result<()> {
    let file = lab.path("metrics.txt");
    fs::write(&file, page)?;
    let mut command = tools::command("promtool");
    command.args(["check", "metrics"]).stdin(fs::File::open(&file)?);
    let out = command.output().context("starting promtool (Debian package: prometheus)")?;
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(out.status.success() && said.trim().is_empty(), "promtool says: {said}\nabout:\n{page}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_series_by_labels() {
        let page = "# HELP a_total x\na_total{vni=\"1\",dir=\"rx\"} 3\na_total{vni=\"2\",dir=\"rx\"} 4\na_total_more 9\nb 1.5\n";
        assert_eq!(sum_of(page, "a_total", &["dir=\"rx\""]), Some(7.0));
        assert_eq!(sum_of(page, "a_total", &["vni=\"2\""]), Some(4.0));
        assert_eq!(sum_of(page, "b", &[]), Some(1.5));
        assert_eq!(sum_of(page, "c", &[]), None);
    }
}
