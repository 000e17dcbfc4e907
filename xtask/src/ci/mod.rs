//! `cargo xtask ci`: the only list of checks.

mod dependencies;

use std::{process::ExitCode, thread, time::Instant};

use anyhow::Result;
use wavnet_ebpf_builder::{self as builder, RustcVersion, Toolchain};

use crate::{
    compile, interrupt,
    process::{self, read},
    run, setup,
    test::{self, Kernel, Missing, Summary},
    workspace::Workspace,
};

/// One step: its name and what it does.
struct Step {
    name: &'static str,
    run: fn(&Workspace) -> Result<Summary>,
}

/// Steps that need cargo-deny.
const LICENCES: &str = "licences";
const ADVISORIES: &str = "advisories";

/// In the order that fails fastest.
const STEPS: &[Step] = &[
    Step { name: "fmt", run: fmt },
    Step { name: "pure", run: dependencies::pure },
    Step { name: "setup", run: set_up },
    Step { name: "clippy", run: clippy },
    Step { name: "clippy-ebpf", run: clippy_ebpf },
    Step { name: "clippy-fuzz", run: clippy_fuzz },
    Step { name: LICENCES, run: dependencies::licences },
    Step { name: ADVISORIES, run: dependencies::advisories },
    Step { name: "tests", run: tests },
    Step { name: "docs", run: docs },
    Step { name: "demonstration", run: demonstration },
];

/// Names of the steps, in their order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|step| step.name)
}

/// Runs the steps that are named, or all; a step that fails does not keep the next from running.
pub(crate) fn command(workspace: &Workspace, wanted: &[String]) -> Result<ExitCode> {
    interrupt::defer()?;
    let steps: Vec<&Step> =
        STEPS.iter().filter(|step| wanted.is_empty() || wanted.iter().any(|name| name == step.name)).collect();
    thread::scope(|scope| {
        if steps.iter().any(|step| [LICENCES, ADVISORIES].contains(&step.name)) {
            // Compiled beside the steps before, which leave a CPU to it now and then. If it fails, those that need it say why.
            scope.spawn(|| setup::cargo_deny(workspace).map(drop));
        }
        run_each(workspace, &steps)
    })
}

fn run_each(workspace: &Workspace, steps: &[&Step]) -> Result<ExitCode> {
    let mut sum = Summary::default();
    let mut report = Vec::new();
    for step in steps {
        println!("\n=== {}", step.name);
        let start = Instant::now();
        let summary = (step.run)(workspace).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Summary::one(false)
        });
        interrupt::check()?;
        let word = if clean(summary) { "ok" } else { "FAILED" };
        report.push(format!("{word:<6}  {:>5.0} s  {}", start.elapsed().as_secs_f32(), step.name));
        sum = sum + summary;
    }
    println!("\n{}", report.join("\n"));
    println!("\n{sum}");
    Ok(if clean(sum) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A skipped test is as bad as a failed one: nobody looked.
fn clean(summary: Summary) -> bool {
    summary.failed == 0 && summary.skipped == 0
}

fn done(result: Result<()>) -> Result<Summary> {
    result.map(|()| Summary::one(true))
}

fn fmt(workspace: &Workspace) -> Result<Summary> {
    process::run(workspace.cargo("fmt").args(["--all", "--check"]))?;
    for apart in ["wavnet-ebpf", "fuzz"] {
        process::run(workspace.cargo("fmt").args(["--check", "--manifest-path", &format!("{apart}/Cargo.toml")]))?;
    }
    Ok(Summary::one(true))
}

fn set_up(workspace: &Workspace) -> Result<Summary> {
    done(setup::ensure(workspace))
}

fn clippy(workspace: &Workspace) -> Result<Summary> {
    // First, as the build scripts would, but with its messages on the terminal.
    compile::ebpf(workspace)?;
    done(process::run(workspace.cargo("clippy").args([
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ])))
}

/// With the clippy of the eBPF compiler, which sees the code as the kernel gets it; else with stable's for the host.
fn clippy_ebpf(workspace: &Workspace) -> Result<Summary> {
    let toolchain = Toolchain::find(workspace)?;
    let mut command = match toolchain.compiler.clippy_driver() {
        Some(driver) => {
            let mut command = builder::command(workspace, &toolchain, "check");
            command.args(["--release", "--bins", "--locked"]);
            command.env("RUSTC_WORKSPACE_WRAPPER", driver);
            // How cargo-clippy passes arguments to its driver.
            command.env("CLIPPY_ARGS", ["-Dwarnings", ""].join("__CLIPPY_HACKERY__"));
            command
        }
        None => {
            let version = read(std::process::Command::new("rustc").arg("-vV"))?;
            let host = RustcVersion::parse(&version).map(|version| version.host).unwrap_or_default();
            let mut command = workspace.cargo("clippy");
            command.current_dir(workspace.ebpf_package());
            command.args(["--bins", "--locked", "--target", &host, "--target-dir"]).arg(workspace.ebpf_target());
            command.args(["--", "--deny", "warnings"]);
            command
        }
    };
    done(process::run(&mut command))
}

/// The fuzz targets, where libFuzzer's runtime can be compiled.
fn clippy_fuzz(workspace: &Workspace) -> Result<Summary> {
    if read(std::process::Command::new("c++").arg("--version")).is_err() {
        println!("note: no C++ compiler, which libFuzzer's runtime needs: the fuzz targets were not checked");
        return Ok(Summary::one(true));
    }
    let mut cargo = workspace.cargo("clippy");
    // With the workspace's profiles, what it depends on is what was checked for the workspace.
    cargo.current_dir(workspace.workspace().join("fuzz")).args(["--config", "../Cargo.toml", "--target-dir"]);
    cargo.arg(workspace.target());
    done(process::run(cargo.args(["--bins", "--locked", "--", "--deny", "warnings"])))
}

fn tests(workspace: &Workspace) -> Result<Summary> {
    test::all(workspace, None, Kernel::Also, Missing::Fail)
}

fn docs(workspace: &Workspace) -> Result<Summary> {
    let mut cargo = workspace.cargo("doc");
    cargo.args(["--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "--deny warnings");
    done(process::run(&mut cargo))
}

/// With the programs that the tests have: another build, optimised, takes minutes and would show nothing else.
fn demonstration(workspace: &Workspace) -> Result<Summary> {
    setup::ensure(workspace)?;
    compile::ebpf(workspace)?;
    process::run(&mut compile::tests_and_binaries(workspace))?;
    done(process::run(run::demonstration_command(workspace, false)?.arg("--once")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_fail_ci() {
        assert!(clean(Summary { passed: 9, failed: 0, skipped: 0 }));
        assert!(!clean(Summary { passed: 9, failed: 0, skipped: 1 }));
        assert!(!clean(Summary { passed: 9, failed: 1, skipped: 0 }));
    }

    #[test]
    fn step_names_are_unique() {
        let mut names: Vec<&str> = names().collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
