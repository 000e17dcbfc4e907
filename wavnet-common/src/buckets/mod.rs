//! A table of 64-bit keys and values in memory that the kernel programs and the agent (by mmap) share.
//!
//! An array of buckets of four `{key, value}` pairs of 64-bit words, one cache line each. A key lives in one of two buckets
//! (two-choice hashing), both in one page: a lookup costs one miss of the TLB and two of the cache, which the CPU waits for at the
//! same time. Everything changes by compare-and-exchange of a whole word, so that no reader on any CPU sees a torn entry:
//!
//! | slot | key | value |
//! | --- | --- | --- |
//! | free | 0 | 0 |
//! | claimed: its claimant alone may touch it | K | 0 |
//! | in force | K | V ≠ 0, replaced or zeroed by compare-and-exchange |
//! | being removed: whoever zeroed the value alone may touch it | K | 0 |
//!
//! A claimant looks over both buckets once more before it publishes a value, and gives up if it finds its key elsewhere: both
//! claims are full barriers, so of two that race at least one sees the other, and no key is ever in force twice.
//!
//! Any number of programs enter and change; one process, the agent, removes, from one thread at a time.

mod table;
mod word;

pub(crate) use table::{Claim, claim, rows, slot_of_either, value_of};
pub use table::{
    Full, Memory, Row, SLOTS, Slot, Unfinished, for_each, get, give_up, remove, remove_if, rows_for, set, unfinished,
};
pub(crate) use word::exchange;
#[cfg(test)]
pub(crate) use word::load;
