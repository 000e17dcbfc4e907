//! Types of further tables that the agent writes: ports, VNIs, flood sets, buckets.

use core::fmt;

use super::{Plain, size};

/// Bits of [`Port::flags`].
pub struct PortFlags;

impl PortFlags {
    /// The slot is in use.
    pub const USED: u16 = 1;
    /// Drop inner frames that carry a VLAN tag, both ways (RFC 7348 section 6.1).
    pub const VLAN_DISCARD: u16 = 1 << 1;
    /// XDP cannot redirect to this device (a veth whose other end has no NAPI): deliver in TC.
    pub const DELIVER_TC: u16 = 1 << 2;
    /// XDP cannot redirect frames in several buffers to this device (a tap): deliver those in TC.
    pub const ONE_BUFFER: u16 = 1 << 3;
    /// The interface is administratively down: what is sent to it would vanish uncounted.
    pub const DOWN: u16 = 1 << 4;
    /// The port has an XDP program, too.
    pub const XDP: u16 = 1 << 5;
    /// The VM may send super-packets of datagrams, which XDP cannot tell from frames with a checksum to be completed.
    pub const DATAGRAM_GSO: u16 = 1 << 6;
    /// A tap: XDP sees frames of user space before the kernel has made packets of them, and some after.
    pub const TAP: u16 = 1 << 7;
    /// The VNI does not learn from data.
    pub const NO_LEARNING: u16 = 1 << 8;
    /// The agent chooses by what the VM sends whether the port has XDP, and wants that counted ([`super::Mix`]).
    pub const ADAPTIVE: u16 = 1 << 9;
}

/// `PORTS[i]`: a tap or veth that belongs to a VM or container.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Interface index; zero: the slot is free.
    pub ifindex: u32,
    /// The VNI, 24 bits.
    pub vni: u32,
    /// Index of the VNI in `VNIS`.
    pub vni_index: u16,
    /// [`PortFlags`].
    pub flags: u16,
    /// Longest frame, without VLAN tags and FCS, that the port takes: its MTU + 14.
    pub max_frame: u32,
}

impl Port {
    /// A free slot. Its VNI index is nobody's, so that a slot that is read while it is written matches no frame.
    pub const FREE: Port = Port { ifindex: 0, vni: 0, vni_index: u16::MAX, flags: 0, max_frame: 0 };
}

/// `VNIS[i]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniEntry {
    /// The VNI; zero: the slot is free.
    pub vni: u32,
    /// Which of the two halves in `FLOODS` is in force: 0 or 1. The agent fills the other one, then changes this word.
    pub flood_half: u32,
}

/// `FLOODS[2 * vni_index + half]`: who gets broadcast, unknown unicast and multicast frames of a VNI.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FloodSet {
    /// How many of `vteps` count.
    pub vtep_count: u32,
    /// How many of `ports` count.
    pub port_count: u32,
    /// Indices in `VTEPS`.
    pub vteps: [u16; size::FLOOD_VTEPS],
    /// Indices in `PORTS`.
    pub ports: [u16; size::FLOOD_PORTS],
}

impl FloodSet {
    /// Nobody.
    pub const EMPTY: FloodSet =
        FloodSet { vtep_count: 0, port_count: 0, vteps: [0; size::FLOOD_VTEPS], ports: [0; size::FLOOD_PORTS] };
}

/// Only what counts: the rest would bury every other word of a log.
impl fmt::Debug for FloodSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FloodSet")
            .field("vteps", &self.vteps.get(..self.vteps.len().min(self.vtep_count as usize)).unwrap_or_default())
            .field("ports", &self.ports.get(..self.ports.len().min(self.port_count as usize)).unwrap_or_default())
            .finish()
    }
}

/// `FDB[i]`, `MEMBERS[i]`, `PORT_OF_IFINDEX[i]`, `PATH_OF_SOURCE[i]`: four entries in one cache line; see `buckets` for the meaning of the words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `{key, value}` pairs.
    pub words: [u64; 8],
}

const _: () = {
    assert!(size_of::<Port>() == 16);
    assert!(size_of::<FloodSet>() == 8 + 2 * (size::FLOOD_VTEPS + size::FLOOD_PORTS));
    assert!(size_of::<Bucket>() == 64);
};

macro_rules! plain {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: repr(C) of integers and arrays of them, without padding (sizes asserted above).
        unsafe impl Plain for $t {}
    )+};
}

plain!(Port, VniEntry, FloodSet, Bucket);
