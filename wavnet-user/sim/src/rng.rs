//! Random numbers from a seed, the same on every machine, and the chance that something happens.

use std::time::Duration;

/// SplitMix64. Every link, router and host has one of its own, so that what one of them does changes nothing for the others.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`; zero if `n` is zero.
    pub const fn below(&mut self, n: u64) -> u64 {
        ((self.bits() as u128 * n as u128) >> 64) as u64
    }

    /// A time from zero up to and with `longest`.
    pub fn within(&mut self, longest: Duration) -> Duration {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }

    /// A number above 0 and up to 1.
    pub const fn unit(&mut self) -> f64 {
        const STEPS: u64 = 1 << 53;
        ((self.bits() >> 11) + 1) as f64 / STEPS as f64
    }

    /// One of a slice that is not empty.
    ///
    /// # Panics
    ///
    /// If it is empty.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Another generator, whose numbers have nothing to do with those that come from here later.
    #[must_use]
    pub const fn fork(&mut self) -> Rng {
        Rng(mix(self.bits()))
    }
}

/// A number all of whose bits depend on all bits of `n`.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// How often something happens, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// It does not.
    pub const NEVER: Chance = Chance(0);
    /// It always does.
    pub const ALWAYS: Chance = Chance(1_000_000);

    /// So many times out of a hundred.
    #[must_use]
    pub const fn percent(n: u32) -> Chance {
        Chance::per_million(n.saturating_mul(10_000))
    }

    /// So many times out of a million; more than that is [`Chance::ALWAYS`].
    #[must_use]
    pub const fn per_million(n: u32) -> Chance {
        if n < Chance::ALWAYS.0 { Chance(n) } else { Chance::ALWAYS }
    }

    /// Draws. What never happens takes no number.
    pub const fn happens(self, rng: &mut Rng) -> bool {
        self.0 != 0 && rng.below(1_000_000) < self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of SplitMix64 for the seed 1234567, as its authors' program prints them.
    #[test]
    fn numbers_are_splitmix64s() {
        let mut rng = Rng::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| rng.bits()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn ranges_are_kept_and_filled() {
        let mut rng = Rng::new(1);
        let mut seen = [0; 5];
        for _ in 0..5000 {
            seen[rng.below(5) as usize] += 1;
            let unit = rng.unit();
            assert!(unit > 0.0 && unit <= 1.0);
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.within(Duration::ZERO), Duration::ZERO);
        let short: Vec<_> = (0..100).map(|_| rng.within(Duration::from_nanos(1)).as_nanos()).collect();
        assert!(short.contains(&0) && short.contains(&1) && !short.contains(&2));
    }

    #[test]
    fn chances_are_as_often_as_they_say() {
        let mut rng = Rng::new(2);
        let mut of = |chance: Chance| (0..100_000).filter(|_| chance.happens(&mut rng)).count();
        assert_eq!(of(Chance::NEVER), 0);
        assert_eq!(of(Chance::ALWAYS), 100_000);
        // Five standard deviations are 345.
        assert!(of(Chance::percent(5)).abs_diff(5000) < 345);
        assert_eq!(Chance::percent(200), Chance::ALWAYS);
    }

    #[test]
    fn forks_go_their_own_ways() {
        let mut one = Rng::new(3);
        let (mut a, mut b) = (one.fork(), one.fork());
        let numbers = |rng: &mut Rng| (0..4).map(|_| rng.bits()).collect::<Vec<_>>();
        let (a, b, one) = (numbers(&mut a), numbers(&mut b), numbers(&mut one));
        assert!(a.iter().all(|n| !b.contains(n) && !one.contains(n)));
    }
}
