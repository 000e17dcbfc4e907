//! Which flows from ports send super-packets of datagrams.
//!
//! XDP cannot carry a super-packet, and cannot even tell a small one from a frame; so these flows are TC's altogether.

use core::sync::atomic::AtomicU64;

use super::order::spread;
use crate::word::{exchange, load, store};

/// A flow from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFlow {
    /// Port and hash.
    key: u64,
    set: u32,
}

impl PortFlow {
    /// By its port and its hash.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64, port_index: u16, hash: u32) -> PortFlow {
        let key = (port_index as u64) << 32 | hash as u64;
        PortFlow { key, set: spread(key, seed) >> (32 - Bulky::SETS.ilog2()) }
    }

    /// Index in `BULKY`.
    #[inline(always)]
    #[must_use]
    pub const fn set(self) -> u32 {
        self.set
    }

    /// The word that says: now.
    #[inline(always)]
    const fn at(self, now_ns: u64) -> u64 {
        Bulky::SET | ((now_ns >> 30) & (Bulky::TICKS - 1)) << 48 | self.key
    }
}

/// Whether a flow is TC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// It is not: it has sent no super-packet for a while.
    No,
    /// It is, but soon may not be: its frames count at its gate, so that none of those that TC still has is overtaken when it is XDP's again.
    Fading,
    /// It is and will be for a while: nobody need wait for its frames.
    Settled,
}

/// When flows last sent super-packets: a word for each.
///
/// A flow whose set is full takes the place of that which has been silent for longest. CPUs that write at the same time may overwrite
/// each other: the next super-packet writes again.
#[repr(C, align(32))]
#[derive(Debug, Default)]
pub struct Bulky([AtomicU64; Bulky::WAYS]);

/// [`Bulky`] as plain memory.
pub type BulkyWords = [u64; Bulky::WAYS];

impl Bulky {
    /// How many sets there are.
    pub const SETS: u32 = 4096;
    /// Flows in a set.
    const WAYS: usize = 4;
    /// For how long a flow is remembered: the age of its mark, ticks, which begins with one.
    const MEMORY: u64 = 31;
    /// Ticks are seconds (2^30 ns), modulo so many.
    const TICKS: u64 = 1 << 15;
    /// Keeps a word from being zero, which is nobody's.
    const SET: u64 = 1 << 63;
    /// What tells flows apart.
    const KEY: u64 = Bulky::SET | ((1 << 48) - 1);

    /// Ticks since what a word says. Another CPU may be a tick ahead of what this one has taken for now.
    #[inline(always)]
    const fn age(word: u64, now: u64) -> u64 {
        ((now >> 48) + 1).wrapping_sub(word >> 48) & (Bulky::TICKS - 1)
    }

    /// Whether a flow of this set is TC's. What is older than that is forgotten: it would come round as new.
    #[inline(always)]
    #[must_use]
    pub fn of(&self, flow: PortFlow, now_ns: u64) -> Bulk {
        let now = flow.at(now_ns);
        let mut found = Bulk::No;
        for word in &self.0 {
            let old = load(word);
            if (old ^ now) & Bulky::KEY != 0 {
                continue;
            }
            match Bulky::age(old, now) {
                0..Bulky::MEMORY => return Bulk::Settled,
                Bulky::MEMORY => found = Bulk::Fading,
                _ => drop(exchange(word, old, 0)),
            }
        }
        found
    }

    /// A flow of this set sends a super-packet.
    #[inline(never)]
    pub fn sends(&self, flow: PortFlow, now_ns: u64) {
        let now = flow.at(now_ns);
        let [first, others @ ..] = &self.0;
        let rank = |word: u64| match word {
            0 => Bulky::TICKS,
            own if (own ^ now) & Bulky::KEY == 0 => Bulky::TICKS + 1,
            other => Bulky::age(other, now),
        };
        let (mut place, mut old) = (first, load(first));
        for other in others {
            let word = load(other);
            if rank(word) > rank(old) {
                (place, old) = (other, word);
            }
        }
        if old != now {
            store(place, now);
        }
    }
}

const _: () = assert!(size_of::<Bulky>() == size_of::<BulkyWords>());

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1 << 30;

    fn flow(port_index: u16, hash: u32) -> PortFlow {
        PortFlow::new(5, port_index, hash)
    }

    #[test]
    fn a_flow_is_bulky_for_half_a_minute_on_its_port() {
        for start in [0, 32_760] {
            let set = Bulky::default();
            assert_eq!(set.of(flow(7, 0), start * S), Bulk::No);
            set.sends(flow(7, 0), start * S);
            let after = |seconds| set.of(flow(7, 0), (start + seconds) * S);
            assert_eq!([0, 29, 30, 31].map(after), [Bulk::Settled, Bulk::Settled, Bulk::Fading, Bulk::No], "{start}");
            assert_eq!(set.of(flow(8, 0), start * S), Bulk::No, "another port's");
            assert_eq!(set.of(flow(7, 1), start * S), Bulk::No, "another of the port");
            set.sends(flow(7, 0), (start + 30) * S);
            assert_eq!(after(31), Bulk::Settled);
        }
    }

    #[test]
    fn what_a_flow_did_long_ago_does_not_come_round() {
        let (set, silent) = (Bulky::default(), Bulky::default());
        set.sends(flow(7, 0), 0);
        silent.sends(flow(7, 0), 0);
        assert_eq!(set.of(flow(7, 0), 40 * S), Bulk::No);
        assert_eq!(set.of(flow(7, 0), Bulky::TICKS * S), Bulk::No, "its datagrams went on by XDP all the while");
        assert_eq!(set.of(flow(7, 0), (Bulky::TICKS + 5) * S), Bulk::No);
        // Of one that sent nothing all the while, nothing can be overtaken.
        assert_eq!(silent.of(flow(7, 0), Bulky::TICKS * S), Bulk::Settled);
    }

    #[test]
    fn a_mark_of_a_cpu_that_is_a_tick_ahead_is_as_good_as_new() {
        let set = Bulky::default();
        for hash in 0..4 {
            set.sends(flow(7, hash), (10 + u64::from(hash == 3)) * S);
        }
        assert_eq!(set.of(flow(7, 3), 10 * S), Bulk::Settled);
        assert_eq!(set.of(flow(7, 3), 11 * S), Bulk::Settled);
        set.sends(flow(7, 9), 10 * S);
        assert_eq!(
            set.of(flow(7, 3), 11 * S),
            Bulk::Settled,
            "nor is it taken for the one that has been silent for longest"
        );
    }

    #[test]
    fn a_flow_without_port_and_hash_is_told_from_no_flow() {
        let set = Bulky::default();
        assert_eq!(set.of(flow(0, 0), 0), Bulk::No);
        set.sends(flow(0, 0), 0);
        assert_eq!(set.of(flow(0, 0), 0), Bulk::Settled);
    }

    #[test]
    fn flows_share_a_set_until_it_is_full_of_those_that_are_remembered() {
        let set = Bulky::default();
        let all = |seconds, hashes: [u32; 4]| hashes.map(|hash| set.of(flow(1, hash), seconds * S) == Bulk::Settled);
        for hash in 0..4 {
            set.sends(flow(1, hash), u64::from(hash) * S);
        }
        assert_eq!(all(4, [0, 1, 2, 3]), [true; 4]);
        // The first speaks again: the second has been silent for longest.
        set.sends(flow(1, 0), 4 * S);
        set.sends(flow(1, 9), 5 * S);
        assert_eq!(all(5, [0, 1, 2, 3]), [true, false, true, true]);
        assert_eq!(set.of(flow(1, 9), 5 * S), Bulk::Settled);
        // One flow takes one place, whatever else is there.
        for second in 6..20 {
            set.sends(flow(1, 9), second * S);
        }
        assert_eq!(all(20, [0, 9, 2, 3]), [true; 4]);
    }

    #[test]
    fn flows_and_ports_are_spread_over_the_sets_by_the_seed() {
        for of in
            [|n| PortFlow::new(5, 3, n), |n| PortFlow::new(5, n as u16, 3), |n| PortFlow::new(u64::from(n) << 20, 3, 3)]
        {
            let mut counts = std::vec![0; Bulky::SETS as usize];
            (0..4 * Bulky::SETS).for_each(|n| counts[of(n).set() as usize] += 1);
            let most = counts.iter().max();
            assert!(most < Some(&24), "{most:?}");
        }
        // Some seed tells any two apart.
        let apart = |seed| PortFlow::new(seed, 1, 9).set() != PortFlow::new(seed, 4097, 9).set();
        assert!((0..64).any(|n| apart(0x1234_5678_9abc_def1 * n)));
    }
}
