//! Frames between two sites all the time, to see how long there are none.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use super::Site;
use crate::lab::{ping::Ping, poll_until};

/// Between two pings.
const PERIOD: Duration = Duration::from_millis(10);
/// So many answers in a row, and frames flow.
const STEADY: u64 = 20;

/// Pings from a site's VM to another one's.
#[derive(Debug)]
pub struct Flow {
    ping: Ping,
    /// The agents' processes.
    agents: [Option<u32>; 2],
}

/// For how long frames did not flow.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    took: Duration,
    /// For how long the agents, both together, wanted a CPU meanwhile and had none, each by its thread that waited longest: what else the machine does is
    /// not their fault.
    waited: Duration,
}

impl Gap {
    /// Fails if frames did not flow for so long, though the agents had CPUs; or for three times as long, whatever the reason.
    ///
    /// # Errors
    /// For how long it was.
    pub fn below(self, most: Duration) -> Result<()> {
        let Gap { took, waited } = self;
        let is_short = took.saturating_sub(waited) < most && took < 3 * most;
        ensure!(is_short, "no frames for {took:?}, of which agents waited for CPUs for {waited:?}");
        Ok(())
    }

    /// What is told of it.
    pub fn as_millis(self) -> u128 {
        self.took.as_millis()
    }
}

/// For how long the threads of a process have waited for CPUs so far, the one that has most.
fn waited(pid: u32) -> Duration {
    let delay = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(delay).max().unwrap_or_default()
}

impl Flow {
    /// Starts them, and waits until they are answered.
    ///
    /// # Errors
    /// They are not.
    pub fn start(from: &Site, to: &Site, most: Duration) -> Result<Flow> {
        let ping = Ping::start(&from.vm.ns, to.addr, PERIOD)?;
        ping.wait_answered(STEADY, most)?;
        Ok(Flow { ping, agents: [from, to].map(|site| site.agent.pid()) })
    }

    /// Pings so far that are not answered, however late.
    pub fn lost(&self) -> u64 {
        self.ping.lost()
    }

    /// Pings that were not answered so far, those on their way among them.
    pub fn missing(&self) -> u64 {
        self.ping.so_far().lost()
    }

    /// Does something, waits until frames flow steadily after it, and says for how long they did not since it was done, altogether.
    ///
    /// # Errors
    /// It cannot be done, or they do not flow again.
    pub fn gap(&self, most: Duration, event: impl FnOnce() -> Result<()>) -> Result<Gap> {
        event()?;
        self.gap_from(self.ping.so_far().sent, self.waited(), most)
    }

    /// The same since it was begun.
    ///
    /// # Errors
    /// As [`Flow::gap`].
    pub fn gap_with(&self, most: Duration, event: impl FnOnce() -> Result<()>) -> Result<Gap> {
        let (since, waited) = (self.ping.so_far().sent, self.waited());
        event()?;
        self.gap_from(since, waited, most)
    }

    fn gap_from(&self, since: u64, before: Duration, most: Duration) -> Result<Gap> {
        self.steady(most)?;
        let (took, waited) = (self.ping.unanswered_for(since), self.waited().saturating_sub(before));
        Ok(Gap { took, waited })
    }

    /// Of both agents together: what one does may wait for the other.
    fn waited(&self) -> Duration {
        self.agents.iter().flatten().map(|pid| waited(*pid)).sum()
    }

    /// Waits until all of some pings in a row are answered.
    ///
    /// # Errors
    /// They are not.
    pub fn steady(&self, most: Duration) -> Result<()> {
        poll_until("frames to flow", most, || {
            let before = self.ping.so_far();
            self.ping.wait_sent(STEADY).context("pings are sent no longer")?;
            let after = self.ping.so_far();
            ensure!(after.received + 1 >= before.received + STEADY, "{before:?}, then {after:?}");
            Ok(())
        })
    }
}
