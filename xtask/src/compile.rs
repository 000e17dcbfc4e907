//! Compiling: kernel programs first, so that their errors come unwrapped, then the workspace.

use std::process::Command;

use anyhow::{Result, bail};
use wavnet_ebpf_builder::{self as builder, Error, Messages, Toolchain};

use crate::{process, workspace::Workspace};

/// Builds the kernel programs on our terminal and notes the toolchain for the build scripts.
pub(crate) fn ebpf(workspace: &Workspace) -> Result<Toolchain> {
    let found = Toolchain::find(workspace);
    builder::note(workspace, found.as_ref().ok())?;
    let toolchain = found?;
    let artifacts = builder::build(workspace, &toolchain, Messages::Inherit)?;
    if artifacts.is_empty() {
        bail!("wavnet-ebpf has no programs");
    }
    Ok(toolchain)
}

/// As [`ebpf`], but a missing toolchain is only noted: host crates compile without, and say so.
pub(crate) fn ebpf_if_possible(workspace: &Workspace) -> Result<()> {
    match ebpf(workspace) {
        Err(error) if matches!(error.downcast_ref(), Some(Error::NoToolchain(_))) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// `cargo xtask build`.
pub(crate) fn workspace(workspace: &Workspace, release: bool) -> Result<()> {
    ebpf(workspace)?;
    let mut cargo = workspace.cargo("build");
    cargo.args(["--workspace", "--bins"]);
    if release {
        cargo.arg("--release");
    }
    process::run(&mut cargo)
}

/// A command that builds all tests of the workspace, and its binaries, which the kernel tests start. In one go, because cargo gives
/// dependencies other features where tests are not asked for, and would compile many of them twice.
pub(crate) fn tests_and_binaries(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--workspace", "--bins", "--tests"]);
    cargo
}

/// Builds some of the workspace's binaries, optimised.
pub(crate) fn binaries(workspace: &Workspace, names: &[&str]) -> Result<()> {
    ebpf(workspace)?;
    let mut cargo = workspace.cargo("build");
    cargo.arg("--release");
    for name in names {
        cargo.args(["--bin", name]);
    }
    process::run(&mut cargo)
}
