//! In place of the table's own `word.rs`: each access may be the moment at which another thread comes in.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::schedule::step;

pub(crate) fn load(word: &AtomicU64) -> u64 {
    step();
    word.load(Ordering::SeqCst)
}

pub(crate) fn exchange(word: &AtomicU64, old: u64, new: u64) -> bool {
    step();
    word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
