//! `cargo xtask test`: unit tests as the user, kernel tests as root, one sum.

mod binaries;
mod libtest;

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};

use self::{
    binaries::TestBinary,
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
    let binaries = binaries::compile(workspace)?;
    let mut sum = Summary::default();
    let mut skips = Vec::new();
    let mut failures = Vec::new();
    for binary in binaries.iter().filter(|binary| binary.kernel || kernel == Kernel::Also) {
        let outcome = run(workspace, binary, filter, missing)?;
        sum = sum + outcome.summary;
        skips.extend(outcome.skips);
        failures.extend(outcome.failures.iter().map(|test| format!("{}: {test}", binary.name)));
        interrupt::check()?;
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

fn run(workspace: &Workspace, binary: &TestBinary, filter: Option<&str>, missing: Missing) -> Result<Outcome> {
    let mut variables = vec![
        ("PATH", workspace.path()),
        ("CARGO_MANIFEST_DIR", binary.package.clone().into_os_string()),
        ("WAVNET_BIN", workspace.binary("wavnet", false).into_os_string()),
    ];
    for name in ["RUST_LOG", "RUST_BACKTRACE", "PROPTEST_CASES", "WAVNET_STRESS_SECONDS", "WAVNET_TEST_SEED"] {
        variables.extend(std::env::var_os(name).map(|value| (name, value)));
    }
    let mut command = if binary.kernel {
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
    if binary.kernel {
        // Each fills the machine with namespaces and traffic: side by side they would measure each other.
        command.arg("--test-threads=1");
        println!("{}", binary.name);
    }
    follow(&binary.name, &mut command, binary.kernel)
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
    follow("doc tests", &mut cargo, false)
}

/// Runs tests and shows failures at once; of what passes, each test's name only if it takes long enough to be watched.
fn follow(name: &str, command: &mut Command, each: bool) -> Result<Outcome> {
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
                Line::Failure => println!("{line}"),
                Line::Passed if each => println!("  {line}"),
                Line::Passed | Line::Noise | Line::Frame => {}
            }
        }
    }
    let status = child.wait()?;
    let outcome = reader.finish(status.success());
    println!("{name}: {} ({:.1} s)", outcome.summary, start.elapsed().as_secs_f32());
    if !status.success() && status.code() != Some(101) {
        println!("{name}: ended with {status}");
    }
    Ok(outcome)
}
