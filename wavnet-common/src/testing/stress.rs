//! What stress tests of the forwarding table share: settings from outside, an end that comes on every way out, and when nobody removes.

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The number in an environment variable; `None` if there is none.
pub fn number_from(variable: &str) -> Option<u64> {
    env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Ends the others on every way out, a failed assertion included.
#[derive(Debug)]
pub struct EndOf<'a>(pub &'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether the agent is removing something, and how often it has: odd while it is.
#[derive(Debug, Default)]
pub struct Removals(AtomicU64);

impl Removals {
    /// A number if nobody is removing anything; while it stays the same, nobody does.
    pub fn quiet(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|n| n.is_multiple_of(2))
    }

    /// Does work that removes.
    pub fn during<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.fetch_add(1, Ordering::SeqCst);
        let result = work();
        self.0.fetch_add(1, Ordering::SeqCst);
        result
    }
}
