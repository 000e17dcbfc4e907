//! The forwarding table's own code in every order in which two or three threads can get at its words.
//!
//! What came of an order must be what some order of whole operations brings about: a map, an operation at a time. The table is
//! compiled into this test with another `word.rs`, which hands over to another thread where it is told to.

mod buckets;
mod fdb;
mod schedule;
mod word;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use buckets::{CLAIM, Row};
use fdb::{Entry, Key, Learnt, Place, Seen, learn};
use schedule::explore;
use wavnet_common::{abi, addr};
use word::exchange;

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
    /// The first half of a claim: of a CPU that found the key absent before it got in, or of an agent that is killed there.
    Claim(u8),
    /// The second half, if the claim is void.
    Withdraw(u8),
    /// The first half of a removal: of an agent that is killed there.
    Empty(u8),
    /// What an agent does that takes the table over from a killed one.
    Recover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Learnt(Learnt),
    Found(Option<Entry>),
    Set(bool),
    Removed(usize),
    Done,
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
        Op::Claim(n) => {
            let found = buckets::Candidates::of(table, fdb::word(key(n)));
            let buckets::Candidates { a, b, .. } = found.expect("both buckets");
            let free = a.slots.iter().chain(&b.slots).find(|slot| exchange(&slot.key, 0, claim(n)));
            assert!(free.is_some(), "no room for a claim");
            Outcome::Done
        }
        Op::Withdraw(n) => {
            assert!(exchange(&slot_of(table, claim(n)).key, claim(n), 0));
            Outcome::Done
        }
        Op::Empty(n) => {
            let slot = slot_of(table, fdb::word(key(n)));
            assert!(exchange(&slot.value, plain(&slot.value), 0));
            Outcome::Done
        }
        Op::Recover => {
            let mut found = Vec::new();
            buckets::unfinished(table, |slot| found.push(slot));
            while !found.is_empty() {
                schedule::wait();
                found.retain_mut(|slot| buckets::give_up(table, *slot).map(|rest| *slot = rest).is_some());
            }
            Outcome::Done
        }
    }
}

/// The slot with a key word, seen by nobody else.
fn slot_of(table: &[Row], key: u64) -> &buckets::Slot {
    table.iter().flat_map(|row| &row.slots).find(|slot| plain(&slot.key) == key).expect("a slot with the key word")
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
        Op::Claim(_) | Op::Withdraw(_) | Op::Empty(_) | Op::Recover => Outcome::Done,
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

/// What is in a table at rest: every key once.
fn contents(table: &[Row], story: &dyn std::fmt::Debug) -> HashMap<u8, Entry> {
    let mut all = HashMap::new();
    fdb::for_each(table, |key, entry| {
        let doubled = all.insert(key.mac().0[5], entry).is_some();
        assert!(!doubled, "{key:?} is there twice after {story:?}");
    });
    all
}

/// A place for a race: what is done before, and what each thread does.
struct Race<'a> {
    buckets: usize,
    before: &'a [Op],
    threads: &'a [&'a [Op]],
}

impl Race<'_> {
    fn set_up(&self) -> Box<[Row]> {
        let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(self.buckets).collect();
        for op in self.before {
            perform(&table, *op);
        }
        table
    }

    /// Fails at the first order that has no explanation.
    fn run(&self) {
        let preemptions = std::env::var("WAVNET_STRESS_PREEMPTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
        let before = contents(&self.set_up(), &"nobody");
        let orders = explore(
            self.threads.len(),
            preemptions,
            || self.set_up(),
            |table, me| {
                let perform = |op: &Op| {
                    schedule::begin();
                    (*op, perform(table, *op))
                };
                self.threads[me].iter().map(perform).collect::<Vec<_>>()
            },
            |table, threads| {
                let left = contents(table, &threads);
                buckets::unfinished(&**table, |slot| panic!("{slot:?} was left behind by {threads:?}"));
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
        Race { buckets, before, threads: &[a, b] }.run();
    }
}

#[test]
fn two_learn_and_the_agent_removes() {
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, NOW)], &[Op::Learn(1, THERE, NOW)], &[Op::Remove(1)]];
    Race { buckets: 1, before: &[], threads }.run();
}

/// A learner that was held up has the first key's value in its hand; the second key's is the same in all that a frame says.
#[test]
fn a_slot_changes_hands_under_a_move() {
    let before = &[Op::Learn(1, HERE, NOW)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, THERE, NOW)], &[Op::Remove(1)], &[Op::Learn(2, HERE, NOW)]];
    Race { buckets: 1, before, threads }.run();
}

#[test]
fn a_slot_changes_hands_under_a_refreshment() {
    let (old, young) = (Seen(10), NOW);
    let before = &[Op::Learn(1, HERE, old)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, young), Op::Lookup(1)], &[Op::Age(5)], &[Op::Learn(2, HERE, old)]];
    Race { buckets: 1, before, threads }.run();
}

/// The second key's slot comes first, then the first key's; the second one is gone, and a CPU that comes too late claims its slot
/// for the first.
const LATE_CLAIM: &[Op] = &[Op::Learn(2, HERE, NOW), Op::Learn(1, HERE, NOW), Op::Remove(2), Op::Claim(1)];

/// A claim that is withdrawn, whose slot is the second key's then.
const LATE: &[Op] = &[Op::Withdraw(1), Op::Learn(2, THERE, NOW)];

#[test]
fn a_removal_meets_a_late_claim() {
    Race { buckets: 1, before: LATE_CLAIM, threads: &[LATE, &[Op::Remove(1)]] }.run();
}

#[test]
fn a_static_entry_meets_a_late_claim() {
    let agent = &[Op::Set(1, THERE), Op::Lookup(1)];
    Race { buckets: 1, before: LATE_CLAIM, threads: &[LATE, agent] }.run();
}

#[test]
fn a_frame_meets_a_late_claim() {
    let frame = &[Op::Lookup(1), Op::Learn(1, THERE, NOW), Op::Lookup(1)];
    Race { buckets: 1, before: LATE_CLAIM, threads: &[LATE, frame] }.run();
}

#[test]
fn a_static_entry_comes_and_goes_among_learners() {
    let agent = &[Op::Set(1, THERE), Op::Lookup(1), Op::Remove(1)];
    for (buckets, before, place) in [(2, &[][..], HERE), (1, &[Op::Learn(1, HERE, NOW)], THERE)] {
        Race { buckets, before, threads: &[agent, &[Op::Learn(1, place, NOW), Op::Lookup(1)]] }.run();
    }
}

#[test]
fn a_port_goes_while_its_macs_move() {
    let before = &[Op::Learn(1, HERE, NOW), Op::Learn(2, HERE, NOW)];
    let threads: &[&[Op]] = &[&[Op::Learn(1, THERE, NOW)], &[Op::Learn(2, HERE, NOW)], &[Op::RemoveAt(HERE)]];
    Race { buckets: 1, before, threads }.run();
}

/// Where one slot is left, a key gets in or finds no room; what was there stays.
#[test]
fn two_keys_want_the_last_slot() {
    let before = CROWDS[2];
    let threads: &[&[Op]] = &[&[Op::Learn(1, HERE, NOW), Op::Lookup(1)], &[Op::Learn(2, THERE, NOW), Op::Lookup(2)]];
    Race { buckets: 1, before, threads }.run();
}

/// An agent takes over while a station sends, whose claims are void as long as a killed agent's is there. Of those some are seen as
/// unfinished, and when they are given up others are in their place.
#[test]
fn a_killed_agents_claim_is_given_up_while_its_station_sends() {
    // What the agent enters then goes to slots that it gave up.
    let agent = &[Op::Recover, Op::Set(2, THERE), Op::Set(3, THERE)];
    let threads: &[&[Op]] = &[agent, &[Op::Learn(1, HERE, NOW), Op::Learn(1, HERE, NOW)]];
    Race { buckets: 1, before: &[Op::Claim(1)], threads }.run();
}

#[test]
fn a_killed_agents_removal_is_ended_while_its_station_sends() {
    let threads: &[&[Op]] = &[&[Op::Recover, Op::Set(2, THERE)], &[Op::Learn(1, HERE, NOW), Op::Learn(1, THERE, NOW)]];
    Race { buckets: 1, before: &[Op::Learn(1, HERE, NOW), Op::Empty(1)], threads }.run();
}
