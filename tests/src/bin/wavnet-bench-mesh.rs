//! Many hosts behind NATs, each with tunnels to all others: `cargo xtask bench mesh` builds and runs it. See docs/benchmarks.md.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Parser;
use wavnet_tests::{
    bench::{
        mesh::{Plan, run},
        write_json,
    },
    lab::{self, Lab, Need, binary},
};

/// Brings up many agents behind NATs of several types and says which pairs got which paths, how soon, what that costs, and what a pair
/// carries among them; n2n beside it where it is installed.
#[derive(Debug, Parser)]
#[command(name = "wavnet-bench-mesh", bin_name = "cargo xtask bench mesh", version)]
struct Arguments {
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The `wavnet` that is measured; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    wavnet: Option<PathBuf>,
    /// Sixteen hosts, and less of everything: a first look, not to be published
    #[arg(long)]
    quick: bool,
    /// How many hosts [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(8..=200))]
    hosts: Option<u8>,
    /// How often throughput is measured each time [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// How long a stream is counted, milliseconds [default: 1500]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    time: Option<u64>,
}

fn main() -> ExitCode {
    match bench(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wavnet-bench-mesh: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every pair got the path that it can have.
fn bench(arguments: Arguments) -> Result<bool> {
    if let Some(path) = arguments.wavnet {
        binary::choose(path);
    }
    if let Some(reason) = lab::missing(&[Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack")]) {
        bail!("{reason}");
    }
    if cfg!(debug_assertions) {
        eprintln!("This is a debug build: what is measured costs more than it should. Use `cargo xtask bench`.");
    }
    let mut plan = if arguments.quick { Plan::QUICK } else { Plan::FULL };
    plan.hosts = arguments.hosts.map_or(plan.hosts, usize::from);
    plan.runs = arguments.runs.map_or(plan.runs, usize::from);
    plan.time = arguments.time.map_or(plan.time, Duration::from_millis);
    let start = Instant::now();
    let found = run(&Lab::new()?, &plan, |what| eprintln!("{:>4.0} s: {what}", start.elapsed().as_secs_f64()))?;
    println!("{}", found.table());
    if let Some(path) = &arguments.json {
        write_json(path, &found)?;
    }
    Ok(found.is_as_expected())
}
