//! What is counted elsewhere, and told the first time that it happens.

use std::collections::{BTreeMap, BTreeSet};

/// Counters by name, each of which is news once: when it first grows beyond what it was at first.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    before: Option<BTreeMap<&'static str, u64>>,
    told: BTreeSet<&'static str>,
}

impl Firsts {
    /// Those that have grown for the first time. What there is the first time is no news: an earlier process may have told of it.
    pub(crate) fn news(&mut self, counts: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<&'static str> {
        let now: BTreeMap<&'static str, u64> = counts.into_iter().collect();
        let before = self.before.get_or_insert_with(|| now.clone());
        let has_grown = |(name, n): (&'static str, u64)| {
            (n > before.get(name).copied().unwrap_or_default() && self.told.insert(name)).then_some(name)
        };
        now.into_iter().filter_map(has_grown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_what_was_there_is_not() {
        let mut firsts = Firsts::default();
        let none: [&str; 0] = [];
        assert_eq!(firsts.news([("a", 5), ("b", 0)]), none);
        assert_eq!(firsts.news([("a", 5), ("b", 1)]), ["b"]);
        assert_eq!(firsts.news([("a", 6), ("b", 9), ("c", 1)]), ["a", "c"]);
        assert_eq!(firsts.news([("a", 7), ("b", 10), ("c", 2)]), none);
    }
}
