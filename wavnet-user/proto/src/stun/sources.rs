//! How many answers go to one source, by the server in user space: the same as the kernel's program, with a table of its own.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use wavnet_common::abi::relay::{StunSource, size};

use crate::time::Time;

/// What sources may have answered: an address of IPv4, a /64 of IPv6. Of a fixed size, half a megabyte, and shared by all threads that
/// answer.
#[derive(Debug)]
pub struct Sources {
    seed: u64,
    /// [`StunSource::answer_ns`].
    answer_ns: AtomicU32,
    buckets: Box<[StunSource]>,
}

impl Sources {
    /// So many answers a second for each, and as many at once; `None`: there is no limit. The seed is to be random, and nobody's to know.
    #[must_use]
    pub fn new(seed: u64, per_second: Option<NonZeroU32>) -> Sources {
        let buckets = (0..size::STUN_SOURCES).map(|_| StunSource::default()).collect();
        Sources { seed, answer_ns: AtomicU32::new(StunSource::answer_ns(per_second)), buckets }
    }

    /// Puts another limit in force. What was sent before counts.
    pub fn limit(&self, per_second: Option<NonZeroU32>) {
        self.answer_ns.store(StunSource::answer_ns(per_second), Ordering::Relaxed);
    }

    /// True if another answer may go to an address, which counts then.
    #[must_use]
    pub fn admits(&self, now: Time, to: IpAddr) -> bool {
        let source = match to.to_canonical() {
            IpAddr::V4(ip) => ip.to_bits().into(),
            // Half of an address is its network's: whoever has one address there has all.
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
        };
        let bucket = self.buckets.get(StunSource::index(self.seed, source) as usize);
        bucket.is_some_and(|bucket| bucket.admits(self.answer_ns.load(Ordering::Relaxed), now.as_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_nanos(77_000_000_000);

    fn limited(per_second: u32) -> Sources {
        Sources::new(0x5eed, NonZeroU32::new(per_second))
    }

    fn at_once(sources: &Sources, now: Time, to: &str) -> usize {
        let to = to.parse().unwrap();
        (0..1000).filter(|_| sources.admits(now, to)).count()
    }

    #[test]
    fn each_address_of_ipv4_and_each_network_of_ipv6_has_its_own() {
        let sources = limited(10);
        for to in ["192.0.2.1", "192.0.2.2", "2001:db8:1:2::1", "2001:db8:1:3::1", "::1"] {
            assert_eq!(at_once(&sources, NOW, to), 10, "{to}");
        }
        for to in ["192.0.2.1", "::ffff:192.0.2.2", "2001:db8:1:2:3:4:5:6", "2001:db8:1:3:ffff::"] {
            assert_eq!(at_once(&sources, NOW, to), 0, "{to}");
        }
        assert_eq!(at_once(&sources, NOW + Duration::from_millis(500), "192.0.2.1"), 5);
        assert_eq!(at_once(&sources, NOW + Duration::from_secs(60), "192.0.2.1"), 10);
    }

    #[test]
    fn another_limit_is_in_force_at_once() {
        let sources = limited(10);
        assert_eq!(at_once(&sources, NOW, "192.0.2.1"), 10);
        sources.limit(None);
        assert_eq!(at_once(&sources, NOW, "192.0.2.1"), 1000);
        sources.limit(NonZeroU32::new(20));
        let later = NOW + Duration::from_secs(1);
        assert_eq!(at_once(&sources, later, "192.0.2.1"), 20);
    }

    proptest! {
        /// Whoever asks when: to no address goes more than a second's answers and what the rate allows.
        #[test]
        fn nobody_is_sent_more_than_the_limit(
            per_second in 1u32..2_000,
            asked in prop::collection::vec((0u8..4, 0u64..3_000_000_000), 1..400),
        ) {
            let sources = limited(per_second);
            for to in 0..4 {
                let mine = asked.iter().filter(|(n, _)| *n == to).map(|(_, after)| *after);
                let (Some(first), Some(last)) = (mine.clone().min(), mine.clone().max()) else { continue };
                let answered = mine.filter(|after| {
                    sources.admits(NOW + Duration::from_nanos(*after), IpAddr::from([192, 0, 2, to]))
                });
                let most = f64::from(per_second) * (1.0 + (last - first) as f64 / 1e9) * 1.001;
                let answered = answered.count();
                prop_assert!(answered as f64 <= most, "{answered} of {most}");
            }
        }
    }
}
