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
