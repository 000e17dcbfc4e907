//! A CPU that learns and looks up, and knows what must come of it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use wavnet_common::{
    fdb::{self, Entry, Learnt, Row, Seen},
    testing::{Rng, stress::Removals},
};

use crate::keys::{self, FIXED, LIMIT, NOW, OPERATED, SHARED, check, has_epochs, key, place, place_in};

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) new: u64,
    /// Of them, new entries of keys that the operator has, too.
    pub(crate) new_operated: u64,
    pub(crate) known: u64,
    pub(crate) moved: u64,
    pub(crate) kept: u64,
    pub(crate) full: u64,
    pub(crate) raced: u64,
    /// Old entries of our own that were found gone.
    pub(crate) aged: u64,
    /// Watches of a shared key during which nobody removed anything.
    pub(crate) quiet: u64,
}

impl Counts {
    fn note(&mut self, outcome: Learnt) {
        *match outcome {
            Learnt::New => &mut self.new,
            Learnt::Known => &mut self.known,
            Learnt::Moved(_) => &mut self.moved,
            Learnt::Kept => &mut self.kept,
            Learnt::Full => &mut self.full,
            Learnt::Raced => &mut self.raced,
        } += 1;
    }
}

/// What a learner shares with the others.
pub(crate) struct Shared<'a> {
    pub(crate) table: &'a [Row],
    pub(crate) removals: &'a Removals,
    /// The latest epoch.
    pub(crate) epoch: &'a AtomicU32,
    pub(crate) end: &'a AtomicBool,
}

/// Key and what must be in the table of it: of keys that nobody else learns, exactly that.
pub(crate) type Own = (u16, Option<Entry>);

pub(crate) struct Learner<'a> {
    shared: Shared<'a>,
    rng: Rng,
    own: Vec<Own>,
    counts: Counts,
}

impl<'a> Learner<'a> {
    pub(crate) fn new(shared: Shared<'a>, cpu: usize, seed: u64) -> Learner<'a> {
        let own = keys::owned(cpu).map(|n| (n, None)).collect();
        Learner { shared, rng: Rng::new(seed), own, counts: Counts::default() }
    }

    pub(crate) fn run(mut self) -> (Vec<Own>, Counts) {
        while !self.shared.end.load(Ordering::Relaxed) {
            for _ in 0..256 {
                match self.rng.below(16) {
                    0..5 => self.learn_own(),
                    5..7 => self.look_up_own(),
                    7..11 => {
                        let n = self.rng.below(SHARED.len()) as u16 + SHARED.start;
                        self.learn_shared(n);
                    }
                    11..13 => self.watch(),
                    13 => self.learn_fixed(),
                    14 => self.learn_operated(),
                    _ => self.look_up_any(),
                }
            }
            let epoch = self.shared.epoch.fetch_add(1, Ordering::Relaxed);
            assert!(epoch < Entry::EPOCH_LIMIT / 2, "out of epochs: measure for a shorter time");
        }
        (self.own, self.counts)
    }

    /// Some are so late that the agent will age them.
    fn seen(&mut self) -> Seen {
        let late = self.rng.pick(&[0, 0, 1, 1, 1, 8, 9]);
        Seen(NOW.0.wrapping_sub(late))
    }

    fn learn_own(&mut self) {
        let i = self.rng.below(self.own.len());
        let n = self.own[i].0;
        let new = Entry {
            place: place(n, self.rng.below(2) == 0),
            is_static: false,
            seen: self.seen(),
            epoch: self.rng.below(3) as u32,
        };
        let outcome = fdb::learn(self.shared.table, key(n), new.place, new.seen, new.epoch);
        let own = &mut self.own[i].1;
        let (wanted, then) = by_the_book(*own, new);
        *own = if outcome == wanted {
            then
        } else if may_be_gone(*own) {
            self.counts.aged += u64::from(own.is_some());
            match outcome {
                Learnt::New => Some(new),
                Learnt::Full | Learnt::Raced => None,
                _ => panic!("key {n}, {own:?} or gone, learning {new:?}: {outcome:?}"),
            }
        } else {
            panic!("key {n}, {own:?}, learning {new:?}: {outcome:?} instead of {wanted:?}");
        };
        self.counts.note(outcome);
    }

    fn look_up_own(&mut self) {
        let i = self.rng.below(self.own.len());
        let (n, own) = &mut self.own[i];
        let found = fdb::lookup(self.shared.table, key(*n));
        if found != *own {
            assert!(found.is_none() && may_be_gone(*own), "key {n}: {found:?} instead of {own:?}");
            self.counts.aged += 1;
            *own = None;
        }
    }

    /// Returns the epoch with which the key is in the table now, unless somebody removes it.
    fn learn_shared(&mut self, n: u16) -> Option<u32> {
        let epoch =
            if has_epochs(n) { self.shared.epoch.load(Ordering::Relaxed) - self.rng.pick(&[0, 0, 0, 1, 2]) } else { 0 };
        let place = if has_epochs(n) { place_in(n, epoch) } else { place(n, self.rng.below(2) == 0) };
        let seen = self.seen();
        let outcome = fdb::learn(self.shared.table, key(n), place, seen, epoch);
        self.counts.note(outcome);
        match outcome {
            Learnt::Moved(from) => {
                assert!([true, false].iter().any(|own| from == keys::place(n, *own)), "key {n} moved from {from:?}");
                Some(epoch)
            }
            Learnt::New | Learnt::Known | Learnt::Kept => Some(epoch),
            Learnt::Full | Learnt::Raced => None,
        }
    }

    /// While nobody removes anything, what is there stays, and its epoch does not go back.
    fn watch(&mut self) {
        let n = self.rng.below(SHARED.len()) as u16 + SHARED.start;
        let Some(quiet) = self.shared.removals.quiet() else { return };
        let mut least = fdb::lookup(self.shared.table, key(n)).map(|entry| entry.epoch);
        for _ in 0..3 {
            least = least.max(self.learn_shared(n));
            let found = fdb::lookup(self.shared.table, key(n));
            if self.shared.removals.quiet() != Some(quiet) {
                return;
            }
            self.counts.quiet += 1;
            found.iter().for_each(|entry| check(n, entry));
            let epoch = found.map(|entry| entry.epoch);
            assert!(epoch >= least, "key {n} is {found:?} after epoch {least:?}");
            least = epoch;
        }
    }

    fn learn_fixed(&mut self) {
        let n = self.rng.below(FIXED.len()) as u16 + FIXED.start;
        let place = if self.rng.below(2) == 0 { keys::static_place(n, self.rng.bits()) } else { place(n, true) };
        let outcome = fdb::learn(self.shared.table, key(n), place, NOW, self.rng.below(3) as u32);
        assert!(matches!(outcome, Learnt::Known | Learnt::Kept), "static key {n}: {outcome:?}");
        self.counts.note(outcome);
        let found = fdb::lookup(self.shared.table, key(n));
        check(n, &found.unwrap_or_else(|| panic!("static key {n} is gone")));
    }

    /// Never so late that it could be aged: what is removed of these is counted apart.
    fn learn_operated(&mut self) {
        let n = self.rng.below(OPERATED.len()) as u16 + OPERATED.start;
        let outcome = fdb::learn(self.shared.table, key(n), place(n, self.rng.below(2) == 0), NOW, 0);
        self.counts.note(outcome);
        self.counts.new_operated += u64::from(outcome == Learnt::New);
    }

    /// Anybody's.
    fn look_up_any(&mut self) {
        let all = [keys::owned(0), keys::owned(1), SHARED, FIXED, OPERATED];
        let range = self.rng.pick(&[0, 1, 2, 3, 4]);
        let n = self.rng.below(all[range].len()) as u16 + all[range].start;
        if let Some(entry) = fdb::lookup(self.shared.table, key(n)) {
            check(n, &entry);
        }
    }
}

/// Whether the agent may have aged it meanwhile.
pub(crate) fn may_be_gone(entry: Option<Entry>) -> bool {
    entry.is_none_or(|entry| entry.seen.age(NOW) > LIMIT)
}

/// What learning means: what it says, and what is there then.
fn by_the_book(old: Option<Entry>, new: Entry) -> (Learnt, Option<Entry>) {
    let Some(old) = old else { return (Learnt::New, Some(new)) };
    if old.place == new.place {
        return (Learnt::Known, Some(Entry { epoch: old.epoch.max(new.epoch), ..new }));
    }
    if new.epoch < old.epoch {
        return (Learnt::Kept, Some(old));
    }
    (Learnt::Moved(old.place), Some(new))
}
