//! The relay of a rendezvous server: an object of its own, with maps of its own, which needs no agent.
//!
//! Entry points hold no logic: see `wavnet_common::relay`.

#![no_std]
#![no_main]

#[path = "../memory.rs"]
mod memory;
#[path = "../object.rs"]
mod object;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_MMAPABLE, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action::*},
    btf_maps::{Array, PerCpuArray},
    helpers::{bpf_ktime_get_ns, bpf_redirect},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use wavnet_common::{
    abi::relay::{LegRow, RelayConfig, RelayCount, RelayLink, StunSource, size},
    addr::Label,
    buckets::{self, Memory, Row, rows_for},
    packet::{Extend, FrameMeta, Packet, Rewrite},
    relay::{Hook, Tables, Verdict, relay},
};

use memory::{SkbPacket, XdpPacket};

#[btf_map]
static RELAY_CONFIG: Array<RelayConfig, 1> = Array::new();
#[btf_map]
static LEG_OF_LABEL: Array<Row, { rows_for(size::LEGS) as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static LEGS: Array<LegRow, { size::LEGS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
static RELAY_LINKS: Array<RelayLink, { size::RELAY_LINKS as usize }> = Array::new();
#[btf_map]
static STUN_SOURCES: Array<StunSource, { size::STUN_SOURCES as usize }> = Array::new();
#[btf_map]
static RELAY_COUNTS: PerCpuArray<u64, { RelayCount::COUNT }> = PerCpuArray::new();

/// Buckets of `LEG_OF_LABEL` minus one; set at load.
#[unsafe(no_mangle)]
static LABELS_MASK: Global<u32> = Global::new(rows_for(size::LEGS) - 1);

/// What hashes begin with; set at load.
#[unsafe(no_mangle)]
static SEED: Global<u64> = Global::new(0);

struct Labels;

impl Memory for Labels {
    #[inline(always)]
    fn mask(&self) -> u32 {
        LABELS_MASK.load()
    }

    #[inline(always)]
    fn row(&self, index: u32) -> Option<&Row> {
        LEG_OF_LABEL.get(index)
    }

    #[inline(always)]
    fn seed(&self) -> u64 {
        SEED.load()
    }
}

struct KernelTables;

impl Tables for KernelTables {
    #[inline(always)]
    fn config(&self) -> Option<&RelayConfig> {
        RELAY_CONFIG.get(0)
    }

    #[inline(always)]
    fn leg(&self, label: Label) -> Option<&LegRow> {
        LEGS.get(buckets::get(&Labels, label.get().into())? as u32)
    }

    #[inline(always)]
    fn link(&self, index: u16) -> Option<&RelayLink> {
        RELAY_LINKS.get(index.into())
    }

    #[inline(always)]
    fn stun_source(&self, addr: u32) -> Option<&StunSource> {
        STUN_SOURCES.get(StunSource::index(SEED.load(), addr.into()))
    }

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn count(&self, what: RelayCount, n: u64) {
        if let Some(counter) = RELAY_COUNTS.get_ptr_mut(what as u32) {
            // SAFETY: this CPU's own.
            unsafe { *counter += n };
        }
    }
}

/// `abi::relay::program::RELAY_XDP`.
#[xdp(frags)]
fn relay_xdp(ctx: XdpContext) -> u32 {
    from_xdp(&ctx, &mut XdpPacket::<true>::new(&ctx))
}

/// `abi::relay::program::RELAY_XDP_GENERIC`. Without frags, as `underlay_xdp_generic`.
#[xdp]
fn relay_xdp_generic(ctx: XdpContext) -> u32 {
    from_xdp(&ctx, &mut XdpPacket::<false>::new(&ctx))
}

#[inline(always)]
fn from_xdp<P: Packet + Rewrite + FrameMeta + Extend>(ctx: &XdpContext, packet: &mut P) -> u32 {
    match relay(packet, &KernelTables, Hook::Xdp, ctx.ingress_ifindex() as u32) {
        Verdict::Pass => XDP_PASS,
        Verdict::Drop => XDP_DROP,
        Verdict::Back => XDP_TX,
        Verdict::Send { ifindex } => to_interface(ifindex) as u32,
    }
}

/// `abi::relay::program::RELAY_TC`.
#[classifier]
fn relay_tc(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let by = unsafe { (*ctx.skb.skb).ifindex };
    match relay(&mut SkbPacket::new(&ctx), &KernelTables, Hook::Tc, by) {
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop => TC_ACT_SHOT,
        Verdict::Back => to_interface(by) as i32,
        Verdict::Send { ifindex } => to_interface(ifindex) as i32,
    }
}

#[inline(always)]
fn to_interface(ifindex: u32) -> i64 {
    // SAFETY: plain numbers.
    unsafe { bpf_redirect(ifindex, 0) }
}
