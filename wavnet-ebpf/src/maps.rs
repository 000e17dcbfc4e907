//! All maps. Purpose, writer and reader of each are in `wavnet_common::abi`; names here and there are the same.
//!
//! Sizes are defaults: the agent sets the configured ones at load.

use crate::xdp::Scratch;
use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, DevMap, DevMapHash, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use wavnet_common::{
    abi::{
        Bulky, Config, Count, Event, FloodSet, Gates, Heartbeat, HoldRow, Ledger, Meta, PathRow, Port, Traffic,
        VniEntry, Vtep, size,
    },
    addr::PeerId,
    buckets::{Row, rows_for},
    reason::Reason,
};

const PORTS_MAX: usize = size::PORTS as usize;
const VNIS_MAX: usize = size::VNIS as usize;
const VTEPS_MAX: usize = size::VTEPS as usize;

#[btf_map]
pub(crate) static META: Array<Meta, 1> = Array::new();
#[btf_map]
pub(crate) static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
pub(crate) static HEARTBEAT: Array<Heartbeat, 1> = Array::new();
#[btf_map]
pub(crate) static PORTS: Array<Port, PORTS_MAX> = Array::new();
#[btf_map]
pub(crate) static PORT_OF_IFINDEX: Array<Row, { rows_for(size::PORTS) as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();
#[btf_map]
pub(crate) static PORT_DEVS: DevMap<PORTS_MAX> = DevMap::new();
#[btf_map]
pub(crate) static GUARDED_DEVS: DevMapHash<{ PORTS_MAX + size::HOP_DEVS as usize }> = DevMapHash::new();
#[btf_map]
pub(crate) static VNIS: Array<VniEntry, VNIS_MAX> = Array::new();
#[btf_map]
pub(crate) static MEMBERS: Array<Row, { rows_for(size::MEMBERS) as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static PATH_OF_SOURCE: Array<Row, { rows_for(size::PATHS) as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();
#[btf_map]
pub(crate) static PATHS: Array<PathRow, { size::PATHS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static INDEX_OF_VNI: HashMap<u32, u32, VNIS_MAX> = HashMap::new();
#[btf_map]
pub(crate) static INDEX_OF_VTEP: HashMap<[u8; 4], u32, VTEPS_MAX> = HashMap::new();
#[btf_map]
pub(crate) static VTEPS: Array<Vtep, VTEPS_MAX> = Array::new();
#[btf_map]
pub(crate) static VTEP_IDS: Array<PeerId, VTEPS_MAX> = Array::new();
#[btf_map]
pub(crate) static HOLDS: Array<HoldRow, VTEPS_MAX, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static FLOODS: Array<FloodSet, { 2 * VNIS_MAX }> = Array::new();
#[btf_map]
pub(crate) static FDB: Array<Row, { size::FDB_BUCKETS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub(crate) static BULKY: Array<Bulky, { Bulky::SETS as usize }> = Array::new();
#[btf_map]
pub(crate) static DROPS: PerCpuArray<u64, { Reason::COUNT }> = PerCpuArray::new();
#[btf_map]
pub(crate) static COUNTS: PerCpuArray<u64, { Count::COUNT }> = PerCpuArray::new();
#[btf_map]
pub(crate) static GATES: PerCpuArray<Gates, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static PORT_STATS: PerCpuArray<Ledger, PORTS_MAX> = PerCpuArray::new();
#[btf_map]
pub(crate) static VNI_STATS: PerCpuArray<Traffic, VNIS_MAX> = PerCpuArray::new();
#[btf_map]
pub(crate) static VTEP_STATS: PerCpuArray<Traffic, VTEPS_MAX> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<Event, { size::EVENTS as usize }> = RingBuf::new();

/// Per CPU: a datagram whose checksum is being computed.
#[btf_map]
pub(crate) static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// Buckets of `FDB` minus one; set at load.
#[unsafe(no_mangle)]
pub(crate) static FDB_MASK: Global<u32> = Global::new(size::FDB_BUCKETS - 1);

/// The same of `MEMBERS`.
#[unsafe(no_mangle)]
pub(crate) static MEMBERS_MASK: Global<u32> = Global::new(rows_for(size::MEMBERS) - 1);

/// The same of `PATH_OF_SOURCE`.
#[unsafe(no_mangle)]
pub(crate) static PATHS_MASK: Global<u32> = Global::new(rows_for(size::PATHS) - 1);

/// The same of `PORT_OF_IFINDEX`.
#[unsafe(no_mangle)]
pub(crate) static PORTS_MASK: Global<u32> = Global::new(rows_for(size::PORTS) - 1);

/// What hashes begin with; set at load, the same as long as the maps live.
#[unsafe(no_mangle)]
pub(crate) static SEED: Global<u64> = Global::new(0);

/// Marks notes from XDP to TC as this datapath's; set at load, the same as long as the maps live.
#[unsafe(no_mangle)]
pub(crate) static COOKIE: Global<u32> = Global::new(0);
