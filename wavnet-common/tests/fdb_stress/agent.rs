//! The agent: the only one that removes. It ages, removes, enters static entries and reads.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use wavnet_common::{
    fdb::{self, Entry, Row},
    testing::{Rng, stress::Removals},
};

use crate::keys::{FIXED, LIMIT, NOW, OPERATED, SHARED, check, key, number, static_place};

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) aged: u64,
    /// Shared keys, one by one.
    pub(crate) removed: u64,
    /// Keys that the operator has, static or learned.
    pub(crate) removed_operated: u64,
    pub(crate) set: u64,
    pub(crate) set_operated: u64,
    pub(crate) full: u64,
    pub(crate) sweeps: u64,
}

pub(crate) struct Agent<'a> {
    table: &'a [Row],
    removals: &'a Removals,
    rng: Rng,
    /// What is static, exactly so: nobody else changes it.
    statics: HashMap<u16, Entry>,
    counts: Counts,
}

impl<'a> Agent<'a> {
    /// Enters the keys that are static throughout.
    pub(crate) fn new(table: &'a [Row], removals: &'a Removals, seed: u64) -> Agent<'a> {
        let rng = Rng::new(seed);
        let mut agent = Agent { table, removals, rng, statics: HashMap::new(), counts: Counts::default() };
        FIXED.for_each(|n| assert!(agent.set(n), "no room for static key {n}"));
        agent
    }

    pub(crate) fn run(mut self, end: &AtomicBool) -> (HashMap<u16, Entry>, Counts) {
        while !end.load(Ordering::Relaxed) {
            match self.rng.below(6) {
                0 => self.counts.aged += self.removals.during(|| fdb::age(self.table, NOW, LIMIT)) as u64,
                1 => self.remove_shared(),
                2 => {
                    let n = self.rng.below(FIXED.len()) as u16 + FIXED.start;
                    assert!(self.set(n), "static key {n} lost its slot");
                }
                3 => self.operate(),
                4 => self.read(),
                // Time for the others, so that something is new again, and somebody sees nobody remove anything.
                _ => (0..self.rng.below(4096)).for_each(|_| std::hint::spin_loop()),
            }
            self.look_up_statics();
        }
        (self.statics, self.counts)
    }

    fn set(&mut self, n: u16) -> bool {
        let entry = Entry { place: static_place(n, self.rng.bits()), is_static: true, seen: NOW, epoch: 0 };
        let done = fdb::set(self.table, key(n), entry).is_ok();
        self.counts.set += u64::from(done);
        self.counts.full += u64::from(!done);
        if done {
            self.statics.insert(n, entry);
        }
        done
    }

    fn remove_shared(&mut self) {
        let n = self.rng.below(SHARED.len()) as u16 + SHARED.start;
        let removed = if self.rng.below(2) == 0 {
            self.removals.during(|| fdb::remove(self.table, key(n))).into()
        } else {
            self.removals.during(|| fdb::remove_if(self.table, |k, _| k == key(n)))
        };
        // A sweep may meet a key again that is learned anew meanwhile.
        self.counts.removed += removed as u64;
    }

    fn operate(&mut self) {
        let n = self.rng.below(OPERATED.len()) as u16 + OPERATED.start;
        if self.rng.below(2) == 0 {
            self.counts.set_operated += u64::from(self.set(n));
        } else {
            let removed = self.removals.during(|| fdb::remove(self.table, key(n)));
            let was_static = self.statics.remove(&n).is_some();
            assert!(removed || !was_static, "static key {n} was not there to be removed");
            self.counts.removed_operated += u64::from(removed);
        }
    }

    fn look_up_statics(&self) {
        for (n, entry) in &self.statics {
            assert_eq!(fdb::lookup(self.table, key(*n)), Some(*entry), "static key {n}");
        }
    }

    /// As `wavnet fdb` does. Nobody removes anything meanwhile: entries stay in their slots, and each key is met once.
    fn read(&mut self) {
        let mut met = HashMap::new();
        fdb::for_each(self.table, |key, entry| {
            let n = number(key);
            check(n, &entry);
            assert!(met.insert(n, entry).is_none(), "key {n} was met twice");
        });
        for (n, entry) in &self.statics {
            assert_eq!(met.get(n), Some(entry), "static key {n}");
        }
        self.counts.sweeps += 1;
    }
}
