//! The checks as text.

use comfy_table::{ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use super::checks::Check;

fn detail(check: &Check) -> String {
    match &check.outcome {
        Ok(seen) => seen.clone(),
        Err(error) => format!("{error:#}"),
    }
}

fn verdict(check: &Check) -> &'static str {
    if check.holds() { "ok" } else { "FAILED" }
}

/// One line, as a check is done.
pub(super) fn line(check: &Check) -> String {
    format!("  {:6}  {}, {}: {}", verdict(check), check.what, check.whose, detail(check))
}

/// The table at the end.
pub(super) fn table(checks: &[Check]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["check", "of", "result", "seen"]);
    for check in checks {
        table.add_row([check.what, &check.whose, verdict(check), &detail(check)]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_with_their_causes() {
        let outcome = Err(anyhow::anyhow!("cause").context("what failed"));
        let checks = [
            Check { what: "ping", whose: "red".into(), outcome: Ok("12 of 12".into()) },
            Check { what: "TCP", whose: "blue".into(), outcome },
        ];
        let text = table(&checks).to_string();
        assert!(text.contains("12 of 12") && text.contains("FAILED") && text.contains("what failed: cause"), "{text}");
        assert!(line(&checks[0]).contains("ok") && line(&checks[1]).contains("FAILED"));
    }
}
