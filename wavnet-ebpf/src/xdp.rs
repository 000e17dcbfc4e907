//! What can be done with a frame in XDP.

use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_load_bytes,
};
use wavnet_common::{
    datapath::Note,
    packet::{Grow, HandOver, NotHandedOver, Packet, Seal, Strip, Sum},
    reason::Reason,
};

use crate::{maps, memory::XdpPacket};

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
        // Metadata of a driver's own would move along with the front of the frame, over what may have to be restored.
        if !DRIVER || self.ctx.metadata() < self.ctx.data() {
            return Err(NotHandedOver::Unable);
        }
        let lost = NotHandedOver::Lost(Reason::Rewrite);
        if !self.strip(outer, inner) {
            return Err(lost);
        }
        // Afterwards: whatever moves the front of a frame has to copy its metadata along.
        // SAFETY: a valid context.
        if unsafe { bpf_xdp_adjust_meta(self.ctx.ctx, -(Note::LEN as i32)) } != 0 {
            // Some drivers keep none. What was cut off in front is still there.
            // SAFETY: a valid context.
            let restored = unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(outer as i32)) } == 0;
            return Err(if restored { NotHandedOver::Unable } else { lost });
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

impl<const DRIVER: bool> Grow for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn grow(&mut self, outer: usize, _flow: u32) -> Result<(), Reason> {
        // SAFETY: a valid context.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(outer as i32)) } == 0 { Ok(()) } else { Err(Reason::Rewrite) }
    }
}

/// Where a datagram is laid to be summed: the helper that sums wants memory, not a packet.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct Scratch([u8; Scratch::LEN]);

impl Scratch {
    /// The longest datagram, and room to fill up its last word.
    const LEN: usize = Scratch::LONGEST + 1 + 8;
    const LONGEST: usize = <XdpPacket<'static, true> as Sum>::LONGEST;
    /// What the helper sums at once, on kernels before 6.13.
    const PIECE: usize = 512;
}

impl<const DRIVER: bool> Sum for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn sum(&mut self, offset: usize, len: usize) -> Option<u32> {
        // The verifier follows a mask, not a comparison that the compiler may move.
        let len = core::hint::black_box(len) & Scratch::LONGEST;
        let scratch = maps::SCRATCH.get_ptr_mut(0)?.cast::<u8>();
        // SAFETY: `len` is less than the scratch has; it is this CPU's own.
        unsafe {
            if len == 0 || bpf_xdp_load_bytes(self.ctx.ctx, offset as u32, scratch.cast(), len as u32) != 0 {
                return None;
            }
            // Zeros up to the end of the last word.
            scratch.add(len).cast::<u32>().write_unaligned(0);
        }
        let mut sum = 0;
        for piece in 0..Scratch::LEN / Scratch::PIECE {
            let at = piece * Scratch::PIECE;
            if len > at {
                let rest = core::hint::black_box(len - at + 3) & 0xffc;
                let rest = if rest > Scratch::PIECE { Scratch::PIECE } else { rest };
                // SAFETY: within the scratch: `at + rest` is at the most `len + 3`.
                sum =
                    unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, scratch.add(at).cast(), rest as u32, sum as u32) };
                if sum < 0 {
                    return None;
                }
            }
        }
        Some(sum as u32)
    }

    #[inline(always)]
    fn is_raw(&mut self) -> bool {
        // A packet that the kernel has made for generic XDP has the least headroom that XDP may count on; a frame that a tap's owner
        // wrote has more.
        const MOST_OF_A_PACKETS_HEADROOM: i32 = 256;
        // SAFETY: a valid context.
        unsafe {
            bpf_xdp_adjust_head(self.ctx.ctx, -MOST_OF_A_PACKETS_HEADROOM) == 0
                && bpf_xdp_adjust_head(self.ctx.ctx, MOST_OF_A_PACKETS_HEADROOM) == 0
        }
    }
}

impl<const DRIVER: bool> Seal for XdpPacket<'_, DRIVER> {
    #[inline(always)]
    fn seal(&mut self, seal: u32) -> Result<bool, Reason> {
        /// ENOTSUPP, which only the kernel knows. A tap's driver says so before Linux 6.15, generic XDP never.
        const KEEPS_NONE: i64 = -524;
        // SAFETY: a valid context.
        match unsafe { bpf_xdp_adjust_meta(self.ctx.ctx, -SEAL_LEN) } {
            0 => {}
            KEEPS_NONE => return Ok(false),
            _ => return Err(Reason::Rewrite),
        }
        let at = self.ctx.metadata();
        if at + SEAL_LEN as usize > self.ctx.data() {
            return Err(Reason::Rewrite);
        }
        // SAFETY: between metadata and data by the check above.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(at).write_unaligned(seal) };
        Ok(true)
    }

    #[inline(always)]
    fn unseal(&mut self) -> Option<u32> {
        let at = self.ctx.metadata();
        if at + SEAL_LEN as usize > self.ctx.data() {
            return None;
        }
        // SAFETY: as in `seal`.
        let seal = unsafe { core::ptr::with_exposed_provenance::<u32>(at).read_unaligned() };
        // SAFETY: a valid context.
        if unsafe { bpf_xdp_adjust_meta(self.ctx.ctx, SEAL_LEN) } == 0 { Some(seal) } else { None }
    }
}

/// Bytes of a seal.
const SEAL_LEN: i32 = size_of::<u32>() as i32;
