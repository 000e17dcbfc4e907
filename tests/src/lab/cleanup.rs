//! What is left on the machine, and its removal on every way out.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsRawFd, IntoRawFd},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
};

use anyhow::{Context, Result, anyhow};
use nix::{
    fcntl::OFlag,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
    unistd::{Pid, pipe2},
};

use super::PREFIX;

/// Where `ip netns` keeps its names.
pub(super) const NETNS_DIR: &str = "/run/netns";
/// Where the lab's agents pin.
pub(super) const BPFFS: &str = "/sys/fs/bpf";

/// Something that outlives a process unless it is removed. The order of the variants is the order of removal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Leftover {
    /// A child process.
    Child(i32),
    /// A directory in bpffs.
    Pins(PathBuf),
    /// A named network namespace.
    Netns(String),
    /// A temporary directory.
    Dir(PathBuf),
}

impl Leftover {
    pub(super) fn remove(&self) {
        match self {
            Leftover::Child(pid) => drop(kill(Pid::from_raw(*pid), Signal::SIGKILL)),
            Leftover::Pins(dir) | Leftover::Dir(dir) => drop(fs::remove_dir_all(dir)),
            Leftover::Netns(name) => drop(Command::new(super::tools::path("ip")).args(["netns", "del", name]).output()),
        }
    }
}

fn registry() -> MutexGuard<'static, BTreeSet<Leftover>> {
    static REGISTRY: Mutex<BTreeSet<Leftover>> = Mutex::new(BTreeSet::new());
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers something to remove on Ctrl-C.
pub(super) fn register(leftover: Leftover) {
    registry().insert(leftover);
}

/// The same for what is made now: who cleans up waits until it is, so it is not removed before.
pub(super) fn register_with<T>(leftover: Leftover, make: impl FnOnce() -> T) -> T {
    let mut registry = registry();
    registry.insert(leftover);
    make()
}

/// It has been removed.
pub(super) fn forget(leftover: &Leftover) {
    registry().remove(leftover);
}

static WAKE: AtomicI32 = AtomicI32::new(-1);
static EXIT_CODE: AtomicI32 = AtomicI32::new(i32::MIN);

extern "C" fn on_signal(signal: i32) {
    let byte = [signal as u8];
    // SAFETY: write(2) is async-signal-safe; the descriptor is never closed.
    unsafe { libc::write(WAKE.load(Ordering::Relaxed), byte.as_ptr().cast(), 1) };
}

static LAST_WORDS: Mutex<Option<fn()>> = Mutex::new(None);

/// What an interrupted process does after it has cleaned up, and the status that it exits with; 128 + signal unless set. The
/// demonstration's live view puts the terminal in order and exits with 0, as Ctrl-C is the way to end it.
pub fn on_interrupt(last_words: fn(), code: i32) {
    *LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner) = Some(last_words);
    EXIT_CODE.store(code, Ordering::Relaxed);
}

/// Makes SIGINT, SIGTERM and SIGHUP remove everything registered, and removes what dead processes left. Once per process.
pub(super) fn install() -> Result<()> {
    static DONE: OnceLock<Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| install_once().map_err(|e| format!("{e:#}"))).clone().map_err(|e| anyhow!(e))
}

fn install_once() -> Result<()> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("making a pipe for signals")?;
    WAKE.store(writer.into_raw_fd(), Ordering::Relaxed);
    std::thread::Builder::new().name("lab-signals".into()).spawn(move || {
        let mut byte = [0u8; 1];
        loop {
            // SAFETY: the buffer is one byte long, and the descriptor is open as long as the thread.
            let n = unsafe { libc::read(reader.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
            if n == 1 {
                interrupted(byte[0]);
            }
        }
    })?;
    let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only calls write(2).
        unsafe { sigaction(signal, &action) }.with_context(|| format!("handling {signal}"))?;
    }
    clean_stale();
    Ok(())
}

fn interrupted(signal: u8) -> ! {
    // Whoever holds the lock is adding something: wait for it, then let nobody add any more.
    let leftovers = registry();
    for leftover in leftovers.iter() {
        leftover.remove();
    }
    let code = match EXIT_CODE.load(Ordering::Relaxed) {
        i32::MIN => 128 + i32::from(signal),
        code => code,
    };
    if let Some(last_words) = LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner).take() {
        last_words();
    }
    // SAFETY: _exit never returns; destructors must not run, other threads still use what they would free.
    unsafe { libc::_exit(code) }
}

/// Removes namespaces, pins and directories of lab processes that no longer live.
pub fn clean_stale() {
    for (dir, make) in [
        (Path::new(BPFFS), (|p: PathBuf| Leftover::Pins(p)) as fn(PathBuf) -> Leftover),
        (Path::new(NETNS_DIR), |p| Leftover::Netns(p.file_name().unwrap_or_default().to_string_lossy().into_owned())),
        (&std::env::temp_dir(), Leftover::Dir),
    ] {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let dead = entry.file_name().to_str().and_then(owner).is_some_and(|pid| !alive(pid));
            if dead {
                make(entry.path()).remove();
            }
        }
    }
}

/// The process that made something with this name, if the lab made it.
fn owner(name: &str) -> Option<i32> {
    name.strip_prefix(PREFIX)?.split_once('t')?.0.parse().ok()
}

fn alive(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_from_our_names_only() {
        assert_eq!(owner("wav-12t3-hv1"), Some(12));
        assert_eq!(owner("wav-12t3"), Some(12));
        assert_eq!(owner("wav-lab-hv1"), None);
        assert_eq!(owner("other-12t3"), None);
    }

    #[test]
    fn our_own_process_lives_and_pid_zero_does_not() {
        assert!(alive(std::process::id() as i32));
        assert!(!alive(0));
    }

    #[test]
    fn children_go_first_and_directories_last() {
        let mut all = [
            Leftover::Dir("/x".into()),
            Leftover::Netns("wav-1t0-a".into()),
            Leftover::Pins("/y".into()),
            Leftover::Child(1),
        ];
        all.sort();
        assert!(matches!(all[0], Leftover::Child(_)) && matches!(all[3], Leftover::Dir(_)));
    }
}
