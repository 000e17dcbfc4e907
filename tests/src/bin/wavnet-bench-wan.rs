//! The overlay over a WAN, through NATs: `cargo xtask bench wan` builds and runs it. See docs/benchmarks.md.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Parser;
use wavnet_tests::{
    bench::{
        wan::{Plan, run},
        write_json,
    },
    lab::{self, Need, binary},
};

/// Measures round trips and TCP over a punched path between two NATs against the bare underlay, over links of several rates and
/// lengths.
#[derive(Debug, Parser)]
#[command(name = "wavnet-bench-wan", bin_name = "cargo xtask bench wan", version)]
struct Arguments {
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The `wavnet` that is measured; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    wavnet: Option<PathBuf>,
    /// One short run each: a first look, not to be published
    #[arg(long)]
    quick: bool,
    /// How often each is measured [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: Option<u16>,
    /// How long a stream is counted, milliseconds [default: 10000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=60_000))]
    time: Option<u64>,
    /// Only these round trips, milliseconds, separated by commas
    #[arg(long, value_name = "MS", value_delimiter = ',')]
    rtts: Option<Vec<f64>>,
    /// Only these rates, Mbit/s, separated by commas
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=10_000))]
    links: Option<Vec<u64>>,
}

fn main() -> ExitCode {
    match bench(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wavnet-bench-wan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: Arguments) -> Result<()> {
    if let Some(path) = arguments.wavnet {
        binary::choose(path);
    }
    if let Some(reason) = lab::missing(&[Need::Wavnet, Need::Tool("nft"), Need::Tool("conntrack")]) {
        bail!("{reason}");
    }
    if cfg!(debug_assertions) {
        eprintln!(
            "This is a debug build: senders and the emulator cost more than they should. Use `cargo xtask bench`."
        );
    }
    let mut plan = if arguments.quick { Plan::quick() } else { Plan::full() };
    plan.runs = arguments.runs.map_or(plan.runs, usize::from);
    plan.time = arguments.time.map_or(plan.time, Duration::from_millis);
    plan.links = arguments.links.unwrap_or(plan.links);
    if let Some(rtts) = arguments.rtts {
        let rtt = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).with_context(|| format!("{ms} ms is no round trip"));
        plan.rtts = rtts.into_iter().map(rtt).collect::<Result<_>>()?;
    }
    eprintln!("About {:.0} minutes.", (plan.takes().as_secs_f64() / 60.0).ceil());
    let found = run(&plan, |row| {
        eprintln!(
            "{} Mbit/s at {} ms: {:.1} of {:.1} Mbit/s, round trips {:.3} of {:.3} ms",
            row.link_mbps, row.rtt_ms, row.overlay_mbps, row.underlay_mbps, row.overlay_rtt_ms, row.underlay_rtt_ms
        );
    })?;
    println!("{}", found.table());
    if let Some(path) = &arguments.json {
        write_json(path, &found)?;
    }
    Ok(())
}
