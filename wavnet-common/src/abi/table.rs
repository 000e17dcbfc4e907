//! Types of the tables that the agent writes.

use core::fmt;

use super::{Plain, size};
use crate::wire::be::load32;

/// `META[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// [`super::ABI_VERSION`] of the writer; zero in a map nobody has filled.
    pub abi_version: u32,
    /// Zero.
    pub reserved: u32,
    /// CLOCK_REALTIME nanoseconds when the maps were created: since when the counters count.
    pub created_ns: u64,
    /// Random: hashes of what tenants choose begin with it, so that none can find out whose entries or frames its own would meet. It
    /// is the same as long as the maps live.
    pub seed: u64,
}

impl Meta {
    /// Maps that nobody has filled.
    pub const UNWRITTEN: Meta = Meta { abi_version: 0, reserved: 0, created_ns: 0, seed: 0 };

    /// What the programs know their own notes by (see [`crate::datapath::Note`]): the same as long as the maps live.
    #[must_use]
    pub const fn cookie(&self) -> u32 {
        (self.created_ns ^ self.created_ns >> 32) as u32
    }
}

/// `CONFIG[0]`: what this host's VTEP is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our outer IPv4 address, wire order; zero: no address, everything passes untouched.
    pub local_v4: [u8; 4],
    /// Our UDP port (4789 by IANA), wire order.
    pub udp_port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
}

/// `HEARTBEAT[0]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// CLOCK_MONOTONIC nanoseconds. Older than [`Heartbeat::FRESH_NS`]: the agent is gone, and next hops may be out of date.
    pub at_ns: u64,
}

impl Heartbeat {
    /// How long a heartbeat counts, nanoseconds.
    pub const FRESH_NS: u64 = 3_000_000_000;
    /// How often the agent writes it, milliseconds.
    pub const PERIOD_MS: u64 = 500;
}

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

/// Key of `MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberKey {
    /// The VNI.
    pub vni: u32,
    /// The peer's outer IPv4 address, wire order.
    pub addr: [u8; 4],
}

impl MemberKey {
    /// Keeps the key from being zero.
    const TAG: u64 = 1 << 63;

    /// The key as it stands in a bucket: the address, the VNI's lower byte, and, beyond the bit that is not for keys, its other two.
    #[inline(always)]
    #[must_use]
    pub fn to_word(self) -> u64 {
        let vni = u64::from(self.vni);
        MemberKey::TAG | (vni >> 8) << 41 | (vni & 0xff) << 32 | u64::from(load32(&self.addr))
    }

    /// The other way round.
    #[must_use]
    pub const fn from_word(word: u64) -> MemberKey {
        let vni = (word >> 41) as u32 & 0xffff;
        MemberKey { vni: vni << 8 | (word >> 32) as u32 & 0xff, addr: (word as u32).to_ne_bytes() }
    }
}

/// Value of `MEMBERS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The VNI of the key, again: the CPU may read the value of an entry that has taken this one's place.
    pub vni: u32,
    /// Index in `VNIS`.
    pub vni_index: u16,
    /// Index in `VTEPS`.
    pub vtep_index: u16,
    /// False if the VNI does not learn from data.
    pub learns: bool,
}

impl Member {
    const FIXED: u64 = 1 << 57;

    /// The value as it stands in a bucket.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        let fixed = if self.learns { 0 } else { Member::FIXED };
        fixed | (self.vtep_index as u64) << 40 | (self.vni_index as u64) << 24 | self.vni as u64
    }

    /// The other way round.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Member {
        Member {
            vni: word as u32 & 0x00ff_ffff,
            vni_index: (word >> 24) as u16,
            vtep_index: (word >> 40) as u16,
            learns: word & Member::FIXED == 0,
        }
    }
}

/// Bits of [`Vtep::flags`].
pub struct VtepFlags;

impl VtepFlags {
    /// The slot is in use.
    pub const USED: u32 = 1;
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
    /// Zero.
    pub reserved: u32,
    /// The first 48 bytes of the outer header, in memory order, made by [`Hop::new`].
    pub header: [u64; 6],
}

impl Hop {
    /// No route.
    pub const NONE: Hop = Hop { ifindex: 0, max_inner: 0, flags: 0, reserved: 0, header: [0; 6] };
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
/// The kernel reads [`Vtep::half`] once per frame and then that half of `hops`. The agent changes the other half first and
/// this word afterwards, in two updates, so that no frame sees half of a change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Which of `hops` is in force: 0 or 1.
    pub half: u32,
    /// [`VtepFlags`].
    pub flags: u32,
    /// Outer destination address, wire order.
    pub addr: [u8; 4],
    /// Outer destination UDP port, wire order.
    pub udp_port: [u8; 2],
    /// Zero.
    pub reserved: [u8; 2],
    /// Both halves.
    pub hops: [Hop; 2],
}

impl Vtep {
    /// A free slot.
    pub const FREE: Vtep =
        Vtep { half: 0, flags: 0, addr: [0; 4], udp_port: [0; 2], reserved: [0; 2], hops: [Hop::NONE; 2] };
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

/// `FDB[i]`, `MEMBERS[i]`, `PORT_OF_IFINDEX[i]`: four entries in one cache line; see `buckets` for the meaning of the words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// `{key, value}` pairs.
    pub words: [u64; 8],
}

const _: () = {
    assert!(size_of::<Meta>() == 24);
    assert!(size_of::<Config>() == 8);
    assert!(size_of::<Port>() == 16);
    assert!(size_of::<Hop>() == 64);
    assert!(size_of::<Vtep>() == 144);
    assert!(size_of::<FloodSet>() == 8 + 2 * (size::FLOOD_VTEPS + size::FLOOD_PORTS));
    assert!(size_of::<Bucket>() == 64);
};

macro_rules! plain {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: repr(C) of integers and arrays of them, without padding (sizes asserted above).
        unsafe impl Plain for $t {}
    )+};
}

plain!(Meta, Config, Heartbeat, Port, VniEntry, Hop, Vtep, FloodSet, Bucket);
