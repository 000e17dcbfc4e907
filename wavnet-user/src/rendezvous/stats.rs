//! What the threads count beside the core: STUN, and datagrams that the core never saw.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that all threads write, each seldom: once for a batch.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// STUN requests that were answered.
    pub(super) stun_answered: AtomicU64,
    /// STUN requests that were answered by an error.
    pub(super) stun_refused: AtomicU64,
    /// STUN requests whose sources had had as many answers as they may.
    pub(super) stun_too_fast: AtomicU64,
    /// What looked like STUN and was no request.
    pub(super) stun_ignored: AtomicU64,
    /// Datagrams for the core that found its queue full.
    pub(super) queue_full: AtomicU64,
    /// Datagrams that were too long.
    pub(super) too_long: AtomicU64,
    /// Datagrams that the kernel did not take.
    pub(super) not_sent: AtomicU64,
    /// Times that the store could not be written.
    pub(super) store_errors: AtomicU64,
    /// 1 while the store cannot be written, else 0.
    pub(super) store_failing: AtomicU64,
    /// Changes that wait for the store's thread.
    pub(super) store_waiting: AtomicU64,
    /// Changes that the thread has taken, and not written yet.
    pub(super) store_taken: AtomicU64,
    /// Changes that were given up.
    pub(super) store_lost: AtomicU64,
}

/// Adds to a counter, if there is something to add.
pub(super) fn add(counter: &AtomicU64, many: u64) {
    if many > 0 {
        counter.fetch_add(many, Ordering::Relaxed);
    }
}

/// What a counter has.
pub(super) fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Takes from a counter of what there is now.
pub(super) fn take(counter: &AtomicU64, many: u64) {
    counter.fetch_sub(many, Ordering::Relaxed);
}

/// Sets a counter of what there is now.
pub(super) fn set(counter: &AtomicU64, many: u64) {
    counter.store(many, Ordering::Relaxed);
}
