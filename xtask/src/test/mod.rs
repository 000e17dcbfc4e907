//! `cargo xtask test`: unit tests as the user, kernel tests as root, one sum.

mod binaries;
mod libtest;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use anyhow::{Context, Result};

use self::{
    binaries::{Company, TestBinary},
    libtest::{Line, Outcome, Reader},
};
use crate::{compile, interrupt, process, setup, workspace::Workspace};

pub(crate) use libtest::Summary;

/// Which tests to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Only those of the kernel programs.
    Only,
    /// Those and all others.
    Also,
}

/// Binaries of kernel tests that run at a time: some wait most of the time, for routes, leases and timeouts; for others the kernel checks programs.
const SIDE_BY_SIDE: usize = 4;
/// The same of others. Many of them have one test that takes long, and leave a CPU to others meanwhile.
const AS_THE_USER: usize = 2;

/// What a missing requirement means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The tests that need it are skipped.
    Skip,
    /// They fail.
    Fail,
}

/// The command: gets what is missing, compiles, runs, sums up.
pub(crate) fn command(workspace: &Workspace, filter: Option<&str>, kernel: Kernel) -> Result<ExitCode> {
    interrupt::defer()?;
    let mut missing = if process::can_elevate() { Missing::Fail } else { Missing::Skip };
    if let Err(error) = setup::ensure(workspace) {
        eprintln!("warning: not everything that the kernel tests need can be had, those are skipped: {error:#}");
        missing = Missing::Skip;
    }
    let summary = all(workspace, filter, kernel, missing)?;
    println!("\n{summary}");
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compiles and runs the tests.
///
/// # Errors
///
/// They do not compile, or Ctrl-C. Tests that fail are in the sum.
pub(crate) fn all(workspace: &Workspace, filter: Option<&str>, kernel: Kernel, missing: Missing) -> Result<Summary> {
    compile::ebpf_if_possible(workspace)?;
    let binaries = binaries::of(workspace)?;
    let mut sum = Summary::default();
    let mut skips = Vec::new();
    let mut failures = Vec::new();
    let of = |company| binaries.iter().filter(move |binary| binary.company == company);
    let mut outcomes = Vec::new();
    let users = of(Company::Unprivileged).filter(|_| kernel == Kernel::Also);
    let (users, busy) = thread::scope(|scope| {
        let busy = scope.spawn(|| run_each(workspace, of(Company::KernelBusy), 1, filter, missing));
        (run_each(workspace, users, AS_THE_USER, filter, missing), joined(busy.join()))
    });
    outcomes.extend(users?.into_iter().chain(busy?));
    outcomes.extend(run_each(workspace, of(Company::Kernel), SIDE_BY_SIDE, filter, missing)?);
    outcomes.extend(run_each(workspace, of(Company::KernelAlone), 1, filter, missing)?);
    for (binary, outcome) in outcomes {
        sum = sum + outcome.summary;
        skips.extend(outcome.skips);
        failures.extend(outcome.failures.iter().map(|test| format!("{}: {test}", binary.name)));
    }
    if kernel == Kernel::Also {
        let outcome = doc_tests(workspace, filter)?;
        sum = sum + outcome.summary;
        failures.extend(outcome.failures);
    }
    for (title, names) in [("Skipped", &skips), ("Failed", &failures)] {
        if !names.is_empty() {
            println!("\n{title}:\n  {}", names.join("\n  "));
        }
    }
    Ok(sum)
}

/// Runs binaries, so many at a time; what each prints stays together.
fn run_each<'a>(
    workspace: &Workspace,
    binaries: impl Iterator<Item = &'a TestBinary> + Send,
    at_a_time: usize,
    filter: Option<&str>,
    missing: Missing,
) -> Result<Vec<(&'a TestBinary, Outcome)>> {
    let queue = Mutex::new(binaries);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || {
        let mut outcomes = Vec::new();
        while let Some(binary) = next() {
            let beside = at_a_time > 1 || binary.company == Company::KernelBusy;
            outcomes.push((binary, run(workspace, binary, filter, missing, beside)?));
            interrupt::check()?;
        }
        Ok(outcomes)
    };
    let all: Vec<Result<Vec<_>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| joined(worker.join())).collect()
    });
    Ok(all.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn joined<T>(ended: thread::Result<Result<T>>) -> Result<T> {
    ended.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread that ran tests panicked")))
}

fn run(
    workspace: &Workspace,
    binary: &TestBinary,
    filter: Option<&str>,
    missing: Missing,
    at_the_end: bool,
) -> Result<Outcome> {
    let mut variables = vec![
        ("PATH", workspace.path()),
        ("CARGO_MANIFEST_DIR", binary.package.clone().into_os_string()),
        ("WAVNET_BIN", workspace.binary("wavnet", false).into_os_string()),
    ];
    for name in ["RUST_LOG", "RUST_BACKTRACE", "PROPTEST_CASES", "WAVNET_STRESS_SECONDS", "WAVNET_TEST_SEED"] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
    }
    let is_kernel = binary.company != Company::Unprivileged;
    let mut command = if is_kernel {
        if missing == Missing::Fail {
            variables.push(("WAVNET_REQUIRE_KERNEL", OsString::from("1")));
        }
        kernel_command(&binary.path, &variables)
    } else {
        let mut command = Command::new(&binary.path);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command
    };
    command.arg("--show-output").args(filter).current_dir(&binary.package);
    if is_kernel {
        // A binary's tests are often of one kind, and would find what they look for in each other's traces.
        command.arg("--test-threads=1");
    }
    let mut kept = Vec::new();
    let outcome =
        follow(
            &binary.name,
            &mut command,
            is_kernel,
            |line| {
                if at_the_end { kept.push(line) } else { println!("{line}") }
            },
        );
    if at_the_end {
        println!("{}", kept.join("\n"));
    }
    outcome
}

fn kernel_command(path: &Path, variables: &[(&str, OsString)]) -> Command {
    if process::can_elevate() {
        return process::elevated(path, variables);
    }
    let mut command = Command::new(path);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

fn doc_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Outcome> {
    let mut cargo = workspace.cargo("test");
    cargo.args(["--quiet", "--workspace", "--doc", "--", "--show-output"]).args(filter);
    follow("doc tests", &mut cargo, false, |line| println!("{line}"))
}

/// Runs tests and tells of failures at once; of what passes, each test's name only if it takes long enough to be watched.
fn follow(name: &str, command: &mut Command, each: bool, mut tell: impl FnMut(String)) -> Result<Outcome> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{}`", process::shown(command)))?;
    let mut reader = Reader::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read what the tests print")?;
            let line = String::from_utf8_lossy(&line);
            match reader.feed(&line) {
                Line::Failure => tell(line.into_owned()),
                Line::Passed if each => tell(format!("  {line}")),
                Line::Passed | Line::Noise | Line::Frame => {}
            }
        }
    }
    let status = child.wait()?;
    let outcome = reader.finish(status.success());
    tell(format!("{name}: {} ({:.1} s)", outcome.summary, start.elapsed().as_secs_f32()));
    if !status.success() && status.code() != Some(101) {
        tell(format!("{name}: ended with {status}"));
    }
    Ok(outcome)
}
