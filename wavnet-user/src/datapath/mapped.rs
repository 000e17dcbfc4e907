//! A table in buckets, mapped into the agent's memory: reading it costs no system call and stops nobody.

use std::os::fd::AsFd;

use aya::{Ebpf, maps::Map};
use memmap2::{MmapOptions, MmapRaw};
use wavnet_common::buckets::{self, Memory, Row};

use super::Error;

/// The table.
pub(super) struct Mapped {
    memory: MmapRaw,
    rows: u32,
    seed: u64,
}

impl Mapped {
    /// Takes an array out of the object and maps it. The seed is that of the programs.
    pub(super) fn map(ebpf: &mut Ebpf, name: &'static str, seed: u64) -> Result<Mapped, Error> {
        let fail = |e: std::io::Error| Error::kernel(format!("mapping {name}"), e);
        let Some(Map::Array(data)) = ebpf.take_map(name) else {
            return Err(fail(std::io::Error::other("the object has no such array")));
        };
        let rows = data.info().map_err(|e| fail(std::io::Error::other(e)))?.max_entries();
        let len = rows as usize * size_of::<Row>();
        let memory = MmapOptions::new().len(len).map_raw(&data.fd().as_fd()).map_err(fail)?;
        Ok(Mapped { memory, rows, seed })
    }

    /// How many buckets there are.
    pub(super) const fn rows(&self) -> u32 {
        self.rows
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
        self.rows - 1
    }

    fn row(&self, index: u32) -> Option<&Row> {
        if index >= self.rows {
            return None;
        }
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; rows are atomics, which others may
        // change at any time.
        Some(unsafe { &*self.memory.as_ptr().cast::<Row>().add(index as usize) })
    }

    fn seed(&self) -> u64 {
        self.seed
    }
}
