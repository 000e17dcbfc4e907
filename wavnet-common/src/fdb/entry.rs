//! The two words of an entry.

use crate::addr::Mac;

/// Where a MAC is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Behind a local port: index in `PORTS`.
    Port(u16),
    /// Behind a peer: index in `VTEPS`.
    Vtep(u16),
}

/// The key word: VNI index (16 bits), MAC (48 bits). Never zero for a station's MAC; a group's MAC is no key, as its I/G bit marks
/// claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u64);

impl Key {
    /// The key of a MAC in a VNI.
    #[inline(always)]
    pub const fn new(vni_index: u16, mac: Mac) -> Key {
        Key((vni_index as u64) << 48 | mac.to_u64())
    }

    /// Index of the VNI.
    #[inline(always)]
    pub const fn vni_index(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The MAC.
    #[inline(always)]
    pub const fn mac(self) -> Mac {
        Mac::from_u64(self.0)
    }
}

/// When an entry was last seen: CLOCK_MONOTONIC in units of 2^30 ns (1.07 s), modulo 2^16 (19.5 hours).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen(pub u16);

impl Seen {
    /// Nanoseconds in a tick, as a shift.
    pub const TICK_SHIFT: u32 = 30;

    /// The tick of a CLOCK_MONOTONIC time in nanoseconds.
    #[inline(always)]
    pub const fn at(now_ns: u64) -> Seen {
        Seen((now_ns >> Seen::TICK_SHIFT) as u16)
    }

    /// Ticks since then. A `Seen` that is slightly in the future (another CPU's clock read) counts as now.
    #[inline(always)]
    pub const fn age(self, now: Seen) -> u16 {
        let age = now.0.wrapping_sub(self.0);
        if age > u16::MAX - 16 { 0 } else { age }
    }
}

/// The value word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where the MAC is.
    pub place: Place,
    /// Entered by the operator: never learned over, never aged.
    pub is_static: bool,
    /// When a frame from the MAC was last seen.
    pub seen: Seen,
    /// The epoch of the place (24 bits): a frame with a lower one does not move the MAC.
    pub epoch: u32,
}

// The value's payload: flags (2 bits), a bit that is not ours, index of the place (16), last seen (16), epoch (24).
const STATIC: u64 = 1 << 57;
const REMOTE: u64 = 1 << 58;

impl Entry {
    /// Epochs are below this.
    pub const EPOCH_LIMIT: u32 = 1 << 24;

    #[inline(always)]
    pub(super) const fn to_word(self) -> u64 {
        let (remote, index) = match self.place {
            Place::Port(i) => (0, i),
            Place::Vtep(i) => (REMOTE, i),
        };
        remote
            | if self.is_static { STATIC } else { 0 }
            | (index as u64) << 40
            | (self.seen.0 as u64) << 24
            | (self.epoch & (Entry::EPOCH_LIMIT - 1)) as u64
    }

    #[inline(always)]
    pub(super) const fn from_word(word: u64) -> Entry {
        let index = (word >> 40) as u16;
        Entry {
            place: if word & REMOTE != 0 { Place::Vtep(index) } else { Place::Port(index) },
            is_static: word & STATIC != 0,
            seen: Seen((word >> 24) as u16),
            epoch: word as u32 & (Entry::EPOCH_LIMIT - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_round_trip(index: u16, remote: bool, is_static: bool, seen: u16, epoch in 0..Entry::EPOCH_LIMIT) {
            let place = if remote { Place::Vtep(index) } else { Place::Port(index) };
            let e = Entry { place, is_static, seen: Seen(seen), epoch };
            prop_assert_eq!(e.to_word() & !crate::buckets::PAYLOAD, 0);
            prop_assert_eq!(Entry::from_word(e.to_word()), e);
        }

        #[test]
        fn keys_round_trip(vni: u16, mac: [u8; 6]) {
            let k = Key::new(vni, Mac(mac));
            prop_assert_eq!((k.vni_index(), k.mac()), (vni, Mac(mac)));
        }
    }

    #[test]
    fn age_wraps_and_forgives_a_clock_ahead() {
        assert_eq!(Seen(65_530).age(Seen(4)), 10);
        assert_eq!(Seen(7).age(Seen(5)), 0);
        assert_eq!(Seen::at(300 << 30), Seen(300));
    }
}
