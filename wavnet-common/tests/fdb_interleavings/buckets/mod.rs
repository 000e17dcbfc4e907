//! The library's buckets over another `word.rs`, which hands over to another thread where it is told to.

#[path = "../../../src/buckets/table.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is a library's, and not all of it is raced for")]
mod table;
pub(crate) mod word;

pub(crate) use table::*;
