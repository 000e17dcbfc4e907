//! Programs of the lab and the benchmark: the wire between hypervisors, a generator of small frames, and counters; in modules,
//! contenders of the benchmark.
//!
//! An object of its own, so that none of it can end up in a hypervisor.

#![no_std]
#![no_main]

#[path = "../lab/abi.rs"]
#[expect(dead_code, unreachable_pub, reason = "for user space, too; the names are here the statics' own")]
mod abi;
#[path = "../lab/lookup.rs"]
mod lookup;
#[path = "../object.rs"]
mod object;
#[path = "../lab/redirect.rs"]
mod redirect;
#[path = "../lab/tunnel.rs"]
mod tunnel;
#[path = "../lab/varied.rs"]
mod varied;

use aya_ebpf::{
    bindings::{TC_ACT_OK, TC_ACT_SHOT, xdp_action::*},
    btf_maps::{Array, DevMapHash, PerCpuArray},
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use wavnet_common::{
    datapath::{OUTER_LEN, OuterHdr},
    packet::Packet,
    wire::{EthHdr, Ipv4Hdr, UdpHdr, ethernet::ethertype, ipv4::PROTO_UDP},
};

use abi::{Counter, Probe};

#[btf_map]
static PROBE: Array<Probe, 1> = Array::new();
#[btf_map]
static WIRE_DEVS: DevMapHash<8> = DevMapHash::new();
#[btf_map]
static COUNTS: PerCpuArray<u64, { Counter::Sink as usize + 1 }> = PerCpuArray::new();

/// `abi::name::WIRE`.
#[xdp(frags)]
fn lab_wire(ctx: XdpContext) -> u32 {
    let frame = Linear { start: ctx.data(), end: ctx.data_end() };
    if let Some(probe) = PROBE.get(0)
        && probe.hold != 0
        && carried(&frame, probe)
    {
        count(Counter::Wire);
        return XDP_DROP;
    }
    // SAFETY: the context is valid for the program's run.
    let from = unsafe { (*ctx.ctx).ingress_ifindex };
    WIRE_DEVS.redirect(from, 0).unwrap_or(XDP_ABORTED)
}

/// `abi::name::SEND`.
#[xdp(frags)]
fn lab_send(_ctx: XdpContext) -> u32 {
    XDP_TX
}

/// `abi::name::SINK`.
#[classifier]
fn lab_sink(ctx: TcContext) -> i32 {
    const HEADERS: usize = EthHdr::LEN + Ipv4Hdr::LEN + UdpHdr::LEN;
    if ctx.data() + HEADERS > ctx.data_end() && ctx.pull_data(HEADERS as u32).is_err() {
        return TC_ACT_OK;
    }
    let frame = Linear { start: ctx.data(), end: ctx.data_end() };
    match PROBE.get(0) {
        Some(probe) if is_counted(&frame, 0, probe) => {
            count(Counter::Sink);
            TC_ACT_SHOT
        }
        _ => TC_ACT_OK,
    }
}

/// `abi::name::EMPTY_XDP`.
#[xdp(frags)]
fn lab_empty_xdp(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// `abi::name::EMPTY_TC`.
#[classifier]
fn lab_empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_OK
}

/// Packet memory for reading.
struct Linear {
    start: usize,
    end: usize,
}

impl Packet for Linear {
    #[inline(always)]
    fn start(&self) -> usize {
        self.start
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.end
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn pull(&mut self, _len: usize) -> bool {
        false
    }
}

/// Is it, on the wire, one of the frames that are counted?
#[inline(always)]
fn carried(frame: &Linear, probe: &Probe) -> bool {
    if probe.vni == 0 {
        return is_counted(frame, 0, probe);
    }
    let Some(outer) = frame.at::<OuterHdr>(0) else { return false };
    outer.eth.ethertype.get() == ethertype::IPV4
        && outer.ip.protocol == PROTO_UDP
        && outer.udp.dst.get() == abi::VXLAN_PORT
        && outer.vxlan.vni() == Some(probe.vni)
        && is_counted(frame, OUTER_LEN, probe)
}

#[inline(always)]
fn is_counted(frame: &Linear, at: usize, probe: &Probe) -> bool {
    let (Some(eth), Some(udp)) = (frame.at::<EthHdr>(at), frame.at::<UdpHdr>(at + EthHdr::LEN + Ipv4Hdr::LEN)) else {
        return false;
    };
    eth.ethertype.get() == ethertype::IPV4
        && udp.dst.get() == abi::PORT
        && (eth.dst().to_u64() ^ probe.mac) & !probe.any == 0
}

#[inline(always)]
fn count(what: Counter) {
    if let Some(counter) = COUNTS.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's own value; programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
}
