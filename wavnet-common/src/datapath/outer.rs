//! Is a frame from the underlay ours, and is its outer header right?

use crate::{
    abi::Config,
    packet::{FrameMeta, Packet},
    reason::Reason,
    wire::{Be32, EthHdr, Ipv4Hdr, UdpHdr, VxlanHdr, ethernet::ethertype, ipv4::PROTO_UDP},
};

/// Bytes before the UDP header.
pub(super) const L4: usize = EthHdr::LEN + Ipv4Hdr::LEN;
/// Bytes before the inner frame. A constant wherever it is used: the verifier follows no other.
pub(super) const OUTER: usize = L4 + UdpHdr::LEN + VxlanHdr::LEN;

/// An outer header that is ours and right.
pub(super) struct VxlanFrame {
    pub(super) vni: u32,
    pub(super) src: [u8; 4],
    /// Bytes of the inner frame.
    pub(super) inner: usize,
}

/// What an outer header says.
pub(super) enum Outer {
    NotOurs,
    Bad(Reason),
    Vxlan(VxlanFrame),
}

/// Is it IPv4, UDP, to our address and port? Then it is ours, and every flaw from there on is a counted drop.
#[inline(always)]
pub(super) fn outer<P: Packet + FrameMeta>(pkt: &P, config: &Config) -> Outer {
    let Some(eth) = pkt.at::<EthHdr>(0) else { return Outer::NotOurs };
    // Tagged frames belong to another network, whether the tag is in the frame or beside it.
    if eth.ethertype.get() != ethertype::IPV4 || pkt.has_meta_tag() {
        return Outer::NotOurs;
    }
    let Some(ip) = pkt.at::<Ipv4Hdr>(EthHdr::LEN) else { return Outer::NotOurs };
    if ip.protocol != PROTO_UDP || ip.dst.raw() != (Be32(config.local_v4)).raw() || ip.dst.raw() == 0 {
        return Outer::NotOurs;
    }
    let Some(ip_len) = ip.header_len() else { return Outer::NotOurs };
    let frag = ip.frag.get() & (Ipv4Hdr::MF | Ipv4Hdr::OFFSET);
    if frag & Ipv4Hdr::OFFSET != 0 {
        // Not the first fragment: it has no port to know it by.
        return Outer::NotOurs;
    }
    if ip_len != Ipv4Hdr::LEN {
        return match pkt.at::<UdpHdr>(EthHdr::LEN + ip_len) {
            Some(udp) if udp.dst.0 == config.udp_port => Outer::Bad(Reason::OuterOptions),
            _ => Outer::NotOurs,
        };
    }
    // Constants from here on. (With a variable offset the compiler drops checks that it can infer and the verifier cannot.)
    let Some(udp) = pkt.at::<UdpHdr>(L4) else { return Outer::NotOurs };
    if udp.dst.0 != config.udp_port {
        return Outer::NotOurs;
    }
    if frag != 0 {
        return Outer::Bad(Reason::OuterFragment);
    }
    if !ip.checksum_holds() {
        return Outer::Bad(Reason::OuterChecksum);
    }
    if ip.ttl == 0 {
        return Outer::Bad(Reason::OuterTtl);
    }
    if ip.src.raw() == ip.dst.raw() {
        return Outer::Bad(Reason::OwnSource);
    }
    let inner = if pkt.gso_size() != 0 {
        // It never was on a wire: its outer length fields are those of a segment or meaningless.
        pkt.len().wrapping_sub(OUTER)
    } else {
        let (total, datagram) = (ip.total_len.get() as usize, udp.len.get() as usize);
        if total != Ipv4Hdr::LEN + datagram || datagram < UdpHdr::LEN + VxlanHdr::LEN {
            return Outer::Bad(Reason::OuterMalformed);
        }
        if EthHdr::LEN + total > pkt.len() {
            return Outer::Bad(Reason::OuterTruncated);
        }
        datagram - UdpHdr::LEN - VxlanHdr::LEN
    };
    let Some(vxlan) = pkt.at::<VxlanHdr>(L4 + UdpHdr::LEN) else {
        // There, but in another buffer: TC can reach it.
        return if pkt.len() >= OUTER { Outer::NotOurs } else { Outer::Bad(Reason::OuterTruncated) };
    };
    match vxlan.vni() {
        Some(vni) => Outer::Vxlan(VxlanFrame { vni, src: ip.src.0, inner }),
        None => Outer::Bad(Reason::VxlanFlags),
    }
}
