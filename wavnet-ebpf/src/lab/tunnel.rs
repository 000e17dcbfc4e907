//! A collect-metadata vxlan device between two TC programs, as Cilium tunnels: one writes the tunnel's key for frames from the
//! VM's port, the other one takes frames from the device to the port.

use core::mem::size_of;

use aya_ebpf::{
    bindings::{BPF_F_ZERO_CSUM_TX, TC_ACT_OK, TC_ACT_SHOT, bpf_tunnel_key},
    btf_maps::Array,
    helpers::{bpf_redirect, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key},
    macros::{btf_map, classifier},
    programs::TcContext,
};

use crate::abi::Tunnel;

#[btf_map]
static TUNNEL: Array<Tunnel, 1> = Array::new();

const KEY_SIZE: u32 = size_of::<bpf_tunnel_key>() as u32;
const TTL: u8 = 64;

/// `abi::name::TUNNEL_OUT`.
#[classifier]
fn lab_tunnel_out(ctx: TcContext) -> i32 {
    let Some(tunnel) = TUNNEL.get(0) else { return TC_ACT_OK };
    let mut key = no_key();
    key.tunnel_id = tunnel.vni;
    key.tunnel_ttl = TTL;
    key.__bindgen_anon_1.remote_ipv4 = tunnel.remote;
    // SAFETY: the key is of the size that is told; the context is valid for the program's run.
    unsafe {
        if bpf_skb_set_tunnel_key(ctx.skb.skb, &raw mut key, KEY_SIZE, BPF_F_ZERO_CSUM_TX.into()) != 0 {
            return TC_ACT_SHOT;
        }
        bpf_redirect(tunnel.device, 0) as i32
    }
}

/// `abi::name::TUNNEL_IN`.
#[classifier]
fn lab_tunnel_in(ctx: TcContext) -> i32 {
    let Some(tunnel) = TUNNEL.get(0) else { return TC_ACT_OK };
    let mut key = no_key();
    // SAFETY: as above; the union's members are integers.
    unsafe {
        let known = bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, KEY_SIZE, 0) == 0
            && key.tunnel_id == tunnel.vni
            && key.__bindgen_anon_1.remote_ipv4 == tunnel.remote;
        if !known {
            return TC_ACT_SHOT;
        }
        bpf_redirect(tunnel.port, 0) as i32
    }
}

#[inline(always)]
fn no_key() -> bpf_tunnel_key {
    // SAFETY: integers and arrays of them, for which zero is a value.
    unsafe { core::mem::zeroed() }
}
