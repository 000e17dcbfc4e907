//! wavnet's forwarding table and the kernel's hash map with the same keys, and kernel programs that look up many of them.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData},
    programs::{ProgramFd, Xdp},
};
use memmap2::{MmapOptions, MmapRaw};
use wavnet_common::{
    addr::Mac,
    fdb::{self, Entry, Key, Place, Row, SLOTS, Seen},
};

use super::programs::{self, abi, abi::name};

// SAFETY: repr(C) of integers without padding.
unsafe impl Pod for abi::Lookups {}

/// Where to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In wavnet's buckets.
    Buckets,
    /// In the kernel's hash map.
    Hash,
    /// Nowhere: what it costs to think of the MACs.
    Nowhere,
}

/// Both tables, and the programs.
pub struct Lookups {
    ebpf: Ebpf,
    order: Array<MapData, abi::Lookups>,
    hash: HashMap<MapData, u64, u64>,
    buckets: MmapRaw,
    macs: u32,
}

impl Lookups {
    /// Loads everything, with so many buckets and as much room in the hash map.
    ///
    /// # Errors
    /// Built without kernel programs, or the kernel refuses.
    pub fn load(buckets: u32) -> Result<Lookups> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(name::BUCKETS, buckets).map_max_entries(name::HASH, buckets * SLOTS as u32);
        let mask = buckets - 1;
        loader.override_global(name::BUCKETS_MASK, &mask, true);
        let mut ebpf = programs::load(&mut loader)?;
        let order = programs::take(&mut ebpf, name::LOOKUPS)?;
        let hash = programs::take(&mut ebpf, name::HASH)?;
        let Some(Map::Array(data)) = ebpf.take_map(name::BUCKETS) else {
            anyhow::bail!("the lab's object has no array {}", name::BUCKETS);
        };
        let len = buckets as usize * size_of::<Row>();
        let buckets = MmapOptions::new().len(len).map_raw(&data.fd().as_fd()).context("mapping the buckets")?;
        Ok(Lookups { ebpf, order, hash, buckets, macs: 0 })
    }

    /// Enters MACs into both until there are so many. Very few of very many may be missing from the buckets, as in an agent's table.
    ///
    /// # Errors
    /// The hash map cannot be written.
    pub fn enter(&mut self, macs: u32) -> Result<()> {
        // What lookups find is the place's index: zero, as they rely on.
        let entry = Entry { place: Place::Vtep(0), is_static: true, seen: Seen(0), epoch: 0 };
        for number in self.macs..macs {
            let mac = abi::mac_of(number);
            // Full: the programs tell if that was more than a few.
            let _ = fdb::set(self.rows(), Key::new(0, Mac::from_u64(mac)), entry);
            self.hash.insert(mac, 0, 0).context("entering a MAC into the hash map")?;
        }
        self.macs = self.macs.max(macs);
        Ok(())
    }

    /// The program that looks up MACs as ordered when it is run.
    ///
    /// # Errors
    /// More MACs than were entered.
    pub fn order(&mut self, at: Where, order: abi::Lookups) -> Result<&ProgramFd> {
        ensure!(order.macs <= self.macs, "there are {} MACs, not {}", self.macs, order.macs);
        self.order.set(0, order, 0).context("writing the order")?;
        let name = match at {
            Where::Buckets => name::LOOK_UP_BUCKETS,
            Where::Hash => name::LOOK_UP_HASH,
            Where::Nowhere => name::LOOK_UP_NOTHING,
        };
        let program: &mut Xdp = programs::find(&mut self.ebpf, name)?;
        Ok(program.fd()?)
    }

    fn rows(&self) -> &[Row] {
        // SAFETY: the whole mapping, page-aligned, which lives as long as `self`; rows are atomics.
        unsafe { std::slice::from_raw_parts(self.buckets.as_ptr().cast(), self.buckets.len() / size_of::<Row>()) }
    }
}
