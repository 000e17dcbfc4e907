//! Clients that were turned away, as the log tells of them: the first at once, the others by their number, so that a client in a
//! loop does not fill the log.

use std::time::{Duration, Instant};

/// What has not been told of yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    untold: u64,
    told: Option<Instant>,
}

impl Refusals {
    /// How often they are told of.
    const EVERY: Duration = Duration::from_secs(10);

    /// One more; how many are to be told of now.
    pub(super) fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        self.take(now)
    }

    /// How many are to be told of now.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.untold == 0 || self.told.is_some_and(|told| now.duration_since(told) < Refusals::EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }

    /// Waits until those that are left are to be told of; for ever if there are none.
    pub(super) async fn due(&self) {
        match self.told.filter(|_| self.untold > 0) {
            Some(told) => tokio::time::sleep_until((told + Refusals::EVERY).into()).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_of_and_the_others_are_counted() {
        let start = Instant::now();
        let mut refusals = Refusals::default();
        assert_eq!(refusals.one_more(start), Some(1));
        for _ in 0..1000 {
            assert_eq!(refusals.one_more(start), None);
        }
        let later = start + Refusals::EVERY;
        assert_eq!(refusals.take(later - Duration::from_millis(1)), None);
        assert_eq!(refusals.take(later), Some(1000));
        assert_eq!(refusals.take(later + Refusals::EVERY), None, "nothing has happened since");
        assert_eq!(refusals.one_more(later + Refusals::EVERY), Some(1));
    }
}
