//! The forwarding table under fire: CPUs that learn and look up, an agent that ages, removes and sets, all at once.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use wavnet_common::{
    addr::Mac,
    fdb::{self, Entry, Key, Learnt, Place, Row, Seen},
    testing::Rng,
};

/// Few keys in few buckets: everybody meets everybody, and buckets are full at times.
const KEYS: u16 = 96;
const BUCKETS: usize = 16;
/// Keys below this are static from the beginning and never removed.
const STATIC: u16 = 8;
const ROUNDS: usize = 150_000;

/// Ends the agent's thread on every way out, a failed assertion included.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn key(n: u16) -> Key {
    let [hi, lo] = n.to_be_bytes();
    Key::new(n % 3, Mac([0x52, 0x54, 0, 0, hi, lo]))
}

/// Where a key may be: each has places of its own, so that a value that got to another key's slot is seen.
fn place(n: u16, choice: u64) -> Place {
    let index = n * 4 + (choice & 3) as u16;
    if choice & 4 == 0 { Place::Port(index) } else { Place::Vtep(index) }
}

fn assert_own(n: u16, entry: &Entry) {
    let (Place::Port(index) | Place::Vtep(index)) = entry.place;
    assert_eq!(index / 4, n, "an entry of another key: {entry:?}");
    assert_eq!(entry.is_static, n < STATIC, "{entry:?}");
}

#[test]
fn nothing_is_torn_doubled_or_lost() {
    let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(BUCKETS).collect();
    let table = &*table;
    for n in 0..STATIC {
        let entry = Entry { place: place(n, 0), is_static: true, seen: Seen(0), epoch: 0 };
        fdb::set(table, key(n), entry).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let cpus: Vec<_> = (0..3).map(|seed| scope.spawn(move || learn_and_look_up(table, seed))).collect();
        let agent = scope.spawn(|| age_and_remove(table, &done));
        let end = EndOf(&done);
        // Together: a thread that starts late may find everything learned.
        let mut all = [0; 5];
        for cpu in cpus {
            all.iter_mut().zip(cpu.join().unwrap()).for_each(|(sum, n)| *sum += n);
        }
        assert!(all.iter().all(|n| *n > 0), "new, known, moved, kept, full: {all:?}");
        drop(end);
        assert!(agent.join().unwrap() > 0, "the agent removed nothing");
    });
    // At rest: every key once, none half done, and the table is as good as new.
    let mut seen = HashSet::new();
    fdb::for_each(table, |key, _| assert!(seen.insert(key), "{key:?} is there twice"));
    fdb::unfinished(table, |slot| panic!("{slot:?} was left behind"));
    for n in 0..KEYS {
        assert_eq!(fdb::lookup(table, key(n)).is_some(), seen.contains(&key(n)));
    }
    assert_eq!(fdb::remove_if(table, |_, _| true), seen.len());
    for n in 0..4 {
        assert_eq!(fdb::learn(table, key(n), place(n, 0), Seen(1), 0), Learnt::New);
    }
}

fn learn_and_look_up(table: &[Row], seed: u64) -> [usize; 5] {
    let mut rng = Rng::new(seed);
    let mut outcomes = [0; 5];
    for round in 0..ROUNDS {
        let n = rng.below(KEYS.into()) as u16;
        let now = Seen((round >> 8) as u16);
        match fdb::learn(table, key(n), place(n, rng.bits()), now, 0) {
            Learnt::New => outcomes[0] += 1,
            Learnt::Known => outcomes[1] += 1,
            Learnt::Moved(from) => {
                let (Place::Port(index) | Place::Vtep(index)) = from;
                assert_eq!(index / 4, n, "moved from a place of another key");
                outcomes[2] += 1;
            }
            Learnt::Kept => {
                assert!(n < STATIC);
                outcomes[3] += 1;
            }
            Learnt::Full => outcomes[4] += 1,
            Learnt::Raced => {}
        }
        let n = rng.below(KEYS.into()) as u16;
        match fdb::lookup(table, key(n)) {
            Some(entry) => assert_own(n, &entry),
            None => assert!(n >= STATIC, "a static entry is gone"),
        }
    }
    outcomes
}

/// As the agent does: one remover.
fn age_and_remove(table: &[Row], done: &AtomicBool) -> usize {
    let mut rng = Rng::new(99);
    let mut removed = 0;
    for round in 0.. {
        // Some rounds even if the scheduler lets us in after the others are done.
        if round > 1000 && done.load(Ordering::Relaxed) {
            break;
        }
        match rng.below(4) {
            0 => removed += fdb::age(table, Seen(rng.bits() as u16 & 1023), 3),
            1 => {
                let n = STATIC + rng.below((KEYS - STATIC).into()) as u16;
                removed += usize::from(fdb::remove(table, key(n)));
            }
            2 => {
                let n = rng.below(KEYS.into()) as u16;
                removed += fdb::remove_if(table, |k, e| k == key(n) && !e.is_static);
            }
            _ => {
                // The operator moves a static address.
                let n = rng.below(STATIC.into()) as u16;
                let place = place(n, rng.bits());
                let entry = Entry { place, is_static: true, seen: Seen(0), epoch: 0 };
                assert_eq!(fdb::set(table, key(n), entry), Ok(()));
            }
        }
    }
    removed
}

/// Two CPUs see the same new address at the same moment, over and over: it gets in once or not at all, and then once.
#[test]
fn a_race_for_a_new_key_has_one_winner() {
    let table: Box<[Row]> = std::iter::repeat_with(Row::default).take(64).collect();
    let table = &*table;
    for n in 0..5_000u16 {
        let ready = AtomicUsize::new(0);
        let contest = || {
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < 2 {
                std::hint::spin_loop();
            }
            fdb::learn(table, key(n), place(n % 16, 0), Seen(1), 0)
        };
        let outcomes = thread::scope(|scope| {
            let other = scope.spawn(contest);
            [contest(), other.join().unwrap()]
        });
        let new = outcomes.iter().filter(|o| **o == Learnt::New).count();
        assert!(new <= 1, "{n}: {outcomes:?}");
        assert_eq!(fdb::len(table), new, "{n}: {outcomes:?}");
        assert_eq!(fdb::lookup(table, key(n)).is_some(), new == 1, "{n}: {outcomes:?}");
        fdb::unfinished(table, |slot| panic!("{n}: {slot:?} was left behind, {outcomes:?}"));
        assert_eq!(fdb::remove(table, key(n)), new == 1);
    }
}
