//! The forwarding table beside the kernel's hash map: many lookups in one run.

use core::ffi::c_void;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, xdp_action::*},
    btf_maps::{Array, HashMap},
    helpers::generated::bpf_loop,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use wavnet_common::{
    addr::Mac,
    fdb::{Key, Memory, Place, Row, lookup},
};

use crate::abi::{Lookups, mac_of};

#[btf_map]
static LOOKUPS: Array<Lookups, 1> = Array::new();
#[btf_map]
static BUCKETS: Array<Row, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static HASH: HashMap<u64, u64, 1> = HashMap::new();

#[unsafe(no_mangle)]
static BUCKETS_MASK: Global<u32> = Global::new(0);

/// `abi::name::LOOK_UP_BUCKETS`.
#[xdp(frags)]
fn lab_look_up_buckets(_ctx: XdpContext) -> u32 {
    look_up(|mac| match lookup(&Buckets, Key::new(0, Mac::from_u64(mac)))?.place {
        Place::Port(index) | Place::Vtep(index) => Some(index.into()),
    })
}

/// `abi::name::LOOK_UP_HASH`.
#[xdp(frags)]
fn lab_look_up_hash(_ctx: XdpContext) -> u32 {
    // The key is that of the buckets: index of the VNI, here 0, and MAC.
    // SAFETY: nobody writes while programs look up.
    look_up(|mac| unsafe { HASH.get(mac) }.copied())
}

/// `abi::name::LOOK_UP_NOTHING`.
#[xdp(frags)]
fn lab_look_up_none(_ctx: XdpContext) -> u32 {
    // To the stack and back, so that the MAC is made and waited for.
    look_up(|mac| {
        let mut kept = 0;
        // SAFETY: a variable of its own.
        unsafe {
            (&raw mut kept).write_volatile(mac);
            Some((&raw const kept).read_volatile() >> 48)
        }
    })
}

struct Buckets;

impl Memory for Buckets {
    #[inline(always)]
    fn mask(&self) -> u32 {
        BUCKETS_MASK.load()
    }

    #[inline(always)]
    fn row(&self, index: u32) -> Option<&Row> {
        BUCKETS.get(index)
    }

    #[inline(always)]
    fn seed(&self) -> u64 {
        0
    }
}

/// Looks up one MAC after the other. What is found is always zero, but neither compiler nor CPU can know.
#[inline(always)]
fn look_up(find: impl Fn(u64) -> Option<u64>) -> u32 {
    let Some(Lookups { seed, count, macs, chained, .. }) = LOOKUPS.get(0).copied() else { return XDP_ABORTED };
    let (mut state, mut found, mut sum) = (seed, 0, 0);
    repeat(count, |_| {
        // Knuth's generator; its upper half is random enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (((state >> 32) * u64::from(macs)) >> 32) as u32;
        if let Some(value) = find(mac_of(number)) {
            found += 1;
            // A branch, which the CPU foresees; frames do not wait for each other's lookups either.
            if chained != 0 {
                state ^= value;
            } else {
                sum |= value;
            }
        }
    });
    // A few of very many find no room in the buckets.
    if sum == 0 && found >= count - (count >> 10) { XDP_PASS } else { XDP_DROP }
}

#[inline(always)]
fn repeat<F: FnMut(u32)>(n: u32, mut body: F) {
    // SAFETY: `step::<F>` gets back the very pointer given here, during the call.
    unsafe { bpf_loop(n, step::<F> as *mut c_void, (&raw mut body).cast(), 0) };
}

unsafe extern "C" fn step<F: FnMut(u32)>(i: u32, body: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes a pointer to its `F`.
    let body = unsafe { &mut *body.cast::<F>() };
    body(i);
    0
}
