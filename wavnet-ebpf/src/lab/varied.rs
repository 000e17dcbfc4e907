//! A generator whose frames differ: as many MACs or VNIs as it is told.

use aya_ebpf::{
    bindings::xdp_action::*,
    btf_maps::Array,
    helpers::bpf_get_prandom_u32,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::abi::Vary;

#[btf_map]
static VARY: Array<Vary, 1> = Array::new();

/// `abi::name::SEND_VARIED`.
#[xdp(frags)]
fn lab_send_varied(ctx: XdpContext) -> u32 {
    let Some(vary) = VARY.get(0) else { return XDP_ABORTED };
    // The verifier wants to know how far it may lead.
    let word = ctx.data() + (vary.at & 0x7f) as usize;
    if word + size_of::<u32>() > ctx.data_end() {
        return XDP_ABORTED;
    }
    // SAFETY: no arguments, no side effects that matter.
    let random = u64::from(unsafe { bpf_get_prandom_u32() });
    let number = ((random * u64::from(vary.count)) >> 32) as u32;
    let value = vary.first.wrapping_add(number.wrapping_mul(vary.step));
    // SAFETY: inside the frame, as was just asked; arrays of bytes need no alignment.
    unsafe { (word as *mut [u8; 4]).write(value.to_be_bytes()) };
    XDP_TX
}
