//! Which port a new mapping gets.

use super::{NextPort, Ports};
use crate::Rng;

/// Chooses ports.
#[derive(Debug)]
pub(super) struct Allocator {
    ports: Ports,
    /// Where the next sequential one is sought, from the start of the range.
    next: u32,
}

impl Allocator {
    /// A range that is empty has no ports.
    pub(super) const fn new(ports: Ports) -> Allocator {
        Allocator { ports, next: 0 }
    }

    pub(super) const fn reset(&mut self) {
        self.next = 0;
    }

    /// A port that is free.
    pub(super) fn choose(&mut self, inner: u16, rng: &mut Rng, is_free: impl Fn(u16) -> bool) -> Option<u16> {
        let range = &self.ports.range;
        if self.ports.preserve && range.contains(&inner) && is_free(inner) {
            return Some(inner);
        }
        let first = u32::from(*range.start());
        let count = (u32::from(*range.end()) + 1).checked_sub(first).filter(|count| *count > 0)?;
        let (from, step) = match self.ports.next {
            NextPort::Sequential { step } => (self.next % count, u32::from(step.max(1))),
            NextPort::Random => {
                // Where most are free, as good as always.
                let drawn = (0..16).map(|_| rng.below(count.into()) as u32).find(|at| is_free((first + at) as u16));
                if let Some(at) = drawn {
                    return Some((first + at) as u16);
                }
                (rng.below(count.into()) as u32, 1)
            }
        };
        // By steps, and then those that no step leads to.
        let at =
            |turn: u32, step: u32| ((u64::from(from) + u64::from(turn) * u64::from(step)) % u64::from(count)) as u32;
        let places = (0..count).map(|turn| at(turn, step)).chain((0..count).map(|turn| at(turn, 1)));
        let found = places.into_iter().find(|at| is_free((first + at) as u16))?;
        if matches!(self.ports.next, NextPort::Sequential { .. }) {
            self.next = found + step;
        }
        Some((first + found) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocator(preserve: bool, next: NextPort) -> Allocator {
        Allocator::new(Ports { preserve, next, range: 100..=103 })
    }

    #[test]
    fn sequential_ports_leave_out_what_is_taken_and_come_round() {
        let mut rng = Rng::new(1);
        let mut a = allocator(false, NextPort::Sequential { step: 1 });
        let ports: Vec<_> = (0..5).map(|_| a.choose(101, &mut rng, |port| port != 102)).collect();
        assert_eq!(ports, [100, 101, 103, 100, 101].map(Some));
        let mut a = allocator(false, NextPort::Sequential { step: 3 });
        let ports: Vec<_> = (0..5).map(|_| a.choose(101, &mut rng, |_| true)).collect();
        assert_eq!(ports, [100, 103, 102, 101, 100].map(Some));
        a.reset();
        assert_eq!(a.choose(101, &mut rng, |_| true), Some(100));
        // No step leads to the odd ones.
        let mut even = allocator(false, NextPort::Sequential { step: 2 });
        assert_eq!(even.choose(101, &mut rng, |port| port == 103), Some(103));
        assert_eq!(a.choose(101, &mut rng, |_| false), None);
    }

    #[test]
    fn random_ports_are_all_of_the_range_and_the_last_free_one_is_found() {
        let mut rng = Rng::new(2);
        let mut a = allocator(false, NextPort::Random);
        let mut seen = [0; 4];
        for _ in 0..4000 {
            seen[usize::from(a.choose(7, &mut rng, |_| true).unwrap()) - 100] += 1;
        }
        assert!(seen.iter().all(|n| (860..1140).contains(n)), "{seen:?}");
        let mut whole = Allocator::new(Ports { preserve: false, next: NextPort::Random, range: 0..=65535 });
        assert_eq!(whole.choose(7, &mut rng, |port| port == 65535), Some(65535));
    }

    #[test]
    fn ports_are_kept_if_they_are_in_the_range_and_free() {
        let mut rng = Rng::new(3);
        let mut a = allocator(true, NextPort::Sequential { step: 1 });
        assert_eq!(a.choose(103, &mut rng, |_| true), Some(103));
        assert_eq!(a.choose(103, &mut rng, |port| port != 103), Some(100));
        assert_eq!(a.choose(104, &mut rng, |_| true), Some(101));
        #[expect(clippy::reversed_empty_ranges, reason = "a range that somebody has got wrong")]
        let mut none = Allocator::new(Ports { preserve: true, next: NextPort::Random, range: 9..=8 });
        assert_eq!(none.choose(9, &mut rng, |_| true), None);
    }
}
