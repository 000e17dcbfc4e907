//! What can be done with a frame in TC.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_loop, bpf_set_hash, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_tail,
        bpf_skb_store_bytes, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    },
};
use wavnet_common::{
    datapath::{Note, errand},
    packet::{AsIpv4, Copies, FrameMeta, Grow, Noted, Packet, Strip},
    reason::Reason,
    wire::{
        Be16, EthHdr,
        ethernet::{TAG_LEN, ethertype},
    },
};

use crate::{log, memory::SkbPacket};

/// Ethernet frames are padded to this length (without FCS).
const MIN_FRAME: usize = 60;
/// What the kernel says of a super-packet that is tunnelled already.
const EALREADY: i64 = -114;
/// Tags that [`Grow`] can put back into the frame.
const MAX_TAGS: usize = 2;

impl Noted for SkbPacket {
    #[inline(always)]
    fn note(&self) -> Option<Note> {
        let at = self.get().data_meta as usize;
        if at + Note::LEN > self.start() {
            return None;
        }
        // SAFETY: between metadata and data by the check above; alignment 1, any bytes are a note.
        Some(unsafe { *core::ptr::with_exposed_provenance::<Note>(at) })
    }
}

impl Strip for SkbPacket {
    #[inline(always)]
    fn strip(&mut self, outer: usize, inner: usize) -> bool {
        let end = outer + inner;
        // What follows the datagram is the underlay's padding, not for a tenant to see: cut before padding with zeros.
        if self.len() > end && self.gso_size() == 0 && !self.change_tail(end) {
            return false;
        }
        // `adjust_room` wants an IPv4 header's length behind the link header even when something shorter follows: pad what no
        // Ethernet would carry unpadded anyway.
        if inner < MIN_FRAME && !self.change_tail(outer + MIN_FRAME) {
            return false;
        }
        // The inner Ethernet header becomes the frame's: `adjust_room` keeps the outer one and cuts what follows it.
        let Some(eth) = self.at::<EthHdr>(outer) else { return false };
        let eth = *eth;
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: a valid skb.
        if unsafe { bpf_skb_adjust_room(self.skb, -(outer as i32), BPF_ADJ_ROOM_MAC, flags) } != 0 {
            return false;
        }
        // By the helper: in a program that writes to packets itself the kernel first makes a copy of what somebody else has, too (a
        // capture on the NIC), and a copy has lost the note.
        // SAFETY: a valid skb, and a header of that length.
        if unsafe { bpf_skb_store_bytes(self.skb, 0, (&raw const eth).cast(), EthHdr::LEN as u32, 0) } != 0 {
            return false;
        }
        // A super-packet is segmented by what the kernel takes it for, which is IPv4 still. What carries an ordinary frame to its
        // port does not ask.
        self.gso_size() == 0 || self.get().protocol == u32::from(eth.ethertype.raw()) || self.retake_protocol()
    }

    #[inline(always)]
    fn is_tcp_super_packet(&mut self) -> bool {
        // No field of the context has the type. But room is made, be it none, in super-packets of TCP only unless the size of their
        // segments is to stay as it is.
        // SAFETY: a valid skb.
        self.gso_size() != 0 && unsafe { bpf_skb_adjust_room(self.skb, 0, BPF_ADJ_ROOM_MAC, 0) } == 0
    }
}

impl Grow for SkbPacket {
    #[inline(always)]
    fn grow(&mut self, outer: usize, flow: u32) -> Result<(), Reason> {
        // SAFETY: a valid skb. It refuses nothing.
        unsafe { bpf_set_hash(self.skb, flow) };
        let mut eth = *self.at::<EthHdr>(0).ok_or(Reason::InnerTruncated)?;
        let (tags, count) = self.pop_tags(&mut eth)?;
        let room = outer + count * TAG_LEN;
        if self.gso_size() != 0 {
            self.make_tunnel_room(room, EthHdr::LEN + count * TAG_LEN)?;
        // SAFETY: a valid skb.
        } else if unsafe { bpf_skb_change_head(self.skb, room as u32, 0) } != 0 {
            return Err(Reason::Rewrite);
        } else if count == 0 {
            return Ok(());
        }
        self.write_inner(outer, &eth, &tags, count)
    }
}

impl AsIpv4 for SkbPacket {
    #[inline(always)]
    fn become_ipv4(&mut self) -> bool {
        const IPV4: u32 = (ethertype::IPV4.to_be()) as u32;
        self.get().protocol == IPV4 || self.retake_protocol()
    }
}

/// Tags as they stand on the wire: {TPID, TCI} each.
type Tags = [[Be16; 2]; MAX_TAGS];

impl SkbPacket {
    #[inline(always)]
    fn set_mark(&mut self, mark: u32) {
        // SAFETY: valid for the program's run; the verifier lets TC write this field.
        unsafe { (*self.skb).mark = mark }
    }

    /// Has the kernel take the packet for what its link header says. A tag in the data ends up beside it. `false`: refused.
    #[inline(always)]
    fn retake_protocol(&mut self) -> bool {
        const TPID: u16 = ethertype::VLAN.to_be();
        // No helper sets the protocol, but taking a tag out of the data does, to the ethertype behind the tag. The first tag
        // stays beside the data until the second pushes it in; popping the second takes the first out again, beside the data;
        // popping that leaves the packet as it was, but for the protocol.
        // SAFETY: a valid skb.
        unsafe {
            bpf_skb_vlan_push(self.skb, TPID, 1) == 0
                && bpf_skb_vlan_push(self.skb, TPID, 1) == 0
                && bpf_skb_vlan_pop(self.skb) == 0
                && bpf_skb_vlan_pop(self.skb) == 0
        }
    }

    /// Cuts the frame to a length, or fills it up with zeros.
    #[inline(always)]
    fn change_tail(&mut self, len: usize) -> bool {
        // SAFETY: a valid skb.
        unsafe { bpf_skb_change_tail(self.skb, len as u32, 0) == 0 }
    }

    /// Takes the tags out of the kernel's keeping; `eth` gets the ethertype behind them. Popping one tag makes the kernel take the
    /// next one out of the data.
    #[inline(always)]
    fn pop_tags(&mut self, eth: &mut EthHdr) -> Result<(Tags, usize), Reason> {
        let mut tags = [[Be16([0; 2]); 2]; MAX_TAGS];
        let mut count = 0;
        while count < MAX_TAGS && self.has_meta_tag() {
            let skb = self.get();
            tags[count] = [Be16((skb.vlan_proto as u16).to_ne_bytes()), Be16::new(skb.vlan_tci as u16)];
            // SAFETY: a valid skb.
            if unsafe { bpf_skb_vlan_pop(self.skb) } != 0 {
                return Err(Reason::Rewrite);
            }
            count += 1;
        }
        if count != 0 {
            if self.has_meta_tag() {
                return Err(Reason::VlanStack);
            }
            *eth = *self.at::<EthHdr>(0).ok_or(Reason::InnerTruncated)?;
        }
        Ok((tags, count))
    }

    /// Room behind the link header, and word to the kernel that it is a tunnel: super-packets are then segmented right.
    #[inline(always)]
    fn make_tunnel_room(&mut self, room: usize, inner_l2: usize) -> Result<(), Reason> {
        let flags = u64::from(
            BPF_F_ADJ_ROOM_FIXED_GSO
                | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
                | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
                | BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
        ) | (inner_l2 as u64) << 56;
        // SAFETY: a valid skb.
        match unsafe { bpf_skb_adjust_room(self.skb, room as i32, BPF_ADJ_ROOM_MAC, flags) } {
            0 => Ok(()),
            EALREADY => Err(Reason::NestedTunnel),
            _ => Err(Reason::Rewrite),
        }
    }

    /// The inner Ethernet header with its tags behind the outer header.
    #[inline(always)]
    fn write_inner(&mut self, at: usize, eth: &EthHdr, tags: &Tags, count: usize) -> Result<(), Reason> {
        *self.at_mut::<[u8; 6]>(at).ok_or(Reason::Rewrite)? = eth.dst;
        *self.at_mut::<[u8; 6]>(at + 6).ok_or(Reason::Rewrite)? = eth.src;
        let mut next = at + 12;
        for (i, tag) in tags.iter().enumerate() {
            if i < count {
                *self.at_mut::<Be16>(next).ok_or(Reason::Rewrite)? = tag[0];
                *self.at_mut::<Be16>(next + 2).ok_or(Reason::Rewrite)? = tag[1];
                next += TAG_LEN;
            }
        }
        *self.at_mut::<Be16>(next).ok_or(Reason::Rewrite)? = eth.ethertype;
        Ok(())
    }
}

impl Copies for SkbPacket {
    #[inline(always)]
    fn copy_to(&mut self, ifindex: u32) -> bool {
        // SAFETY: a valid skb.
        let sent = unsafe { bpf_clone_redirect(self.skb, ifindex, 0) } == 0;
        if !sent {
            log::refused(ifindex);
        }
        sent
    }

    #[inline(always)]
    fn send_on_errand(&mut self, ifindex: u32, vtep_index: u16) -> bool {
        let mark = self.get().mark;
        self.set_mark(errand::mark(vtep_index));
        // SAFETY: a valid skb.
        let sent = unsafe { bpf_clone_redirect(self.skb, ifindex, BPF_F_INGRESS.into()) } == 0;
        self.set_mark(mark);
        if !sent {
            log::refused(ifindex);
        }
        sent
    }

    #[inline(always)]
    fn errand(&self) -> Option<u16> {
        errand::vtep(self.get().mark)
    }

    #[inline(always)]
    fn end_errand(&mut self) {
        self.set_mark(0);
    }

    #[inline(always)]
    fn repeat<F: FnMut(u32) -> bool>(n: u32, mut body: F) {
        // SAFETY: `step::<F>` gets back the very pointer given here, during the call.
        unsafe { bpf_loop(n, step::<F> as *mut c_void, (&raw mut body).cast(), 0) };
    }
}

/// One round of `bpf_loop`: 0 goes on, 1 ends.
unsafe extern "C" fn step<F: FnMut(u32) -> bool>(i: u32, body: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes a pointer to its `F`.
    let body = unsafe { &mut *body.cast::<F>() };
    if body(i) { 0 } else { 1 }
}
