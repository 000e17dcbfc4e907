//! Packet memory in XDP.

use aya_ebpf::{
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use wavnet_common::packet::{FrameMeta, Packet, Strip};

/// The frame of an XDP program, possibly in several buffers (frags).
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> XdpPacket<'a> {
        XdpPacket { ctx }
    }
}

impl Packet for XdpPacket<'_> {
    #[inline(always)]
    fn start(&self) -> usize {
        self.ctx.data()
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.ctx.data_end()
    }

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: a valid context. data_end - data is the first buffer only.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as usize }
    }

    #[inline(always)]
    fn pull(&mut self, _len: usize) -> bool {
        // Drivers put at least all headers into the first buffer, and there is no helper to ask for more.
        false
    }
}

impl FrameMeta for XdpPacket<'_> {
    #[inline(always)]
    fn gso_size(&self) -> usize {
        0
    }

    #[inline(always)]
    fn gso_segs(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn has_meta_tag(&self) -> bool {
        false
    }
}

impl Strip for XdpPacket<'_> {
    #[inline(always)]
    fn strip(&mut self, outer: usize, inner: usize) -> bool {
        let surplus = self.len() as i64 - (outer + inner) as i64;
        // SAFETY: a valid context; packet pointers are read afresh after each call.
        unsafe {
            if surplus > 0 && bpf_xdp_adjust_tail(self.ctx.ctx, -surplus as i32) != 0 {
                return false;
            }
            bpf_xdp_adjust_head(self.ctx.ctx, outer as i32) == 0
        }
    }

    #[inline(always)]
    fn is_tcp_super_packet(&mut self) -> bool {
        // Super-packets are made behind XDP.
        false
    }
}
