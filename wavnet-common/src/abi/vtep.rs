//! How peers are reached.

use super::Plain;
use crate::addr::{Label, PeerId};

/// Bits of [`Vtep::flags`].
pub struct VtepFlags;

impl VtepFlags {
    /// The slot is in use.
    pub const USED: u32 = 1;
    /// By a peer that was not configured by its address; `VTEP_IDS` says by whom.
    pub const DYNAMIC: u32 = 1 << 1;
    /// Frames may have to be held back: `HOLDS` says whether.
    pub const HELD: u32 = 1 << 2;
}

/// Where a VTEP is, and how the NATs and relays on the way want to have its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Outer destination address, wire order: the peer's, that of its NAT, or a relay's.
    pub addr: [u8; 4],
    /// Outer destination UDP port.
    pub port: u16,
    /// Outer source UDP port, where a NAT must always see the same; `None`: one for each flow (RFC 7348 section 5).
    pub source_port: Option<u16>,
    /// Label, on the way to a relay.
    pub label: Label,
}

impl Endpoint {
    /// Nowhere.
    pub const NONE: Endpoint = Endpoint::plain([0; 4], 0);

    /// A VTEP with an address of its own.
    #[must_use]
    pub const fn plain(addr: [u8; 4], port: u16) -> Endpoint {
        Endpoint { addr, port, source_port: None, label: Label::ZERO }
    }
}

/// How to reach a VTEP, as the agent finds it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface to send on; zero: there is no route.
    pub ifindex: u32,
    /// Longest inner frame (with tags, without FCS) that fits the route's MTU in one piece.
    pub max_inner: u32,
    /// Link address of the next hop; zero: not resolved.
    pub dst_mac: [u8; 6],
    /// Link address of the interface.
    pub src_mac: [u8; 6],
    /// Outer source address, wire order.
    pub src_v4: [u8; 4],
    /// [`HopFlags`].
    pub flags: u32,
}

/// Bits of [`NextHop::flags`].
pub struct HopFlags;

impl HopFlags {
    /// The interface takes frames that XDP redirects to it.
    pub const XDP: u32 = 1;
}

impl NextHop {
    /// No route.
    pub const NONE: NextHop =
        NextHop { ifindex: 0, max_inner: 0, dst_mac: [0; 6], src_mac: [0; 6], src_v4: [0; 4], flags: 0 };
}

/// How to reach a VTEP, as the programs use it: the outer header is there but for what differs from frame to frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// [`NextHop::ifindex`].
    pub ifindex: u32,
    /// [`NextHop::max_inner`].
    pub max_inner: u32,
    /// [`HopFlags`].
    pub flags: u32,
    /// The bits of the outer source port that differ from flow to flow; zero where the header has a port that all of them share.
    pub flow_bits: u32,
    /// The first 48 bytes of the outer header, in memory order, made by [`Hop::new`].
    pub header: [u64; 6],
}

impl Hop {
    /// No route.
    pub const NONE: Hop = Hop { ifindex: 0, max_inner: 0, flags: 0, flow_bits: 0, header: [0; 6] };
    const MAC: u64 = u64::MAX >> 16;

    /// True when the link address is known.
    #[inline(always)]
    #[must_use]
    pub const fn is_resolved(&self) -> bool {
        self.header[0] & Hop::MAC != 0
    }
}

/// `VTEPS[i]`: a peer.
///
/// The kernel reads [`Vtep::half`] once per frame and then that half of `hops`, in which is all that a frame to it depends on. The agent
/// changes the other half first and this word afterwards, in two updates, so that no frame sees half of a change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Which of `hops` is in force: 0 or 1.
    pub half: u32,
    /// [`VtepFlags`].
    pub flags: u32,
    /// Both halves.
    pub hops: [Hop; 2],
}

impl Vtep {
    /// A free slot.
    pub const FREE: Vtep = Vtep { half: 0, flags: 0, hops: [Hop::NONE; 2] };

    /// True if all of the flags are set.
    #[must_use]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

const _: () = {
    assert!(size_of::<Hop>() == 64);
    assert!(size_of::<Vtep>() == 136);
    assert!(size_of::<PeerId>() == 32);
};

// SAFETY: repr(C) of integers and arrays of them, without padding (sizes asserted above).
unsafe impl Plain for Hop {}
// SAFETY: as above.
unsafe impl Plain for Vtep {}
// SAFETY: repr(transparent) of bytes.
unsafe impl Plain for PeerId {}
