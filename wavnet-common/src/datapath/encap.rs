//! The outer header: Ethernet, IPv4, UDP, VXLAN.

use crate::{
    abi::Hop,
    packet::Packet,
    wire::{
        EthHdr, Ipv4Hdr, UdpHdr, VxlanHdr, Wire,
        be::{store16, store64},
        ipv4::halves,
    },
};

/// Bytes of the outer header on IPv4.
pub const OUTER_LEN: usize = size_of::<OuterHdr>();

/// The outer header on IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OuterHdr {
    /// Link.
    pub eth: EthHdr,
    /// Network.
    pub ip: Ipv4Hdr,
    /// Transport.
    pub udp: UdpHdr,
    /// Overlay.
    pub vxlan: VxlanHdr,
}

// SAFETY: repr(C) of wire headers, which have alignment 1.
unsafe impl Wire for OuterHdr {}
const _: () = assert!(OUTER_LEN == 50 && align_of::<OuterHdr>() == 1);

/// The outer header as it is written: wide stores, and as few as there can be.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stores {
    words: [[u8; 8]; 6],
    tail: [u8; 2],
}

// SAFETY: repr(C) of byte arrays: alignment 1, no padding, any bytes are valid.
unsafe impl Wire for Stores {}
const _: () = assert!(size_of::<Stores>() == OUTER_LEN);
// `at` is for these.
const _: () = assert!(cfg!(target_endian = "little"));

/// Two bytes in memory order, at a place in a word.
#[inline(always)]
const fn at(place: u32, bytes: u16) -> u64 {
    (bytes as u64) << (8 * place)
}

/// Writes the outer header into the first [`OUTER_LEN`] bytes, which [`crate::packet::Grow::grow`] has made; `inner` bytes
/// follow. `false`: not there.
///
/// For a super-packet lengths and checksum are those of the whole; the kernel writes them again for each segment.
#[inline(always)]
pub(super) fn write<P: Packet>(pkt: &mut P, hop: &Hop, vni: u32, source_port: u16, inner: usize) -> bool {
    let Some(to) = pkt.at_mut::<Stores>(0) else { return false };
    let [w0, w1, w2, w3, w4, w5] = &hop.header;
    let total_len = ((inner + OUTER_LEN - EthHdr::LEN) as u16).to_be();
    let udp_len = ((inner + UdpHdr::LEN + VxlanHdr::LEN) as u16).to_be();
    let vni = (vni << 8).to_be();
    let sum = *w3 as u16;
    // Once: the carry of two 16-bit numbers leaves none.
    let checksum = !(halves(u32::from(sum) + u32::from(total_len)) as u16);
    store64(&mut to.words[0], *w0);
    store64(&mut to.words[1], *w1);
    store64(&mut to.words[2], *w2 | at(0, total_len));
    store64(&mut to.words[3], *w3 ^ at(0, sum ^ checksum));
    let source_port = source_port & hop.flow_bits as u16;
    store64(&mut to.words[4], *w4 | at(2, source_port.to_be()) | at(6, udp_len));
    store64(&mut to.words[5], *w5 | at(6, vni as u16));
    store16(&mut to.tail, (vni >> 16) as u16);
    true
}
