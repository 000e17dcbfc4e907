//! bpf-linker: finding it, and telling which LLVM it has.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{compiler, layout::Layout, version::Version};

/// Names a bpf-linker to use instead of searching.
pub const LINKER_VARIABLE: &str = "WAVNET_BPF_LINKER";

/// The oldest bpf-linker that knows `--disable-expand-memcpy-in-order` and handles BTF as we need it.
const OLDEST: Version = Version { major: 0, minor: 10 };

/// A linker that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linker {
    /// The program.
    pub path: PathBuf,
    /// What it calls itself, such as `bpf-linker 0.13.0`.
    pub name: String,
    /// Major version of the LLVM it loads. `None` where LLVM is linked in statically and cannot be told.
    pub llvm: Option<u32>,
}

impl Linker {
    /// Whether it reads the bitcode of a compiler with this LLVM: LLVM reads what older ones wrote.
    #[must_use]
    pub fn reads(&self, compiler_llvm: Version) -> bool {
        self.llvm.is_none_or(|own| own >= compiler_llvm.major)
    }
}

/// Places to look, best first. An explicit choice by the user is the only one.
#[must_use]
pub fn candidates(layout: &Layout) -> Vec<PathBuf> {
    if let Some(linker) = env::var_os(LINKER_VARIABLE).filter(|value| !value.is_empty()) {
        return vec![linker.into()];
    }
    let mut found = vec![layout.compiler_bin().join("bpf-linker")];
    found.extend(compiler::in_path("bpf-linker"));
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    found.extend(home.map(|home| home.join("bin/bpf-linker")));
    found.retain(|path| path.is_file());
    found
}

/// Starts a candidate and reads what it says of itself.
///
/// # Errors
///
/// One sentence that says why this linker will not do.
pub fn probe(path: &Path) -> Result<Linker, String> {
    let at = path.display();
    let name = compiler::run(path, &["--version"]).map_err(|why| format!("{at}: {why}"))?.trim().to_owned();
    let version = name.strip_prefix("bpf-linker ").and_then(Version::parse);
    match version {
        Some(version) if version >= OLDEST => Ok(Linker { path: path.to_owned(), llvm: llvm_of(path), name }),
        Some(version) => Err(format!("{at}: bpf-linker {version} is older than {OLDEST}")),
        None => Err(format!("{at}: not a bpf-linker, it calls itself `{name}`")),
    }
}

/// The LLVM a linker loads. `setup` installs a script beside which a file `llvm` tells; of a binary, the library's name.
fn llvm_of(path: &Path) -> Option<u32> {
    if let Ok(text) = fs::read_to_string(path.with_file_name("bpf-linker.llvm")) {
        return text.trim().parse().ok();
    }
    llvm_in(&fs::read(path).ok()?)
}

/// Finds the name of the shared LLVM in a binary: `libLLVM.so.22.1` or `libLLVM-17.so`.
fn llvm_in(binary: &[u8]) -> Option<u32> {
    let number = |rest: &[u8]| {
        let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
        String::from_utf8(digits).ok()?.parse().ok()
    };
    ["libLLVM.so.", "libLLVM-"].iter().find_map(|name| {
        let found = binary.windows(name.len()).enumerate().filter(|(_, window)| *window == name.as_bytes());
        found.map(|(at, _)| at + name.len()).find_map(|end| number(&binary[end..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linker(llvm: Option<u32>) -> Linker {
        Linker { path: "bpf-linker".into(), name: "bpf-linker 0.13.0".into(), llvm }
    }

    #[test]
    fn llvm_reads_bitcode_of_its_own_age_and_older() {
        let compiler = Version { major: 22, minor: 1 };
        assert!(linker(Some(22)).reads(compiler));
        assert!(linker(Some(23)).reads(compiler));
        assert!(!linker(Some(21)).reads(compiler));
        assert!(linker(None).reads(compiler), "what cannot be told is tried");
    }

    #[test]
    fn the_library_name_tells_the_llvm() {
        assert_eq!(llvm_in(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(llvm_in(b"\0libLLVM-17.so.1\0"), Some(17));
        assert_eq!(llvm_in(b"cannot find libLLVM.so. again \0libLLVM.so.21.1\0"), Some(21));
        assert_eq!(llvm_in(b"libLLVM.so."), None);
        assert_eq!(llvm_in(b""), None);
    }
}
