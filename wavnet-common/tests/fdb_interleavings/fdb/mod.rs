//! The library's forwarding table, over those buckets.

#[path = "../../../src/fdb/entry.rs"]
#[expect(unreachable_pub, reason = "it is a library's")]
mod entry;
#[path = "../../../src/fdb/learn.rs"]
#[expect(unreachable_pub, reason = "it is a library's")]
mod learn;
#[path = "../../../src/fdb/seek.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is a library's, and not all of it is raced for")]
mod seek;
#[path = "../../../src/fdb/table.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is a library's, and not all of it is raced for")]
mod table;

pub(crate) use entry::{Entry, Key, Place, Seen};
pub(crate) use learn::{Learnt, learn};
pub(crate) use table::{age, for_each, lookup, remove, remove_if, set};

/// The key as it stands in a bucket.
pub(crate) fn word(key: Key) -> u64 {
    key.0
}
