//! How often to look for entries of the FDB that are too old.

use std::time::Duration;

/// Shortest and longest pause between two scans of the table.
const SCAN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How often to scan the table: a quarter of the ageing time, from one to ten seconds. An entry is thus removed at most a
/// quarter of its time too late, and one of a second at most a second.
pub fn scan_every(ageing: Duration) -> Duration {
    (ageing / 4).clamp(SCAN.0, SCAN.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_neither_frantic_nor_rare() {
        assert_eq!(scan_every(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(scan_every(Duration::from_secs(20)), Duration::from_secs(5));
        assert_eq!(scan_every(Duration::from_secs(300)), Duration::from_secs(10));
    }
}
