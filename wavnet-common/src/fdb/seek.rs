//! Lookups in two steps: what lies between them the CPU does while it fetches the buckets.

use super::entry::{Entry, Key};
use crate::buckets::{Candidates, Memory, PAYLOAD};

/// A key that has been asked for.
#[derive(Clone, Copy)]
pub struct Sought<'a>(pub(super) Candidates<'a>);

/// Says that a key will be wanted. `None` if the table has no room at all.
#[inline(always)]
pub fn seek<M: Memory + ?Sized>(mem: &M, key: Key) -> Option<Sought<'_>> {
    Candidates::of(mem, key.0).map(Sought)
}

impl Sought<'_> {
    /// The key.
    #[inline(always)]
    pub const fn key(&self) -> Key {
        Key(self.0.key)
    }

    /// The entry. On machines that reorder loads a frame may go once where a slot's next owner is; it is dropped there, as ports and
    /// members are checked against the VNI again.
    #[inline(always)]
    pub fn entry(&self) -> Option<Entry> {
        self.0.value().map(|word| Entry::from_word(word & PAYLOAD))
    }
}
