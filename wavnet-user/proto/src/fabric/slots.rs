//! Which slots of a table are free, and who had them last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The slots of one table. `K` names an owner.
///
/// A returning owner gets its old slot if that is still free; others get the one that has been free longest, so that a frame
/// that was under way when a slot was freed does not meet the next owner.
#[derive(Clone, Debug)]
pub(super) struct Slots<K> {
    free: VecDeque<u16>,
    last: BTreeMap<K, u16>,
    owner: BTreeMap<u16, K>,
    touched: BTreeSet<u16>,
}

/// A slot and its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) index: u16,
    /// The last owner was the same: its counters go on.
    pub(super) returned: bool,
    /// Somebody had it since the start.
    pub(super) used_before: bool,
}

impl<K: Ord + Clone> Slots<K> {
    /// `capacity` slots, of which `used` are taken.
    pub(super) fn new(capacity: usize, used: &BTreeSet<u16>) -> Slots<K> {
        let capacity = u16::try_from(capacity).unwrap_or(u16::MAX);
        Slots {
            free: (0..capacity).filter(|i| !used.contains(i)).collect(),
            last: BTreeMap::new(),
            owner: BTreeMap::new(),
            touched: used.clone(),
        }
    }

    /// Takes a slot for `key`; `None` if all are taken.
    pub(super) fn take(&mut self, key: &K) -> Option<Grant> {
        if let Some(index) = self.last.remove(key) {
            self.owner.remove(&index);
            self.free.retain(|&i| i != index);
            return Some(Grant { index, returned: true, used_before: true });
        }
        let index = self.free.pop_front()?;
        if let Some(k) = self.owner.remove(&index) {
            self.last.remove(&k);
        }
        Some(Grant { index, returned: false, used_before: !self.touched.insert(index) })
    }

    /// Gives a slot back; `key` is `None` if its owner's name is not known.
    pub(super) fn put(&mut self, index: u16, key: Option<K>) {
        self.free.push_back(index);
        let Some(key) = key else { return };
        if let Some(older) = self.last.insert(key.clone(), index) {
            self.owner.remove(&older);
        }
        self.owner.insert(index, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_come_back_to_their_slot_and_others_get_the_oldest() {
        let mut s = Slots::new(4, &BTreeSet::from([1]));
        let take = |s: &mut Slots<&'static str>, k| s.take(&k).map(|g| (g.index, g.returned, g.used_before));
        assert_eq!(take(&mut s, "a"), Some((0, false, false)));
        assert_eq!(take(&mut s, "b"), Some((2, false, false)));
        s.put(0, Some("a"));
        s.put(2, Some("b"));
        assert_eq!(take(&mut s, "b"), Some((2, true, true)));
        assert_eq!(take(&mut s, "c"), Some((3, false, false)));
        assert_eq!(take(&mut s, "d"), Some((0, false, true)));
        assert_eq!(take(&mut s, "a"), None);
        s.put(0, Some("d"));
        assert_eq!(take(&mut s, "a"), Some((0, false, true)));
        assert_eq!(take(&mut s, "d"), None);
    }
}
