//! Processes that end with their guard.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    cleanup::{self, Leftover},
    poll_until, tools,
};

/// A running process; killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(super) fn start(what: &str, mut command: Command, log: &Path) -> Result<Process> {
        let out = File::options().create(true).append(true).open(log).with_context(|| format!("{}", log.display()))?;
        let err = out.try_clone()?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("starting `{}`", tools::show(&command)))?;
        cleanup::register(Leftover::Child(child.id() as i32));
        Ok(Process { what: what.to_owned(), child, log: log.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, on both of its outputs.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid() as i32), signal).with_context(|| format!("sending {signal} to {}", self.what))
    }

    /// Its status if it has ended.
    ///
    /// # Errors
    /// What waitpid says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            cleanup::forget(&Leftover::Child(self.child.id() as i32));
        }
        Ok(status)
    }

    /// Fails with the log's end if the process has ended: for loops that wait for something it does.
    ///
    /// # Errors
    /// It has ended.
    pub fn still_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}; it said:\n{}", self.what, self.log()),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It has not ended after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.what);
        poll_until(&what, timeout, || self.ended()?.context("it still runs"))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        cleanup::forget(&Leftover::Child(self.child.id() as i32));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
