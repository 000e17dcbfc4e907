//! Debian packages: installed as root, or downloaded and unpacked under target/ without.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{self, elevated, run_long},
    workspace::Workspace,
};

/// An error with what to do, where there is no apt.
pub(super) fn require_debian(packages: &[&str]) -> Result<()> {
    if Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    bail!(
        "this is no Debian: install by your own package manager what Debian calls {}; `cargo xtask doctor` shows what is \
         still missing",
        packages.join(", ")
    )
}

fn apt(tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
    command
}

fn apt_as_root(arguments: &[&str]) -> Command {
    let variables = [("DEBIAN_FRONTEND", OsString::from("noninteractive")), ("LC_ALL", OsString::from("C"))];
    let mut command = elevated(Path::new("/usr/bin/apt-get"), &variables);
    command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]).args(arguments);
    command
}

/// The version that would be installed. `None` for a package that apt does not know.
pub(super) fn candidate(package: &str) -> Option<String> {
    candidate_in(&process::read(apt("apt-cache").args(["policy", package])).ok()?)
}

fn candidate_in(policy: &str) -> Option<String> {
    let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (candidate != "(none)").then(|| candidate.to_owned())
}

/// Fetches the package lists if apt does not know `package`, as on a machine freshly made.
pub(super) fn know(workspace: &Workspace, package: &str) -> Result<()> {
    if candidate(package).is_some() {
        return Ok(());
    }
    update(workspace)
}

fn update(workspace: &Workspace) -> Result<()> {
    if !process::can_elevate() {
        bail!("the package lists are missing or old; let an administrator run: apt-get update");
    }
    run_long(workspace, "package lists", &mut apt_as_root(&["update"]))
        .context("cannot get the package lists; check the network and the files in /etc/apt/sources.list.d")
}

/// Installs packages, without what they merely recommend.
pub(super) fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    for package in packages {
        know(workspace, package)?;
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    let what = "Debian packages of the lab";
    // Lists that are some days old name files that are gone: once more with new ones.
    if run_long(workspace, what, &mut apt_as_root(&arguments)).is_err() {
        update(workspace)?;
        run_long(workspace, what, &mut apt_as_root(&arguments))?;
    }
    Ok(())
}

/// Downloads packages into `cache` and unpacks them below `root`. Needs no root and does not touch the system.
pub(super) fn unpack(workspace: &Workspace, what: &str, packages: &[String], cache: &Path, root: &Path) -> Result<()> {
    for dir in [cache, root] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let download = || {
        let mut command = apt("apt-get");
        command.args(["-o", "Acquire::Retries=3", "download"]).args(packages).current_dir(cache);
        run_long(workspace, &format!("{what}: download"), &mut command)
    };
    if download().is_err() {
        update(workspace)?;
        download().context("cannot download Debian packages; check the network")?;
    }
    let mut archives = archives(cache)?;
    archives.sort();
    for archive in &archives {
        process::run(apt("dpkg-deb").arg("-x").arg(archive).arg(root))?;
    }
    // 100 MB that nobody needs again.
    fs::remove_dir_all(cache).with_context(|| format!("cannot remove {}", cache.display()))
}

fn archives(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The first direct dependency of `package` whose name starts with `prefix`.
pub(super) fn dependency(package: &str, prefix: &str) -> Result<String> {
    let output = process::read(apt("apt-cache").args(["depends", package]))?;
    dependency_in(&output, prefix)
        .with_context(|| format!("Debian's {package} does not depend on a {prefix}*; its packaging changed"))
}

fn dependency_in(depends: &str, prefix: &str) -> Option<String> {
    let names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// A package with everything it needs that is not installed.
pub(super) fn with_missing_dependencies(package: &str) -> Result<Vec<String>> {
    let mut command = apt("apt-cache");
    command.args(["depends", "--recurse", "--important", package]);
    let wanted = packages_in(&process::read(&mut command)?);
    // Fails when some of them are unknown to dpkg; those it knows are printed all the same.
    let installed = apt("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(&wanted)
        .output()
        .context("cannot start dpkg-query")?;
    let installed = String::from_utf8_lossy(&installed.stdout);
    let installed: BTreeSet<&str> = installed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    Ok(wanted.into_iter().filter(|name| !installed.contains(name.as_str())).collect())
}

/// The real packages in the output of `apt-cache depends --recurse`: unindented, and not `<virtual>`.
fn packages_in(depends: &str) -> BTreeSet<String> {
    let names = depends.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_without_candidate_is_unknown() {
        assert_eq!(candidate_in("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(
            candidate_in("x:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n").as_deref(),
            Some("1.96.0+dfsg1-1")
        );
        assert_eq!(candidate_in(""), None);
    }

    #[test]
    fn the_versioned_package_is_found_among_the_dependencies() {
        let output = "libstd-rust-web-dev\n  Depends: libstd-rust-web-1.96\n  Conflicts: <rustup>\n  Depends: libc6\n";
        assert_eq!(dependency_in(output, "libstd-rust").as_deref(), Some("libstd-rust-web-1.96"));
        assert_eq!(dependency_in(output, "libllvm"), None);
    }

    #[test]
    fn virtual_packages_are_left_out() {
        let output = "libllvm22\n  Depends: libc6\nlibc6\n<debconf-2.0>\n    debconf\nlibz3-4\n";
        assert_eq!(packages_in(output).into_iter().collect::<Vec<_>>(), ["libc6", "libllvm22", "libz3-4"]);
    }
}
