//! Deterministic randomness of a core: the shell passes a seed, and nothing here asks the system.

use std::fmt;

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

/// A cryptographic generator (ChaCha20). The same seed gives the same bytes on every machine; whoever knows the seed knows all
/// keys that come from it, so a shell takes it from the system and keeps no copy.
///
/// It cannot be cloned: two parts that draw the same numbers would draw the same keys.
pub struct Rng(ChaCha20Rng);

impl Rng {
    /// A generator from a seed.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Rng {
        Rng(ChaCha20Rng::from_seed(seed))
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill_bytes(buffer);
    }

    /// So many bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Any number of 32 bits.
    pub fn u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Any number of 64 bits.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `n`, each as likely as the others; zero if `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        // The numbers that are left over when 2^64 is shared out evenly would favour the small ones: another draw.
        let excess = (u64::MAX % n.max(1) + 1) % n.max(1);
        loop {
            let drawn = self.u64();
            if drawn <= u64::MAX - excess {
                return drawn.checked_rem(n).unwrap_or(0);
            }
        }
    }

    /// A generator of its own for a part of a core: what that part draws does not shift what others draw.
    #[must_use]
    pub fn fork(&mut self) -> Rng {
        Rng::from_seed(self.bytes())
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let draw = |seed: u8| {
            let mut rng = Rng::from_seed([seed; 32]);
            let mut buffer = [0; 7];
            rng.fill(&mut buffer);
            (rng.u32(), rng.u64(), rng.bytes::<33>(), rng.below(1000), rng.fork().u64(), rng.u64(), buffer)
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    /// RFC 8439 appendix A.1, test vector 1: key, nonce and counter of zeros.
    #[test]
    fn it_is_the_key_stream_of_chacha20() {
        let first = [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28];
        assert_eq!(Rng::from_seed([0; 32]).bytes(), first);
    }

    #[test]
    fn a_fork_draws_by_itself() {
        let mut one = Rng::from_seed([3; 32]);
        let mut two = Rng::from_seed([3; 32]);
        let (mut part, _) = (one.fork(), two.fork());
        part.u64();
        assert_eq!(one.u64(), two.u64());
        assert_ne!(part.u64(), one.u64());
    }

    #[test]
    fn numbers_below_are_even() {
        let mut rng = Rng::from_seed([4; 32]);
        assert_eq!([0, 1].map(|n| rng.below(n)), [0, 0]);
        for n in [2, 3, 7, 10] {
            let mut drawn = vec![0u32; n as usize];
            for _ in 0..10_000 {
                drawn[rng.below(n) as usize] += 1;
            }
            let even = 10_000 / n as u32;
            assert!(drawn.iter().all(|times| times.abs_diff(even) < even / 5), "{drawn:?}");
        }
        // More than half of the numbers of 64 bits are drawn again.
        let n = (1 << 63) + 1;
        assert!((0..1000).all(|_| rng.below(n) < n));
        let upper = (0..1000).filter(|_| rng.below(n) >= n / 2).count();
        assert!((400..600).contains(&upper), "{upper}");
    }
}
