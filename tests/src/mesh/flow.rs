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

    /// Pings that were not answered so far, those on their way among them.
    pub fn lost(&self) -> u64 {
        self.0.so_far().lost()
    }

    /// Does something, waits until frames flow steadily after it, and says for how long they did not, altogether.
    ///
    /// # Errors
    /// It cannot be done, or they do not flow again.
    pub fn gap(&self, most: Duration, event: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let before = self.lost();
        event()?;
        self.steady(most)?;
        let lost = self.lost().saturating_sub(before);
        Ok(PERIOD * u32::try_from(lost).unwrap_or(u32::MAX))
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
