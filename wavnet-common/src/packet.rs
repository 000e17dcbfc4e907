//! Packet memory: the traits that XDP, TC and the test support's buffer implement.

use crate::{datapath::Note, reason::Reason, wire::Wire};

/// A packet whose headers can be read and changed, and whose front can grow and shrink.
///
/// Reads are of constant-size header types only: in the kernel every access is one bounds check that the verifier understands.
/// Only the linear part can be read; [`Packet::len`] counts everything.
pub trait Packet {
    /// Address of the first byte.
    fn start(&self) -> usize;

    /// Address behind the last byte that can be read directly.
    fn end(&self) -> usize;

    /// Bytes of the whole frame, with paged parts, without VLAN tags that are kept beside the data.
    fn len(&self) -> usize;

    /// True when there is no byte at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A header at an offset, or `None` if it reaches past the end.
    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        let at = self.start() + offset;
        if at + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: within the packet by the check above; `Wire` types have alignment 1 and no invalid patterns.
        Some(unsafe { &*core::ptr::with_exposed_provenance(at) })
    }

    /// A header at an offset, for writing.
    #[inline(always)]
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        let at = self.start() + offset;
        if at + size_of::<T>() > self.end() {
            return None;
        }
        // SAFETY: as in `at`; `&mut self` makes the access exclusive.
        Some(unsafe { &mut *core::ptr::with_exposed_provenance_mut(at) })
    }

    /// True if a part of the frame cannot be read directly.
    fn is_paged(&self) -> bool {
        self.len() > self.end() - self.start()
    }

    /// Makes the first `len` bytes readable if they are not (paged data). `false`: the packet is shorter, or no memory.
    fn pull(&mut self, len: usize) -> bool;
}

/// A packet whose headers can be changed in place, whoever else sees it.
pub trait Rewrite: Packet {
    /// Writes a header at an offset. `false`: refused, or it reaches past the end.
    fn put<T: Wire>(&mut self, offset: usize, header: &T) -> bool;
}

/// A frame in XDP that can begin further in front.
pub trait Extend: Packet {
    /// Puts so many bytes in front of the frame, for `at_mut` to write. `false`: refused, and it is as it was.
    fn extend(&mut self, by: usize) -> bool;
}

/// Facts beside the data that a frame from a VM may carry: offloads and VLAN tags that the kernel keeps out of band.
pub trait FrameMeta {
    /// Payload bytes per segment of a super-packet (GSO); zero for an ordinary frame.
    fn gso_size(&self) -> usize;

    /// Segments of a super-packet; zero if nobody has counted them, as for frames that a tap's owner wrote.
    fn gso_segs(&self) -> u64;

    /// Frames that a super-packet with `headers` bytes before its payload stands for; one for an ordinary frame.
    #[inline(always)]
    fn frames(&self, len: usize, headers: usize) -> u64 {
        match (self.gso_size(), self.gso_segs()) {
            (0, _) => 1,
            (size, 0) => (len.saturating_sub(headers) as u64).div_ceil(size as u64).max(1),
            (_, segments) => segments,
        }
    }

    /// True when a VLAN tag is kept beside the data.
    fn has_meta_tag(&self) -> bool;
}

/// A packet that can lose its outer headers.
pub trait Strip: Packet {
    /// Removes the first `outer` bytes and everything behind `outer + inner`. `false`: refused; the packet is as it was or unusable.
    fn strip(&mut self, outer: usize, inner: usize) -> bool;

    /// True for a super-packet whose segments are TCP's, false for one of datagrams. The packet's type says so, not its bytes, which
    /// anybody may have written.
    fn is_tcp_super_packet(&mut self) -> bool;
}

/// Why a frame was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotHandedOver {
    /// Nothing here keeps notes. The frame is as it was.
    Unable,
    /// The frame is of no more use.
    Lost(Reason),
}

/// A frame in XDP that can be passed up without its outer headers, with a note for TC.
pub trait HandOver: Packet {
    /// Removes the first `outer` bytes and everything behind `outer + inner`, and puts a note beside the frame.
    fn hand_over(&mut self, outer: usize, inner: usize, note: &Note) -> Result<(), NotHandedOver>;
}

/// A frame in XDP whose checksums can be computed.
pub trait Sum: Packet {
    /// Bytes that are summed at the most: what fits one buffer. All ones in binary, as the verifier follows a mask.
    const LONGEST: usize = 2047;

    /// The one's complement sum of `len` bytes (1 to [`Sum::LONGEST`]) from `offset`, in memory order, not folded yet. `None`: they are
    /// not there.
    fn sum(&mut self, offset: usize, len: usize) -> Option<u32>;

    /// False if there is more than the bytes for sure. A tap gives XDP some frames as packets, with a checksum to be computed noted
    /// beside them (generic XDP).
    fn is_raw(&mut self) -> bool;
}

/// A frame in XDP whose bytes are all there is only if a seal on it lasts: a redirect keeps what is put beside a driver's frame, and
/// not what is put beside a packet of the kernel's.
pub trait Seal {
    /// Puts a seal beside the frame. `false`: the driver keeps none, which no packet's way to XDP says; so it is a driver's frame.
    fn seal(&mut self, seal: u32) -> Result<bool, Reason>;

    /// Takes the seal off, if there is one.
    fn unseal(&mut self) -> Option<u32>;
}

/// A frame in TC that may have a note from XDP.
pub trait Noted {
    /// The note, whoever wrote it.
    fn note(&self) -> Option<Note>;
}

/// A packet that can get outer headers.
pub trait Grow: Packet {
    /// Puts `outer` bytes in front; the old frame follows, with the VLAN tags that were kept beside the data. Of super-packets the
    /// kernel is told that the new bytes will be Ethernet, IPv4, UDP and VXLAN, so that it can segment them; and of all packets that
    /// have a place for it, the flow's hash, so that it chooses the queue to send on without reading headers.
    fn grow(&mut self, outer: usize, flow: u32) -> Result<(), Reason>;
}

/// A packet that can be given to the kernel's own neighbour output.
pub trait AsIpv4 {
    /// Makes the kernel take the packet for IPv4, which its link header says already. `false`: refused.
    fn become_ipv4(&mut self) -> bool;
}

/// A packet of which copies can be sent.
pub trait Copies: Packet {
    /// Sends a copy out of an interface. `false`: refused.
    fn copy_to(&mut self, ifindex: u32) -> bool;

    /// Has a copy come in again by an interface, with an errand: this VTEP alone shall get it. `false`: refused.
    ///
    /// For what can be done with a frame but not with a clone of it: handing it to the kernel's neighbour output.
    fn send_on_errand(&mut self, ifindex: u32, vtep_index: u16) -> bool;

    /// The errand that the packet is on.
    fn errand(&self) -> Option<u16>;

    /// Makes it an ordinary packet, for whatever is behind us.
    fn end_errand(&mut self);

    /// Calls `body` for 0 to `n - 1`, until it says `false`.
    fn repeat<F: FnMut(u32) -> bool>(n: u32, body: F);
}
