//! Network namespaces.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use wavnet_common::addr::Mac;

use super::{
    cleanup::{self, Leftover, NETNS_DIR},
    process::Process,
    tools,
};

/// A named network namespace; clones share it, and it is deleted with the last of them.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    fd: OwnedFd,
    logs: PathBuf,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let leftover = Leftover::Netns(self.name.clone());
        leftover.remove();
        cleanup::forget(&leftover);
    }
}

impl Netns {
    pub(super) fn create(name: &str, logs: &Path) -> Result<Netns> {
        let add = || tools::output(tools::command("ip").args(["netns", "add", name]));
        cleanup::register_with(Leftover::Netns(name.to_owned()), add)?;
        let path = Path::new(NETNS_DIR).join(name);
        let fd = File::open(&path).with_context(|| format!("opening {}", path.display()))?.into();
        let netns = Netns(Arc::new(Inner { name: name.to_owned(), fd, logs: logs.to_owned() }));
        for which in ["all", "default"] {
            netns.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1")?;
        }
        netns.ip("link set dev lo up")?;
        Ok(netns)
    }

    /// The name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name without the lab's prefix, as it was asked for.
    pub fn short_name(&self) -> &str {
        self.name().splitn(3, '-').nth(2).unwrap_or(self.name())
    }

    /// Where logs of what runs in it go.
    pub fn log_path(&self, what: &str) -> PathBuf {
        self.0.logs.join(format!("{}-{what}.log", self.short_name()))
    }

    /// Runs `f` in a thread that is in the namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// What `f` says, or setns.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0.fd, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", self.name()))?;
                f()
            });
            thread.join().map_err(|_| anyhow!("a thread in {} panicked", self.name()))?
        })
    }

    /// A command that will run inside. Unlike `ip netns exec` it leaves mounts alone, so bpffs stays visible.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let program = if program.is_absolute() { program.to_owned() } else { tools::path(&program.to_string_lossy()) };
        let mut command = Command::new(program);
        let netns = self.clone();
        // SAFETY: setns(2) and prctl(2) are async-signal-safe and nothing here allocates.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(netns.0.fd.as_fd().as_raw_fd(), libc::CLONE_NEWNET) != 0
                    || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command
    }

    /// Runs a program inside, to its end; gives its standard output.
    ///
    /// # Errors
    /// See [`tools::output`].
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        tools::output(self.command(program).args(args)).with_context(|| format!("in {}", self.short_name()))
    }

    /// Runs `ip` inside, with words as one would type them (no quoting).
    ///
    /// # Errors
    /// See [`tools::output`].
    pub fn ip(&self, words: &str) -> Result<String> {
        self.run("ip", &words.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `bridge` inside, with words as one would type them (no quoting).
    ///
    /// # Errors
    /// See [`tools::output`].
    pub fn bridge(&self, words: &str) -> Result<String> {
        self.run("bridge", &words.split_whitespace().collect::<Vec<_>>())
    }

    /// Starts a program inside that runs until its guard drops; what it says goes to a log.
    ///
    /// The kernel kills it when the calling *thread* ends, so start long-lived ones from a long-lived thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, what: &str, program: impl AsRef<Path>, args: &[&str]) -> Result<Process> {
        let mut command = self.command(program);
        command.args(args);
        self.start(what, command)
    }

    /// The same of a command made by [`Netns::command`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, what: &str, command: Command) -> Result<Process> {
        Process::start(what, command, &self.log_path(what))
    }

    /// Writes a sysctl of the namespace, by its path under `/proc/sys`.
    ///
    /// # Errors
    /// No such key, or a value it does not take.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| {
            let path = Path::new("/proc/sys").join(key);
            std::fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
        })
    }

    /// Index of an interface.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        self.enter(|| {
            nix::net::if_::if_nametoindex(interface).with_context(|| format!("no {interface} in {}", self.name()))
        })
    }

    /// Link address of an interface.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn mac(&self, interface: &str) -> Result<Mac> {
        let json = self.ip(&format!("-j link show dev {interface}"))?;
        let links: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
        let text = links[0]["address"].as_str().context("no address in the output of ip -j")?;
        text.parse().map_err(|e| anyhow!("{text}: {e}"))
    }
}
