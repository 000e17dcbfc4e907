//! The eBPF compiler: Debian's rustc with its compiled core for BPF, unpacked under target/toolchain.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use anyhow::{Context, Result, bail};
use wavnet_ebpf_builder::{
    Version,
    compiler::{self, Candidate, Compiler, Origin},
};

use super::apt;
use crate::workspace::Workspace;

/// Names under which Debian has had a rustc with a core for BPF.
struct Family {
    rustc: &'static str,
    library: &'static str,
    bpf: &'static str,
    clippy: &'static str,
}

const FAMILIES: &[Family] = &[
    Family {
        rustc: "rustc-web",
        library: "libstd-rust-web-dev",
        bpf: "libstd-rust-web-dev-bpf",
        clippy: "rust-web-clippy",
    },
    Family { rustc: "rustc", library: "libstd-rust-dev", bpf: "libstd-rust-dev-bpf", clippy: "rust-clippy" },
];

/// The compilers that will do, as found now.
pub(super) fn usable(workspace: &Workspace) -> Vec<Compiler> {
    compiler::candidates(workspace).iter().filter_map(|candidate| compiler::probe(candidate).ok()).collect()
}

/// Installs a compiler if there is none that will do.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    if let Some(found) = usable(workspace).first() {
        eprintln!("  compiler: {} is there", found.rustc.display());
        return Ok(());
    }
    if std::env::var_os(compiler::RUSTC_VARIABLE).is_some_and(|value| !value.is_empty()) {
        let whys: Vec<String> =
            compiler::candidates(workspace).iter().filter_map(|candidate| compiler::probe(candidate).err()).collect();
        bail!("{} names a compiler that will not do: {}", compiler::RUSTC_VARIABLE, whys.join("; "));
    }
    install(workspace)
}

/// Downloads the packages and makes the wrappers.
pub(super) fn install(workspace: &Workspace) -> Result<()> {
    apt::require_debian(&["rustc-web", "libstd-rust-web-dev-bpf"]).context(by_rustup())?;
    let family = choose(workspace)?;
    let standard = apt::dependency(family.library, "libstd-rust")?;
    let llvm = apt::dependency(&standard, "libllvm")?;
    let mut packages: Vec<String> = [family.rustc, family.library, family.bpf].map(str::to_owned).into();
    packages.push(standard);
    packages.extend(apt::with_missing_dependencies(&llvm)?);
    if apt::candidate(family.clippy).is_some() {
        packages.push(family.clippy.into());
    }
    let root = workspace.toolchain().join("ebpf/root");
    apt::unpack(workspace, "eBPF compiler", &packages, &workspace.toolchain().join("ebpf/packages"), &root)?;
    for name in ["rustc", "clippy-driver"] {
        wrapper(&workspace.compiler_bin().join(name), &root.join("usr/bin").join(name), &library_path(&root))?;
    }
    let candidate = Candidate { rustc: workspace.compiler_bin().join("rustc"), origin: Origin::Setup };
    match compiler::probe(&candidate) {
        Ok(_) => Ok(()),
        Err(why) => bail!("the compiler from Debian's packages will not do: {why}\n{}", by_rustup()),
    }
}

/// The first family that apt has in a version that is new enough.
fn choose(workspace: &Workspace) -> Result<&'static Family> {
    apt::know(workspace, FAMILIES[0].bpf)?;
    let oldest = Version::parse(env!("CARGO_PKG_RUST_VERSION")).context("the workspace has no rust-version")?;
    let mut seen = Vec::new();
    for family in FAMILIES {
        if apt::candidate(family.bpf).is_none() {
            continue;
        }
        if let Some(version) = apt::candidate(family.rustc) {
            if Version::parse(&version).is_some_and(|version| version >= oldest) {
                return Ok(family);
            }
            seen.push(format!("{} {version}", family.rustc));
        }
    }
    let seen = if seen.is_empty() { "none".into() } else { seen.join(", ") };
    bail!(
        "apt has no rustc of at least {oldest} with a core for BPF (found: {seen}). On Debian bookworm it comes from \
         bookworm-security: add that to the sources of apt and run `cargo xtask setup` again.\n{}",
        by_rustup()
    )
}

fn by_rustup() -> &'static str {
    "The other way is a nightly with its library source: `rustup toolchain install nightly --component rust-src`"
}

/// Directories with the libraries of an unpacked root, for `LD_LIBRARY_PATH`.
pub(super) fn library_path(root: &Path) -> String {
    library_path_below(&root.join("usr"))
}

/// The same of a directory that has a `lib`.
pub(super) fn library_path_below(prefix: &Path) -> String {
    let lib = prefix.join("lib");
    let multiarch = fs::read_dir(&lib).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut dirs: Vec<String> = multiarch
        .filter(|path| path.is_dir() && path.to_string_lossy().ends_with("-linux-gnu"))
        .map(|path| path.display().to_string())
        .collect();
    dirs.sort();
    dirs.push(lib.display().to_string());
    dirs.join(":")
}

/// A script that starts `program` with its libraries. Its own name counts: clippy knows its argument by the name
/// `rustc`.
pub(super) fn wrapper(at: &Path, program: &Path, library_path: &str) -> Result<()> {
    let what = || format!("cannot write {}", at.display());
    if let Some(dir) = at.parent() {
        fs::create_dir_all(dir).with_context(what)?;
    }
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec {} \"$@\"\n",
        quoted(library_path),
        quoted(&program.to_string_lossy())
    );
    fs::write(at, script).and_then(|()| fs::set_permissions(at, Permissions::from_mode(0o755))).with_context(what)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_blanks_and_quotes_stay_one_word() {
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
