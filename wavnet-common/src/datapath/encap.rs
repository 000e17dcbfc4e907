//! The outer header: Ethernet, IPv4, UDP, VXLAN.

use crate::{
    abi::{NextHop, Vtep},
    packet::Packet,
    wire::{
        EthHdr, Ipv4Hdr, UdpHdr, VxlanHdr, Wire,
        be::{load16, load32, store16, store32},
        ethernet::{copy_mac, ethertype},
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
const VERSION_IHL: [u8; 2] = [0x45, 0];
const DF: [u8; 2] = Ipv4Hdr::DF.to_be_bytes();
const TTL_UDP: [u8; 2] = [TTL, crate::wire::ipv4::PROTO_UDP];
/// The sum of the header's words that never change, in memory order.
const FIXED_SUM: u32 =
    u16::from_ne_bytes(VERSION_IHL) as u32 + u16::from_ne_bytes(DF) as u32 + u16::from_ne_bytes(TTL_UDP) as u32;

/// Writes the outer header into the first [`OUTER_LEN`] bytes, which [`crate::packet::Grow::grow`] has made; `inner` bytes
/// follow. `false`: not there.
///
/// Don't-fragment is set, as a VTEP must not fragment (RFC 7348 section 4.3); so the identification may be zero (RFC 6864). The
/// UDP checksum is zero (RFC 7348 section 5). For a super-packet lengths and checksum are those of the whole; the kernel writes
/// them again for each segment.
#[inline(always)]
pub(super) fn write<P: Packet>(
    pkt: &mut P,
    vtep: &Vtep,
    hop: &NextHop,
    vni: u32,
    source_port: u16,
    inner: usize,
) -> bool {
    let Some(h) = pkt.at_mut::<OuterHdr>(0) else { return false };
    copy_mac(&mut h.eth.dst, &hop.dst_mac);
    copy_mac(&mut h.eth.src, &hop.src_mac);
    store16(&mut h.eth.ethertype.0, ethertype::IPV4.to_be());

    let total_len = ((inner + OUTER_LEN - EthHdr::LEN) as u16).to_be();
    let (src, dst) = (load32(&hop.src_v4), load32(&vtep.addr));
    let sum = FIXED_SUM + u32::from(total_len) + halves(src) + halves(dst);
    // Twice: the first fold may carry.
    let sum = halves(halves(sum));
    h.ip.version_ihl = VERSION_IHL[0];
    h.ip.tos = VERSION_IHL[1];
    store16(&mut h.ip.total_len.0, total_len);
    store16(&mut h.ip.id.0, 0);
    store16(&mut h.ip.frag.0, u16::from_ne_bytes(DF));
    h.ip.ttl = TTL_UDP[0];
    h.ip.protocol = TTL_UDP[1];
    store16(&mut h.ip.checksum.0, !(sum as u16));
    store32(&mut h.ip.src.0, src);
    store32(&mut h.ip.dst.0, dst);

    store16(&mut h.udp.src.0, source_port.to_be());
    store16(&mut h.udp.dst.0, load16(&vtep.udp_port));
    store16(&mut h.udp.len.0, ((inner + UdpHdr::LEN + VxlanHdr::LEN) as u16).to_be());
    store16(&mut h.udp.checksum.0, 0);

    store32(&mut h.vxlan.flags.0, VxlanHdr::I_FLAG.to_be());
    store32(&mut h.vxlan.vni.0, (vni << 8).to_be());
    true
}
