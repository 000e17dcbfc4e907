//! Arrays mapped into the agent's memory: reading them costs no system call and stops nobody.

use std::{marker::PhantomData, os::fd::AsFd};

use aya::{Ebpf, maps::Map};
use memmap2::{MmapOptions, MmapRaw};
use wavnet_common::{
    abi::{HoldRow, PathRow, relay::LegRow},
    buckets::{self, Memory, Row},
};

use super::Error;

/// Marks rows that consist of atomics: others may change them at any time.
///
/// # Safety
/// The type is `repr(C)` of [`std::sync::atomic::AtomicU64`], and its alignment that of a page at the most.
pub(super) unsafe trait Shared {}

// SAFETY: slots of two atomics each.
unsafe impl Shared for Row {}
// SAFETY: eight atomics.
unsafe impl Shared for PathRow {}
// SAFETY: four atomics.
unsafe impl Shared for HoldRow {}
// SAFETY: sixteen atomics.
unsafe impl Shared for LegRow {}

/// An array of such rows.
pub(super) struct Rows<R: Shared> {
    memory: MmapRaw,
    rows: u32,
    of: PhantomData<R>,
}

impl<R: Shared> Rows<R> {
    /// Takes an array out of the object and maps it.
    pub(super) fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<Rows<R>, Error> {
        let fail = |e: std::io::Error| Error::kernel(format!("mapping {name}"), e);
        let Some(Map::Array(data)) = ebpf.take_map(name) else {
            return Err(fail(std::io::Error::other("the object has no such array")));
        };
        let rows = data.info().map_err(|e| fail(std::io::Error::other(e)))?.max_entries();
        let len = rows as usize * size_of::<R>();
        let memory = MmapOptions::new().len(len).map_raw(&data.fd().as_fd()).map_err(fail)?;
        Ok(Rows { memory, rows, of: PhantomData })
    }

    /// How many rows there are.
    pub(super) const fn len(&self) -> u32 {
        self.rows
    }

    /// A row; `None` beyond the last.
    pub(super) fn get(&self, index: u32) -> Option<&R> {
        if index >= self.rows {
            return None;
        }
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; rows are atomics.
        Some(unsafe { &*self.memory.as_ptr().cast::<R>().add(index as usize) })
    }
}

/// A table in buckets.
pub(super) struct Mapped {
    rows: Rows<Row>,
    seed: u64,
}

impl Mapped {
    /// Takes an array out of the object and maps it. The seed is that of the programs.
    pub(super) fn map(ebpf: &mut Ebpf, name: &'static str, seed: u64) -> Result<Mapped, Error> {
        Ok(Mapped { rows: Rows::map(ebpf, name)?, seed })
    }

    /// How many buckets there are.
    pub(super) const fn rows(&self) -> u32 {
        self.rows.len()
    }
}

/// Frees slots that an agent which was killed while it changed entries left behind. Takes a second or two if there are any.
pub(super) fn recover(tables: &[&Mapped]) {
    let mut found = Vec::new();
    for table in tables {
        buckets::unfinished(*table, |slot| found.push((*table, slot)));
    }
    while !found.is_empty() {
        // Most are programs at work: those are done long before. A killed agent's claim takes a second round.
        std::thread::sleep(std::time::Duration::from_secs(1));
        found.retain_mut(|(table, slot)| buckets::give_up(*table, *slot).map(|rest| *slot = rest).is_some());
    }
}

impl Memory for Mapped {
    fn mask(&self) -> u32 {
        self.rows.len() - 1
    }

    fn row(&self, index: u32) -> Option<&Row> {
        self.rows.get(index)
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
