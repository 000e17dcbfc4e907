//! `cargo xtask doctor`: every requirement, what was found, and the mend.

mod kernel;
mod machine;

use std::process::ExitCode;

use crate::workspace::Workspace;

/// What a requirement is for; the headings of the report, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Area {
    Build,
    Ebpf,
    Rights,
    Kernel,
    Lab,
}

impl Area {
    const ALL: [Self; 5] = [Self::Build, Self::Ebpf, Self::Rights, Self::Kernel, Self::Lab];

    fn title(self) -> &'static str {
        match self {
            Self::Build => "Build (cargo build, cargo test)",
            Self::Ebpf => "eBPF toolchain (cargo xtask build, run, test, bench)",
            Self::Rights => "Rights (run, kernel tests, bench)",
            Self::Kernel => "Kernel (run, kernel tests, bench)",
            Self::Lab => "Lab (demonstration, kernel tests, bench)",
        }
    }
}

/// What became of one requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// There: what was found.
    Found(String),
    /// Not there or not to be told, and nothing fails for it: what that means.
    Note(String),
    /// Not there: what was found instead, and what to do.
    Missing { found: String, mend: String },
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Check {
    area: Area,
    name: String,
    verdict: Verdict,
}

impl Check {
    fn new(area: Area, name: impl Into<String>, verdict: Verdict) -> Self {
        Self { area, name: name.into(), verdict }
    }
}

fn missing(found: impl Into<String>, mend: impl Into<String>) -> Verdict {
    Verdict::Missing { found: found.into(), mend: mend.into() }
}

/// Prints the report; fails if something is missing.
pub(crate) fn print(workspace: &Workspace) -> ExitCode {
    let mut checks = machine::build();
    checks.extend(machine::ebpf(workspace));
    checks.extend(machine::rights());
    checks.extend(kernel::checks());
    checks.extend(machine::lab(workspace));
    print!("{}", report(&checks));
    if missing_count(&checks) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn missing_count(checks: &[Check]) -> usize {
    checks.iter().filter(|check| matches!(check.verdict, Verdict::Missing { .. })).count()
}

fn report(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for area in Area::ALL {
        let of_area: Vec<_> = checks.iter().filter(|check| check.area == area).collect();
        if of_area.is_empty() {
            continue;
        }
        text += &format!("{}\n", area.title());
        for check in of_area {
            let name = &check.name;
            text += &match &check.verdict {
                Verdict::Found(found) => format!("  ok       {name:width$}  {found}\n"),
                Verdict::Note(note) => format!("  note     {name:width$}  {note}\n"),
                Verdict::Missing { found, mend } => {
                    format!("  MISSING  {name:width$}  {found}\n           {:width$}  -> {mend}\n", "")
                }
            };
        }
        text.push('\n');
    }
    text + &match missing_count(checks) {
        0 => "Everything is there.\n".to_owned(),
        1 => "1 requirement is missing.\n".to_owned(),
        count => format!("{count} requirements are missing.\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_not_missing() {
        let checks = [
            Check::new(Area::Build, "rustc", Verdict::Found("1.95.0".into())),
            Check::new(Area::Kernel, "bpffs", Verdict::Note("not mounted yet".into())),
        ];
        assert_eq!(missing_count(&checks), 0);
        assert!(report(&checks).ends_with("Everything is there.\n"));
    }

    #[test]
    fn what_is_missing_comes_with_its_mend_below_its_area() {
        let checks = [
            Check::new(Area::Lab, "tshark", missing("not in PATH", "cargo xtask setup")),
            Check::new(Area::Build, "rustc", Verdict::Found("1.95.0".into())),
        ];
        let report = report(&checks);
        let build = report.find(Area::Build.title()).unwrap();
        let lab = report.find(Area::Lab.title()).unwrap();
        assert!(build < lab, "{report}");
        assert!(report[lab..].contains("MISSING  tshark"), "{report}");
        assert!(report.contains("-> cargo xtask setup"), "{report}");
        assert!(report.ends_with("1 requirement is missing.\n"), "{report}");
    }
}
