//! The outer header: Ethernet, IPv4, UDP, VXLAN.

use crate::{
    abi::{Hop, NextHop},
    packet::Packet,
    wire::{
        EthHdr, Ipv4Hdr, UdpHdr, VxlanHdr, Wire,
        be::{store16, store64},
        ethernet::ethertype,
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

const TTL: u8 = 64;

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

/// The first 48 bytes of the outer header to a VTEP, in memory order: [`crate::abi::Hop::header`]. Zero is what differs from frame to frame:
/// lengths, UDP source port and VNI; where the IPv4 checksum belongs is the sum of all else in that header, folded.
///
/// Don't-fragment is set, as a VTEP must not fragment (RFC 7348 section 4.3); so the identification may be zero (RFC 6864). The
/// UDP checksum is zero (RFC 7348 section 5).
#[must_use]
pub fn outer_header(hop: &NextHop, addr: [u8; 4], udp_port: [u8; 2]) -> [u64; 6] {
    let mut bytes = [0; 48];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &hop.dst_mac);
    put(6, &hop.src_mac);
    put(12, &ethertype::IPV4.to_be_bytes());
    put(14, &[Ipv4Hdr::PLAIN, 0]);
    put(20, &Ipv4Hdr::DF.to_be_bytes());
    put(22, &[TTL, crate::wire::ipv4::PROTO_UDP]);
    put(26, &hop.src_v4);
    put(30, &addr);
    put(36, &udp_port);
    put(42, &VxlanHdr::I_FLAG.to_be_bytes());
    let ip = bytes[EthHdr::LEN..EthHdr::LEN + Ipv4Hdr::LEN].chunks_exact(2);
    let sum: u32 = ip.map(|pair| u32::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
    bytes[24..26].copy_from_slice(&(halves(halves(sum)) as u16).to_ne_bytes());
    core::array::from_fn(|i| u64::from_ne_bytes(core::array::from_fn(|j| bytes[8 * i + j])))
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
    store64(&mut to.words[4], *w4 | at(2, source_port.to_be()) | at(6, udp_len));
    store64(&mut to.words[5], *w5 | at(6, vni as u16));
    store16(&mut to.tail, (vni >> 16) as u16);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hop_tells_what_it_was_made_of(
            ifindex in 1u32.., max_inner: u32, dst_mac: [u8; 6], src_mac: [u8; 6], src_v4: [u8; 4], flags: u32, addr: [u8; 4], port: [u8; 2],
        ) {
            let hop = NextHop { ifindex, max_inner, dst_mac, src_mac, src_v4, flags };
            let made = Hop::new(&hop, addr, port);
            prop_assert_eq!(made.next_hop(), hop);
            prop_assert_eq!(made.is_resolved(), dst_mac != [0; 6]);
        }
    }

    #[test]
    fn no_route_is_no_route() {
        assert_eq!(Hop::new(&NextHop::NONE, [192, 0, 2, 1], [18, 181]).next_hop(), NextHop::NONE);
    }
}
