//! The table in memory: lookup, claim, removal.

use core::sync::atomic::AtomicU64;

use super::{
    entry::{Entry, Key, Seen},
    word::{exchange, load},
};

/// Entries of a bucket.
pub const SLOTS: usize = 4;

/// One entry's words; free by default.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Slot {
    pub(super) key: AtomicU64,
    pub(super) value: AtomicU64,
}

/// A bucket: what the ABI calls [`crate::abi::Bucket`], as atomics; empty by default.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub struct Row {
    pub(super) slots: [Slot; SLOTS],
}

const _: () = assert!(size_of::<Row>() == size_of::<crate::abi::Bucket>());

/// Where the buckets are: an array map in the kernel, a mapping of it or a slice on the host.
pub trait Memory {
    /// Number of buckets minus one; the number is a power of two.
    fn mask(&self) -> u32;

    /// A bucket; `None` only beyond the mask.
    fn row(&self, index: u32) -> Option<&Row>;
}

impl Memory for [Row] {
    fn mask(&self) -> u32 {
        (self.len() as u32).wrapping_sub(1)
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.get(index as usize)
    }
}

/// Both buckets that the key may live in have no free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The two buckets of a key; they may be the same one.
#[inline(always)]
pub(super) fn rows<M: Memory + ?Sized>(mem: &M, key: Key) -> Option<(&Row, &Row)> {
    let (a, b) = key.hashes();
    let mask = mem.mask();
    Some((mem.row(a & mask)?, mem.row(b & mask)?))
}

/// The slot in a bucket that has the key.
#[inline(always)]
pub(super) fn slot_of(row: &Row, key: Key) -> Option<&Slot> {
    row.slots.iter().find(|slot| load(&slot.key) == key.0)
}

/// The slot in one of two buckets that has the key.
///
/// The second bucket is touched before the first is searched: in a large table neither is in the CPU's cache, and it then fetches
/// both at once.
#[inline(always)]
pub(super) fn slot_of_either<'a>(a: &'a Row, b: &'a Row, key: Key) -> Option<&'a Slot> {
    let [first, rest @ ..] = &b.slots;
    let first_key = load(&first.key);
    slot_of(a, key)
        .or_else(|| if first_key == key.0 { Some(first) } else { rest.iter().find(|slot| load(&slot.key) == key.0) })
}

/// The entry of a key.
#[inline(always)]
pub fn lookup<M: Memory + ?Sized>(mem: &M, key: Key) -> Option<Entry> {
    let (a, b) = rows(mem, key)?;
    Entry::from_word(value_of(slot_of_either(a, b, key)?, key)?)
}

/// The value word of a slot that had the key a moment ago; `None` if the slot was given to another key meanwhile. The loads are
/// in program order on x86; on weaker machines a frame may go once where the slot's new owner is, and is then dropped there,
/// as ports and members are checked against the VNI again.
#[inline(always)]
pub(super) fn value_of(slot: &Slot, key: Key) -> Option<u64> {
    let word = load(&slot.value);
    if load(&slot.key) == key.0 { Some(word) } else { None }
}

/// What [`claim`] came to.
pub(super) enum Claim {
    Done,
    Full,
    /// Another CPU claimed the key or the slot at the same moment.
    Raced,
}

/// Enters a key that was not found a moment ago.
///
/// Of the two buckets the emptier one is taken, which keeps the chance that both are full low up to high loads.
#[inline(always)]
pub(super) fn claim(a: &Row, b: &Row, key: Key, entry: Entry) -> Claim {
    let row = if free_slots(b) > free_slots(a) { b } else { a };
    let Some(slot) = row.slots.iter().find(|slot| load(&slot.key) == 0) else {
        return Claim::Full;
    };
    if !exchange(&slot.key, 0, key.0) {
        return Claim::Raced;
    }
    let alone = count_of(a, key) + if core::ptr::eq(a, b) { 0 } else { count_of(b, key) } == 1;
    if alone {
        exchange(&slot.value, 0, entry.to_word());
        Claim::Done
    } else {
        exchange(&slot.key, key.0, 0);
        Claim::Raced
    }
}

#[inline(always)]
fn free_slots(row: &Row) -> u32 {
    row.slots.iter().filter(|slot| load(&slot.key) == 0).count() as u32
}

#[inline(always)]
fn count_of(row: &Row, key: Key) -> u32 {
    row.slots.iter().filter(|slot| load(&slot.key) == key.0).count() as u32
}

/// Enters or replaces an entry, whatever is there: for the agent's static entries.
///
/// # Errors
/// [`Full`] when both buckets are full.
pub fn set<M: Memory + ?Sized>(mem: &M, key: Key, entry: Entry) -> Result<(), Full> {
    let (a, b) = rows(mem, key).ok_or(Full)?;
    loop {
        let Some(slot) = slot_of(a, key).or_else(|| slot_of(b, key)) else {
            match claim(a, b, key, entry) {
                Claim::Done => return Ok(()),
                Claim::Full => return Err(Full),
                Claim::Raced => continue,
            }
        };
        let old = load(&slot.value);
        // Zero: a claimant or remover is in the middle of it; look again.
        if old != 0 && exchange(&slot.value, old, entry.to_word()) {
            return Ok(());
        }
        core::hint::spin_loop();
    }
}

/// Removes a key's entry, static or learned; `true` if there was one.
pub fn remove<M: Memory + ?Sized>(mem: &M, key: Key) -> bool {
    let Some((a, b)) = rows(mem, key) else { return false };
    loop {
        let Some(slot) = slot_of(a, key).or_else(|| slot_of(b, key)) else { return false };
        let old = load(&slot.value);
        if old == 0 {
            return false;
        }
        if take(slot, key.0, old) {
            return true;
        }
    }
}

/// Takes an entry out if it still is what it was: value first, so that the slot is ours alone, then the key.
fn take(slot: &Slot, key: u64, value: u64) -> bool {
    exchange(&slot.value, value, 0) && exchange(&slot.key, key, 0)
}

/// A slot that has a key and no value: somebody is in the middle of claiming or emptying it, or was killed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    row: u32,
    slot: usize,
    key: u64,
}

/// Calls `visit` for every slot that has a key and no value at this moment.
///
/// Kernel programs run to their end within microseconds, but an agent that is killed while it removes entries leaves such a slot
/// for good, and its MAC could not be learned again. An agent that takes a table over calls this, waits for far longer than any
/// program runs, and gives what it found to [`give_up`].
pub fn unfinished<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(Unfinished)) {
    for row in 0..=mem.mask() {
        for (slot, words) in mem.row(row).into_iter().flat_map(|row| &row.slots).enumerate() {
            let key = load(&words.key);
            if key != 0 && load(&words.value) == 0 && load(&words.key) == key {
                visit(Unfinished { row, slot, key });
            }
        }
    }
}

/// Frees a slot that [`unfinished`] found, if it still is as it was; `true` if so. Nobody else may be removing entries.
pub fn give_up<M: Memory + ?Sized>(mem: &M, what: Unfinished) -> bool {
    let Some(slot) = mem.row(what.row).and_then(|row| row.slots.get(what.slot)) else { return false };
    load(&slot.value) == 0 && exchange(&slot.key, what.key, 0)
}

/// Calls `visit` for every entry in force. What changes meanwhile may be seen in its old or new state, never in between.
pub fn for_each<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(Key, Entry)) {
    scan(mem, |_, key, entry| visit(Key(key), entry));
}

/// How many entries are in force.
pub fn len<M: Memory + ?Sized>(mem: &M) -> usize {
    let mut n = 0;
    for_each(mem, |_, _| n += 1);
    n
}

/// Removes every entry that `gone` says; an entry that changes at the same moment stays. Returns how many were removed.
pub fn remove_if<M: Memory + ?Sized>(mem: &M, mut gone: impl FnMut(Key, Entry) -> bool) -> usize {
    let mut removed = 0;
    scan(mem, |slot, key, entry| {
        if gone(Key(key), entry) && take(slot, key, entry.to_word()) {
            removed += 1;
        }
    });
    removed
}

/// Removes learned entries that were last seen more than `limit` ticks ago. Returns how many.
pub fn age<M: Memory + ?Sized>(mem: &M, now: Seen, limit: u16) -> usize {
    remove_if(mem, |_, e| !e.is_static && e.seen.age(now) > limit)
}

fn scan<M: Memory + ?Sized>(mem: &M, mut visit: impl FnMut(&Slot, u64, Entry)) {
    for index in 0..=mem.mask() {
        let Some(row) = mem.row(index) else { continue };
        for slot in &row.slots {
            let key = load(&slot.key);
            if key == 0 {
                continue;
            }
            // The slot may have been given to another key between the two loads: take the value only if the key is still there.
            let value = load(&slot.value);
            if let (Some(entry), true) = (Entry::from_word(value), load(&slot.key) == key) {
                visit(slot, key, entry);
            }
        }
    }
}
