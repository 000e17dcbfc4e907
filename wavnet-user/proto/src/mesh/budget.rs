//! How much is sent to addresses that have never answered.
//!
//! Servers and peers name addresses, and openers and probes go there. Whoever lies must not be able to make a host, let alone all hosts of a
//! network, flood somebody who has nothing to do with it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    bucket::{Bucket, Rate},
    time::Time,
};

/// Datagrams to all such addresses together: enough to reach out for a thousand peers within some seconds.
const ALL: Rate = Rate { per_second: 1000, burst: 2000 };
/// To one address: many hosts may be behind it, and a few datagrams reach each.
const EACH: Rate = Rate { per_second: 50, burst: 250 };
/// Addresses that are remembered. While so many were written to lately, others have to wait.
const MOST: usize = 2048;

/// What may still be sent to strangers.
#[derive(Debug, Default)]
pub(super) struct Budget {
    all: Bucket,
    each: BTreeMap<IpAddr, Bucket>,
}

impl Budget {
    /// True if one more datagram may go to this address.
    pub(super) fn take(&mut self, now: Time, to: IpAddr) -> bool {
        let subscriber = subscriber(to);
        if self.each.len() >= MOST && !self.each.contains_key(&subscriber) {
            self.each.retain(|_, bucket| !bucket.is_full(now));
            if self.each.len() >= MOST {
                return false;
            }
        }
        let mut all = self.all;
        if !all.take(now, ALL, 1) || !self.each.entry(subscriber).or_default().take(now, EACH, 1) {
            return false;
        }
        self.all = all;
        true
    }
}

/// Of IPv6 a subscriber has 64 bits' worth of addresses.
fn subscriber(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn nobody_gets_more_than_a_share_and_all_together_no_more_than_there_is() {
        let mut budget = Budget::default();
        let start = Time::ZERO + Duration::from_secs(10);
        assert_eq!((0..10_000).filter(|_| budget.take(start, v4(1))).count(), 250);
        assert_eq!((0..10_000).filter(|n| budget.take(start, v4(2 + n % 1000))).count(), 1750);
        let later = |ms: u64| start + Duration::from_millis(ms);
        let to_one = (0..100_000).filter(|n| budget.take(later(n / 10), v4(1))).count();
        assert!((490..=500).contains(&to_one), "{to_one} in ten seconds");
        let mut budget = Budget::default();
        let to_all = (0..100_000).filter(|n| budget.take(later(u64::from(*n) / 10), v4(*n % 500))).count();
        assert!((11_900..=12_000).contains(&to_all), "{to_all} in ten seconds");
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_and_no_more_are_remembered_than_fit() {
        let mut budget = Budget::default();
        let of = |n: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n));
        assert_eq!((0..1000).filter(|n| budget.take(Time::ZERO, of(*n))).count(), 250);
        for n in 0..100_000 {
            budget.take(Time::ZERO + Duration::from_millis(u64::from(n)), v4(n));
        }
        assert!(budget.each.len() <= MOST);
    }
}
