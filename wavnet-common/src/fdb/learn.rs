//! Learning from data (RFC 7348 section 4.1), in the kernel, for every frame.

use super::{
    entry::{Entry, Key, Place, Seen},
    seek::{Sought, seek},
};
use crate::buckets::{Claim, Memory, claim, replace, value_of};

/// What a frame's source MAC meant for the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt {
    /// Known, here, and its entry is up to date, or was brought up to date.
    Known,
    /// Entered.
    New,
    /// Was elsewhere.
    Moved(Place),
    /// A static entry, or one with a higher epoch, points elsewhere; it stays.
    Kept,
    /// No room.
    Full,
    /// Another CPU changed the entry at the same moment; the next frame will tell.
    Raced,
}

/// Enters, refreshes or moves the source of a frame that came from `place`, with the epoch of that place (0: none known).
#[inline(always)]
pub fn learn<M: Memory + ?Sized>(mem: &M, key: Key, place: Place, now: Seen, epoch: u32) -> Learnt {
    seek(mem, key).map_or(Learnt::Raced, |sought| learn_at(&sought, place, now, epoch))
}

/// The same where the key was sought already.
#[inline(always)]
pub fn learn_at(sought: &Sought, place: Place, now: Seen, epoch: u32) -> Learnt {
    let new = Entry { place, is_static: false, seen: now, epoch };
    let Some(slot) = sought.0.slot() else {
        return match claim(sought.0, new.to_word()) {
            Claim::Done => Learnt::New,
            Claim::Full => Learnt::Full,
            Claim::Raced => Learnt::Raced,
        };
    };
    let Some(word) = value_of(slot, sought.0.key) else { return Learnt::Raced };
    let old = Entry::from_word(word);
    let stays = old.place == place;
    if stays && (old.is_static || (old.seen == now && old.epoch >= epoch)) {
        return Learnt::Known;
    }
    if !stays && !may_replace(&old, epoch) {
        return Learnt::Kept;
    }
    // A late frame from the same place says that the MAC is alive, not that its place's epoch went back.
    let new = Entry { epoch: if stays && old.epoch > epoch { old.epoch } else { epoch }, ..new };
    if !replace(slot, word, new.to_word()) {
        return Learnt::Raced;
    }
    if stays { Learnt::Known } else { Learnt::Moved(old.place) }
}

/// A static entry is never overwritten, nor one with a higher epoch; equal epochs: the later frame wins, as a bridge does.
#[inline(always)]
const fn may_replace(old: &Entry, epoch: u32) -> bool {
    !old.is_static && epoch >= old.epoch
}
