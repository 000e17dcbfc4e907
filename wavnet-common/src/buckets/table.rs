//! Lookup, claim, removal.

use core::sync::atomic::AtomicU64;

use crate::word::{exchange, load};

/// Entries of a bucket.
pub const SLOTS: usize = 4;

/// Buckets in a page of memory; both that a key may live in are in the same one.
const PAGE: u32 = 64;

/// In a key word: the slot is claimed for the key. (In the FDB's keys it is the I/G bit of the MAC, IEEE 802-2014, 8.2.)
pub const CLAIM: u64 = 1 << 40;

/// The key word of a claim that is nobody's any more: no key is zero.
const NOBODYS: u64 = CLAIM;

/// In a value word: what it says.
pub const PAYLOAD: u64 = !(GENERATION | IN_FORCE);
const IN_FORCE: u64 = 1 << 56;
const GENERATION: u64 = 0x1f << 59;

/// True if the value word is one: false in a slot that is free, claimed or being emptied.
#[inline(always)]
const fn is_in_force(word: u64) -> bool {
    word & IN_FORCE != 0
}

/// The value word with this payload, in place of an older one in the same slot.
#[inline(always)]
pub(crate) const fn in_place_of(old: u64, payload: u64) -> u64 {
    old & GENERATION | IN_FORCE | payload
}

/// The value word of a slot whose entry is gone. The next entry there is of another generation, so that whoever still has the old
/// word in its hand cannot take the new one for it, though all else may be the same.
#[inline(always)]
const fn vacated(word: u64) -> u64 {
    (word & GENERATION).wrapping_add(1 << 59)
}

/// One entry's words; free by default.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Slot {
    pub(crate) key: AtomicU64,
    pub(crate) value: AtomicU64,
}

/// A bucket: what the ABI calls [`crate::abi::Bucket`], as atomics; empty by default.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub struct Row {
    pub(crate) slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Row>() == size_of::<crate::abi::Bucket>());

/// Where the buckets are: an array map in the kernel, a mapping of it or a slice on the host.
pub trait Memory {
    /// Number of buckets minus one; the number is a power of two.
    fn mask(&self) -> u32;

    /// A bucket; `None` only beyond the mask.
    fn row(&self, index: u32) -> Option<&Row>;

    /// Random where others choose keys: who knows in which buckets a key is could fill them with keys of its own.
    fn seed(&self) -> u64;
}

impl Memory for [Row] {
    fn mask(&self) -> u32 {
        (self.len() as u32).wrapping_sub(1)
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.get(index as usize)
    }

    fn seed(&self) -> u64 {
        0
    }
}

/// Both buckets that the key may live in have no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How many buckets a table of so many entries needs: a quarter of the slots in use, which leaves next to no chance that both
/// buckets of a key are full.
pub const fn rows_for(entries: u32) -> u32 {
    let rows = entries.next_power_of_two();
    if rows < PAGE { PAGE } else { rows }
}

/// A number for a key, all of whose bits are as good: a 64-bit mixer (two rounds of multiply and xor-shift). Which keys share some of them
/// depends on the seed.
#[inline(always)]
pub const fn hash(seed: u64, key: u64) -> u64 {
    let mut h = key ^ seed;
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ h >> 32
}

/// The two buckets that may hold a key, as numbers to be masked: the hash chooses a page, a bucket in it, and another one in it.
#[inline(always)]
const fn choices(seed: u64, key: u64) -> (u32, u32) {
    let h = hash(seed, key);
    let first = h as u32;
    // Odd, so that it is another bucket.
    (first, first ^ ((h >> 32) as u32 & (PAGE - 1) | 1))
}

/// The two buckets that a key may live in; they may be the same one.
#[derive(Clone, Copy)]
pub(crate) struct Candidates<'a> {
    pub(crate) key: u64,
    pub(crate) a: &'a Row,
    pub(crate) b: &'a Row,
}

impl<'a> Candidates<'a> {
    /// Touches both buckets. In a large table neither is in the CPU's cache: it then fetches both at once, and, if there is other work
    /// to do before one asks for what is in them, meanwhile.
    #[inline(always)]
    pub(crate) fn of<M: Memory + ?Sized>(mem: &'a M, key: u64) -> Option<Candidates<'a>> {
        let (a, b) = choices(mem.seed(), key);
        let mask = mem.mask();
        let (a, b) = (mem.row(a & mask)?, mem.row(b & mask)?);
        load(&a.slots[0].key);
        load(&b.slots[0].key);
        Some(Candidates { key, a, b })
    }

    /// The slot that has the key.
    #[inline(always)]
    pub(crate) fn slot(&self) -> Option<&'a Slot> {
        slot_of(self.a, self.key).or_else(|| slot_of(self.b, self.key))
    }

    /// The key's value word.
    #[inline(always)]
    pub(crate) fn value(&self) -> Option<u64> {
        value_of(self.slot()?, self.key)
    }
}

/// The slot in a bucket that has the key.
#[inline(always)]
fn slot_of(row: &Row, key: u64) -> Option<&Slot> {
    row.slots.iter().find(|slot| load(&slot.key) == key)
}

/// The value of a key.
#[inline(always)]
pub fn get<M: Memory + ?Sized>(mem: &M, key: u64) -> Option<u64> {
    Some(Candidates::of(mem, key)?.value()? & PAYLOAD)
}

/// The value word of a slot that had the key a moment ago; `None` if it is not in force, or the slot was given to another key
/// meanwhile. The loads are in program order on x86; on weaker machines it may be the value of the slot's new owner, so whoever
/// reads it compares what it leads to with the key again.
#[inline(always)]
pub(crate) fn value_of(slot: &Slot, key: u64) -> Option<u64> {
    let word = load(&slot.value);
    if is_in_force(word) && load(&slot.key) == key { Some(word) } else { None }
}

/// Changes the value if its word is still what it was; `true` if so.
#[inline(always)]
pub(crate) fn replace(slot: &Slot, word: u64, payload: u64) -> bool {
    exchange(&slot.value, word, in_place_of(word, payload))
}

/// What [`claim`] came to.
pub(crate) enum Claim {
    Done,
    Full,
    /// Another CPU claimed the key or the slot at the same moment.
    Raced,
}

/// Enters a key that was not found a moment ago.
///
/// Of the two buckets the emptier one is taken, which keeps the chance that both are full low up to high loads.
#[inline(always)]
pub(crate) fn claim(Candidates { key, a, b }: Candidates, payload: u64) -> Claim {
    let row = if free_slots(b) > free_slots(a) { b } else { a };
    let Some(slot) = row.slots.iter().find(|slot| load(&slot.key) == 0) else {
        return Claim::Full;
    };
    if !exchange(&slot.key, 0, key | CLAIM) {
        return Claim::Raced;
    }
    let alone = count_of(a, key) + if core::ptr::eq(a, b) { 0 } else { count_of(b, key) } == 1;
    if alone {
        // The slot is ours: the value first, then the key by which others find it.
        let free = load(&slot.value);
        exchange(&slot.value, free, in_place_of(free, payload));
        if exchange(&slot.key, key | CLAIM, key) {
            return Claim::Done;
        }
        // Given up by an agent that takes the table over: nobody finds the value.
    } else {
        exchange(&slot.key, key | CLAIM, 0);
    }
    Claim::Raced
}

#[inline(always)]
fn free_slots(row: &Row) -> u32 {
    row.slots.iter().filter(|slot| load(&slot.key) == 0).count() as u32
}

/// Slots that have the key or are claimed for it.
#[inline(always)]
fn count_of(row: &Row, key: u64) -> u32 {
    row.slots.iter().filter(|slot| load(&slot.key) | CLAIM == key | CLAIM).count() as u32
}

/// Enters or replaces a value, whatever is there: for the agent.
///
/// # Errors
/// [`Full`] when both buckets are full.
pub fn set<M: Memory + ?Sized>(mem: &M, key: u64, payload: u64) -> Result<(), Full> {
    let candidates = Candidates::of(mem, key).ok_or(Full)?;
    loop {
        let Some(slot) = candidates.slot() else {
            match claim(candidates, payload) {
                Claim::Done => return Ok(()),
                Claim::Full => return Err(Full),
                Claim::Raced => continue,
            }
        };
        let old = load(&slot.value);
        if is_in_force(old) && replace(slot, old, payload) {
            return Ok(());
        }
        core::hint::spin_loop();
    }
}

/// Removes a key; `true` if it was there.
pub fn remove<M: Memory + ?Sized>(mem: &M, key: u64) -> bool {
    let Some(candidates) = Candidates::of(mem, key) else { return false };
    loop {
        let Some(slot) = candidates.slot() else { return false };
        let old = load(&slot.value);
        if !is_in_force(old) {
            return false;
        }
        if take(slot, key, old) {
            return true;
        }
    }
}

/// Takes an entry out if it still is what it was: value first, so that the slot is ours alone, then the key.
fn take(slot: &Slot, key: u64, value: u64) -> bool {
    exchange(&slot.value, value, vacated(value)) && exchange(&slot.key, key, 0)
}

/// A slot that is claimed, or has a key and no value in force: somebody is in the middle of filling or emptying it, or was
/// killed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    row: u32,
    slot: usize,
    key: u64,
}

/// Calls `visit` for every slot that is neither free nor an entry's at this moment.
///
/// Kernel programs run to their end within microseconds, but an agent that is killed while it changes entries leaves such a slot
/// for good, and its key could not be entered again. An agent that takes a table over calls this, waits for far longer than any
/// program runs, and gives what it found to [`give_up`].
pub fn unfinished<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(Unfinished)) {
    for row in 0..=mem.mask() {
        for (slot, words) in mem.row(row).into_iter().flat_map(|row| &row.slots).enumerate() {
            let key = load(&words.key);
            if key != 0 && (key & CLAIM != 0 || !is_in_force(load(&words.value))) && load(&words.key) == key {
                visit(Unfinished { row, slot, key });
            }
        }
    }
}

/// Goes on with a slot that [`unfinished`] found, if it still is as it was. What comes back is to be given up again, after a wait as
/// long as the first; `None`: the slot is free, or was somebody's who has finished.
///
/// A claim may not be the one that was found: the slot may have been freed meanwhile, and claimed anew for the same key. So a claim
/// is first made nobody's: a claimant that is at work on it cannot publish its key then, and nobody else takes the slot. After the
/// second wait no such claimant is left, and it is freed.
///
/// Nobody else may be removing entries. A program that stands still for a whole wait in the midst of a claim is not guarded
/// against.
#[must_use = "a claim that is nobody's stays so until it is given up again"]
pub fn give_up<M: Memory + ?Sized>(mem: &M, what: Unfinished) -> Option<Unfinished> {
    let slot = mem.row(what.row)?.slots.get(what.slot)?;
    let value = load(&slot.value);
    if load(&slot.key) != what.key {
        return None;
    }
    if what.key == NOBODYS {
        take(slot, NOBODYS, value);
    } else if what.key & CLAIM != 0 {
        return exchange(&slot.key, what.key, NOBODYS).then_some(Unfinished { key: NOBODYS, ..what });
    } else if !is_in_force(value) {
        // Only an agent empties slots, and it was killed.
        exchange(&slot.key, what.key, 0);
    }
    None
}

/// Calls `visit` with every key and value in force. What changes meanwhile may be seen in its old or new state, never in between.
pub fn for_each<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(u64, u64)) {
    scan(mem, |_, key, word| visit(key, word & PAYLOAD));
}

/// Removes every entry that `gone` says; an entry that changes at the same moment stays. Returns how many were removed.
pub fn remove_if<M: Memory + ?Sized>(mem: &M, mut gone: impl FnMut(u64, u64) -> bool) -> usize {
    let mut removed = 0;
    scan(mem, |slot, key, word| {
        if gone(key, word & PAYLOAD) && take(slot, key, word) {
            removed += 1;
        }
    });
    removed
}

fn scan<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(&Slot, u64, u64)) {
    for index in 0..=mem.mask() {
        let Some(row) = mem.row(index) else { continue };
        for slot in &row.slots {
            let key = load(&slot.key);
            if key == 0 || key & CLAIM != 0 {
                continue;
            }
            // The slot may have been given to another key between the two loads: take the value only if the key is still there.
            if let Some(word) = value_of(slot, key) {
                visit(slot, key, word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{boxed::Box, iter};

    use super::*;

    fn table(rows: u32) -> Box<[Row]> {
        iter::repeat_with(Row::default).take(rows as usize).collect()
    }

    #[test]
    fn both_buckets_are_in_one_page_and_are_two() {
        for key in 1..100_000 {
            let (a, b) = choices(1, key);
            assert!(a != b && a / PAGE == b / PAGE, "{key}: {a} {b}");
        }
    }

    #[test]
    fn a_table_takes_as_many_entries_as_it_is_made_for() {
        for (entries, seed) in [(64, 1), (1024, 2), (65_536, 3), (65_536, 4), (65_536, 5)] {
            let table = table(rows_for(entries));
            for n in 0..u64::from(entries) {
                // As members are: small numbers above, addresses of one network below.
                let key = (seed << 57) | ((n / 512) << 32) | 0x0a00_0000 | (n % 512);
                assert_eq!(set(&*table, key, n + 1), Ok(()), "{n} of {entries}, seed {seed}");
            }
            let mut n = 0;
            for_each(&*table, |_, _| n += 1);
            assert_eq!(n, entries);
        }
    }

    #[test]
    fn values_are_replaced_and_removed() {
        let table = table(64);
        assert_eq!(get(&*table, 7), None);
        assert_eq!(set(&*table, 7, 1), Ok(()));
        assert_eq!(set(&*table, 7, 2), Ok(()));
        assert_eq!(get(&*table, 7), Some(2));
        assert!(remove(&*table, 7));
        assert!(!remove(&*table, 7));
        assert_eq!(get(&*table, 7), None);
    }
}
