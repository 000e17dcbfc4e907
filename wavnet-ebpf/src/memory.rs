//! Packet memory, in XDP and in TC: what every object needs of it.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_skb_pull_data, bpf_skb_store_bytes, bpf_xdp_adjust_head, bpf_xdp_get_buff_len},
    programs::{TcContext, XdpContext},
};
use wavnet_common::{
    packet::{Extend, FrameMeta, Packet, Rewrite},
    wire::Wire,
};

/// The frame of an XDP program, possibly in several buffers (frags). `DRIVER`: in a driver, so that GRO is still to come.
pub(crate) struct XdpPacket<'a, const DRIVER: bool> {
    pub(crate) ctx: &'a XdpContext,
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

impl<const DRIVER: bool> Rewrite for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn put<T: Wire>(&mut self, offset: usize, header: &T) -> bool {
        let Some(place) = self.at_mut::<T>(offset) else { return false };
        *place = *header;
        true
    }
}

impl<const DRIVER: bool> Extend for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn extend(&mut self, by: usize) -> bool {
        // SAFETY: a valid context; packet pointers are read afresh after each helper call.
        unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(by as i32)) == 0 }
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

/// The frame of a TC program.
pub(crate) struct SkbPacket {
    pub(crate) skb: *mut __sk_buff,
}

impl SkbPacket {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> SkbPacket {
        SkbPacket { skb: ctx.skb.skb }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> &__sk_buff {
        // SAFETY: valid for the program's run.
        unsafe { &*self.skb }
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn start(&self) -> usize {
        self.get().data as usize
    }

    #[inline(always)]
    fn end(&self) -> usize {
        self.get().data_end as usize
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.get().len as usize
    }

    #[inline(always)]
    fn pull(&mut self, len: usize) -> bool {
        // SAFETY: a valid skb; packet pointers are read afresh after each helper call.
        unsafe { bpf_skb_pull_data(self.skb, len as u32) == 0 }
    }
}

impl Rewrite for SkbPacket {
    #[inline(always)]
    fn put<T: Wire>(&mut self, offset: usize, header: &T) -> bool {
        // By the helper, as in `strip`. It keeps right what the NIC has said of the sum of all bytes.
        let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
        let from = core::ptr::from_ref(header).cast();
        // SAFETY: a valid skb, and a header of that length.
        unsafe { bpf_skb_store_bytes(self.skb, offset as u32, from, size_of::<T>() as u32, flags) == 0 }
    }
}

impl Extend for SkbPacket {
    #[inline(always)]
    fn extend(&mut self, _by: usize) -> bool {
        false
    }
}

impl FrameMeta for SkbPacket {
    #[inline(always)]
    fn gso_size(&self) -> usize {
        self.get().gso_size as usize
    }

    #[inline(always)]
    fn gso_segs(&self) -> u64 {
        self.get().gso_segs.into()
    }

    #[inline(always)]
    fn has_meta_tag(&self) -> bool {
        self.get().vlan_present != 0
    }
}
