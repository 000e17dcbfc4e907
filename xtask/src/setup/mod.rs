//! `cargo xtask setup`: gets what is missing. Every part first looks whether there is anything to do.

mod apt;
mod cargo;
mod compiler;
mod contenders;
mod linker;
mod tools;
mod unpacked;

use anyhow::{Context, Result, bail, ensure};
use wavnet_ebpf_builder::{self as builder, Toolchain};

use crate::{
    process,
    programs::{self, LAB},
    workspace::Workspace,
};

pub(crate) use tools::cargo_deny;

/// Gets everything, and says what there is.
pub(crate) fn everything(workspace: &Workspace, ci: bool, contenders: bool) -> Result<()> {
    ensure(workspace)?;
    if contenders {
        contenders::ensure(workspace)?;
    }
    if ci {
        println!("cargo-deny: {}", tools::cargo_deny(workspace)?.display());
    }
    println!("eBPF toolchain: {}", Toolchain::find(workspace)?.identity());
    println!("All there. Next: `cargo xtask run` for the demonstration, `cargo xtask test` for the tests.");
    Ok(())
}

/// What builds and runs the kernel programs: toolchain and lab.
pub(crate) fn ensure(workspace: &Workspace) -> Result<()> {
    // The packages first: where they cannot be had, that shows within seconds and not after minutes of compiling.
    lab(workspace)?;
    ensure_ebpf(workspace)?;
    tools::promtool(workspace)?;
    tools::coturn(workspace)
}

/// What builds the kernel programs.
pub(crate) fn ensure_ebpf(workspace: &Workspace) -> Result<()> {
    if Toolchain::find(workspace).is_err() {
        eprintln!("Getting the eBPF toolchain:");
        compiler::ensure(workspace)?;
        linker::ensure(workspace)?;
    }
    let toolchain = Toolchain::find(workspace).context("set-up finished, but what it installed does not work")?;
    builder::note(workspace, Some(&toolchain))?;
    Ok(())
}

fn lab(workspace: &Workspace) -> Result<()> {
    let missing = programs::missing(LAB, &workspace.path());
    if missing.is_empty() {
        return Ok(());
    }
    let packages = programs::packages(&missing);
    eprintln!("Getting the lab's programs:");
    apt::require_debian(&packages)?;
    if !process::can_elevate() {
        bail!(
            "installing packages needs root or sudo; let an administrator run:\n    apt-get install --no-install-recommends {}",
            packages.join(" ")
        );
    }
    apt::install(workspace, &packages)?;
    let missing = programs::missing(LAB, &workspace.path());
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    ensure!(names.is_empty(), "installed, but still not found: {}; is PATH complete?", names.join(", "));
    Ok(())
}
