//! The inner flow: its hash, for the outer source port, and where its payload begins.

use crate::{
    packet::Packet,
    wire::{
        Be32, EthHdr, Ipv4Hdr, Ipv6Hdr,
        ethernet::{TAG_LEN, ethertype},
        ipv4::{PROTO_TCP, PROTO_UDP},
    },
};

/// The fragment header of IPv6 (RFC 8200 section 4.5).
const NEXT_FRAGMENT: u8 = 44;

/// What is known of a frame's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Equal for all frames of a flow.
    pub hash: u32,
    /// Bytes before the TCP or UDP payload; zero when there is neither, or it cannot be read.
    pub headers: usize,
    /// What it carries.
    pub kind: Kind,
}

/// What a frame carries, as far as it matters which program carries the frame: what is tagged inside, or has IP options, is never XDP's,
/// whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A whole UDP datagram.
    Udp,
    /// A fragment of one.
    UdpFragment,
    /// Anything else.
    #[default]
    Other,
}

impl Kind {
    /// UDP, whole or not.
    #[inline(always)]
    #[must_use]
    pub const fn is_udp(self) -> bool {
        !matches!(self, Kind::Other)
    }

    #[inline(always)]
    const fn of_fragment(protocol: u8) -> Kind {
        if protocol == PROTO_UDP { Kind::UdpFragment } else { Kind::Other }
    }
}

/// Finds addresses and ports of a frame whose Ethernet header is at offset 0. Fragments and what is neither TCP nor UDP hash by
/// addresses alone; what is not IP hashes by MAC addresses.
#[inline(always)]
pub fn flow<P: Packet>(pkt: &P) -> Flow {
    let Some(eth) = pkt.at::<EthHdr>(0) else { return Flow::default() };
    let (mut l3, mut kind) = (EthHdr::LEN, eth.ethertype.get());
    for _ in 0..2 {
        if ethertype::is_tag(kind) {
            let Some(next) = pkt.at::<Be32>(l3) else { return Flow::default() };
            kind = next.get() as u16;
            l3 += TAG_LEN;
        }
    }
    let found = match kind {
        ethertype::IPV4 => ipv4(pkt, l3),
        ethertype::IPV6 => ipv6(pkt, l3),
        _ => None,
    };
    let found = if l3 == EthHdr::LEN { found } else { found.map(|flow| Flow { kind: Kind::Other, ..flow }) };
    found.unwrap_or_else(|| Flow { hash: mix(eth.dst().to_u64(), eth.src().to_u64()), ..Flow::default() })
}

/// True for TCP over IPv4 or IPv6, whole or in fragments, in the untagged frame whose Ethernet header is at this offset.
#[inline(always)]
pub(super) fn is_tcp<P: Packet>(pkt: &P, offset: usize) -> bool {
    let Some(eth) = pkt.at::<EthHdr>(offset) else { return false };
    let l3 = offset + EthHdr::LEN;
    match eth.ethertype.get() {
        ethertype::IPV4 => pkt.at::<Ipv4Hdr>(l3).is_some_and(|ip| ip.protocol == PROTO_TCP),
        ethertype::IPV6 => match pkt.at::<Ipv6Hdr>(l3).map(|ip| ip.next_header) {
            Some(PROTO_TCP) => true,
            Some(NEXT_FRAGMENT) => pkt.at::<u8>(l3 + Ipv6Hdr::LEN).is_some_and(|next| *next == PROTO_TCP),
            _ => false,
        },
        _ => false,
    }
}

/// The outer UDP source port of a flow: 49152 to 65535 (RFC 7348 section 5).
#[inline(always)]
pub const fn source_port(hash: u32) -> u16 {
    0xc000 | (hash & 0x3fff) as u16
}

/// The flow of an untagged UDP datagram, whole or not, over IPv4 without options or IPv6 without extensions but the fragment header;
/// for whole ones [`Flow::headers`] is 42 or 62. `None`: it is none.
///
/// The same as [`flow`] says, by offsets that are constants, which is what the verifier follows best.
#[inline(always)]
pub(super) fn plain_udp<P: Packet>(pkt: &P) -> Option<Flow> {
    const L3: usize = EthHdr::LEN;
    let flow = match pkt.at::<EthHdr>(0)?.ethertype.get() {
        ethertype::IPV4 => {
            let ip = pkt.at::<Ipv4Hdr>(L3)?;
            if ip.version_ihl != Ipv4Hdr::PLAIN || ip.protocol != PROTO_UDP {
                return None;
            }
            of_ipv4(pkt, ip, L3 + Ipv4Hdr::LEN)
        }
        ethertype::IPV6 => {
            let ip = pkt.at::<Ipv6Hdr>(L3)?;
            if ip.next_header != PROTO_UDP && ip.next_header != NEXT_FRAGMENT {
                return None;
            }
            of_ipv6(pkt, ip, L3 + Ipv6Hdr::LEN)
        }
        _ => return None,
    };
    if flow.kind.is_udp() { Some(flow) } else { None }
}

#[inline(always)]
fn ipv4<P: Packet>(pkt: &P, l3: usize) -> Option<Flow> {
    let ip = pkt.at::<Ipv4Hdr>(l3)?;
    let flow = of_ipv4(pkt, ip, l3 + ip.header_len()?);
    Some(if ip.version_ihl == Ipv4Hdr::PLAIN { flow } else { Flow { kind: Kind::Other, ..flow } })
}

#[inline(always)]
fn ipv6<P: Packet>(pkt: &P, l3: usize) -> Option<Flow> {
    Some(of_ipv6(pkt, pkt.at::<Ipv6Hdr>(l3)?, l3 + Ipv6Hdr::LEN))
}

#[inline(always)]
fn of_ipv4<P: Packet>(pkt: &P, ip: &Ipv4Hdr, l4: usize) -> Flow {
    let addresses = u64::from(ip.src.raw()) << 32 | u64::from(ip.dst.raw());
    let whole = ip.frag.get() & (Ipv4Hdr::MF | Ipv4Hdr::OFFSET) == 0;
    if whole {
        return transport(pkt, l4, ip.protocol, addresses);
    }
    Flow { hash: mix(addresses, 0), headers: 0, kind: Kind::of_fragment(ip.protocol) }
}

#[inline(always)]
fn of_ipv6<P: Packet>(pkt: &P, ip: &Ipv6Hdr, l4: usize) -> Flow {
    let word = |a: &[Be32; 4], i: usize| u64::from(a[i].raw()) << 32 | u64::from(a[i + 1].raw());
    let addresses =
        mix64(word(&ip.src, 0) ^ mix64(word(&ip.src, 2))) ^ mix64(word(&ip.dst, 0) ^ mix64(word(&ip.dst, 2) ^ 1));
    let flow = transport(pkt, l4, ip.next_header, addresses);
    if ip.next_header != NEXT_FRAGMENT {
        return flow;
    }
    let next = pkt.at::<u8>(l4).copied().unwrap_or_default();
    Flow { kind: Kind::of_fragment(next), ..flow }
}

#[inline(always)]
fn transport<P: Packet>(pkt: &P, l4: usize, protocol: u8, addresses: u64) -> Flow {
    if protocol == PROTO_TCP {
        // One check for both words: ports, and the data offset in the upper half of the 13th byte, in 32-bit words.
        if let Some([ports, _, _, offset]) = pkt.at::<[Be32; 4]>(l4) {
            let header = (offset.0[0] >> 4) as usize * 4;
            return Flow {
                hash: mix(addresses, u64::from(ports.raw()) << 8 | 6),
                headers: l4 + header,
                kind: Kind::Other,
            };
        }
    } else if protocol == PROTO_UDP
        && let Some(ports) = pkt.at::<Be32>(l4)
    {
        return Flow { hash: mix(addresses, u64::from(ports.raw()) << 8 | 17), headers: l4 + 8, kind: Kind::Udp };
    }
    Flow { hash: mix(addresses, u64::from(protocol)), ..Flow::default() }
}

#[inline(always)]
const fn mix(a: u64, b: u64) -> u32 {
    let h = mix64(a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (h ^ h >> 32) as u32
}

#[inline(always)]
const fn mix64(h: u64) -> u64 {
    let h = (h ^ h >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ h >> 32
}
