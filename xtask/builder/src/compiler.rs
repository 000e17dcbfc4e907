//! Compilers that can make `core` for BPF: finding them and telling why one does not do.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{environment, layout::Layout, version::RustcVersion, version::Version};

/// The target triple of the kernel programs.
pub const TARGET: &str = "bpfel-unknown-none";

/// Names a rustc to use instead of searching.
pub const RUSTC_VARIABLE: &str = "WAVNET_BPF_RUSTC";

/// How a compiler was come by, in the order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Named by [`RUSTC_VARIABLE`].
    Environment,
    /// Installed by `cargo xtask setup`.
    Setup,
    /// A toolchain of the user's rustup.
    Rustup(String),
    /// In `PATH`.
    System,
}

/// Where the library of the target comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// The compiler has it compiled.
    Prebuilt,
    /// Cargo compiles it from the compiler's library source (`-Z build-std=core`).
    Source,
}

/// A compiler that will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler {
    /// The program.
    pub rustc: PathBuf,
    /// Its version and that of its LLVM.
    pub version: RustcVersion,
    /// Where `core` comes from.
    pub core: Core,
    /// How it was come by.
    pub origin: Origin,
}

impl Compiler {
    /// The clippy driver that belongs to this compiler, if it is there.
    #[must_use]
    pub fn clippy_driver(&self) -> Option<PathBuf> {
        Some(self.rustc.with_file_name("clippy-driver")).filter(|path| path.is_file())
    }

    /// The cargo to use with it: rustup's toolchains bring one that fits their library source; otherwise the one that
    /// runs us, or the one in `PATH`.
    #[must_use]
    pub fn cargo(&self) -> PathBuf {
        if let Origin::Rustup(_) = self.origin {
            let own = self.rustc.with_file_name("cargo");
            if own.is_file() {
                return own;
            }
        }
        env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
    }
}

/// A place to look for a compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The program.
    pub rustc: PathBuf,
    /// How it was come by.
    pub origin: Origin,
}

/// Places to look, best first. An explicit choice by the user is the only one.
#[must_use]
pub fn candidates(layout: &Layout) -> Vec<Candidate> {
    if let Some(rustc) = env::var_os(RUSTC_VARIABLE).filter(|value| !value.is_empty()) {
        return vec![Candidate { rustc: rustc.into(), origin: Origin::Environment }];
    }
    let mut found = Vec::new();
    let setup = layout.compiler_bin().join("rustc");
    if setup.is_file() {
        found.push(Candidate { rustc: setup, origin: Origin::Setup });
    }
    for toolchain in rustup_toolchains() {
        let name = toolchain.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        found.push(Candidate { rustc: toolchain.join("bin/rustc"), origin: Origin::Rustup(name) });
    }
    found.extend(system_compilers().map(|rustc| Candidate { rustc, origin: Origin::System }));
    found
}

/// The user's rustup toolchains, each once even where one is a link to another.
#[must_use]
pub fn rustup_toolchains() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".rustup")));
    let Some(entries) = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok()) else { return Vec::new() };
    let mut toolchains: Vec<PathBuf> = entries
        .filter_map(|entry| fs::canonicalize(entry.ok()?.path()).ok())
        .filter(|path| path.join("bin/rustc").is_file())
        .collect();
    toolchains.sort();
    toolchains.dedup();
    toolchains
}

/// Every `rustc` in `PATH` that is not rustup's proxy.
fn system_compilers() -> impl Iterator<Item = PathBuf> {
    in_path("rustc")
        .into_iter()
        .filter(|rustc| fs::canonicalize(rustc).is_ok_and(|real| real.file_name().is_some_and(|name| name != "rustup")))
}

/// The files called `name` in the directories of `PATH`, in order.
#[must_use]
pub fn in_path(name: &str) -> Vec<PathBuf> {
    let Some(path) = env::var_os("PATH") else { return Vec::new() };
    env::split_paths(&path).map(|dir| dir.join(name)).filter(|file| file.is_file()).collect()
}

/// Asks a candidate for its version and looks for the target's library.
///
/// # Errors
///
/// One sentence that says why this compiler will not do.
pub fn probe(candidate: &Candidate) -> Result<Compiler, String> {
    let at = candidate.rustc.display();
    let output = run(&candidate.rustc, &["-vV"]).map_err(|why| format!("{at}: {why}"))?;
    let version = RustcVersion::parse(&output).ok_or_else(|| format!("{at}: not a rustc with LLVM"))?;
    let sysroot = run(&candidate.rustc, &["--print", "sysroot"]).map_err(|why| format!("{at}: {why}"))?;
    let core = core_in(Path::new(sysroot.trim()));
    judge(&version, core).map_err(|why| format!("{at}: {why}"))?;
    match core {
        Some(core) => Ok(Compiler { rustc: candidate.rustc.clone(), version, core, origin: candidate.origin.clone() }),
        None => Err(format!("{at}: no library for {TARGET}")),
    }
}

/// Which form of the library a sysroot has.
fn core_in(sysroot: &Path) -> Option<Core> {
    let rustlib = sysroot.join("lib/rustlib");
    let is_core = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libcore-");
    if fs::read_dir(rustlib.join(TARGET).join("lib")).is_ok_and(|mut dir| dir.any(|entry| entry.is_ok_and(is_core))) {
        return Some(Core::Prebuilt);
    }
    rustlib.join("src/rust/library/core/src/lib.rs").is_file().then_some(Core::Source)
}

/// Whether a compiler of this version with this library will do.
fn judge(version: &RustcVersion, core: Option<Core>) -> Result<(), String> {
    let oldest = Version::parse(env!("CARGO_PKG_RUST_VERSION")).ok_or("the workspace has no rust-version")?;
    if version.version < oldest {
        return Err(format!("rustc {} is older than {oldest}", version.release));
    }
    if core.is_none() {
        return Err(format!(
            "rustc {} has neither a compiled core for {TARGET} nor its library source (component rust-src)",
            version.release
        ));
    }
    Ok(())
}

/// Standard output of a program that succeeds.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    environment::scrub(&mut command);
    let output = command.args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, stderr.lines().next().unwrap_or("no output")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(release: &str) -> RustcVersion {
        RustcVersion::parse(&format!("host: h\nrelease: {release}\nLLVM version: 22.1.0\n")).unwrap()
    }

    #[test]
    fn old_compilers_are_refused_whatever_they_bring() {
        let why = judge(&version("1.85.0"), Some(Core::Prebuilt)).unwrap_err();
        assert!(why.contains("1.85.0 is older"), "{why}");
    }

    #[test]
    fn a_compiler_needs_core_in_one_form_or_the_other() {
        assert!(judge(&version("1.999.0"), Some(Core::Prebuilt)).is_ok());
        assert!(judge(&version("1.999.0-nightly"), Some(Core::Source)).is_ok());
        assert!(judge(&version("1.999.0"), None).unwrap_err().contains("rust-src"));
    }

    #[test]
    fn a_missing_program_is_a_sentence_and_no_panic() {
        let candidate = Candidate { rustc: "/nonexistent/rustc".into(), origin: Origin::Environment };
        assert!(probe(&candidate).unwrap_err().starts_with("/nonexistent/rustc: "));
    }

    #[test]
    fn a_sysroot_is_recognised_by_its_library() {
        let root = env::temp_dir().join(format!("wavnet-builder-sysroot-{}", std::process::id()));
        let source = root.join("lib/rustlib/src/rust/library/core/src");
        let prebuilt = root.join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&source).unwrap();
        assert_eq!(core_in(&root), None);
        fs::write(source.join("lib.rs"), "").unwrap();
        assert_eq!(core_in(&root), Some(Core::Source));
        fs::create_dir_all(&prebuilt).unwrap();
        assert_eq!(core_in(&root), Some(Core::Source), "an empty directory is no library");
        fs::write(prebuilt.join("libcore-0123.rlib"), "").unwrap();
        assert_eq!(core_in(&root), Some(Core::Prebuilt));
        fs::remove_dir_all(&root).unwrap();
    }
}
