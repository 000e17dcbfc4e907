//! `Tables` over the maps.

use aya_ebpf::{
    btf_maps::PerCpuArray,
    helpers::generated::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
};
use wavnet_common::{
    abi::{
        At, Bulky, Config, Count, Event, FloodSet, Gate, HoldRow, Lane, Member, MemberKey, Mix, PathRow, Port, Traffic,
        Vtep,
    },
    buckets::{self, Memory, Row},
    datapath::{Of, Tables},
    reason::Reason,
};

use crate::maps;

/// The maps of this object.
pub(crate) struct KernelTables;

/// Declares the memory of a table in buckets.
macro_rules! memory {
    ($name:ident, $map:ident, $mask:ident) => {
        pub(crate) struct $name;

        impl Memory for $name {
            #[inline(always)]
            fn mask(&self) -> u32 {
                maps::$mask.load()
            }

            #[inline(always)]
            fn row(&self, index: u32) -> Option<&Row> {
                maps::$map.get(index)
            }

            #[inline(always)]
            fn seed(&self) -> u64 {
                maps::SEED.load()
            }
        }
    };
}

memory!(KernelFdb, FDB, FDB_MASK);
memory!(KernelMembers, MEMBERS, MEMBERS_MASK);
memory!(KernelPaths, PATH_OF_SOURCE, PATHS_MASK);
memory!(KernelPorts, PORT_OF_IFINDEX, PORTS_MASK);

impl Tables for KernelTables {
    type Fdb = KernelFdb;

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        maps::CONFIG.get(0)
    }

    #[inline(always)]
    fn member(&self, key: &MemberKey) -> Option<Member> {
        buckets::get(&KernelMembers, key.to_word()).map(Member::from_word)
    }

    #[inline(always)]
    fn knows_vni(&self, vni: u32) -> bool {
        maps::INDEX_OF_VNI.get_ptr(vni).is_some()
    }

    #[inline(always)]
    fn knows_vtep(&self, addr: [u8; 4]) -> bool {
        maps::INDEX_OF_VTEP.get_ptr(addr).is_some()
    }

    #[inline(always)]
    fn path_of(&self, source: u64) -> Option<At> {
        buckets::get(&KernelPaths, source).map(At::from_word)
    }

    #[inline(always)]
    fn path(&self, index: u16) -> Option<&PathRow> {
        maps::PATHS.get(index.into())
    }

    #[inline(always)]
    fn hold(&self, vtep_index: u16) -> Option<&HoldRow> {
        maps::HOLDS.get(vtep_index.into())
    }

    #[inline(always)]
    fn port_of(&self, ifindex: u32) -> Option<u16> {
        buckets::get(&KernelPorts, ifindex.into()).map(|index| index as u16)
    }

    #[inline(always)]
    fn port(&self, index: u16) -> Option<&Port> {
        maps::PORTS.get(index.into())
    }

    #[inline(always)]
    fn vtep(&self, index: u16) -> Option<&Vtep> {
        maps::VTEPS.get(index.into())
    }

    #[inline(always)]
    fn flood(&self, vni_index: u16) -> Option<&FloodSet> {
        let half = maps::VNIS.get(vni_index.into())?.flood_half & 1;
        maps::FLOODS.get(2 * u32::from(vni_index) + half)
    }

    #[inline(always)]
    fn fdb(&self) -> &KernelFdb {
        &KernelFdb
    }

    #[inline(always)]
    fn cookie(&self) -> u32 {
        maps::COOKIE.load()
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: no arguments, no side effects.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn precise_ns(&self) -> u64 {
        // SAFETY: no arguments, no side effects.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn heartbeat_ns(&self) -> u64 {
        maps::HEARTBEAT.get(0).map_or(0, |beat| beat.at_ns)
    }

    #[inline(always)]
    fn gate<R>(&self, lane: Lane, work: impl FnOnce(&mut Gate) -> R) -> Option<R> {
        let gates = maps::GATES.get_ptr_mut(0)?;
        // SAFETY: this CPU's own value; programs do not interrupt each other on a CPU.
        Some(work(unsafe { (*gates).of(lane) }))
    }

    #[inline(always)]
    fn mix(&self, port_index: u16, work: impl FnOnce(&mut Mix)) {
        if let Some(ledger) = maps::PORT_STATS.get_ptr_mut(port_index.into()) {
            // SAFETY: as in `gate`.
            work(unsafe { &mut (*ledger).mix });
        }
    }

    #[inline(always)]
    fn bulky(&self, set: u32) -> Option<&Bulky> {
        maps::BULKY.get(set)
    }

    #[inline(always)]
    fn count(&self, what: Count, n: u64) {
        add(&maps::COUNTS, what as u32, n);
    }

    #[inline(always)]
    fn dropped(&self, reason: Reason) {
        add(&maps::DROPS, reason as u32, 1);
    }

    #[inline(always)]
    fn received(&self, of: Of, frames: u64, bytes: u64) {
        if let Some(traffic) = traffic(of) {
            traffic.rx_frames += frames;
            traffic.rx_bytes += bytes;
        }
    }

    #[inline(always)]
    fn sent(&self, of: Of, frames: u64, bytes: u64) {
        if let Some(traffic) = traffic(of) {
            traffic.tx_frames += frames;
            traffic.tx_bytes += bytes;
        }
    }

    #[inline(always)]
    fn event(&self, event: &Event) {
        if maps::EVENTS.output(*event, 0).is_err() {
            self.count(Count::EventsLost, 1);
        }
    }
}

#[inline(always)]
fn add<const N: usize>(map: &PerCpuArray<u64, N>, index: u32, n: u64) {
    if let Some(counter) = map.get_ptr_mut(index) {
        // SAFETY: this CPU's own value; programs do not interrupt each other on a CPU.
        unsafe { *counter += n };
    }
}

#[inline(always)]
fn traffic(of: Of) -> Option<&'static mut Traffic> {
    let traffic = match of {
        // SAFETY: as in `add`.
        Of::Port(i) => maps::PORT_STATS.get_ptr_mut(i.into()).map(|ledger| unsafe { &raw mut (*ledger).traffic }),
        Of::Vni(i) => maps::VNI_STATS.get_ptr_mut(i.into()),
        Of::Vtep(i) => maps::VTEP_STATS.get_ptr_mut(i.into()),
    }?;
    // SAFETY: as in `add`.
    Some(unsafe { &mut *traffic })
}
