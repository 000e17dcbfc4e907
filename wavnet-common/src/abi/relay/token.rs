//! A token bucket in one word: when it will be full again (the generic cell rate algorithm's theoretical arrival time, ITU-T I.371).
//!
//! The word is shared by all CPUs and changed without a loop: a frame adds its time, and takes it back if that was too much. So nothing
//! that is let through goes uncounted; but for a moment frames that are about to be refused count, too, and may have others refused: as
//! many as there are CPUs at the most.

use core::sync::atomic::AtomicU64;

use crate::word::{add, exchange, fetch_add, load, store};

/// The bucket. As memory of zeros it is full from the clock's start on.
#[repr(transparent)]
#[derive(Debug, Default)]
pub(super) struct TokenBucket(AtomicU64);

impl TokenBucket {
    /// The most that a full one may hold, so that differences of times do not overflow.
    pub(super) const LARGEST: u64 = i64::MAX as u64 / 2;

    /// Makes it a full one. `now` is of the clock of [`TokenBucket::take`].
    pub(super) fn fill(&self, now: u64) {
        store(&self.0, now);
    }

    /// Takes what something costs from a bucket that holds `burst` when it is full; `false`: so much is not there. Both are times, of the
    /// clock's unit. A clock that steps back has less taken, never more; one that overflows does no harm to a bucket that was filled
    /// less than half of its range ago.
    #[inline(always)]
    pub(super) fn take(&self, cost: u64, burst: u64, now: u64) -> bool {
        let full_at = load(&self.0);
        let ahead = full_at.wrapping_sub(now) as i64;
        if ahead < 0 {
            // It is full. If another CPU says so first, that is as good.
            exchange(&self.0, full_at, now);
        } else if ahead.wrapping_add(cost as i64) > burst as i64 {
            // Without a write: what is far too much has nobody wait for the word.
            return false;
        }
        let ahead = fetch_add(&self.0, cost).wrapping_add(cost).wrapping_sub(now);
        if ahead as i64 <= burst as i64 {
            return true;
        }
        add(&self.0, cost.wrapping_neg());
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In whatever order times come: a burst, and what the time between the first and the last of them allows.
        #[test]
        fn no_more_passes_than_a_burst_and_the_rate(
            start: u64,
            times in prop::collection::vec(0u64..100_000, 1..500),
            (cost, burst) in (1u64..5_000, 0u64..50_000),
            sorted: bool,
        ) {
            let (bucket, mut times) = (TokenBucket::default(), times);
            bucket.fill(start);
            if sorted {
                times.sort_unstable();
            }
            let passed = times.iter().filter(|time| bucket.take(cost, burst, start.wrapping_add(**time))).count() as u64;
            let span = times.iter().max().unwrap() - times.iter().min().unwrap();
            prop_assert!(passed * cost <= burst + span, "{passed} of {} in {span}", times.len());
        }

        /// With times in their order, nothing is refused that a bucket by the book has room for, and nothing else passes.
        #[test]
        fn it_is_a_token_bucket(
            start: u64,
            gaps in prop::collection::vec(0u64..3_000, 1..300),
            (cost, burst) in (1u64..2_000, 0u64..10_000),
        ) {
            let bucket = TokenBucket::default();
            bucket.fill(start);
            let (mut tokens, mut now) = (burst, start);
            for gap in gaps {
                (tokens, now) = ((tokens + gap).min(burst), now.wrapping_add(gap));
                let wanted = tokens >= cost;
                tokens -= if wanted { cost } else { 0 };
                prop_assert_eq!(bucket.take(cost, burst, now), wanted, "{} of {} after {}", tokens, cost, gap);
            }
        }
    }

    #[test]
    fn memory_of_zeros_is_a_full_one_from_the_start_on() {
        for now in [0, 1, 1 << 62] {
            let bucket = TokenBucket::default();
            let passed = (0..20).filter(|_| bucket.take(10, 100, now)).count();
            assert_eq!(passed, 10, "at {now}");
        }
    }

    #[test]
    fn cpus_together_take_no_more_than_there_is() {
        const CPUS: u64 = 4;
        let (bucket, barrier) = (TokenBucket::default(), Barrier::new(CPUS as usize));
        let passed: u64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..CPUS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        (0..50_000).filter(|i| bucket.take(100, 10_000, i * 20)).count() as u64
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let most = (10_000 + 50_000 * 20) / 100;
        assert!(passed <= most, "{passed} of {most}");
        assert!(passed * 20 >= most * 19, "{passed} of {most}");
    }
}
