//! What we depend on: licences, sources, advisories, versions that were withdrawn; and what the cores do not depend on.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, shown},
    setup,
    test::Summary,
    workspace::Workspace,
};

/// Both lockfiles: that of the host crates and that of the kernel programs.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "wavnet-ebpf/Cargo.toml"];

/// All that the cores depend on, on whatever system, down to the last crate: none has a socket, a clock or the system's randomness to offer.
/// (`libc` is there for `cpufeatures`, which asks what the CPU can do.) Another one is a decision.
const PURE: &[&str] = &[
    "aead",
    "base64ct",
    "blake2",
    "block-buffer",
    "cfg-if",
    "chacha20",
    "chacha20poly1305",
    "cipher",
    "cpufeatures",
    "crypto-common",
    "curve25519-dalek",
    "digest",
    "fiat-crypto",
    "generic-array",
    "inout",
    "libc",
    "opaque-debug",
    "poly1305",
    "rand_core",
    "snow",
    "subtle",
    "thiserror",
    "typenum",
    "universal-hash",
    "wavnet-common",
    "wavnet-proto",
    "zeroize",
];

fn deny(workspace: &Workspace, manifest: &str) -> Result<Command> {
    // `cargo deny` wants to be called by cargo, for the environment that cargo sets.
    let deny = setup::cargo_deny(workspace)?;
    let mut command = Command::new(deny);
    command.current_dir(workspace.workspace()).args(["--locked", "--manifest-path", manifest]);
    command.args(["--config", "deny.toml", "check"]);
    Ok(command)
}

/// Licences, banned crates and registries, by deny.toml.
pub(super) fn licences(workspace: &Workspace) -> Result<Summary> {
    for manifest in MANIFESTS {
        process::run(deny(workspace, manifest)?.args(["licenses", "bans", "sources"]))?;
    }
    Ok(Summary::one(true))
}

/// That the cores depend on nothing by which they could reach beyond what their shell passes them. What the standard library offers
/// of that kind is forbidden by their clippy.toml.
pub(super) fn pure(workspace: &Workspace) -> Result<Summary> {
    let mut cargo = workspace.cargo("tree");
    cargo.args(["--locked", "--package", "wavnet-proto", "--edges", "normal,no-proc-macro", "--target", "all"]);
    cargo.args(["--prefix", "none", "--format", "{p}"]);
    let tree = process::read(&mut cargo)?;
    let found = impure(&tree);
    if !found.is_empty() {
        bail!(
            "wavnet-proto depends on {}: if that has no socket, clock or randomness of the system to offer, add it to `PURE`",
            found.join(", ")
        );
    }
    Ok(Summary::one(true))
}

/// Crates in cargo's list, `name v1.2.3 …` in each line, that are not allowed.
fn impure(tree: &str) -> Vec<&str> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.into_iter().filter(|name| !PURE.contains(name)).collect()
}

/// Security advisories, where their database can be had, and withdrawn versions always.
pub(super) fn advisories(workspace: &Workspace) -> Result<Summary> {
    for package in ["wavnet-user", "xtask", "wavnet-ebpf"] {
        withdrawn(workspace, Path::new(package))?;
    }
    println!("no dependency was withdrawn from the registry");
    for manifest in MANIFESTS {
        let mut command = deny(workspace, manifest)?;
        let output = command.arg("advisories").stdin(Stdio::null()).output().context("cannot start cargo-deny")?;
        if output.status.success() {
            println!("{manifest}: no advisories");
            continue;
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !unreachable(&stderr) {
            eprint!("{stderr}");
            bail!("`{}` failed ({})", shown(&command), output.status);
        }
        println!(
            "note: the advisory database cannot be reached from here, so advisories were NOT checked; on a machine"
        );
        println!("      with access to it, run `cargo xtask ci advisories`");
        break;
    }
    Ok(Summary::one(true))
}

/// Whether cargo-deny failed for want of its database, and not for what stands in it.
fn unreachable(stderr: &str) -> bool {
    stderr.contains("failed to fetch advisory database") || stderr.contains("failed to load advisory database")
}

/// Asks the registry whether a locked version was yanked: maintainers do that for what nobody should use. Cargo looks
/// when it installs a program with its lockfile, also when told not to go through with it.
fn withdrawn(workspace: &Workspace, package: &Path) -> Result<()> {
    let mut cargo = workspace.cargo("install");
    cargo
        .args(["--dry-run", "-Zunstable-options", "--locked", "--path"])
        .arg(package)
        // A place where nothing of that name is installed, or cargo has nothing to do.
        .arg("--root")
        .arg(workspace.toolchain().join("none"))
        .env("RUSTC_BOOTSTRAP", "1");
    let output = cargo.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", shown(&cargo)))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprint!("{stderr}");
        bail!("`{}` failed ({})", shown(&cargo), output.status);
    }
    let yanked = yanked_in(&stderr);
    if !yanked.is_empty() {
        bail!("withdrawn from the registry: {}; `cargo update` them", yanked.join(", "));
    }
    Ok(())
}

/// Reads ``warning: package `name v1.2.3` in Cargo.lock is yanked in registry …``.
fn yanked_in(stderr: &str) -> Vec<&str> {
    let lines = stderr.lines().filter(|line| line.contains("is yanked"));
    lines.map(|line| line.split('`').nth(1).unwrap_or(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn withdrawn_versions_are_named() {
        let stderr = "    Updating index\nwarning: package `core2 v0.4.0` in Cargo.lock is yanked in registry `x`, consider \
            running without --locked\nwarning: aborting install due to dry run\n";
        assert_eq!(yanked_in(stderr), ["core2 v0.4.0"]);
        assert!(yanked_in("warning: aborting install due to dry run\n").is_empty());
    }

    #[test]
    fn crates_that_reach_out_are_named() {
        let tree = "wavnet-proto v0.1.0 (/x)\nsnow v0.10.0\nsnow v0.10.0 (*)\ntokio v1.54.0\ngetrandom v0.3.4\ntokio v1.54.0 (*)\n\n";
        assert_eq!(impure(tree), ["getrandom", "tokio"]);
        assert!(PURE.is_sorted());
    }

    #[test]
    fn a_missing_database_is_told_from_an_advisory() {
        assert!(unreachable("2026 [ERROR] failed to fetch advisory database https://… with cli: failed to clone"));
        assert!(!unreachable("error[vulnerability]: Memory corruption in x\nadvisories FAILED"));
    }
}
