//! STUN answered where it comes in: plain Binding requests (RFC 8489) to the server's own address and port, with the bytes that the
//! server would send. Everything else about STUN is left to it.
//!
//! Plain: without an attribute, as those send who want to know their mapped address and no more. An attribute may change the answer, and
//! FINGERPRINT wants a CRC of both messages; who sends one is answered by the server, at its price.
//!
//! The frame goes back by the way that it came, so no route is looked up. What the kernel checks before a socket gets a datagram is
//! checked here, too: both checksums, that the frame was sent to this machine, and that its sender can have sent it.
//!
//! Who sends a request is whoever it says, so what one address is answered in a second is bounded: see [`StunSource`].
//!
//! [`StunSource`]: crate::abi::relay::StunSource

use super::{L4, PAYLOAD, Tables, Verdict};
use crate::{
    abi::relay::{RelayConfig, RelayConfigFlags, RelayCount, RelayLinkFlags},
    packet::{Extend, Packet},
    wire::{
        Be16, Be32, EthHdr, Ipv4Hdr, UdpHdr,
        be::{load16, load32},
        demux::{STUN_COOKIE, STUN_LEN},
        ethernet::ethertype,
        ipv4::PROTO_UDP,
    },
};

// Words as they are in memory.

/// The header of a Binding request without attributes: type and length (RFC 8489 section 5).
const REQUEST: u32 = 0x0001_0000_u32.to_be();
/// The magic cookie.
const COOKIE: u32 = STUN_COOKIE.to_be();
/// Its first two bytes, which mask ports (RFC 8489 section 14.2).
const HIGH_COOKIE: u16 = ((STUN_COOKIE >> 16) as u16).to_be();
/// The type of a success response to a Binding request.
const SUCCESS: u16 = 0x0101_u16.to_be();
/// Attributes with an IPv4 address: type and length (RFC 8489 section 18.3, RFC 5780 section 9.1).
const XOR_MAPPED_ADDRESS: u32 = 0x0020_0008_u32.to_be();
const MAPPED_ADDRESS: u32 = 0x0001_0008_u32.to_be();
const RESPONSE_ORIGIN: u32 = 0x802b_0008_u32.to_be();
const OTHER_ADDRESS: u32 = 0x802c_0008_u32.to_be();

/// Words of a header, of an attribute with an address, and of an answer without OTHER-ADDRESS.
const HEADER_WORDS: usize = STUN_LEN / 4;
const ADDRESS_WORDS: usize = 3;
const ANSWER_WORDS: usize = HEADER_WORDS + 3 * ADDRESS_WORDS;
/// Words of a UDP header and a request.
const DATAGRAM_WORDS: usize = (UdpHdr::LEN + STUN_LEN) / 4;
/// All that is written, without OTHER-ADDRESS.
const ANSWER_END: usize = PAYLOAD + 4 * ANSWER_WORDS;

/// An IPv4 address and a UDP port.
#[derive(Clone, Copy)]
struct Endpoint {
    addr: u32,
    port: u16,
}

/// What of a request goes into its answer.
struct Request {
    /// The link addresses, in halves: whose it was, and who sent it.
    to_mac: [u16; 3],
    from_mac: [u16; 3],
    id: [u32; 3],
    from: Endpoint,
    to: Endpoint,
}

/// Turns a request into its answer. `None`: it is for the server, and as it was.
///
/// # Errors
/// The frame is of no more use.
#[inline(always)]
pub(super) fn answer<P: Packet + Extend, T: Tables>(
    pkt: &mut P,
    tables: &T,
    config: &RelayConfig,
    ifindex: u32,
) -> Option<Result<Verdict, RelayCount>> {
    if config.flags & RelayConfigFlags::STUN == 0 {
        return None;
    }
    let link = tables.link(config.stun_link).filter(|link| link.ifindex == ifindex)?;
    let verdict = if link.flags & RelayLinkFlags::XDP_TX != 0 {
        Verdict::Back
    } else if link.flags & RelayLinkFlags::XDP_REDIRECT != 0 {
        Verdict::Send { ifindex }
    } else {
        return None;
    };
    // Once: the server may change it meanwhile. Without a port there is none. No `Option`: of one that is `None` the compiler would keep the
    // address, which nobody has set, over the calls below, and the verifier refuses to.
    let other = Endpoint { addr: load32(&config.other_v4), port: load16(&config.other_port) };
    let body = 4 * ADDRESS_WORDS * if other.port == 0 { 3 } else { 4 };
    if link.mtu < (PAYLOAD - EthHdr::LEN + STUN_LEN + body) as u32 || !is_between_hosts(pkt, &link.mac) {
        return None;
    }
    let request = read(pkt, other.addr)?;
    if !may_ask(tables, config, request.from.addr) {
        return Some(Err(RelayCount::StunTooFast));
    }
    // The one step that may fail, before any byte is changed. In front there is room by XDP's rules, behind it a driver may have none;
    // and all of the frame is written anew anyway.
    if !pkt.extend(body) {
        return None;
    }
    Some(write(pkt, &request, &other, body).map(|()| verdict).ok_or(RelayCount::Malformed))
}

/// True if an address may have another answer, which counts then.
#[inline(always)]
fn may_ask<T: Tables>(tables: &T, config: &RelayConfig, addr: u32) -> bool {
    let answer_ns = config.stun_answer_ns;
    answer_ns == 0 || tables.stun_source(addr).is_some_and(|source| source.admits(answer_ns, tables.now_ns()))
}

/// True if a frame was sent by another machine to this one alone.
#[inline(always)]
fn is_between_hosts<P: Packet>(pkt: &P, mac: &[u8; 6]) -> bool {
    let Some([dst, src]) = pkt.at::<[[Be16; 3]; 2]>(0) else { return false };
    let ([m0, m1, m2], _) = mac.as_chunks::<2>() else { return false };
    let mine = [load16(m0), load16(m1), load16(m2)];
    let is = |one: &[Be16; 3], other: [u16; 3]| {
        (one[0].raw() ^ other[0]) | (one[1].raw() ^ other[1]) | (one[2].raw() ^ other[2]) == 0
    };
    // The lowest bit of the first byte says that it is a group.
    is(dst, mine) && !is(src, mine) && !is(src, [0; 3]) && src[0].0[0] & 1 == 0
}

/// Reads a plain request, of which the lengths agree; `None`: it is another one, or none that the kernel would hand to a socket. `other` is
/// the server's second address, or zero.
#[inline(always)]
fn read<P: Packet>(pkt: &P, other: u32) -> Option<Request> {
    // Nothing may be behind it: the answer would have it, too.
    if pkt.len() != PAYLOAD + STUN_LEN {
        return None;
    }
    let [to_mac, from_mac] = pkt.at::<[[Be16; 3]; 2]>(0)?;
    let ip = pkt.at::<Ipv4Hdr>(EthHdr::LEN)?;
    let udp = pkt.at::<UdpHdr>(L4)?;
    let words = pkt.at::<[Be32; DATAGRAM_WORDS]>(L4)?;
    let [_, _, kind, cookie, id @ ..] = words;
    if kind.raw() != REQUEST || cookie.raw() != COOKIE || !ip.checksum_holds() {
        return None;
    }
    // Nobody can be answered at port 0, and what comes from outside with an address of ours is forged.
    let is_ours = ip.src.raw() == ip.dst.raw() || ip.src.raw() == other;
    if udp.src.raw() == 0 || !is_host(ip.src.0[0]) || is_ours {
        return None;
    }
    let pseudo = pseudo_header(ip.src.raw(), ip.dst.raw(), udp.len.raw());
    // Zero: the sender has computed none, which IPv4 allows. One that is left to a NIC does not hold, and the kernel takes it.
    if udp.checksum.raw() != 0 && folded(words.iter().fold(pseudo, |sum, word| sum + u64::from(word.raw()))) != 0xffff {
        return None;
    }
    let [a, b, c] = id;
    let halves = |mac: &[Be16; 3]| [mac[0].raw(), mac[1].raw(), mac[2].raw()];
    Some(Request {
        to_mac: halves(to_mac),
        from_mac: halves(from_mac),
        id: [a.raw(), b.raw(), c.raw()],
        from: Endpoint { addr: ip.src.raw(), port: udp.src.raw() },
        to: Endpoint { addr: ip.dst.raw(), port: udp.dst.raw() },
    })
}

/// True for the first byte of addresses that hosts send from: not "this" network, loopback, groups and what is above them.
#[inline(always)]
const fn is_host(first: u8) -> bool {
    first != 0 && first != 127 && first < 224
}

/// Writes an answer with so many bytes of attributes. `None`: the frame is of no more use.
#[inline(always)]
fn write<P: Packet>(pkt: &mut P, request: &Request, other: &Endpoint, body: usize) -> Option<()> {
    const TTL: u8 = 64;
    let [dst, src, [kind, ..]] = pkt.at_mut::<[[Be16; 3]; 3]>(0)?;
    for i in 0..3 {
        dst[i].set_raw(request.from_mac[i]);
        src[i].set_raw(request.to_mac[i]);
    }
    kind.set_raw(ethertype::IPV4.to_be());
    let (from, local) = (request.from, request.to);
    let masked = Endpoint { addr: from.addr ^ COOKIE, port: from.port ^ HIGH_COOKIE };
    let [i0, i1, i2] = request.id;
    let header = [word(SUCCESS, (body as u16).to_be()), COOKIE, i0, i1, i2];
    let mut sum = put(pkt, PAYLOAD, &header)?;
    let attributes = [(XOR_MAPPED_ADDRESS, masked), (MAPPED_ADDRESS, from), (RESPONSE_ORIGIN, local)];
    let mut at = PAYLOAD + STUN_LEN;
    for (kind, endpoint) in attributes {
        sum += put(pkt, at, &attribute(kind, endpoint))?;
        at += 4 * ADDRESS_WORDS;
    }
    if other.port != 0 {
        sum += put(pkt, ANSWER_END, &attribute(OTHER_ADDRESS, *other))?;
    }
    let datagram = UdpHdr::LEN + STUN_LEN + body;
    let (len, total_len) = ((datagram as u16).to_be(), ((Ipv4Hdr::LEN + datagram) as u16).to_be());
    let ports = word(local.port, from.port);
    let sum = sum + pseudo_header(local.addr, from.addr, len) + u64::from(ports) + u64::from(len);
    // Zero would say that there is none.
    let checksum = match !folded(sum) {
        0 => u16::MAX,
        checksum => checksum,
    };
    put(pkt, L4, &[ports, word(len, checksum)])?;
    let lengths = word(u16::from_ne_bytes([Ipv4Hdr::PLAIN, 0]), total_len);
    let (fragments, time) = (u32::from(Ipv4Hdr::DF).to_be(), u16::from_ne_bytes([TTL, PROTO_UDP]));
    let sum =
        [lengths, fragments, time.into(), local.addr, from.addr].iter().fold(0, |sum, word| sum + u64::from(*word));
    put(pkt, EthHdr::LEN, &[lengths, fragments, word(time, !folded(sum)), local.addr, from.addr])?;
    Some(())
}

/// An attribute with an address.
#[inline(always)]
fn attribute(kind: u32, Endpoint { addr, port }: Endpoint) -> [u32; ADDRESS_WORDS] {
    const IPV4: u16 = 1;
    [kind, word(IPV4.to_be(), port), addr]
}

/// Two halves of a word.
#[inline(always)]
const fn word(first: u16, second: u16) -> u32 {
    let (first, second) = (first as u32, second as u32);
    if cfg!(target_endian = "little") { first | second << 16 } else { first << 16 | second }
}

/// Writes words, which only a frame in XDP can have done directly; gives their sum.
#[inline(always)]
fn put<P: Packet, const N: usize>(pkt: &mut P, offset: usize, words: &[u32; N]) -> Option<u64> {
    let place = pkt.at_mut::<[Be32; N]>(offset)?;
    let mut sum = 0;
    for (place, word) in place.iter_mut().zip(words) {
        place.set_raw(*word);
        sum += u64::from(*word);
    }
    Some(sum)
}

/// What a UDP checksum covers beside the datagram (RFC 768).
#[inline(always)]
fn pseudo_header(src: u32, dst: u32, len: u16) -> u64 {
    u64::from(src) + u64::from(dst) + u64::from(u16::from_ne_bytes([0, PROTO_UDP])) + u64::from(len)
}

/// The one's complement sum of not more than 64 words, folded to 16 bits.
#[inline(always)]
const fn folded(sum: u64) -> u16 {
    const fn once(n: u64) -> u64 {
        (n & 0xffff) + (n >> 16)
    }
    // 38 bits become 23, then 17 of which the lowest 16 are few if the highest one is set.
    once(once(once(sum))) as u16
}
