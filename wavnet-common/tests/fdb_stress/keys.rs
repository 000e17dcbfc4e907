//! Whose keys are whose, and what each may ever say.
//!
//! Many keys have their homes at the same few places, so that words of different keys are equal; every key has a place of its own,
//! too, so that a value that got to another key's slot is seen.

use std::ops::Range;

use wavnet_common::{
    addr::Mac,
    fdb::{Entry, Key, Place, Seen},
};

/// The agent's clock stands: what is old is so because frames are late. It has just wrapped.
pub(crate) const NOW: Seen = Seen(2);
/// Ticks after which a learned entry is aged.
pub(crate) const LIMIT: u16 = 4;

/// Learners.
pub(crate) const CPUS: usize = 2;
/// Of each learner alone: nobody else learns these.
const OWNED: u16 = 14;
/// Everybody learns them, the agent ages and removes them.
pub(crate) const SHARED: Range<u16> = 100..148;
/// Static from the beginning to the end; the agent moves them.
pub(crate) const FIXED: Range<u16> = 200..204;
/// The agent enters and removes static entries, and learners learn meanwhile.
pub(crate) const OPERATED: Range<u16> = 300..304;

pub(crate) fn owned(cpu: usize) -> Range<u16> {
    let first = cpu as u16 * OWNED;
    first..first + OWNED
}

pub(crate) fn key(n: u16) -> Key {
    let [hi, lo] = n.to_be_bytes();
    Key::new(n % 3, Mac([0x52, 0x54, 0, 0, hi, lo]))
}

pub(crate) fn number(key: Key) -> u16 {
    let [.., hi, lo] = key.mac().0;
    let n = u16::from_be_bytes([hi, lo]);
    assert_eq!(self::key(n), key, "nobody's key");
    n
}

/// One of the two places at which a key is learned: a home that it shares, or its own.
pub(crate) fn place(n: u16, own: bool) -> Place {
    if own { Place::Vtep(n) } else { Place::Port(n % 2) }
}

/// Where the operator has a key.
pub(crate) fn static_place(n: u16, choice: u64) -> Place {
    Place::Port(1000 + 8 * n + (choice & 7) as u16)
}

/// Every other shared key has epochs, which say where it is; the others have none, as in the kernel today.
pub(crate) fn has_epochs(n: u16) -> bool {
    n.is_multiple_of(2)
}

/// Where a key with epochs is in one of them.
pub(crate) fn place_in(n: u16, epoch: u32) -> Place {
    place(n, (epoch ^ u32::from(n)).wrapping_mul(0x9e37_79b9) >> 31 != 0)
}

/// Fails if nobody ever wrote such an entry for the key.
pub(crate) fn check(n: u16, entry: &Entry) {
    let operated = OPERATED.contains(&n) && entry.is_static;
    if operated || FIXED.contains(&n) {
        let places = (0..8).map(|choice| static_place(n, choice));
        let holds = entry.is_static && entry.epoch == 0 && places.into_iter().any(|place| place == entry.place);
        assert!(holds, "key {n}: {entry:?}");
        return;
    }
    let at = if SHARED.contains(&n) && has_epochs(n) {
        entry.place == place_in(n, entry.epoch)
    } else {
        [true, false].iter().any(|own| entry.place == place(n, *own))
    };
    // From nine ticks ago to now, over the wrap.
    let when = NOW.0.wrapping_sub(entry.seen.0) < 10;
    assert!(at && when && !entry.is_static, "key {n}: {entry:?}");
}
