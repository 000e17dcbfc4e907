//! What can go wrong with the kernel side, and what to do about it.

use std::{io, path::PathBuf};

use aya::{EbpfError, programs::ProgramError};

/// An error of the datapath. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built without the kernel programs.
    #[error(
        "this wavnet was built without its kernel programs: run `cargo xtask setup`, which gets the eBPF toolchain, and build again"
    )]
    NoObject,
    /// The kernel is too old.
    #[error("kernel {found} is too old: wavnet needs Linux {needed} or newer")]
    OldKernel {
        /// This kernel.
        found: String,
        /// The oldest that works.
        needed: &'static str,
    },
    /// Not permitted.
    #[error(
        "{what}: not permitted; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (`cargo xtask run` elevates by itself)"
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
        "another agent is using {}; stop it first, or give this one a directory of its own (`agent.bpffs`)",
        .path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
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
        if errno(source.as_ref()) == Some(nix::libc::EPERM) {
            return Error::Privileges { what };
        }
        Error::Kernel { what, source }
    }

    pub(super) fn load(source: EbpfError) -> Error {
        Error::kernel("loading the kernel programs", source)
    }

    pub(super) fn program(name: &str, source: ProgramError) -> Error {
        Error::kernel(format!("loading program {name}"), source)
    }
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
