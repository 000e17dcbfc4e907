//! What one side of a relayed session may send: a token bucket, and what it has sent.

use core::sync::atomic::AtomicU64;

use super::TokenBucket;
use crate::word::{add, load, store};

/// What one side of a session may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes of UDP payload a second. Up to a gigabyte a second it is held to within half a percent.
    pub bytes_per_second: u64,
    /// Bytes that may come at once, after a time without any.
    pub burst: u64,
}

/// What it has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// Frames sent on.
    pub frames: u64,
    /// Bytes of their UDP payloads.
    pub bytes: u64,
    /// Frames that were too much.
    pub dropped: u64,
}

/// One cache line: whoever changes its first word has the others anyway.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Meter {
    /// In units of [`Meter::UNITS`].
    bucket: TokenBucket,
    /// Units that a byte takes; zero: there is no limit.
    per_byte: AtomicU64,
    /// What the bucket holds.
    burst: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    reserved: [AtomicU64; 2],
}

impl Meter {
    /// Units of time in a nanosecond. The word overflows every two years, which differences do not mind.
    const UNITS: u64 = 1 << 8;

    /// Puts another rate in force, with a full bucket; `None`: no limit. `now_ns` is the clock of [`Meter::admits`].
    pub fn set(&self, rate: Option<Rate>, now_ns: u64) {
        // Whoever sees half of it measures one frame by both.
        let per_byte = |rate: Rate| (1_000_000_000 * Meter::UNITS / rate.bytes_per_second.max(1)).max(1);
        let burst = rate.map_or(0, |rate| per_byte(rate).saturating_mul(rate.burst));
        store(&self.burst, burst.min(TokenBucket::LARGEST));
        self.bucket.fill(now_ns.wrapping_mul(Meter::UNITS));
        store(&self.per_byte, rate.map_or(0, per_byte));
    }

    /// Begins anew, for another sender, without a limit.
    pub fn reset(&self) {
        self.bucket.fill(0);
        for word in [&self.per_byte, &self.burst, &self.frames, &self.bytes, &self.dropped] {
            store(word, 0);
        }
    }

    /// A frame is to be sent on now; `false`: it is too much. Counts it.
    #[inline(always)]
    #[must_use]
    pub fn admits(&self, bytes: u64, now_ns: u64) -> bool {
        if !self.has_room(bytes, now_ns) {
            add(&self.dropped, 1);
            return false;
        }
        add(&self.frames, 1);
        add(&self.bytes, bytes);
        true
    }

    #[inline(always)]
    fn has_room(&self, bytes: u64, now_ns: u64) -> bool {
        let per_byte = load(&self.per_byte);
        let (cost, now) = (per_byte.wrapping_mul(bytes), now_ns.wrapping_mul(Meter::UNITS));
        per_byte == 0 || self.bucket.take(cost, load(&self.burst), now)
    }

    /// What was sent since [`Meter::reset`].
    #[must_use]
    pub fn metered(&self) -> Metered {
        Metered { frames: load(&self.frames), bytes: load(&self.bytes), dropped: load(&self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    proptest! {
        /// Whatever comes when, what is let through is a burst and what the rate allows since, and not less than that by more than a
        /// frame if there is always something to send.
        #[test]
        fn what_passes_is_a_burst_and_then_the_rate(
            bytes_per_second in 1_000u64..10_000_000_000,
            burst in 2_000u64..1_000_000,
            start: u64,
            load in 2u64..5,
            len in 60u64..1_600,
        ) {
            let row = Meter::default();
            row.set(Some(Rate { bytes_per_second, burst }), start);
            let gap = (len * SECOND / bytes_per_second / load).max(1);
            let (mut passed, mut now) = (0, start);
            for _ in 0..2_000 {
                if row.admits(len, now) {
                    passed += len;
                }
                now = now.wrapping_add(gap);
            }
            let elapsed = 2_000 * gap;
            let allowed = u128::from(burst) + u128::from(elapsed) * u128::from(bytes_per_second) / u128::from(SECOND);
            let offered = 2_000 * u128::from(len);
            // Units are whole: the more bytes a second, the fewer to a byte.
            let slack = allowed / 20 + 2 * u128::from(len);
            prop_assert!(u128::from(passed) <= allowed + slack, "{passed} of {allowed}");
            prop_assert!(u128::from(passed) + slack >= allowed.min(offered), "{passed} of {allowed}, {offered} offered");
            let metered = row.metered();
            prop_assert_eq!((metered.bytes, metered.frames + metered.dropped), (passed, 2_000));
        }
    }

    #[test]
    fn without_a_limit_everything_passes_and_counts() {
        let row = Meter::default();
        assert!((0..1000).all(|_| row.admits(1500, 1)));
        assert_eq!(row.metered(), Metered { frames: 1000, bytes: 1_500_000, dropped: 0 });
        row.set(Some(Rate { bytes_per_second: 1, burst: 0 }), 1);
        assert!(!row.admits(1, 1));
        row.reset();
        assert!(row.admits(1, 1) && row.metered().dropped == 0);
    }

    /// The clock may have run for years when a session begins.
    #[test]
    fn a_bucket_is_full_at_first_whatever_the_clock_says() {
        let rate = Rate { bytes_per_second: 1_000_000, burst: 10_000 };
        for years in 0..5 {
            let now = years * 365 * 86_400 * SECOND;
            let row = Meter::default();
            row.set(Some(rate), now);
            assert!((0..10).all(|_| row.admits(1000, now)) && !row.admits(1000, now), "after {years} years");
            // Another rate does not have it wait for what it sent at the one before.
            row.set(Some(Rate { bytes_per_second: 1_000, ..rate }), now);
            assert!((0..10).all(|_| row.admits(1000, now)) && !row.admits(1000, now), "after {years} years");
        }
    }

    #[test]
    fn many_cpus_together_send_no_more_than_one() {
        let row = Meter::default();
        row.set(Some(Rate { bytes_per_second: 1_000_000, burst: 100_000 }), SECOND);
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for i in 0..100_000 {
                        let _ = row.admits(100, SECOND + i * 1000);
                    }
                });
            }
        });
        // A tenth of a second, and the burst.
        let metered = row.metered();
        assert!(metered.bytes <= 200_000 + 400, "{metered:?}");
        assert!(metered.bytes >= 190_000, "{metered:?}");
        assert_eq!(metered.frames + metered.dropped, 400_000);
    }
}
