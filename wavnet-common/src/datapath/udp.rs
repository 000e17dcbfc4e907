//! The state of a UDP checksum (RFC 768, RFC 8200 section 8.1) in bytes of which nobody tells more.
//!
//! A sender that leaves the sum to its NIC has put the sum of the pseudo-header there (partial). Whatever is neither that nor right may
//! be a corrupted datagram, which must stay so, or a tunnel's, whose inner checksum is still to be computed; and zero may be a
//! tunnel's, too.

use crate::{
    packet::{Packet, Sum},
    wire::{
        Be32, EthHdr, Ipv4Hdr, Ipv6Hdr, UdpHdr,
        ipv4::{PROTO_UDP, halves},
    },
};

/// What is known of a datagram's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It is right.
    Right,
    /// It was partial; complete, it is this, in memory order.
    Completed(u16),
}

/// Finds the checksum of a whole datagram as [`super::flow::plain_udp`] knows it; `V6`: over IPv6. `None`: not known, or partial and
/// `complete` is false.
#[inline(always)]
pub(super) fn settle<P: Packet + Sum, const V6: bool>(pkt: &mut P, complete: bool) -> Option<Checksum> {
    let udp = pkt.at::<UdpHdr>(l4::<V6>())?;
    let (checksum, len, raw_len) = (udp.checksum.raw(), udp.len.get() as usize, udp.len.raw());
    if checksum == 0 || !(UdpHdr::LEN..=P::LONGEST).contains(&len) {
        return None;
    }
    let pseudo = fold(addresses::<P, V6>(pkt)? + u32::from(u16::from_ne_bytes([0, PROTO_UDP])) + u32::from(raw_len));
    let partial = u32::from(checksum) == pseudo;
    if partial && !complete {
        return None;
    }
    let sum = fold(pkt.sum(l4::<V6>(), len)?);
    if partial {
        let sum = !(sum as u16);
        // Zero would say that there is none.
        Some(Checksum::Completed(if sum == 0 { 0xffff } else { sum }))
    } else if fold(sum + pseudo) == 0xffff {
        Some(Checksum::Right)
    } else {
        None
    }
}

/// Writes a checksum in memory order.
#[inline(always)]
pub(super) fn write_checksum<P: Packet, const V6: bool>(pkt: &mut P, sum: u16) -> Option<()> {
    pkt.at_mut::<UdpHdr>(l4::<V6>())?.checksum.set_raw(sum);
    Some(())
}

#[inline(always)]
const fn l4<const V6: bool>() -> usize {
    EthHdr::LEN + if V6 { Ipv6Hdr::LEN } else { Ipv4Hdr::LEN }
}

/// The sum of both addresses.
#[inline(always)]
fn addresses<P: Packet, const V6: bool>(pkt: &P) -> Option<u32> {
    if !V6 {
        let ip = pkt.at::<Ipv4Hdr>(EthHdr::LEN)?;
        return Some(halves(ip.src.raw()) + halves(ip.dst.raw()));
    }
    let ip = pkt.at::<Ipv6Hdr>(EthHdr::LEN)?;
    let sum = |words: &[Be32; 4]| {
        halves(words[0].raw()) + halves(words[1].raw()) + halves(words[2].raw()) + halves(words[3].raw())
    };
    Some(sum(&ip.src) + sum(&ip.dst))
}

#[inline(always)]
const fn fold(sum: u32) -> u32 {
    // Twice: the first fold may carry.
    halves(halves(sum))
}
