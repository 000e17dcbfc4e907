//! The lab: hypervisors, virtual machines and wires made of network namespaces.
//!
//! A test starts with [`run`], which skips it where the machine cannot do it, hands it a [`Lab`], and shows the logs of
//! everything that ran when it fails.

mod cleanup;
mod require;
mod wait;

pub mod agent;
pub mod binary;
pub mod burst;
pub mod capture;
pub mod config;
pub mod core;
pub mod counters;
pub mod cpu;
pub mod dhcp;
pub mod frame;
pub mod host;
pub mod http;
pub mod link;
pub mod lookups;
pub mod metrics;
pub mod nat;
pub mod netns;
pub mod numbered;
pub mod overlay;
pub mod ping;
pub mod pins;
pub mod process;
pub mod programs;
pub mod raw;
pub mod relay;
pub mod stream;
pub mod super_packet;
pub mod tap;
pub mod taps;
pub mod tools;
pub mod topology;
pub mod udp;
pub mod vnet;
pub mod wan;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

pub use cleanup::{clean_stale, on_interrupt};
pub(crate) use require::{NOT_ROOT, skip};
pub use require::{Need, missing, require};
pub use wait::{poll_until, wait_until};

use netns::Netns;

/// How every name on the machine that the lab makes begins.
pub const PREFIX: &str = "wav-";

/// One test's (or the demonstration's) piece of the machine: a prefix for names and a directory for logs.
///
/// Dropping it removes the directory; namespaces, processes and pins have guards of their own.
#[derive(Debug)]
pub struct Lab {
    id: String,
    dir: tempfile::TempDir,
}

impl Lab {
    /// A fresh lab. Removes what dead processes left behind, and makes sure that Ctrl-C cleans up.
    ///
    /// # Errors
    /// No temporary directory, or no bpffs and no right to mount it.
    pub fn new() -> Result<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        cleanup::install()?;
        require::mount_bpffs()?;
        let id = format!("{PREFIX}{}t{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir =
            tempfile::Builder::new().prefix(&format!("{id}-")).tempdir().context("making a directory for logs")?;
        cleanup::register(cleanup::Leftover::Dir(dir.path().to_owned()));
        Ok(Lab { id, dir })
    }

    /// The prefix of names, `wav-<process>t<number>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where logs, configurations and captures are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in [`Lab::dir`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new namespace `wav-…-<name>` with loopback up and IPv6 off.
    ///
    /// # Errors
    /// What `ip netns add` says.
    pub fn netns(&self, name: &str) -> Result<Netns> {
        Netns::create(&format!("{}-{name}", self.id), self.dir())
    }

    /// The ends of all logs, for a test that failed.
    pub fn logs(&self) -> String {
        const TAIL: usize = 6000;
        let mut out = String::new();
        let Ok(entries) = fs::read_dir(self.dir.path()) else { return out };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "log" || e == "toml")) {
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            // A test that waits asks often.
            let lines: Vec<&str> = text.lines().filter(|line| !line.contains("asked over the local API")).collect();
            let text = lines.join("\n");
            let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
            let tail = &text[start..];
            if !tail.trim().is_empty() {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                out.push_str(&format!("---- {name}\n{tail}\n"));
            }
        }
        out
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        cleanup::forget(&cleanup::Leftover::Dir(self.dir.path().to_owned()));
    }
}

/// Runs a test in a lab of its own, or prints why it is skipped (see [`require()`]).
///
/// # Panics
/// When `body` fails or panics, after printing the logs; and when it would be skipped while `WAVNET_REQUIRE_KERNEL=1`.
#[track_caller]
pub fn run(test: &str, needs: &[Need], body: impl FnOnce(&Lab) -> Result<()>) {
    let Some(lab) = require(test, needs) else { return };
    let outcome = catch_unwind(AssertUnwindSafe(|| body(&lab)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("==== {test} failed; logs:\n{}", lab.logs());
    }
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{test}: {error:?}"),
        Err(panic) => resume_unwind(panic),
    }
}
