//! Keys and entries in buckets.

use super::{
    entry::{Entry, Key, Seen},
    seek::seek,
};
use crate::buckets::{self, Full, Memory};

/// The entry of a key.
#[inline(always)]
pub fn lookup<M: Memory + ?Sized>(mem: &M, key: Key) -> Option<Entry> {
    seek(mem, key)?.entry()
}

/// Enters or replaces an entry, whatever is there: for the agent's static entries.
///
/// # Errors
/// [`Full`] when both buckets are full.
pub fn set<M: Memory + ?Sized>(mem: &M, key: Key, entry: Entry) -> Result<(), Full> {
    buckets::set(mem, key.0, entry.to_word())
}

/// Removes a key's entry, static or learned; `true` if there was one.
pub fn remove<M: Memory + ?Sized>(mem: &M, key: Key) -> bool {
    buckets::remove(mem, key.0)
}

/// Calls `visit` for every entry in force. What changes meanwhile may be seen in its old or new state, never in between.
pub fn for_each<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(Key, Entry)) {
    buckets::for_each(mem, |key, word| visit(Key(key), Entry::from_word(word)));
}

/// How many entries are in force.
pub fn len<M: Memory + ?Sized>(mem: &M) -> usize {
    let mut n = 0;
    for_each(mem, |_, _| n += 1);
    n
}

/// Removes every entry that `gone` says; an entry that changes at the same moment stays. Returns how many were removed.
pub fn remove_if<M: Memory + ?Sized>(mem: &M, mut gone: impl FnMut(Key, Entry) -> bool) -> usize {
    buckets::remove_if(mem, |key, word| gone(Key(key), Entry::from_word(word)))
}

/// Removes learned entries that were last seen more than `limit` ticks ago. Returns how many.
pub fn age<M: Memory + ?Sized>(mem: &M, now: Seen, limit: u16) -> usize {
    remove_if(mem, |_, e| !e.is_static && e.seen.age(now) > limit)
}
