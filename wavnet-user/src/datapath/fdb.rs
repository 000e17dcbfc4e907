//! The forwarding table as the agent handles it.

use aya::Ebpf;
use wavnet_common::{
    abi::map,
    addr::Mac,
    fdb::{self, Entry, Key, Memory, Place, Row, Seen},
};

use super::{Error, mapped::Mapped, object::monotonic_ns};

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
pub struct FdbView(Mapped);

impl FdbView {
    pub(super) fn map(ebpf: &mut Ebpf, seed: u64) -> Result<FdbView, Error> {
        Ok(FdbView(Mapped::map(ebpf, map::FDB, seed)?))
    }

    pub(super) const fn mapped(&self) -> &Mapped {
        &self.0
    }

    /// Entries that fit.
    pub fn capacity(&self) -> usize {
        self.0.rows() as usize * fdb::SLOTS
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
        self.0.mask()
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.0.row(index)
    }

    fn seed(&self) -> u64 {
        self.0.seed()
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
