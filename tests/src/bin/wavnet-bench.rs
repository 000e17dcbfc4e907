//! The benchmark; `cargo xtask bench` builds and runs it. See docs/benchmarks.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use wavnet_tests::{
    bench::{Case, Contender, Plan, Report, plots, run, write_json},
    lab::{self, Lab, Need, binary},
};

/// Measures wavnet, what the kernel offers for the same job, and what others made for it, interleaved on one topology.
#[derive(Debug, Parser)]
#[command(name = "wavnet-bench", bin_name = "cargo xtask bench", version)]
struct Arguments {
    /// Cases to measure, such as small_frames, tcp_1, rtt_p50 (docs/benchmarks.md has all of them); none: all of them
    cases: Vec<Case>,
    /// Who is measured, separated by commas, such as wavnet,kernel-vxlan,ovs; default: all that are installed
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    contenders: Vec<Contender>,
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw plots of the results into a directory, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure nothing: show the results in this file, which `--json` wrote, and draw their plots
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cases", "contenders", "json", "quick", "runs", "time"])]
    redraw: Option<PathBuf>,
    /// The `wavnet` whose agents are measured; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    wavnet: Option<PathBuf>,
    /// Measure nothing: see whether the other arguments are right
    #[arg(long, hide = true)]
    check: bool,
    /// Fewer and shorter runs, of wavnet, kernel-vxlan and bridge unless others are named: a first look, not to be published
    #[arg(long)]
    quick: bool,
    /// How often to measure each case and contender
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// How long one run measures, milliseconds
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    time: Option<u64>,
}

fn main() -> ExitCode {
    match bench(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavnet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: Arguments) -> Result<()> {
    if arguments.check {
        return Ok(());
    }
    if let Some(path) = &arguments.redraw {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let report =
            serde_json::from_str(&text).with_context(|| format!("{} is not what --json writes", path.display()))?;
        return show(&report, arguments.plots.as_deref());
    }
    if let Some(path) = arguments.wavnet {
        binary::choose(path);
    }
    if let Some(reason) = lab::missing(&[Need::Wavnet]) {
        bail!("{reason}");
    }
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: senders and receivers cost more than they should. Use `cargo xtask bench`.");
    }
    let mut plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    plan.cases = arguments.cases;
    plan.contenders = arguments.contenders;
    if let Some(runs) = arguments.runs {
        (plan.runs, plan.slow_runs) = (runs.into(), runs.into());
    }
    plan.time = arguments.time.map_or(plan.time, Duration::from_millis);
    if let Some(path) = &arguments.json {
        // Now, not after minutes of measuring.
        fs::File::options()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let report = run(&Lab::new()?, &plan);
    ensure!(
        !report.rows.is_empty() || !report.failures.is_empty(),
        "nothing to measure: none of these cases is measured of these contenders (why, is above)"
    );
    // Nothing to keep is no reason to lose an earlier run's.
    if let Some(path) = arguments.json.filter(|_| !report.rows.is_empty()) {
        write_json(&path, &report)?;
    }
    show(&report, arguments.plots.as_deref())?;
    ensure!(report.failures.is_empty(), "some cases failed, and their rows are missing: see above");
    Ok(())
}

fn show(report: &Report, plots: Option<&Path>) -> Result<()> {
    println!("{}", report.table());
    if let Some(dir) = plots {
        for path in plots::write(report, dir)? {
            println!("{}", path.display());
        }
    }
    Ok(())
}
