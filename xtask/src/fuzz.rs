//! `cargo xtask fuzz`: libFuzzer on stable, one target after the other, each on several CPUs.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{interrupt, process, workspace::Workspace};

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

/// Those that tell long stories by short inputs. What the code compares is no part of the input, and watching it would take half of the time.
const STORIES: [&str; 1] = ["mesh"];

/// With an explicit target, flags reach the code under test and not the build scripts.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// What cargo-fuzz would pass; without it, stable needs them by hand.
const FLAGS: &str = "--cfg fuzzing -Ctarget-cpu=native -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table";
const COMPARES: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";
/// How those of them begin that have code watched.
const WATCHING: [&str; 2] = ["-Cpasses=sancov", "-Cllvm-args=-sanitizer-coverage"];

/// Tells us, called by Cargo in place of the compiler, where our own code is.
const WATCHED: &str = "WAVNET_FUZZ_WATCHED";

/// Fuzzes some or all targets for a time each, from the corpus in the repository; findings stay under target/fuzz.
pub(crate) fn command(workspace: &Workspace, seconds: u32, jobs: usize, wanted: &[String]) -> Result<ExitCode> {
    for name in wanted {
        ensure!(TARGETS.contains(&name.as_str()), "there is no fuzz target {name}; there are: {}", TARGETS.join(", "));
    }
    let wanted = TARGETS.into_iter().filter(|name| wanted.is_empty() || wanted.iter().any(|w| w == name));
    let (stories, others): (Vec<&str>, Vec<&str>) = wanted.partition(|name| STORIES.contains(name));
    build(workspace, &stories, FLAGS, &["--no-default-features"])?;
    build(workspace, &others, &[FLAGS, COMPARES].join(" "), &[])?;
    let (mut report, mut found) = (Vec::new(), Vec::new());
    for name in others.into_iter().chain(stories) {
        eprintln!("== {name}, {seconds} s on {jobs} CPUs");
        let start = Instant::now();
        let run = Run::new(workspace, name, seconds, jobs)?;
        let (executions, finding) = run.finish()?;
        let per_second = executions as f64 / start.elapsed().as_secs_f64();
        eprintln!("{name}: {executions} executions, {per_second:.0}/s");
        report.push(format!("{name:12} {executions:>12} executions"));
        found.extend(finding);
    }
    println!("{}", report.join("\n"));
    if !found.is_empty() {
        bail!("fuzzing found something; add the input to fuzz/corpus with the fix\n{}", found.join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn build(workspace: &Workspace, targets: &[&str], flags: &str, args: &[&str]) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    let mut build = workspace.cargo("build");
    build.current_dir(workspace.workspace().join("fuzz")).args(["--release", "--target", TRIPLE]).args(args);
    build.args(targets.iter().flat_map(|name| ["--bin", name]));
    build.env("CARGO_TARGET_DIR", target_dir(workspace)).env("RUSTFLAGS", flags);
    build.env("RUSTC_WRAPPER", env::current_exe()?).env(WATCHED, workspace.workspace());
    process::run(&mut build).context("the fuzz targets do not build (libFuzzer's runtime needs a C++ compiler: g++)")
}

/// Where Cargo calls us in place of the compiler: compiles, and has others' code left unwatched, which would only cost time. `None` elsewhere.
pub(crate) fn as_compiler() -> Option<ExitCode> {
    let watched = env::var_os(WATCHED)?;
    let mut args = env::args_os().skip(1);
    let mut compiler = Command::new(args.next()?);
    let is_ours = env::var_os("CARGO_MANIFEST_DIR").is_some_and(|dir| Path::new(&dir).starts_with(watched));
    compiler.args(args.filter(|arg| is_ours || !arg.to_str().is_some_and(is_watching)));
    eprintln!("cannot start the compiler: {}", compiler.exec());
    Some(ExitCode::FAILURE)
}

fn is_watching(arg: &str) -> bool {
    WATCHING.iter().any(|start| arg.starts_with(start))
}

fn target_dir(workspace: &Workspace) -> PathBuf {
    workspace.target().join("fuzz")
}

/// A target that is being fuzzed by several processes, which share what they find.
struct Run {
    name: &'static str,
    work: PathBuf,
    jobs: Vec<(Child, PathBuf)>,
}

impl Run {
    fn new(workspace: &Workspace, name: &'static str, seconds: u32, jobs: usize) -> Result<Run> {
        let target_dir = target_dir(workspace);
        let work = target_dir.join("work").join(name);
        fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let mut run = Run { name, work, jobs: Vec::new() };
        for job in 1..=jobs {
            let log = run.work.with_file_name(format!("{name}-{job}.log"));
            let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
            // New inputs go to the first folder; the corpus in the repository is only read.
            let mut fuzzer = Command::new(target_dir.join(TRIPLE).join("release").join(name));
            fuzzer.current_dir(&run.work).arg(&run.work).arg(workspace.workspace().join("fuzz/corpus").join(name));
            fuzzer.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-timeout=10"]);
            if STORIES.contains(&name) {
                fuzzer.args(["-max_len=64", "-entropic_scale_per_exec_time=1"]);
            }
            let child = fuzzer.stderr(file).spawn().with_context(|| format!("cannot start {name}"))?;
            run.jobs.push((child, log));
        }
        Ok(run)
    }

    /// Waits for the end, or for the first finding, which ends the others. Returns how many executions there were, and what was found.
    fn finish(mut self) -> Result<(u64, Option<String>)> {
        let (mut running, mut failed) = (self.jobs.len(), None);
        while running > 0 && failed.is_none() {
            thread::sleep(Duration::from_millis(200));
            interrupt::check()?;
            running = 0;
            for (child, log) in &mut self.jobs {
                match child.try_wait()? {
                    None => running += 1,
                    Some(status) if !status.success() => failed = Some(log.clone()),
                    Some(_) => {}
                }
            }
        }
        let mut executions = 0;
        for (child, log) in &mut self.jobs {
            // One that has ended is not ended again.
            let _ = child.kill();
            child.wait()?;
            executions += executed(&String::from_utf8_lossy(&fs::read(log)?));
        }
        let found = |log: PathBuf| {
            let (name, log) = (self.name, log.display());
            format!("{name}: see the crash-* or timeout-* file in {}, and {log}", self.work.display())
        };
        Ok((executions, failed.map(found)))
    }
}

/// How many executions a log tells of: its last line that begins with `#` and a number.
fn executed(log: &str) -> u64 {
    let number = |line: &str| line.strip_prefix('#')?.split_whitespace().next()?.parse().ok();
    log.lines().rev().find_map(number).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_those_of_the_last_line_that_counts() {
        let log = "INFO: seed\n#16\tINITED cov: 5\n#1199\tNEW    cov: 6\n###### Recommended dictionary. ######\n#x\n";
        assert_eq!(executed(log), 1199);
        assert_eq!(executed(""), 0);
    }

    #[test]
    fn all_that_watches_is_known_as_such() {
        let flags = [FLAGS, COMPARES].join(" ");
        let rest: Vec<&str> = flags.split_whitespace().filter(|flag| !is_watching(flag)).collect();
        assert_eq!(rest, ["--cfg", "fuzzing", "-Ctarget-cpu=native", "-Ccodegen-units=1"]);
    }
}
