//! A table of 64-bit keys and values in memory that the kernel programs and the agent (by mmap) share.
//!
//! An array of buckets of four `{key, value}` pairs of 64-bit words, one cache line each. A key lives in one of two buckets
//! (two-choice hashing), both in one page: a lookup costs one miss of the TLB and two of the cache, which the CPU waits for at the
//! same time. Everything changes by compare-and-exchange of a whole word, so that no reader on any CPU sees a torn entry:
//!
//! | slot | key | value |
//! | --- | --- | --- |
//! | free | 0 | not in force |
//! | claimed: its claimant alone may touch it | K with the bit of a claim | not in force, then V |
//! | in force | K | V, replaced or taken out of force by compare-and-exchange |
//! | being removed: whoever took the value out of force alone may touch it | K | not in force |
//! | given up: the agent alone frees it, after a while | the bit of a claim | anything |
//!
//! A claimant looks over both buckets once more before it publishes a value, and gives up if it finds its key elsewhere: both
//! claims are full barriers, so of two that race at least one sees the other, and no key is ever in force twice. Nobody else finds a
//! key by its claim: one that comes too late would else hide the entry that is in force, and be given to another key under the
//! eyes of whoever took it for that.
//!
//! Each removal gives the slot's value another generation. Whoever was held up may still have the word of an entry that
//! is gone; that of the slot's next entry differs from it even if both say the same. (Who sleeps while a slot changes hands 32
//! times is not guarded against.)
//!
//! Any number of programs enter and change; one process, the agent, removes, from one thread at a time.
//!
//! What users may put into the words: any bit of a key but [`CLAIM`], not all zero; of a value those of [`PAYLOAD`].

mod table;

#[cfg(test)]
pub(crate) use table::in_place_of;
pub use table::{
    CLAIM, Full, Memory, PAYLOAD, Row, SLOTS, Slot, Unfinished, for_each, get, give_up, hash, remove, remove_if,
    rows_for, set, unfinished,
};
pub(crate) use table::{Candidates, Claim, claim, replace, value_of};
