//! Frames between two sites all the time, to see how long there are none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Site;
use crate::lab::{ping::Ping, poll_until};

/// Between two pings.
const PERIOD: Duration = Duration::from_millis(10);
/// So many answers in a row, and frames flow.
const STEADY: u64 = 20;

/// Pings from a site's VM to another one's.
#[derive(Debug)]
pub struct Flow(Ping);

impl Flow {
    /// Starts them, and waits until they are answered.
    ///
    /// # Errors
    /// They are not.
    pub fn start(from: &Site, to: &Site, most: Duration) -> Result<Flow> {
        let ping = Ping::start(&from.vm.ns, to.addr, PERIOD)?;
        ping.wait_answered(STEADY, most)?;
        Ok(Flow(ping))
    }

    /// Pings so far that are not answered, however late.
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Pings that were not answered so far, those on their way among them.
    pub fn missing(&self) -> u64 {
        self.0.so_far().lost()
    }

    /// Does something, waits until frames flow steadily after it, and says for how long they did not since it was done, altogether.
    ///
    /// # Errors
    /// It cannot be done, or they do not flow again.
    pub fn gap(&self, most: Duration, event: impl FnOnce() -> Result<()>) -> Result<Duration> {
        event()?;
        self.gap_from(self.0.so_far().sent, most)
    }

    /// The same since it was begun.
    ///
    /// # Errors
    /// As [`Flow::gap`].
    pub fn gap_with(&self, most: Duration, event: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let since = self.0.so_far().sent;
        event()?;
        self.gap_from(since, most)
    }

    fn gap_from(&self, since: u64, most: Duration) -> Result<Duration> {
        self.steady(most)?;
        Ok(self.0.unanswered_for(since))
    }

    /// Waits until all of some pings in a row are answered.
    ///
    /// # Errors
    /// They are not.
    pub fn steady(&self, most: Duration) -> Result<()> {
        poll_until("frames to flow", most, || {
            let before = self.0.so_far();
            self.0.wait_sent(STEADY).context("pings are sent no longer")?;
            let after = self.0.so_far();
            ensure!(after.received + 1 >= before.received + STEADY, "{before:?}, then {after:?}");
            Ok(())
        })
    }
}
