//! How old a learned FDB entry may become, in the units of the table.
//!
//! The programs stamp entries with a tick: CLOCK_MONOTONIC nanoseconds shifted right by [`TICK_SHIFT`], about 1.07 s.

use std::time::Duration;

/// A tick is 2^30 ns.
pub const TICK_SHIFT: u32 = 30;

/// Shortest and longest pause between two scans of the table.
const SCAN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The tick of a CLOCK_MONOTONIC reading.
pub const fn tick(monotonic_ns: u64) -> u64 {
    monotonic_ns >> TICK_SHIFT
}

/// How many ticks an entry may be unused, at least one; `None` if the duration is zero: entries never age.
///
/// Rounded up, so that no entry goes before its time.
pub fn ticks(ageing: Duration) -> Option<u32> {
    if ageing.is_zero() {
        return None;
    }
    Some(u32::try_from(ageing.as_nanos().div_ceil(1 << TICK_SHIFT)).unwrap_or(u32::MAX))
}

/// How often to scan the table: a quarter of the ageing time, from one to ten seconds. An entry is thus removed at most a
/// quarter of its time too late.
pub fn scan_every(ageing: Duration) -> Duration {
    (ageing / 4).clamp(SCAN.0, SCAN.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_round_up_and_zero_means_never() {
        assert_eq!(ticks(Duration::ZERO), None);
        assert_eq!(ticks(Duration::from_nanos(1)), Some(1));
        assert_eq!(ticks(Duration::from_nanos(1 << 30)), Some(1));
        assert_eq!(ticks(Duration::from_nanos((1 << 30) + 1)), Some(2));
        assert_eq!(ticks(Duration::from_secs(300)), Some(280));
        assert_eq!(ticks(Duration::MAX), Some(u32::MAX));
    }

    #[test]
    fn scans_are_neither_frantic_nor_rare() {
        assert_eq!(scan_every(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(scan_every(Duration::from_secs(20)), Duration::from_secs(5));
        assert_eq!(scan_every(Duration::from_secs(300)), Duration::from_secs(10));
    }
}
