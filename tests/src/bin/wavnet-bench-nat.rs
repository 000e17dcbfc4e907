//! The grid of NAT types: `cargo xtask bench nat` builds and runs it. See docs/nat.md.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Serialize;
use wavnet_tests::{
    lab::{self, Lab, Need, binary},
    mesh::grid::{KINDS, Row, measure},
};

/// Brings up all pairs of the papers' four types of NAT, with real agents and routers, and says which path each pair got.
#[derive(Debug, Parser)]
#[command(name = "wavnet-bench-nat", bin_name = "cargo xtask bench nat", version)]
struct Arguments {
    /// Also write the results to a file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The `wavnet` that is measured; default: the one beside this program
    #[arg(long, value_name = "FILE")]
    wavnet: Option<PathBuf>,
    /// How long a pair may take to get its path, seconds
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    patience: u64,
}

#[derive(Debug, Serialize)]
struct Found {
    rows: Vec<Row>,
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wavnet-bench-nat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn ms(value: Option<u64>) -> String {
    value.map_or_else(|| "–".to_owned(), |ms| ms.to_string())
}

/// True if every pair got what it should, in time, and within what a router can bear.
fn bench(arguments: &Arguments) -> Result<bool> {
    if let Some(path) = &arguments.wavnet {
        binary::choose(path.clone());
    }
    if let Some(reason) = lab::missing(&[Need::Wavnet]) {
        bail!("{reason}");
    }
    let mut rows = Vec::new();
    let mut flaws = Vec::new();
    println!("| a | b | path | first frame, ms | direct, ms | conntrack entries |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for a in KINDS {
        for b in KINDS {
            let lab = Lab::new()?;
            let row = measure(&lab, a, b, Duration::from_secs(arguments.patience))?;
            flaws.extend(row.flaws(a, b).into_iter().map(|flaw| format!("{a} and {b}: {flaw}")));
            println!(
                "| {} | {} | {} | {} | {} | {} |",
                row.a,
                row.b,
                row.path,
                ms(row.first_frame_ms),
                ms(row.direct_ms),
                row.conntrack_entries
            );
            rows.push(row);
        }
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&Found { rows })?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    flaws.iter().for_each(|flaw| eprintln!("wavnet-bench-nat: {flaw}"));
    Ok(flaws.is_empty())
}
