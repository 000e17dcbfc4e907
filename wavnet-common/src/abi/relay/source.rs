//! How many answers of STUN go to one source. Requests prove nothing, and an answer goes to whom its request names: so this bounds what
//! somebody who forges requests can have sent to another one.
//!
//! Sources have buckets by a hash, and share them by chance; there is no entry that a flood from many sources could have forgotten. A
//! bucket that is shared lets through less to each, never more.

use core::num::NonZeroU32;

use super::{TokenBucket, size};
use crate::buckets;

/// `STUN_SOURCES[i]`.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct StunSource(TokenBucket);

impl StunSource {
    /// A full bucket: a second's answers.
    const BURST_NS: u64 = 1_000_000_000;

    /// Nanoseconds that an answer takes if a source may have so many a second, and as many at once. Zero, for `None`: there is no limit.
    /// Up to a million a second it is held to within a thousandth.
    #[must_use]
    pub const fn answer_ns(per_second: Option<NonZeroU32>) -> u32 {
        match per_second {
            None => 0,
            Some(n) => match StunSource::BURST_NS as u32 / n.get() {
                0 => 1,
                ns => ns,
            },
        }
    }

    /// Where the bucket of a source is. The seed is to be secret: who knows it could choose sources that share another one's.
    #[inline(always)]
    #[must_use]
    pub const fn index(seed: u64, source: u64) -> u32 {
        buckets::hash(seed, source) as u32 & (size::STUN_SOURCES - 1)
    }

    /// True if another answer may be sent, which counts then. `now_ns` is a monotonic clock that has not run for 292 years.
    #[inline(always)]
    #[must_use]
    pub fn admits(&self, answer_ns: u32, now_ns: u64) -> bool {
        answer_ns == 0 || self.0.take(answer_ns as u64, StunSource::BURST_NS, now_ns)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn answered(source: &StunSource, per_second: u32, times: impl Iterator<Item = u64>) -> usize {
        let answer_ns = StunSource::answer_ns(NonZeroU32::new(per_second));
        times.filter(|now| source.admits(answer_ns, *now)).count()
    }

    #[test]
    fn a_second_of_answers_at_once_and_then_the_rate() {
        const SECOND: u64 = 1_000_000_000;
        for per_second in [1, 3, 7, 1000, 999_999, 1_000_000] {
            let source = StunSource::default();
            let most = per_second as usize + per_second as usize / 1000;
            let at_once = answered(&source, per_second, (0..2_000_000).map(|_| 5 * SECOND));
            assert!((per_second as usize..=most).contains(&at_once), "{at_once} of {per_second}");
            let later = answered(&source, per_second, (1..=2_000_000).map(|n| 5 * SECOND + n * 500));
            assert!((per_second as usize..=most + 1).contains(&later), "{later} of {per_second}");
        }
    }

    #[test]
    fn zero_is_no_limit_and_more_than_can_be_counted_nearly_none() {
        assert_eq!(answered(&StunSource::default(), 0, (0..100_000).map(|_| 1)), 100_000);
        assert_eq!(answered(&StunSource::default(), u32::MAX, (0..100_000).map(|_| 1)), 100_000);
    }

    #[test]
    fn sources_are_spread_over_all_buckets() {
        let mut buckets = BTreeMap::<u32, u32>::new();
        for source in 0..size::STUN_SOURCES {
            *buckets.entry(StunSource::index(0x5eed, source.into())).or_default() += 1;
        }
        assert!(buckets.keys().all(|index| *index < size::STUN_SOURCES));
        // As by chance: a fraction of 1 / e of them has none.
        assert!(buckets.len() as f64 > 0.6 * f64::from(size::STUN_SOURCES), "{} buckets", buckets.len());
        assert!(buckets.values().all(|n| *n < 16));
    }
}
