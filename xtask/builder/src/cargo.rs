//! Runs cargo for the kernel programs and collects the objects.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    compiler::{Core, TARGET},
    environment,
    error::Error,
    layout::Layout,
    panics,
    toolchain::Toolchain,
};

/// An eBPF object, linked and free of reachable panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Name of the binary in `wavnet-ebpf`.
    pub name: String,
    /// The object file.
    pub path: PathBuf,
}

/// What becomes of cargo's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// To the terminal, as they come.
    Inherit,
    /// Into the error, if there is one.
    Collect,
}

/// Builds every binary of `wavnet-ebpf`. Cheap when nothing changed; one build at a time, others wait.
///
/// # Errors
///
/// [`Error::Compile`] with cargo's output, [`Error::Panic`] where a program can reach a panic.
pub fn build(layout: &Layout, toolchain: &Toolchain, messages: Messages) -> Result<Vec<Artifact>, Error> {
    let package = layout.ebpf_package();
    if !package.join("Cargo.toml").is_file() {
        return Err(Error::NoPackage(package));
    }
    let _lock = lock(layout)?;
    forget_other_toolchains(layout, toolchain)?;
    let mut command = command(layout, toolchain, "build");
    command.args(["--release", "--bins", "--message-format=json-render-diagnostics"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(if messages == Messages::Inherit { Stdio::inherit() } else { Stdio::piped() });
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(Error::io(format!("cannot start {}", toolchain.compiler.cargo().display())))?;
    if !output.status.success() {
        return Err(Error::Compile(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let paths = executables(&String::from_utf8_lossy(&output.stdout));
    paths.into_iter().map(|path| check(PathBuf::from(path))).collect()
}

/// A cargo command on `wavnet-ebpf` with the chosen compiler and linker, a clean environment and a target directory of
/// its own.
#[must_use]
pub fn command(layout: &Layout, toolchain: &Toolchain, subcommand: &str) -> Command {
    let Toolchain { compiler, linker } = toolchain;
    let mut command = Command::new(compiler.cargo());
    environment::scrub(&mut command);
    command
        .current_dir(layout.ebpf_package())
        .arg(subcommand)
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(layout.ebpf_target())
        .env("RUSTC", &compiler.rustc)
        // The programs use unstable features of the target; with this, any compiler of a fitting version has them.
        .env("RUSTC_BOOTSTRAP", "1")
        // Empty means none, also where the user's cargo configuration names one.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker.path);
    if compiler.core == Core::Source {
        command.arg("-Zbuild-std=core");
    }
    command
}

/// Keeps build scripts and xtask from building at the same time; released when dropped.
fn lock(layout: &Layout) -> Result<File, Error> {
    let path = layout.target().join("ebpf.lock");
    let what = format!("cannot lock {}", path.display());
    fs::create_dir_all(layout.target()).map_err(Error::io(what.clone()))?;
    let file = File::create(&path).map_err(Error::io(what.clone()))?;
    file.lock().map_err(Error::io(what))?;
    Ok(file)
}

/// Cargo does not notice another linker, so objects of another toolchain are removed.
fn forget_other_toolchains(layout: &Layout, toolchain: &Toolchain) -> Result<(), Error> {
    let target = layout.ebpf_target();
    let note = target.join("toolchain");
    let identity = toolchain.identity();
    if fs::read_to_string(&note).is_ok_and(|old| old == identity) {
        return Ok(());
    }
    let what = format!("cannot prepare {}", target.display());
    if target.exists() {
        fs::remove_dir_all(&target).map_err(Error::io(what.clone()))?;
    }
    fs::create_dir_all(&target).and_then(|()| fs::write(&note, identity)).map_err(Error::io(what))
}

/// The paths of the linked binaries in cargo's messages.
fn executables(messages: &str) -> Vec<String> {
    const KEY: &str = r#""executable":""#;
    messages
        .lines()
        .filter_map(|line| {
            let rest = &line[line.find(KEY)? + KEY.len()..];
            let mut path = String::new();
            let mut characters = rest.chars();
            loop {
                match characters.next()? {
                    '"' => return Some(path),
                    '\\' => path.push(characters.next()?),
                    other => path.push(other),
                }
            }
        })
        .collect()
}

/// Looks for panics in an object.
fn check(path: PathBuf) -> Result<Artifact, Error> {
    let bytes = fs::read(&path).map_err(Error::io(format!("cannot read {}", path.display())))?;
    let chains = panics::find(&bytes).map_err(|why| Error::Object(path.clone(), format!("no eBPF object: {why}")))?;
    if !chains.is_empty() {
        return Err(Error::Panic { object: path, chains });
    }
    let name = path.file_stem().unwrap_or(Path::new("").as_os_str()).to_string_lossy().into_owned();
    Ok(Artifact { name, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_read_from_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","executable":null,"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/a b/release/wavnet-ebpf","fresh":false}"#,
            "\n",
            r#"{"reason":"compiler-artifact","executable":"/quo\"te/lab","fresh":false}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executables(messages), ["/a b/release/wavnet-ebpf", "/quo\"te/lab"]);
        assert!(executables(r#"{"executable":"/cut off"#).is_empty());
    }
}
