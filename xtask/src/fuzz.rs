//! `cargo xtask fuzz`: libFuzzer on stable, one target after the other.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, workspace::Workspace};

/// The targets in fuzz/Cargo.toml.
const TARGETS: [&str; 13] = [
    "underlay",
    "port",
    "relay",
    "event",
    "config",
    "request",
    "control",
    "handshake",
    "rendezvous",
    "stun",
    "nat",
    "mesh",
    "datagrams",
];

/// With an explicit target, flags reach the code under test and not the build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What cargo-fuzz would pass; without it, stable needs them by hand.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Fuzzes some or all targets for a time each, from the corpus in the repository; findings stay under target/fuzz.
pub(crate) fn command(workspace: &Workspace, seconds: u32, wanted: &[String]) -> Result<ExitCode> {
    for name in wanted {
        ensure!(TARGETS.contains(&name.as_str()), "there is no fuzz target {name}; there are: {}", TARGETS.join(", "));
    }
    let fuzz = workspace.workspace().join("fuzz");
    let target_dir = workspace.target().join("fuzz");
    let mut build = workspace.cargo("build");
    build.current_dir(&fuzz).args(["--release", "--bins", "--target", TRIPLE]);
    build.env("CARGO_TARGET_DIR", &target_dir).env("RUSTFLAGS", FLAGS);
    process::run(&mut build)
        .context("the fuzz targets do not build (libFuzzer's runtime needs a C++ compiler: g++)")?;

    let mut found = Vec::new();
    for name in TARGETS.iter().filter(|name| wanted.is_empty() || wanted.iter().any(|w| w == *name)) {
        let work: PathBuf = target_dir.join("work").join(name);
        std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        eprintln!("== {name}, {seconds} s");
        // New inputs go to the first folder; the corpus in the repository is only read.
        let mut run = Command::new(target_dir.join(TRIPLE).join("release").join(name));
        run.current_dir(&work).arg(&work).arg(fuzz.join("corpus").join(name));
        run.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-timeout=10"]);
        if process::run(&mut run).is_err() {
            found.push(format!("{name}: see the crash-* or timeout-* file in {}", work.display()));
        }
    }
    if !found.is_empty() {
        bail!("fuzzing found something; add the input to fuzz/corpus with the fix\n{}", found.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}
