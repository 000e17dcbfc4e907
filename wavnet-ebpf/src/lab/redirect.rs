//! Plain redirects between two interfaces, without an overlay: the most that either hook can do.

use aya_ebpf::{
    bindings::{TC_ACT_OK, xdp_action::XDP_ABORTED},
    btf_maps::{Array, DevMapHash},
    helpers::bpf_redirect,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};

use crate::abi::Pair;

#[btf_map]
static PAIR: Array<Pair, 1> = Array::new();
#[btf_map]
static REDIRECT_DEVS: DevMapHash<2> = DevMapHash::new();

/// `abi::name::XDP_REDIRECT`.
#[xdp(frags)]
fn lab_xdp_redirect(ctx: XdpContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    let from = unsafe { (*ctx.ctx).ingress_ifindex };
    REDIRECT_DEVS.redirect(from, 0).unwrap_or(XDP_ABORTED)
}

/// `abi::name::TC_REDIRECT`.
#[classifier]
fn lab_tc_redirect(ctx: TcContext) -> i32 {
    let Some(pair) = PAIR.get(0) else { return TC_ACT_OK };
    // SAFETY: the context is valid for the program's run.
    let from = unsafe { (*ctx.skb.skb).ingress_ifindex };
    let to = if from == pair.a { pair.b } else { pair.a };
    // SAFETY: the helper takes any interface and flags.
    unsafe { bpf_redirect(to, 0) as i32 }
}
