//! A host: its node, sockets and clock.

mod sockets;

use std::time::Duration;

use wavnet_proto::time::Time;

use crate::{Rng, SegmentId};
pub(crate) use sockets::{Sockets, nowhere};

/// What a host's clock says while the host is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asleep {
    /// It goes on, as Linux's `CLOCK_BOOTTIME`.
    Counts,
    /// It stands still, as Linux's `CLOCK_MONOTONIC`.
    StandsStill,
}

/// A clock that may differ from the network's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// How far it is ahead, in nanoseconds.
    ahead: i64,
}

impl Clock {
    pub(crate) fn read(self, now: Time) -> Time {
        Time::from_nanos(now.as_nanos().saturating_add_signed(self.ahead))
    }

    /// When it will say this.
    pub(crate) fn when(self, local: Time) -> Time {
        Time::from_nanos(local.as_nanos().saturating_add_signed(self.ahead.saturating_neg()))
    }

    pub(crate) fn forward(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(nanos(by));
    }

    pub(crate) fn back(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_sub(nanos(by));
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// A host.
#[derive(Debug)]
pub(crate) struct Host<N> {
    /// `None`: nothing runs on it.
    pub(crate) node: Option<N>,
    /// The node was told its sockets.
    pub(crate) started: bool,
    pub(crate) segment: SegmentId,
    pub(crate) sockets: Sockets,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
    /// Since when it sleeps.
    pub(crate) suspended: Option<Time>,
    /// The earliest time at which the queue wakes it.
    pub(crate) wake_at: Option<Time>,
    /// When it was last woken, and how often in that very moment.
    pub(crate) woken: (Time, u32),
}

impl<N> Host<N> {
    pub(crate) const fn is_awake(&self) -> bool {
        self.suspended.is_none() && self.node.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_forward_and_back() {
        let now = Time::from_nanos(1000);
        let mut clock = Clock::default();
        clock.forward(Duration::from_nanos(50));
        assert_eq!((clock.read(now), clock.when(clock.read(now))), (Time::from_nanos(1050), now));
        clock.back(Duration::from_nanos(250));
        assert_eq!((clock.read(now), clock.when(clock.read(now))), (Time::from_nanos(800), now));
        clock.back(Duration::MAX);
        assert_eq!(clock.read(now), Time::ZERO);
    }
}
