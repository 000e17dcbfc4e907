//! The table beside a map of the standard library, and what a killed agent leaves.

use std::{boxed::Box, collections::HashMap, iter, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    addr::Mac,
    buckets::{CLAIM, Candidates, in_place_of},
    word::{exchange, load},
};

fn table(buckets: usize) -> Box<[Row]> {
    iter::repeat_with(Row::default).take(buckets).collect()
}

fn key(n: u8) -> Key {
    Key::new((n % 2).into(), Mac([0x52, 0x54, 0, 0, 0, n]))
}

#[derive(Clone, Debug)]
enum Op {
    Learn(u8, Place, u32),
    Set(u8, Place),
    Remove(u8),
    RemovePlace(Place),
    Age(u16),
    Pass(u16),
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![(0..3u16).prop_map(Place::Port), (0..3u16).prop_map(Place::Vtep)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..40u8, place(), 0..3u32).prop_map(|(k, p, e)| Op::Learn(k, p, e)),
        1 => (0..40u8, place()).prop_map(|(k, p)| Op::Set(k, p)),
        2 => (0..40u8).prop_map(Op::Remove),
        1 => place().prop_map(Op::RemovePlace),
        1 => (0..20u16).prop_map(Op::Age),
        2 => (0..10u16).prop_map(Op::Pass),
    ]
}

/// True if every slot that the key may live in has another's key.
fn no_room(table: &[Row], key: Key) -> bool {
    let Candidates { a, b, .. } = Candidates::of(table, key.0).unwrap();
    a.slots.iter().chain(&b.slots).all(|slot| load(&slot.key) != 0)
}

/// What learning means, without buckets, words and barriers.
fn learn_by_the_book(
    model: &mut HashMap<Key, Entry>,
    key: Key,
    place: Place,
    now: Seen,
    epoch: u32,
    full: bool,
) -> Learnt {
    let new = Entry { place, is_static: false, seen: now, epoch };
    let Some(old) = model.get_mut(&key) else {
        return if full {
            Learnt::Full
        } else {
            model.insert(key, new);
            Learnt::New
        };
    };
    if old.place == place {
        if !old.is_static {
            (old.seen, old.epoch) = (now, old.epoch.max(epoch));
        }
        Learnt::Known
    } else if old.is_static || epoch < old.epoch {
        Learnt::Kept
    } else {
        Learnt::Moved(std::mem::replace(old, new).place)
    }
}

proptest! {
    #[test]
    fn does_what_a_map_does(buckets in prop::sample::select(std::vec![1usize, 2, 4, 16]), start: u16, ops in prop::collection::vec(op(), 1..400)) {
        let table = table(buckets);
        let mut model: HashMap<Key, Entry> = HashMap::new();
        let mut now = Seen(start);
        for op in ops {
            match op {
                Op::Learn(n, place, epoch) => {
                    let full = no_room(&table, key(n));
                    let wanted = learn_by_the_book(&mut model, key(n), place, now, epoch, full);
                    prop_assert_eq!(learn(&*table, key(n), place, now, epoch), wanted);
                }
                Op::Set(n, place) => {
                    let entry = Entry { place, is_static: true, seen: now, epoch: 0 };
                    let full = no_room(&table, key(n)) && !model.contains_key(&key(n));
                    prop_assert_eq!(set(&*table, key(n), entry), if full { Err(Full) } else { Ok(()) });
                    if !full {
                        model.insert(key(n), entry);
                    }
                }
                Op::Remove(n) => prop_assert_eq!(remove(&*table, key(n)), model.remove(&key(n)).is_some()),
                Op::RemovePlace(place) => {
                    let before = model.len();
                    model.retain(|_, e| e.place != place);
                    prop_assert_eq!(remove_if(&*table, |_, e| e.place == place), before - model.len());
                }
                Op::Age(limit) => {
                    let before = model.len();
                    model.retain(|_, e| e.is_static || now.0.wrapping_sub(e.seen.0) <= limit);
                    prop_assert_eq!(age(&*table, now, limit), before - model.len());
                }
                Op::Pass(ticks) => now = Seen(now.0.wrapping_add(ticks)),
            }
            for n in 0..40 {
                prop_assert_eq!(lookup(&*table, key(n)), model.get(&key(n)).copied());
            }
            let mut found = HashMap::new();
            for_each(&*table, |key, entry| assert!(found.insert(key, entry).is_none(), "{key:?} is there twice"));
            prop_assert_eq!(&found, &model);
            prop_assert_eq!(len(&*table), model.len());
        }
    }
}

/// As two truly random choices would: nobody is refused until half of the table is full, 0.65 % until three quarters are.
#[test]
fn fills_up_evenly() {
    let table = table(1 << 12);
    let capacity = table.len() * SLOTS;
    let mut rng = crate::testing::Rng::new(1);
    let mut fill = |entries: usize| {
        let keys = iter::repeat_with(|| Key::new(7, Mac::from_u64(rng.bits()))).take(entries);
        keys.filter(|key| learn(&*table, *key, Place::Port(1), Seen(1), 0) == Learnt::Full).count()
    };
    assert_eq!(fill(capacity / 2), 0);
    let refused = fill(capacity / 4);
    assert!(refused < capacity / 100, "{refused} of {capacity} refused at three quarters full");
}

/// Addresses of one vendor in a row, in many VNIs: what a data centre has.
#[test]
fn fills_up_evenly_with_addresses_in_a_row() {
    let table = table(1 << 12);
    let capacity = table.len() * SLOTS;
    let refused = (0..capacity / 2)
        .map(|n| Key::new((n % 64) as u16, Mac::from_u64(0x5254_0000_0000 + (n / 64) as u64)))
        .filter(|key| learn(&*table, *key, Place::Port(1), Seen(1), 0) == Learnt::Full)
        .count();
    assert_eq!(refused, 0);
}

fn all_unfinished(table: &[Row]) -> Vec<Unfinished> {
    let mut found = Vec::new();
    unfinished(table, |slot| found.push(slot));
    found
}

#[test]
fn slots_of_a_killed_agent_are_found_and_freed() {
    let table = table(2);
    for n in 0..5 {
        assert_eq!(learn(&*table, key(n), Place::Port(1), Seen(1), 0), Learnt::New);
    }
    // Killed between the two words of a removal.
    let slot = table.iter().flat_map(|row| &row.slots).find(|slot| load(&slot.key) == key(3).0).unwrap();
    let value = load(&slot.value);
    assert!(exchange(&slot.value, value, 0));
    assert_eq!(lookup(&*table, key(3)), None);
    assert_eq!(learn(&*table, key(3), Place::Port(1), Seen(1), 0), Learnt::Raced);
    let found = all_unfinished(&table);
    assert_eq!(found.len(), 1);
    assert_eq!(give_up(&*table, found[0]), None);
    assert_eq!(learn(&*table, key(3), Place::Port(1), Seen(1), 0), Learnt::New, "it is freed");
    assert_eq!(give_up(&*table, found[0]), None);
    assert_eq!(len(&*table), 5);
}

/// The agent claims slots for static entries; it may be killed before its claim has a value, or before that has its key.
#[test]
fn claims_of_a_killed_agent_are_found_and_freed() {
    for has_value in [false, true] {
        let table = table(1);
        let slot = &table[0].slots[0];
        assert!(exchange(&slot.key, 0, key(3).0 | CLAIM));
        let entry = Entry { place: Place::Port(1), is_static: true, seen: Seen(1), epoch: 0 };
        if has_value {
            assert!(exchange(&slot.value, 0, in_place_of(0, entry.to_word())));
        }
        assert_eq!((lookup(&*table, key(3)), len(&*table)), (None, 0));
        assert!(!remove(&*table, key(3)), "nobody finds a claim");
        assert_eq!(learn(&*table, key(3), Place::Port(1), Seen(1), 0), Learnt::Raced);
        let found = all_unfinished(&table);
        assert_eq!(found.len(), 1);
        let rest = give_up(&*table, found[0]).unwrap();
        assert_eq!(give_up(&*table, found[0]), None, "the claim is nobody's by now");
        assert_eq!(learn(&*table, key(3), Place::Port(2), Seen(1), 0), Learnt::New);
        assert_eq!(load(&slot.key), CLAIM, "a claimant may still be at work in that slot");
        assert_eq!(all_unfinished(&table), [rest], "another agent goes on if this one is killed too");
        assert_eq!(give_up(&*table, rest), None);
        assert_eq!(all_unfinished(&table), []);
        assert_eq!(learn(&*table, key(4), Place::Port(2), Seen(1), 0), Learnt::New);
        assert_eq!(load(&slot.key), key(4).0, "it is freed");
        assert_eq!(give_up(&*table, rest), None, "it is freed once");
        for n in [3, 4] {
            assert_eq!(
                lookup(&*table, key(n)).map(|entry| entry.place),
                Some(Place::Port(2)),
                "what is in force stays"
            );
        }
    }
}
