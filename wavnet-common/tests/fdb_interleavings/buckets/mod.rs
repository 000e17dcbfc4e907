//! The library's buckets over another [`crate::word`], which hands over to another thread where it is told to.

#[path = "../../../src/buckets/table.rs"]
#[expect(unreachable_pub, reason = "it is a library's")]
mod table;

pub(crate) use table::*;
