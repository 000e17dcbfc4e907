//! The forwarding table's own code in every order in which two or three threads can get at its words.
//!
//! What came of an order must be what some order of whole operations brings about: a map, an operation at a time. The table is
//! compiled into this test with another `word.rs`, which hands over to another thread where it is told to.

mod buckets;
mod fdb;
mod schedule;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use buckets::{CLAIM, Row, word::exchange};
use fdb::{Entry, Key, Learnt, Place, Seen, learn};
use schedule::explore;
use wavnet_common::{abi, addr};

const NOW: Seen = Seen(100);
const HERE: Place = Place::Port(1);
const THERE: Place = Place::Vtep(2);

#[derive(Clone, Copy, Debug)]
enum Op {
    Learn(u8, Place, Seen),
    Lookup(u8),
    Set(u8, Place),
    Remove(u8),
    RemoveAt(Place),
    Age(u16),
    /// The second half of [`Race::late_claim`].
    GiveUp(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Learnt(Learnt),
    Found(Option<Entry>),
    Set(bool),
    Removed(usize),
    GivenUp,
}

fn key(n: u8) -> Key {
    Key::new(7, addr::Mac([0x52, 0x54, 0, 0, 0, n]))
}

/// The key word of a slot that is claimed for a key.
fn claim(n: u8) -> u64 {
    fdb::word(key(n)) | CLAIM
}

fn fixed(place: Place) -> Entry {
    Entry { place, is_static: true, seen: NOW, epoch: 0 }
}

fn perform(table: &[Row], op: Op) -> Outcome {
    match op {
        Op::Learn(n, place, seen) => Outcome::Learnt(learn(table, key(n), place, seen, 0)),
        Op::Lookup(n) => Outcome::Found(fdb::lookup(table, key(n))),
        Op::Set(n, place) => Outcome::Set(fdb::set(table, key(n), fixed(place)).is_ok()),
        Op::Remove(n) => Outcome::Removed(fdb::remove(table, key(n)).into()),
        Op::RemoveAt(place) => Outcome::Removed(fdb::remove_if(table, |_, entry| entry.place == place)),
        Op::Age(limit) => Outcome::Removed(fdb::age(table, NOW, limit)),
        Op::GiveUp(n) => {
            let slot = table.iter().flat_map(|row| &row.slots).find(|slot| plain(&slot.key) == claim(n));
            let slot = slot.expect("a late claim");
            assert!(exchange(&slot.key, claim(n), 0));
            Outcome::GivenUp
        }
    }
}

/// What a word is, seen by nobody else.
fn plain(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

/// The operation on a map; `None`: it cannot have come out so.
fn by_the_book(map: &mut HashMap<u8, Entry>, op: Op, outcome: Outcome) -> Option<()> {
    let wanted = match op {
        // What raced, or found no room, did nothing.
        Op::Learn(..) if matches!(outcome, Outcome::Learnt(Learnt::Raced | Learnt::Full)) => outcome,
        Op::Learn(n, place, seen) => {
            let new = Entry { place, is_static: false, seen, epoch: 0 };
            Outcome::Learnt(match map.get_mut(&n) {
                None => {
                    map.insert(n, new);
                    Learnt::New
                }
                Some(old) if old.place == place => {
                    *old = if old.is_static { *old } else { new };
                    Learnt::Known
                }
                Some(old) if old.is_static => Learnt::Kept,
                Some(old) => Learnt::Moved(std::mem::replace(old, new).place),
            })
        }
        Op::Lookup(n) => Outcome::Found(map.get(&n).copied()),
        Op::Set(n, place) => {
            map.insert(n, fixed(place));
            Outcome::Set(true)
        }
        Op::Remove(n) => Outcome::Removed(map.remove(&n).is_some().into()),
        // An entry that changes at the same moment stays.
        Op::RemoveAt(_) | Op::Age(_) if outcome == Outcome::Removed(0) => outcome,
        Op::RemoveAt(place) => {
            let before = map.len();
            map.retain(|_, entry| entry.place != place);
            Outcome::Removed(before - map.len())
        }
        Op::Age(limit) => {
            let before = map.len();
            map.retain(|_, entry| entry.is_static || entry.seen.age(NOW) <= limit);
            Outcome::Removed(before - map.len())
        }
        Op::GiveUp(_) => Outcome::GivenUp,
    };
    (wanted == outcome).then_some(())
}

/// Whether some order of whole operations, each thread's in its own, explains all outcomes and what is left.
fn is_explained(map: &HashMap<u8, Entry>, threads: &[&[(Op, Outcome)]], left: &HashMap<u8, Entry>) -> bool {
    if threads.iter().all(|ops| ops.is_empty()) {
        return map == left;
    }
    (0..threads.len()).any(|thread| {
        let Some(((op, outcome), rest)) = threads[thread].split_first() else { return false };
        let mut map = map.clone();
        let mut threads = threads.to_vec();
        threads[thread] = rest;
        by_the_book(&mut map, *op, *outcome).is_some() && is_explained(&map, &threads, left)
    })
}

/// What is in a table at rest: every key once, nothing half done.
fn contents(table: &[Row], story: &dyn std::fmt::Debug) -> HashMap<u8, Entry> {
    let mut all = HashMap::new();
    fdb::for_each(table, |key, entry| {
        let doubled = all.insert(key.mac().0[5], entry).is_some();
        assert!(!doubled, "{key:?} is there twice after {story:?}");
    });
    buckets::unfinished(table, |slot| panic!("{slot:?} was left behind by {story:?}"));
    all
}

/// A place for a race: what is done before, and what each thread does.
struct Race<'a> {
    buckets: usize,
    before: &'a [Op],
    /// A key that a CPU found absent before it got in: its claim, which is void, is still there.
    late_claim: Option<u8>,
    threads: &'a [&'a [Op]],
}

impl Race<'_> {
    fn set_up(&self) -> Box<[Row]> {
        let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(self.buckets).collect();
        for op in self.before {
            perform(&table, *op);
        }
        if let Some(n) = self.late_claim {
            let found = buckets::Candidates::of(&*table, fdb::word(key(n)));
            let buckets::Candidates { a, b, .. } = found.expect("both buckets");
            let free = a.slots.iter().chain(&b.slots).find(|slot| exchange(&slot.key, 0, claim(n)));
            assert!(free.is_some(), "no room for a claim");
        }
        table
    }

    /// Fails at the first order that has no explanation.
    fn run(&self) {
        let preemptions = std::env::var("WAVNET_STRESS_PREEMPTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
        let before = contents(&Race { late_claim: None, ..*self }.set_up(), &"nobody");
        let orders = explore(
            self.threads.len(),
            preemptions,
            || self.set_up(),
            |table, me| self.threads[me].iter().map(|op| (*op, perform(table, *op))).collect::<Vec<_>>(),
            |table, threads| {
                let left = contents(table, &threads);
                let each: Vec<_> = threads.iter().map(|ops| &ops[..]).collect();
                assert!(is_explained(&before, &each, &left), "from {before:?} by {threads:?} came {left:?}");
            },
        );
        println!("{orders} orders of {:?}", self.threads);
    }
}

/// What others have entered before, so that claims go to one bucket or the other.
const CROWDS: [&[Op]; 3] =
    [&[], &[Op::Learn(10, HERE, NOW)], &[Op::Learn(10, HERE, NOW), Op::Learn(11, HERE, NOW), Op::Learn(12, HERE, NOW)]];

#[test]
fn two_learn_the_same() {
    for (buckets, before) in [1, 2].into_iter().flat_map(|n| CROWDS.map(|crowd| (n, crowd))) {
        let (a, b) = (&[Op::Learn(1, HERE, NOW), Op::Lookup(1)][..], &[Op::Learn(1, THERE, NOW)][..]);
        Race { buckets, before, late_claim: None, threads: &[a, b] }.run();
    }
}

#[test]
fn two_learn_and_the_agent_removes() {
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, NOW)], &[Op::Learn(1, THERE, NOW)], &[Op::Remove(1)]];
    Race { buckets: 1, before: &[], late_claim: None, threads }.run();
}

/// A learner that was held up has the first key's value in its hand; the second key's is the same in all that a frame says.
#[test]
fn a_slot_changes_hands_under_a_move() {
    let before = &[Op::Learn(1, HERE, NOW)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, THERE, NOW)], &[Op::Remove(1)], &[Op::Learn(2, HERE, NOW)]];
    Race { buckets: 1, before, late_claim: None, threads }.run();
}

#[test]
fn a_slot_changes_hands_under_a_refreshment() {
    let (old, young) = (Seen(10), NOW);
    let before = &[Op::Learn(1, HERE, old)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, young), Op::Lookup(1)], &[Op::Age(5)], &[Op::Learn(2, HERE, old)]];
    Race { buckets: 1, before, late_claim: None, threads }.run();
}

/// The second key's slot comes first, then the first key's; the second one is gone.
const SECOND_GONE: &[Op] = &[Op::Learn(2, HERE, NOW), Op::Learn(1, HERE, NOW), Op::Remove(2)];

/// A claim that is given up, whose slot is the second key's then.
const LATE: &[Op] = &[Op::GiveUp(1), Op::Learn(2, THERE, NOW)];

#[test]
fn a_removal_meets_a_late_claim() {
    Race { buckets: 1, before: SECOND_GONE, late_claim: Some(1), threads: &[LATE, &[Op::Remove(1)]] }.run();
}

#[test]
fn a_static_entry_meets_a_late_claim() {
    let agent = &[Op::Set(1, THERE), Op::Lookup(1)];
    Race { buckets: 1, before: SECOND_GONE, late_claim: Some(1), threads: &[LATE, agent] }.run();
}

#[test]
fn a_frame_meets_a_late_claim() {
    let frame = &[Op::Lookup(1), Op::Learn(1, THERE, NOW), Op::Lookup(1)];
    Race { buckets: 1, before: SECOND_GONE, late_claim: Some(1), threads: &[LATE, frame] }.run();
}

#[test]
fn a_static_entry_comes_and_goes_among_learners() {
    let agent = &[Op::Set(1, THERE), Op::Lookup(1), Op::Remove(1)];
    for (buckets, before, place) in [(2, &[][..], HERE), (1, &[Op::Learn(1, HERE, NOW)], THERE)] {
        Race { buckets, before, late_claim: None, threads: &[agent, &[Op::Learn(1, place, NOW), Op::Lookup(1)]] }.run();
    }
}

#[test]
fn a_port_goes_while_its_macs_move() {
    let before = &[Op::Learn(1, HERE, NOW), Op::Learn(2, HERE, NOW)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, THERE, NOW)], &[Op::Learn(2, HERE, NOW)], &[Op::RemoveAt(HERE)]];
    Race { buckets: 1, before, late_claim: None, threads }.run();
}

/// Where one slot is left, a key gets in or finds no room; what was there stays.
#[test]
fn two_keys_want_the_last_slot() {
    let before = CROWDS[2];
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, NOW), Op::Lookup(1)], &[Op::Learn(2, THERE, NOW), Op::Lookup(2)]];
    Race { buckets: 1, before, late_claim: None, threads }.run();
}
