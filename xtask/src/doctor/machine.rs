//! Requirements outside the kernel: compilers, rights, programs.

use std::{
    env, fs,
    process::{Command, Stdio},
};

use wavnet_ebpf_builder::{Error, RustcVersion, Toolchain, Version, compiler, linker};

use super::{Area, Check, Verdict, missing};
use crate::{
    process,
    programs::{self, LAB, PROMTOOL, Program, STUN},
    workspace::Workspace,
};

pub(super) fn build() -> Vec<Check> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let rustc = process::read(Command::new(rustc).arg("-vV"));
    let oldest = Version::parse(env!("CARGO_PKG_RUST_VERSION")).unwrap_or(Version { major: 1, minor: 0 });
    let cc =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).map(|dir| dir.join("cc")).find(|cc| cc.is_file());
    let cc = match cc {
        Some(cc) => Verdict::Found(cc.display().to_string()),
        None => missing("no cc in PATH", "apt-get install gcc libc6-dev"),
    };
    vec![
        Check::new(
            Area::Build,
            "rustc",
            host_compiler(rustc.ok().and_then(|output| RustcVersion::parse(&output)), oldest),
        ),
        Check::new(Area::Build, "linker (cc)", cc),
    ]
}

fn host_compiler(version: Option<RustcVersion>, oldest: Version) -> Verdict {
    match version {
        Some(version) if version.version >= oldest => Verdict::Found(version.release),
        Some(version) => missing(
            format!("{} is older than {oldest}", version.release),
            "rustup update stable && rustup default stable",
        ),
        None => missing("no rustc", "install Rust with rustup"),
    }
}

pub(super) fn ebpf(workspace: &Workspace) -> Vec<Check> {
    let area = Area::Ebpf;
    match Toolchain::find(workspace) {
        Ok(Toolchain { compiler, linker }) => {
            let core = if compiler.core == compiler::Core::Prebuilt { "compiled core" } else { "core from source" };
            let llvm = linker.llvm.map_or_else(|| "LLVM linked in".to_owned(), |llvm| format!("LLVM {llvm}"));
            let version = &compiler.version;
            vec![
                Check::new(
                    area,
                    "compiler",
                    Verdict::Found(format!(
                        "{} ({}, LLVM {}, {core})",
                        compiler.rustc.display(),
                        version.release,
                        version.llvm
                    )),
                ),
                Check::new(
                    area,
                    "linker",
                    Verdict::Found(format!("{} ({}, {llvm})", linker.path.display(), linker.name)),
                ),
            ]
        }
        Err(error) => {
            let found = match error {
                Error::NoToolchain(looked_at) => looked_at.join("; "),
                other => other.to_string(),
            };
            let mend = format!(
                "cargo xtask setup; or have a rustup nightly with rust-src and a bpf-linker; or name them with {} and {}",
                compiler::RUSTC_VARIABLE,
                linker::LINKER_VARIABLE
            );
            vec![Check::new(area, "compiler and linker", missing(found, mend))]
        }
    }
}

/// CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF: bits of the kernel's capability sets.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

pub(super) fn rights() -> Vec<Check> {
    let area = Area::Rights;
    if !process::is_root() {
        let sudo = Command::new("sudo").args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let verdict = match sudo {
            Ok(status) if status.success() => Verdict::Found("sudo without a password".into()),
            Ok(_) => Verdict::Note("sudo; it will ask for your password".into()),
            Err(_) => {
                missing("not root, and there is no sudo", "run as root, or install sudo and give yourself its rights")
            }
        };
        return vec![Check::new(area, "root", verdict)];
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    vec![
        Check::new(area, "root", Verdict::Found("yes".into())),
        Check::new(area, "capabilities", capabilities(&status)),
    ]
}

fn capabilities(status: &str) -> Verdict {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else {
        return Verdict::Note("/proc/self/status does not tell".into());
    };
    let lacking: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if lacking.is_empty() {
        Verdict::Found(CAPABILITIES.map(|(_, name)| name).join(", "))
    } else {
        missing(
            format!("lacking {}", lacking.join(", ")),
            "this is a container without rights: start it privileged, or use a virtual machine",
        )
    }
}

pub(super) fn lab(workspace: &Workspace) -> Vec<Check> {
    let path = workspace.path();
    let check = |program: &Program| {
        let verdict = match programs::find(program.name, &path) {
            Some(found) => Verdict::Found(found.display().to_string()),
            None => missing(
                format!("not found ({})", program.purpose),
                format!("cargo xtask setup (Debian package {})", program.package),
            ),
        };
        Check::new(Area::Lab, program.name, verdict)
    };
    let mut checks: Vec<Check> = LAB.iter().chain(STUN).chain([&PROMTOOL]).map(check).collect();
    checks.push(Check::new(
        Area::Lab,
        "cargo-deny",
        match programs::find("cargo-deny", &path) {
            Some(found) => Verdict::Found(found.display().to_string()),
            None => Verdict::Note("only `cargo xtask ci` needs it, and gets it".into()),
        },
    ));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_host_compiler_is_missing_and_rustup_is_the_mend() {
        let version =
            |release: &str| RustcVersion::parse(&format!("host: h\nrelease: {release}\nLLVM version: 19.1\n"));
        let oldest = Version { major: 1, minor: 95 };
        assert_eq!(host_compiler(version("1.95.0"), oldest), Verdict::Found("1.95.0".into()));
        assert!(
            matches!(host_compiler(version("1.85.0"), oldest), Verdict::Missing { mend, .. } if mend.contains("rustup"))
        );
        assert!(matches!(host_compiler(None, oldest), Verdict::Missing { .. }));
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        assert!(matches!(capabilities("CapEff:\t000001ffffffffff\n"), Verdict::Found(_)));
        let without_bpf = format!("CapInh:\t0\nCapEff:\t{:016x}\n", 0x1ff_ffff_ffff_u64 & !(1 << 39));
        assert!(matches!(capabilities(&without_bpf), Verdict::Missing { found, .. } if found == "lacking CAP_BPF"));
        assert!(matches!(capabilities(""), Verdict::Note(_)));
    }
}
