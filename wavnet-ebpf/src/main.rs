//! The kernel programs: underlay NIC (XDP, TC ingress) and port (XDP, TC ingress).
//!
//! Entry points hold no logic: they hand packet memory and tables to `wavnet_common::datapath` and turn its verdict into a return
//! value. All maps are in `maps`.

#![no_std]
#![no_main]

mod log;
mod maps;
mod memory;
mod object;
mod skb;
mod tables;
mod xdp;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action::*},
    helpers::{bpf_redirect, bpf_redirect_neigh},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use wavnet_common::{
    datapath::{self, Tables, Verdict},
    reason::Reason,
};

use crate::{
    memory::{SkbPacket, XdpPacket},
    tables::KernelTables,
};

/// `abi::program::UNDERLAY_XDP`.
#[xdp(frags)]
fn underlay_xdp(ctx: XdpContext) -> u32 {
    xdp_action(&ctx, datapath::underlay::xdp(&mut XdpPacket::<true>::new(&ctx), &KernelTables), to_port)
}

/// `abi::program::UNDERLAY_XDP_GENERIC`. Without frags: for a program with them, generic XDP copies the frame into a new skb and
/// forgets the length of its link header, so that TC would see what is passed up without one. And without the devmap, whose
/// users must agree on frags.
#[xdp]
fn underlay_xdp_generic(ctx: XdpContext) -> u32 {
    xdp_action(&ctx, datapath::underlay::xdp(&mut XdpPacket::<false>::new(&ctx), &KernelTables), |_, ifindex| {
        to_interface(ifindex)
    })
}

/// By the devmap, which sends frames to a port in bulk.
#[inline(always)]
fn to_port(index: u16, _: u32) -> u32 {
    match maps::PORT_DEVS.redirect(index.into(), 0) {
        Ok(action) => action,
        // The port went between the two lookups.
        Err(_) => {
            KernelTables.dropped(Reason::UnknownPort);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn to_interface(ifindex: u32) -> u32 {
    // SAFETY: plain numbers.
    unsafe { bpf_redirect(ifindex, 0) as u32 }
}

/// By the devmap with a program of its own, `tap_guard`.
#[inline(always)]
fn to_guarded(ifindex: u32) -> u32 {
    match maps::GUARDED_DEVS.redirect(ifindex, 0) {
        Ok(action) => action,
        // It went a moment ago.
        Err(_) => {
            KernelTables.dropped(Reason::UnknownPort);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn xdp_action(ctx: &XdpContext, verdict: Verdict, to_port: impl FnOnce(u16, u32) -> u32) -> u32 {
    match verdict {
        Verdict::Pass | Verdict::HandedOver => XDP_PASS,
        Verdict::ToPort { index, ifindex } => to_port(index, ifindex),
        Verdict::ToWire { ifindex } => to_interface(ifindex),
        Verdict::Drop(reason) => {
            log::dropped(ctx, ctx.ingress_ifindex() as u32, reason);
            XDP_DROP
        }
        Verdict::Consumed => XDP_DROP,
        Verdict::Sealed { ifindex } => to_guarded(ifindex),
        Verdict::Answered => XDP_TX,
        Verdict::ToNeighbour { .. } | Verdict::Held { .. } => XDP_ABORTED,
    }
}

/// `abi::program::UNDERLAY_TC`.
#[classifier]
fn underlay_tc(ctx: TcContext) -> i32 {
    tc_action(&ctx, datapath::underlay::tc(&mut SkbPacket::new(&ctx), &KernelTables))
}

/// `abi::program::PORT_XDP`.
#[xdp(frags)]
fn port_xdp(ctx: XdpContext) -> u32 {
    xdp_action(
        &ctx,
        datapath::port_xdp(&mut XdpPacket::<true>::new(&ctx), &KernelTables, ctx.ingress_ifindex() as u32),
        to_port,
    )
}

/// `abi::program::TAP_GUARD`.
#[xdp(frags, map = "devmap")]
fn tap_guard(ctx: XdpContext) -> u32 {
    xdp_action(&ctx, datapath::guard(&mut XdpPacket::<true>::new(&ctx), &KernelTables), to_port)
}

/// `abi::program::PORT_TC`.
#[classifier]
fn port_tc(ctx: TcContext) -> i32 {
    tc_action(&ctx, datapath::port::tc(&mut SkbPacket::new(&ctx), &KernelTables, ifindex(&ctx)))
}

#[inline(always)]
fn ifindex(ctx: &TcContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    unsafe { (*ctx.skb.skb).ifindex }
}

#[inline(always)]
fn tc_action(ctx: &TcContext, verdict: Verdict) -> i32 {
    match verdict {
        // The next program's turn, where there is one: "ok" would pass the frame by it.
        Verdict::Pass => TC_ACT_UNSPEC,
        Verdict::Drop(reason) => {
            log::dropped(ctx, ifindex(ctx), reason);
            TC_ACT_SHOT
        }
        Verdict::Consumed | Verdict::HandedOver => TC_ACT_SHOT,
        Verdict::ToPort { ifindex, .. }
        | Verdict::ToWire { ifindex }
        | Verdict::Held { ifindex }
        | Verdict::Sealed { ifindex } => to_interface(ifindex) as i32,
        Verdict::Answered => to_interface(ifindex(ctx)) as i32,
        // SAFETY: a null parameter block is the documented way to have the kernel look up the next hop.
        Verdict::ToNeighbour { ifindex } => unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) as i32 },
    }
}
