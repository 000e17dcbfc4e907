//! Packet memory in XDP.

use aya_ebpf::{
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};
use wavnet_common::{
    datapath::Note,
    packet::{FrameMeta, HandOver, NotHandedOver, Packet, Strip},
    reason::Reason,
};

/// The frame of an XDP program, possibly in several buffers (frags). `DRIVER`: in a driver, so that GRO is still to come.
pub(crate) struct XdpPacket<'a, const DRIVER: bool> {
    ctx: &'a XdpContext,
}

impl<'a, const DRIVER: bool> XdpPacket<'a, DRIVER> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> XdpPacket<'a, DRIVER> {
        XdpPacket { ctx }
    }
}

impl<const DRIVER: bool> Packet for XdpPacket<'_, DRIVER> {
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

impl<const DRIVER: bool> FrameMeta for XdpPacket<'_, DRIVER> {
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

impl<const DRIVER: bool> Strip for XdpPacket<'_, DRIVER> {
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

impl<const DRIVER: bool> HandOver for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn hand_over(&mut self, outer: usize, inner: usize, note: &Note) -> Result<(), NotHandedOver> {
        // First, as some drivers keep none; it moves along with the front of the frame.
        // SAFETY: a valid context.
        if !DRIVER || unsafe { bpf_xdp_adjust_meta(self.ctx.ctx, -(Note::LEN as i32)) } != 0 {
            return Err(NotHandedOver::Unable);
        }
        let lost = NotHandedOver::Lost(Reason::Rewrite);
        if !self.strip(outer, inner) {
            return Err(lost);
        }
        let at = self.ctx.metadata();
        if at + Note::LEN > self.ctx.data() {
            return Err(lost);
        }
        // SAFETY: between metadata and data by the check above; alignment 1.
        unsafe { *core::ptr::with_exposed_provenance_mut::<Note>(at) = *note };
        Ok(())
    }
}
