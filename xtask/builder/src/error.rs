//! What can go wrong, each with what to do about it.

use std::{fmt, io, path::PathBuf};

/// Why there is no eBPF object.
#[derive(Debug)]
pub enum Error {
    /// No usable compiler or linker; each line says what was looked at and why it does not do.
    NoToolchain(Vec<String>),
    /// The source tree has no `wavnet-ebpf`.
    NoPackage(PathBuf),
    /// A file or a process could not be used.
    Io(String, io::Error),
    /// Cargo failed; its output, empty where it went to the terminal.
    Compile(String),
    /// A program can reach a panic, which the verifier refuses.
    Panic {
        /// The object file.
        object: PathBuf,
        /// One call chain per panic, from a program to the function that panics.
        chains: Vec<String>,
    },
    /// The file that the linker wrote is no eBPF object.
    Object(PathBuf, String),
    /// The package has no program of this name.
    NoBinary(String),
}

impl Error {
    /// Attaches what was attempted to an I/O error.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |error| Self::Io(what, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToolchain(looked_at) => {
                write!(f, "no eBPF toolchain: run `cargo xtask setup`")?;
                looked_at.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Self::NoPackage(path) => write!(f, "the kernel programs' source is missing: {}", path.display()),
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Compile(output) if output.is_empty() => write!(f, "the eBPF build failed, see above"),
            Self::Compile(output) => write!(f, "the eBPF build failed:\n{output}"),
            Self::Panic { object, chains } => {
                write!(
                    f,
                    "{}: a panic can be reached, which the kernel's verifier refuses; replace the indexing, division, \
                     unwrap or arithmetic that may fail in the last function before it",
                    object.display()
                )?;
                chains.iter().try_for_each(|chain| write!(f, "\n  {chain}"))
            }
            Self::Object(path, why) => write!(f, "{}: {why}", path.display()),
            Self::NoBinary(name) => write!(f, "wavnet-ebpf has no binary `{name}`"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            _ => None,
        }
    }
}
