//! What can go wrong with the kernel side, and what to do about it.

use std::{io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError};

use crate::doctor;

/// An error of the datapath. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built without the kernel programs.
    #[error(
        "this wavnet was built without its kernel programs: run `cargo xtask setup`, which gets the eBPF toolchain, and build again"
    )]
    NoObject,
    /// The kernel is too old.
    #[error("kernel {found} is too old: wavnet needs Linux {}.{} or newer", .needed.0, .needed.1)]
    OldKernel {
        /// This kernel.
        found: String,
        /// The oldest that works.
        needed: (u32, u32),
    },
    /// Not permitted.
    #[error(
        "{what}: not permitted; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON and a directory for pins (`agent.bpffs`) that is yours"
    )]
    Privileges {
        /// What was tried.
        what: String,
    },
    /// No bpffs.
    #[error(
        "{} is not on a BPF file system; mount one: `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one with `agent.bpffs`",
        .path.display()
    )]
    NoBpffs {
        /// The directory asked for.
        path: PathBuf,
    },
    /// Somebody else has it.
    #[error(
        "another agent{} is using {}; stop it first, or give this one a directory of its own (`agent.bpffs`)",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        .path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other agent's process, if the kernel tells.
        pid: Option<u32>,
    },
    /// Somebody else could put pins of their own in our place.
    #[error(
        "{} belongs to another user or can be written by others; remove it, or name another directory with `agent.bpffs`",
        .path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Another agent's programs are attached.
    #[error(
        "{interface} has the programs of another agent, whose pins are {place}; {mend}, or give this one another interface"
    )]
    Taken {
        /// The interface.
        interface: String,
        /// Where the other one's pins are.
        place: String,
        /// What to do.
        mend: String,
    },
    /// The verifier does not accept a program.
    #[error(
        "the verifier of kernel {kernel} refuses program {program}: {last}; please report this with the kernel's version (the whole log is logged at level debug)"
    )]
    Verifier {
        /// The program.
        program: String,
        /// The kernel's release.
        kernel: String,
        /// What the verifier said last.
        last: String,
    },
    /// Pinned maps that this program does not understand.
    #[error(
        "the maps pinned in {} do not fit this wavnet: {why}; `wavnet down --bpffs {}` removes them, then start again (learned addresses and counters start afresh)",
        .path.display(), .path.display()
    )]
    Incompatible {
        /// The directory.
        path: PathBuf,
        /// The difference.
        why: String,
    },
    /// A table is full.
    #[error("the FDB has no room for {mac}: both its buckets are full; raise `fdb.entries` (after `wavnet down`)")]
    FdbFull {
        /// The address.
        mac: wavnet_common::addr::Mac,
    },
    /// The kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The kernel refused something.
    pub(super) fn kernel(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        let (what, source) = (what.into(), source.into());
        if matches!(errno(source.as_ref()), Some(nix::libc::EPERM | nix::libc::EACCES)) {
            return Error::Privileges { what };
        }
        Error::Kernel { what, source }
    }

    /// Another agent's programs are on an interface; `pins` is its directory, if that is known.
    pub(super) fn taken(interface: &str, pins: Option<PathBuf>) -> Error {
        let (place, mend) = match pins {
            Some(dir) => {
                (format!("in {}", dir.display()), format!("remove them: `wavnet down --bpffs {}`", dir.display()))
            }
            None => {
                ("elsewhere".to_owned(), "remove them: `wavnet down --config FILE` with its configuration".to_owned())
            }
        };
        Error::Taken { interface: interface.to_owned(), place, mend }
    }

    pub(super) fn load(source: EbpfError) -> Error {
        Error::kernel("loading the kernel programs", source)
    }

    pub(super) fn program(name: &str, source: ProgramError) -> Error {
        match &source {
            // Without CAP_PERFMON the verifier is stricter than any program can please.
            ProgramError::LoadError { .. } if doctor::lacks_capabilities() => {
                Error::Privileges { what: format!("loading program {name}") }
            }
            ProgramError::LoadError { io_error, verifier_log } if io_error.raw_os_error() != Some(nix::libc::EPERM) => {
                let log = verifier_log.to_string();
                tracing::debug!(program = name, "{log}");
                if let Ok(p) = std::env::var("VLOG") {
                    let _ = std::fs::write(format!("{p}-{name}"), &log);
                }
                let kernel = super::object::kernel_release().unwrap_or_else(|_| "unknown".to_owned());
                Error::Verifier {
                    program: name.to_owned(),
                    kernel,
                    last: verdict(&log).unwrap_or(&io_error.to_string()).to_owned(),
                }
            }
            _ => Error::kernel(format!("loading program {name}"), source),
        }
    }
}

/// The line of a verifier's log that says what is wrong: the last one before the statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["verification time", "stack depth", "processed "];
    log.lines().rfind(|line| !line.trim().is_empty() && !STATISTICS.iter().any(|s| line.starts_with(s)))
}

/// The errno at the root of an error chain.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(code) = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        next = e.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::verdict;

    #[test]
    fn the_verifiers_last_word_is_found() {
        let log = "638: (7b) *(u64 *)(r10 -128) = r1\nR1 !read_ok\nverification time 5 usec\nstack depth 256\nprocessed 12 insns\n\n";
        assert_eq!(verdict(log), Some("R1 !read_ok"));
        assert_eq!(verdict("\n"), None);
    }
}
