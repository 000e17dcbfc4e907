//! What a router's connection tracking holds: how much at this moment, and at most while something went on.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::lab::netns::Netns;

/// The kernel's count of a namespace's entries.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// How often a [`Peak`] looks. Entries live for seconds at least.
const PERIOD: Duration = Duration::from_millis(5);

/// Entries of a namespace now, of all protocols. One that has run out counts until the kernel comes by to remove it.
///
/// # Errors
/// The kernel tracks no connections.
pub fn entries(ns: &Netns) -> Result<u64> {
    read(&open(ns)?)
}

/// Entries of a namespace as `conntrack` lists them, of one protocol (`udp`) and without those that have run out.
///
/// # Errors
/// What `conntrack` says.
pub fn list(ns: &Netns, protocol: &str) -> Result<Vec<String>> {
    let said = ns.run("conntrack", &["-L", "-p", protocol])?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// Removes all entries of a namespace.
///
/// # Errors
/// What `conntrack` says.
pub fn flush(ns: &Netns) -> Result<()> {
    ns.run("conntrack", &["-F"]).map(drop)
}

fn open(ns: &Netns) -> Result<File> {
    // The file stays that of the namespace in which it was opened.
    ns.enter(|| File::open(COUNT).with_context(|| format!("opening {COUNT}")))
}

fn read(file: &File) -> Result<u64> {
    let mut text = [0; 24];
    let n = file.read_at(&mut text, 0).with_context(|| format!("reading {COUNT}"))?;
    let text = String::from_utf8_lossy(&text[..n]);
    text.trim().parse().with_context(|| format!("{COUNT} says {text}"))
}

/// Watches how many entries there are, until it drops.
#[derive(Debug)]
pub struct Peak {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    most: AtomicU64,
}

impl Peak {
    /// Watches from now on.
    ///
    /// # Errors
    /// As [`entries`].
    pub fn watch(ns: &Netns) -> Result<Peak> {
        let file = open(ns)?;
        let shared = Arc::new(Shared::default());
        shared.most.store(read(&file)?, Ordering::Relaxed);
        let watched = shared.clone();
        let thread = thread::Builder::new().name("lab-conntrack".into()).spawn(move || {
            while !watched.stop.load(Ordering::Relaxed) {
                // What cannot be read any more has ended with its namespace.
                let Ok(now) = read(&file) else { return };
                watched.most.fetch_max(now, Ordering::Relaxed);
                thread::sleep(PERIOD);
            }
        })?;
        Ok(Peak { shared, thread: Some(thread) })
    }

    /// The most there were so far.
    pub fn most(&self) -> u64 {
        self.shared.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
