//! What is counted elsewhere, and told the first time that it happens.

use std::collections::{BTreeMap, BTreeSet};

/// Counters by name, each of which is news once: when it first grows beyond what it was at first.
#[derive(Debug, Default)]
pub(crate) struct Firsts {
    before: BTreeMap<&'static str, u64>,
    told: BTreeSet<&'static str>,
}

impl Firsts {
    /// What there is by now is no news: an earlier process has counted it.
    pub(crate) fn begin(&mut self, counts: impl IntoIterator<Item = (&'static str, u64)>) {
        self.before = counts.into_iter().collect();
    }

    /// Those that have grown for the first time.
    pub(crate) fn news(&mut self, counts: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<&'static str> {
        let mut news = Vec::new();
        for (name, n) in counts {
            if n > self.before.get(name).copied().unwrap_or_default() && self.told.insert(name) {
                news.push(name);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_what_was_there_is_not() {
        let mut firsts = Firsts::default();
        let none: [&str; 0] = [];
        firsts.begin([("a", 5), ("b", 0)]);
        assert_eq!(firsts.news([("a", 5), ("b", 0)]), none);
        assert_eq!(firsts.news([("a", 5), ("b", 1)]), ["b"]);
        assert_eq!(firsts.news([("a", 6), ("b", 9), ("c", 1)]), ["a", "c"]);
        assert_eq!(firsts.news([("a", 7), ("b", 10), ("c", 2)]), none);
    }
}
