//! What else carries VMs' frames, for the benchmark to compare with: unpacked under target/, never installed to the system, where
//! Debian's packages would start services.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{apt, compiler, linker::remove_build_directory};
use crate::{process::run_long, workspace::Workspace};

/// Programs out of one Debian package.
struct Package {
    name: &'static str,
    /// Packages of the same source that it cannot do without.
    with: &'static [&'static str],
    /// Paths of programs in it.
    programs: &'static [&'static str],
}

const PACKAGES: &[Package] = &[
    Package {
        name: "openvswitch-switch",
        with: &["openvswitch-common"],
        programs: &[
            "usr/sbin/ovsdb-server",
            "usr/lib/openvswitch-switch/ovs-vswitchd",
            "usr/bin/ovsdb-tool",
            "usr/bin/ovs-vsctl",
            "usr/bin/ovs-appctl",
        ],
    },
    Package { name: "n2n", with: &[], programs: &["usr/sbin/edge", "usr/bin/supernode"] },
    Package { name: "tinc", with: &[], programs: &["usr/sbin/tincd"] },
];

const VPNCLOUD: &str = "vpncloud";

/// Gets those that are missing. The benchmark looks for them in the same places.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let home = workspace.toolchain().join("contenders");
    let bin = home.join("bin");
    for package in PACKAGES {
        let missing = package.programs.iter().any(|program| !wrapper_of(&bin, program).is_file());
        if missing {
            unpack(workspace, package, &home).with_context(|| format!("getting {}", package.name))?;
        }
    }
    if !bin.join(VPNCLOUD).is_file() {
        compile(workspace, &home)?;
    }
    println!("Contenders of the benchmark: {}", bin.display());
    Ok(())
}

fn wrapper_of(bin: &Path, program: &str) -> PathBuf {
    bin.join(Path::new(program).file_name().unwrap_or_default())
}

fn unpack(workspace: &Workspace, package: &Package, home: &Path) -> Result<()> {
    apt::require_debian(&[package.name])?;
    apt::know(workspace, package.name)?;
    let root = home.join("root");
    // Of what they depend on the libraries will do: services, scripts and interpreters are not needed.
    let mut packages = apt::with_missing_dependencies(package.name)?;
    packages.retain(|name| name.starts_with("lib"));
    packages.extend([package.name].iter().chain(package.with).map(|name| (*name).to_owned()));
    apt::unpack(workspace, package.name, &packages, &home.join("packages"), &root)?;
    let libraries = [root.clone(), root.join("usr")].map(|dir| compiler::library_path_below(&dir)).join(":");
    for program in package.programs {
        let path = root.join(program);
        ensure!(path.is_file(), "Debian's {} has no {program}; its packaging changed", package.name);
        compiler::wrapper(&wrapper_of(&home.join("bin"), program), &path, &libraries)?;
    }
    Ok(())
}

fn compile(workspace: &Workspace, home: &Path) -> Result<()> {
    let version = workspace.pin(VPNCLOUD)?;
    let mut cargo = workspace.cargo("install");
    cargo
        .args([VPNCLOUD, "--locked", "--version", &format!("^{version}"), "--root"])
        .arg(home)
        .env_remove("RUSTFLAGS")
        .env("CARGO_TARGET_DIR", workspace.toolchain().join("build"));
    run_long(workspace, "vpncloud: compile", &mut cargo)?;
    remove_build_directory(workspace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_called_as_their_programs() {
        for program in PACKAGES.iter().flat_map(|package| package.programs) {
            let wrapper = wrapper_of(Path::new("/b"), program);
            assert!(program.ends_with(&format!("/{}", wrapper.file_name().unwrap().display())));
            assert_eq!(wrapper.parent(), Some(Path::new("/b")));
        }
    }
}
