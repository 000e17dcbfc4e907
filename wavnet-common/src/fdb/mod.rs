//! The forwarding table: {VNI index, MAC} → place, in [`crate::buckets`].
//!
//! Programs learn, on all CPUs at once; what lost a race to another CPU is learned again from the next frame. The agent alone
//! removes.

mod entry;
mod learn;
mod seek;
mod table;

#[cfg(test)]
mod tests;

pub use crate::buckets::{Full, Memory, Row, SLOTS, Slot, Unfinished, give_up, unfinished};
pub use entry::{Entry, Key, Place, Seen};
pub use learn::{Learnt, learn, learn_at};
pub use seek::{Sought, seek};
pub use table::{age, for_each, len, lookup, remove, remove_if, set};
