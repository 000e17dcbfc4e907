//! What a test needs of the machine, and the skipping of tests where it is missing.

use std::{io::Write, path::Path};

use anyhow::{Context, Result};
use nix::{mount::MsFlags, sys::statfs};

use super::{Lab, binary, cleanup, tools};

/// Something a test cannot do without, beside root and the lab's basic tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A program by name.
    Tool(&'static str),
    /// The `wavnet` binary, with its eBPF object built in.
    Wavnet,
    /// The eBPF object built into this test.
    Object,
}

/// Why a user skips what needs root.
pub(crate) const NOT_ROOT: &str = "needs root; `cargo xtask test` elevates only the test binaries";

/// What every lab uses.
const BASE: &[Need] = &[Need::Tool("ip"), Need::Tool("bridge"), Need::Tool("ethtool"), Need::Tool("ping")];

/// A lab for a test; or, printing `SKIP: <test>: <reason>`, none.
///
/// # Panics
/// Instead of skipping, when `WAVNET_REQUIRE_KERNEL=1` is set (as CI does); and when a lab cannot be made though all is
/// there.
#[track_caller]
pub fn require(test: &str, needs: &[Need]) -> Option<Lab> {
    match missing(needs) {
        None => match Lab::new() {
            Ok(lab) => Some(lab),
            Err(error) => panic!("{test}: {error:?}"),
        },
        Some(reason) => {
            skip(test, &reason);
            None
        }
    }
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// Instead of it, when `WAVNET_REQUIRE_KERNEL=1` is set.
#[track_caller]
pub(crate) fn skip(test: &str, reason: &str) {
    let strict = std::env::var("WAVNET_REQUIRE_KERNEL").is_ok_and(|v| v == "1");
    assert!(!strict, "{test}: WAVNET_REQUIRE_KERNEL=1, but {reason}");
    // Not by a macro: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "SKIP: {test}: {reason}");
}

/// The first thing that is missing, and how to get it.
pub fn missing(needs: &[Need]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(NOT_ROOT.into());
    }
    BASE.iter().chain(needs).find_map(|need| match need {
        Need::Tool(tool) => tools::find(tool).is_none().then(|| {
            format!("`{tool}` (Debian package {}) is missing; `cargo xtask setup` installs it", tools::package(tool))
        }),
        Need::Wavnet => binary::usable().err().map(|e| format!("{e:#}")),
        Need::Object => binary::object().err().map(|e| format!("{e:#}")),
    })
}

/// Mounts bpffs where everybody expects it, as bpftool, tc and systemd do.
pub(super) fn mount_bpffs() -> Result<()> {
    let dir = Path::new(cleanup::BPFFS);
    if statfs::statfs(dir).is_ok_and(|s| s.filesystem_type().0 == libc::BPF_FS_MAGIC) {
        return Ok(());
    }
    nix::mount::mount(Some("bpf"), dir, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mounting bpffs on {} (`mount -t bpf bpf {0}`)", dir.display()))
}
