//! `Tables` over the maps.

use aya_ebpf::{btf_maps::PerCpuArray, helpers::generated::bpf_ktime_get_coarse_ns};
use wavnet_common::{
    abi::{Bulky, Config, Count, Event, FloodSet, Gate, Member, MemberKey, Port, Traffic, Vtep},
    datapath::{Of, Tables},
    fdb::{Memory, Row},
    reason::Reason,
};

use crate::maps;

/// The maps of this object.
pub(crate) struct KernelTables;

/// The FDB map.
pub(crate) struct KernelFdb;

impl Memory for KernelFdb {
    #[inline(always)]
    fn mask(&self) -> u32 {
        maps::FDB_MASK.load()
    }

    #[inline(always)]
    fn row(&self, index: u32) -> Option<&Row> {
        maps::FDB.get(index)
    }
}

impl Tables for KernelTables {
    type Fdb = KernelFdb;

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        maps::CONFIG.get(0)
    }

    #[inline(always)]
    fn member(&self, key: &MemberKey) -> Option<Member> {
        // SAFETY: the agent alone writes; an element that is deleted meanwhile may be another member's by now.
        let member = unsafe { maps::MEMBERS.get(key) }?;
        // In one load, so that the VNI in it speaks for the rest. Values of 8 bytes are aligned to 8.
        // SAFETY: plain data of the same size.
        Some(unsafe { core::mem::transmute::<u64, Member>(core::ptr::from_ref(member).cast::<u64>().read_volatile()) })
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
    fn port_of(&self, ifindex: u32) -> Option<u16> {
        // SAFETY: as in `member`.
        unsafe { maps::PORT_OF_IFINDEX.get(ifindex) }.map(|index| *index as u16)
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
    fn heartbeat_ns(&self) -> u64 {
        maps::HEARTBEAT.get(0).map_or(0, |beat| beat.at_ns)
    }

    #[inline(always)]
    fn gate<R>(&self, of: Of, work: impl FnOnce(&mut Gate) -> R) -> Option<R> {
        let gate = match of {
            Of::Port(i) => maps::PORT_GATES.get_ptr_mut(i.into()),
            Of::Vni(i) => maps::VNI_GATES.get_ptr_mut(i.into()),
            Of::Vtep(_) => None,
        }?;
        // SAFETY: this CPU's own value; programs do not interrupt each other on a CPU.
        Some(work(unsafe { &mut *gate }))
    }

    #[inline(always)]
    fn bulky(&self, hash: u32) -> Bulky {
        maps::BULKY.get(hash % Bulky::COUNT).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn set_bulky(&self, hash: u32, to: Bulky) {
        if let Some(place) = maps::BULKY.get_ptr_mut(hash % Bulky::COUNT) {
            // SAFETY: a word that CPUs write the same, or nearly the same, time into.
            unsafe { place.write_volatile(to) };
        }
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
    let ptr = match of {
        Of::Port(i) => maps::PORT_STATS.get_ptr_mut(i.into()),
        Of::Vni(i) => maps::VNI_STATS.get_ptr_mut(i.into()),
        Of::Vtep(i) => maps::VTEP_STATS.get_ptr_mut(i.into()),
    }?;
    // SAFETY: as in `add`.
    Some(unsafe { &mut *ptr })
}
