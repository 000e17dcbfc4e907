//! The forwarding table, mapped into the agent's memory: reading it costs no system call and stops nobody.

use std::os::fd::AsFd;

use aya::{Ebpf, maps::Map};
use memmap2::{MmapOptions, MmapRaw};
use wavnet_common::{
    abi::{Bucket, map},
    addr::Mac,
    fdb::{self, Entry, Key, Memory, Place, Row, Seen},
};

use super::{Error, object::monotonic_ns};

/// An entry as people see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// Slot of the VNI.
    pub vni_index: u16,
    /// The address.
    pub mac: Mac,
    /// Where it is.
    pub place: Place,
    /// Entered by the operator.
    pub is_static: bool,
    /// Seconds since a frame from it was seen, about.
    pub age_s: u64,
    /// Epoch of its place.
    pub epoch: u32,
}

/// The table.
pub struct FdbView {
    memory: MmapRaw,
    buckets: u32,
}

impl FdbView {
    pub(super) fn map(ebpf: &mut Ebpf, buckets: u32) -> Result<FdbView, Error> {
        let fail = |e: std::io::Error| Error::kernel("mapping the FDB", e);
        let Some(Map::Array(data)) = ebpf.take_map(map::FDB) else {
            return Err(fail(std::io::Error::other("the object has no such array")));
        };
        let len = buckets as usize * size_of::<Bucket>();
        let memory = MmapOptions::new().len(len).map_raw(&data.fd().as_fd()).map_err(fail)?;
        Ok(FdbView { memory, buckets })
    }

    /// Frees slots that an agent which was killed while it removed entries left behind. Takes a second if there are any.
    pub(super) fn recover(&self) -> usize {
        let mut found = Vec::new();
        fdb::unfinished(self, |slot| found.push(slot));
        if !found.is_empty() {
            // Most are programs at work: those are done long before.
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        found.into_iter().filter(|slot| fdb::give_up(self, *slot)).count()
    }

    /// Entries that fit.
    pub fn capacity(&self) -> usize {
        self.buckets as usize * fdb::SLOTS
    }

    /// Entries in force.
    pub fn len(&self) -> usize {
        fdb::len(self)
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `visit` for every entry.
    pub fn for_each(&self, mut visit: impl FnMut(FdbEntry)) {
        let now = now();
        fdb::for_each(self, |key, entry| visit(seen_by_people(key, &entry, now)));
    }

    /// The entry of a MAC.
    pub fn get(&self, vni_index: u16, mac: Mac) -> Option<FdbEntry> {
        let key = Key::new(vni_index, mac);
        fdb::lookup(self, key).map(|entry| seen_by_people(key, &entry, now()))
    }

    /// Removes learned entries that have not been seen for more than `seconds`. Returns how many.
    pub fn age(&self, seconds: u64) -> usize {
        let ticks = u16::try_from((seconds * 1_000_000_000).div_ceil(1 << Seen::TICK_SHIFT)).unwrap_or(u16::MAX - 32);
        fdb::age(self, now(), ticks)
    }

    /// Removes every entry that `gone` says, static ones too. Returns how many.
    pub fn remove_if(&self, mut gone: impl FnMut(&FdbEntry) -> bool) -> usize {
        let now = now();
        fdb::remove_if(self, |key, entry| gone(&seen_by_people(key, &entry, now)))
    }

    /// Enters a static entry.
    ///
    /// # Errors
    /// [`Error::FdbFull`].
    pub(super) fn set_static(&self, vni_index: u16, mac: Mac, place: Place) -> Result<(), Error> {
        let entry = Entry { place, is_static: true, seen: now(), epoch: 0 };
        fdb::set(self, Key::new(vni_index, mac), entry).map_err(|fdb::Full| Error::FdbFull { mac })
    }

    /// Removes a MAC's entry; `true` if there was one.
    pub fn remove(&self, vni_index: u16, mac: Mac) -> bool {
        fdb::remove(self, Key::new(vni_index, mac))
    }
}

impl Memory for FdbView {
    fn mask(&self) -> u32 {
        self.buckets - 1
    }

    fn row(&self, index: u32) -> Option<&Row> {
        if index >= self.buckets {
            return None;
        }
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; rows are atomics, which others may
        // change at any time.
        Some(unsafe { &*self.memory.as_ptr().cast::<Row>().add(index as usize) })
    }
}

fn now() -> Seen {
    Seen::at(monotonic_ns())
}

fn seen_by_people(key: Key, entry: &Entry, now: Seen) -> FdbEntry {
    FdbEntry {
        vni_index: key.vni_index(),
        mac: key.mac(),
        place: entry.place,
        is_static: entry.is_static,
        age_s: (u64::from(entry.seen.age(now)) << Seen::TICK_SHIFT) / 1_000_000_000,
        epoch: entry.epoch,
    }
}
