//! The forwarding table: {VNI index, MAC} → place.
//!
//! An array of buckets of four `{key, value}` pairs of 64-bit words, one cache line each, in memory that the kernel programs and
//! the agent (by mmap) share. A key lives in one of two buckets (two-choice hashing). Everything changes by compare-and-exchange
//! of a whole word, so that no reader on any CPU sees a torn entry:
//!
//! | slot | key | value |
//! | --- | --- | --- |
//! | free | 0 | 0 |
//! | claimed: its claimant alone may touch it | K | 0 |
//! | in force | K | V ≠ 0, replaced or zeroed by compare-and-exchange |
//! | being removed: whoever zeroed the value alone may touch it | K | 0 |
//!
//! A claimant looks over both buckets once more before it publishes a value, and gives up if it finds its key elsewhere: both
//! claims are full barriers, so of two that race at least one sees the other, and no key is ever in force twice. What gave up is
//! learned again from the next frame.
//!
//! Any number of programs learn; one process, the agent, removes, from one thread at a time.

mod entry;
mod learn;
mod table;
mod word;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Key, Place, Seen};
pub use learn::{Learnt, learn};
pub use table::{
    Full, Memory, Row, SLOTS, Slot, Unfinished, age, for_each, give_up, len, lookup, remove, remove_if, set, unfinished,
};
