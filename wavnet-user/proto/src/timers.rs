//! Which of a core's timers runs out next.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Time;

/// Timers by name: each runs once at the most. Setting one again moves it.
///
/// Two that run out at the same moment come in the order of their names, so a core does the same each time.
#[derive(Clone, Debug)]
pub struct Timers<K> {
    due: BTreeMap<K, Time>,
    queue: BTreeSet<(Time, K)>,
}

impl<K> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers { due: BTreeMap::new(), queue: BTreeSet::new() }
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Has a timer run out at this moment, and not when it was to do so before.
    pub fn set(&mut self, timer: K, at: Time) {
        if let Some(before) = self.due.insert(timer, at) {
            self.queue.remove(&(before, timer));
        }
        self.queue.insert((at, timer));
    }

    /// As [`Timers::set`], unless the timer runs out earlier anyway.
    pub fn set_no_later(&mut self, timer: K, at: Time) {
        if self.at(timer).is_none_or(|before| at < before) {
            self.set(timer, at);
        }
    }

    /// Stops a timer.
    pub fn stop(&mut self, timer: K) {
        if let Some(at) = self.due.remove(&timer) {
            self.queue.remove(&(at, timer));
        }
    }

    /// When a timer runs out.
    #[must_use]
    pub fn at(&self, timer: K) -> Option<Time> {
        self.due.get(&timer).copied()
    }

    /// When the next one runs out.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes one that has run out.
    pub fn pop(&mut self, now: Time) -> Option<K> {
        let (at, timer) = *self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.due.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    #[test]
    fn run_out_in_order_and_once() {
        let mut timers = Timers::default();
        timers.set('b', at(2));
        timers.set('a', at(2));
        timers.set('c', at(9));
        timers.set('c', at(1));
        assert_eq!(timers.next(), Some(at(1)));
        let fired: Vec<char> = std::iter::from_fn(|| timers.pop(at(2))).collect();
        assert_eq!(fired, ['c', 'a', 'b']);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn none_before_its_time_and_none_that_was_stopped() {
        let mut timers = Timers::default();
        timers.set('a', at(5));
        timers.set('b', at(5));
        timers.stop('a');
        timers.set_no_later('b', at(7));
        assert_eq!((timers.pop(at(4)), timers.at('b')), (None, Some(at(5))));
        assert_eq!((timers.pop(at(5)), timers.pop(at(5))), (Some('b'), None));
    }
}
