//! Rate limits: token buckets in eight bytes each.

use std::time::Duration;

use crate::time::Time;

/// How much of something may come: so much at once, and so much a second later on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A second.
    pub per_second: u64,
    /// At once.
    pub burst: u64,
}

impl Rate {
    /// How long so many take.
    fn time(self, many: u64) -> Duration {
        let nanos = u128::from(many) * 1_000_000_000 / u128::from(self.per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A token bucket, full at first: the moment at which it will be full again (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket(Time);

impl Bucket {
    /// Takes so many, if they are there. One that is larger than the burst never is.
    pub fn take(&mut self, now: Time, rate: Rate, many: u64) -> bool {
        let burst = rate.time(rate.burst);
        // It is never further ahead than that, unless the clock stepped back.
        let before = if self.0.since(now) > burst { now } else { self.0.max(now) };
        let full = before + rate.time(many);
        let fits = full.since(now) <= burst;
        if fits {
            self.0 = full;
        }
        fits
    }

    /// True if nothing was taken lately: it is as good as a new one.
    #[must_use]
    pub fn is_full(&self, now: Time) -> bool {
        self.0 <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::default();
        let taken = (0..20).filter(|_| bucket.take(at(7), RATE, 1)).count();
        assert_eq!(taken, 5);
        assert!(!bucket.take(at(106), RATE, 1) && bucket.take(at(107), RATE, 1) && !bucket.take(at(107), RATE, 1));
        // In the long run it is the rate, whatever is asked for.
        let taken = (0..100_000).filter(|n| bucket.take(at(107 + n / 10), RATE, 1)).count();
        assert_eq!(taken, 99, "10 s");
    }

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_full(at(0)));
        assert!(!bucket.take(at(0), RATE, 6) && !bucket.take(at(100_000), RATE, u64::MAX));
        assert!(bucket.take(at(100_000), RATE, 5) && !bucket.take(at(100_000), RATE, 1));
        assert!(!bucket.is_full(at(100_499)) && bucket.is_full(at(100_500)));
    }

    #[test]
    fn a_clock_that_steps_back_and_a_rate_of_nothing_do_no_harm() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(at(1000), RATE, 5) && bucket.take(at(0), RATE, 5) && !bucket.take(at(0), RATE, 1));
        assert!(!Bucket::default().take(at(1), Rate { per_second: 0, burst: 0 }, 1));
    }
}
