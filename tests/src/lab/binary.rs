//! The `wavnet` binary under test.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, bail};

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Uses this binary instead of looking for one. Only the first call counts.
pub fn choose(path: PathBuf) {
    let _ = CHOSEN.set(path);
}

/// The binary: the chosen one, else `WAVNET_BIN`, else the one in the directory that this program was built into or a
/// parent of it (`target/<profile>/wavnet`).
///
/// # Errors
/// There is none: how to build it.
pub fn wavnet() -> Result<PathBuf> {
    if let Some(path) = CHOSEN.get().cloned().or_else(|| std::env::var_os("WAVNET_BIN").map(PathBuf::from)) {
        if !path.is_file() {
            bail!("there is no `wavnet` at {}; `cargo xtask build` builds one", path.display());
        }
        return std::path::absolute(&path).with_context(|| path.display().to_string());
    }
    let me = std::env::current_exe().context("finding the path of this program")?;
    beside(&me).with_context(|| {
        format!(
            "there is no `wavnet` beside {}; `cargo xtask build` builds it, and WAVNET_BIN or --wavnet can name another",
            me.display()
        )
    })
}

fn beside(program: &Path) -> Option<PathBuf> {
    // Tests are in target/<profile>/deps, binaries in target/<profile>.
    program.ancestors().skip(1).take(2).map(|dir| dir.join("wavnet")).find(|path| path.is_file())
}

/// The binary, if it was built with its eBPF object.
///
/// # Errors
/// What is missing, and how to get it.
pub fn usable() -> Result<PathBuf> {
    static CHECKED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    CHECKED.get_or_init(|| check().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn check() -> Result<PathBuf> {
    let path = wavnet()?;
    if !holds_object(&path)? {
        bail!("{} was built without its eBPF object; `cargo xtask setup` gets what that needs", path.display());
    }
    Ok(path)
}

/// Checks that this very program was built with the eBPF object (the library loads it, too).
///
/// # Errors
/// What is missing, and how to get it.
pub fn object() -> Result<()> {
    static CHECKED: OnceLock<bool> = OnceLock::new();
    let me = std::env::current_exe().context("finding the path of this program")?;
    if !*CHECKED.get_or_init(|| holds_object(&me).unwrap_or(false)) {
        bail!("this test was built without the eBPF object; `cargo xtask setup` gets what that needs");
    }
    Ok(())
}

/// True if a file holds a relocatable ELF object for BPF somewhere.
fn holds_object(path: &Path) -> Result<bool> {
    /// Up to `e_machine`, little-endian: ELF64, version 1, relocatable, EM_BPF.
    const HEAD: [u8; 20] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf7\0";
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    // The object is aligned for its readers.
    Ok(bytes.chunks_exact(8).enumerate().any(|(i, c)| c[..4] == HEAD[..4] && bytes[8 * i..].starts_with(&HEAD)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_beside_binaries_and_tests() {
        let dir = tempfile::tempdir().unwrap();
        let debug = dir.path().join("debug");
        std::fs::create_dir_all(debug.join("deps")).unwrap();
        assert_eq!(beside(&debug.join("deps/datapath-0123")), None);
        std::fs::write(debug.join("wavnet"), "").unwrap();
        assert_eq!(beside(&debug.join("deps/datapath-0123")), Some(debug.join("wavnet")));
        assert_eq!(beside(&debug.join("wavnet-demo")), Some(debug.join("wavnet")));
    }
}
