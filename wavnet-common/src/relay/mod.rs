//! The relay of a rendezvous server, generic over packet memory and tables: what comes by a label goes to whoever that label stands for
//! (docs/wire.md section 1).
//!
//! Addresses, ports and label are replaced, nothing grows, and whatever is behind the label is as it was. The sender of what is sent on
//! is the server. There is no UDP checksum then, as in VXLAN: frames have those of their own, and control its authentication.
//!
//! Beside that, XDP answers the plain requests of STUN: see `stun`.
//!
//! The TTL goes on counting down, so that relays which send to each other end.
//!
//! What is dropped here has a label, and is not to be sent on, or asks too often. All else goes up: the kernel and the server know better.

mod stun;

use core::mem::offset_of;

use crate::{
    abi::relay::{
        Found, LegRow, RelayAddr, RelayConfig, RelayConfigFlags, RelayCount, RelayLink, RelayLinkFlags, StunSource,
    },
    addr::Label,
    packet::{Extend, FrameMeta, Packet, Rewrite},
    wire::{
        Be16, Be32, EthHdr, Ipv4Hdr, UdpHdr,
        demux::{self, Kind},
        ethernet::ethertype,
        ipv4::{PROTO_UDP, halves, updated},
    },
};

/// What the kernel's programs and a server in user space look up.
pub trait Tables {
    /// Where the server is reached.
    fn config(&self) -> Option<&RelayConfig>;

    /// The row that a label leads to; by now it may be another one's.
    fn leg(&self, label: Label) -> Option<&LegRow>;

    /// An interface.
    fn link(&self, index: u16) -> Option<&RelayLink>;

    /// What an address may have answered of its requests; the address as it is in memory.
    fn stun_source(&self, addr: u32) -> Option<&StunSource>;

    /// CLOCK_MONOTONIC, nanoseconds.
    fn now_ns(&self) -> u64;

    /// Counts.
    fn count(&self, what: RelayCount, n: u64);
}

/// What is to be done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it alone.
    Pass,
    /// Drop it; it is counted.
    Drop,
    /// Send it back out of the interface that it came by.
    Back,
    /// Send it out of another interface.
    Send {
        /// Its index.
        ifindex: u32,
    },
}

/// A program in XDP or one in TC behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP: what cannot be sent from here passes.
    Xdp,
    /// TC: it can send by any interface.
    Tc,
}

impl Hook {
    #[inline(always)]
    const fn relayed(self) -> RelayCount {
        match self {
            Hook::Xdp => RelayCount::RelayedByXdp,
            Hook::Tc => RelayCount::RelayedByTc,
        }
    }

    #[inline(always)]
    const fn bytes(self) -> RelayCount {
        match self {
            Hook::Xdp => RelayCount::BytesByXdp,
            Hook::Tc => RelayCount::BytesByTc,
        }
    }
}

/// Bytes before the UDP header and before the payload.
const L4: usize = EthHdr::LEN + Ipv4Hdr::LEN;
const PAYLOAD: usize = L4 + UdpHdr::LEN;
/// The least UDP payload that has the word which tells STUN.
const TWO_WORDS: usize = 8;
/// All that is looked at.
const HEADERS: usize = PAYLOAD + TWO_WORDS;

/// A datagram to our port that has a label.
struct Labelled {
    label: Label,
    /// It is a frame: nothing that the server could have a use for.
    is_frame: bool,
}

enum Seen {
    /// It is not to our port.
    Other,
    /// It is, and goes up.
    Up(RelayCount),
    /// A message of STUN.
    Stun,
    Labelled(Labelled),
}

/// A frame came in by an interface.
#[inline(always)]
pub fn relay<P: Packet + Rewrite + FrameMeta + Extend, T: Tables>(
    pkt: &mut P,
    tables: &T,
    hook: Hook,
    ifindex: u32,
) -> Verdict {
    let Some(config) = tables.config() else { return Verdict::Pass };
    if hook == Hook::Tc && pkt.at::<[u8; HEADERS]>(0).is_none() {
        let len = pkt.len();
        pkt.pull(if len < HEADERS { len } else { HEADERS });
    }
    let (count, verdict) = match see(pkt, config) {
        Seen::Other => return Verdict::Pass,
        Seen::Up(count) => (count, Verdict::Pass),
        // TC's frames are not made longer.
        Seen::Stun if hook == Hook::Tc => (RelayCount::ForServer, Verdict::Pass),
        Seen::Stun => match stun::answer(pkt, tables, config, ifindex) {
            Some(Ok(verdict)) => (RelayCount::StunAnswered, verdict),
            Some(Err(count)) => (count, Verdict::Drop),
            None => (RelayCount::ForServer, Verdict::Pass),
        },
        Seen::Labelled(labelled) => match send_on(pkt, tables, config, hook, ifindex, labelled.label) {
            Ok(verdict) => (hook.relayed(), verdict),
            Err(count) => (count, refused(count, labelled.is_frame, config)),
        },
    };
    // What passes XDP is counted by TC behind it.
    if hook == Hook::Tc || verdict != Verdict::Pass {
        tables.count(count, 1);
    }
    verdict
}

/// What becomes of what is not sent on. Who is told by nobody that its label is none any more would go on sending.
#[inline(always)]
const fn refused(why: RelayCount, is_frame: bool, config: &RelayConfig) -> Verdict {
    match why {
        RelayCount::UnknownLabel | RelayCount::OtherSender if !is_frame => Verdict::Pass,
        RelayCount::UnknownLabel if config.flags & RelayConfigFlags::INCOMPLETE != 0 => Verdict::Pass,
        RelayCount::LeftToServer => Verdict::Pass,
        _ => Verdict::Drop,
    }
}

/// Is it IPv4, UDP, to our address and port, and what is in it?
#[inline(always)]
fn see<P: Packet + FrameMeta>(pkt: &P, config: &RelayConfig) -> Seen {
    let Some(eth) = pkt.at::<EthHdr>(0) else { return Seen::Other };
    if eth.ethertype.get() != ethertype::IPV4 || pkt.has_meta_tag() {
        return Seen::Other;
    }
    let Some(ip) = pkt.at::<Ipv4Hdr>(EthHdr::LEN) else { return Seen::Other };
    // Of the rest of a fragmented datagram nobody knows the port; one with options is left to the server.
    if ip.version_ihl != Ipv4Hdr::PLAIN
        || ip.protocol != PROTO_UDP
        || ip.dst.raw() != Be32(config.local_v4).raw()
        || ip.dst.raw() == 0
        || ip.frag.get() & Ipv4Hdr::OFFSET != 0
    {
        return Seen::Other;
    }
    let Some(udp) = pkt.at::<UdpHdr>(L4) else { return Seen::Other };
    if udp.dst.0 != config.udp_port {
        return Seen::Other;
    }
    if ip.frag.get() & Ipv4Hdr::MF != 0 {
        // The first piece: the others have no label.
        return Seen::Up(RelayCount::LeftToServer);
    }
    let malformed = Seen::Up(RelayCount::Malformed);
    let (total, datagram) = (ip.total_len.get() as usize, udp.len.get() as usize);
    if total != Ipv4Hdr::LEN + datagram || datagram < UdpHdr::LEN || EthHdr::LEN + total > pkt.len() {
        return malformed;
    }
    let payload = datagram - UdpHdr::LEN;
    let nothing = Seen::Up(RelayCount::UnknownPayload);
    if payload < demux::PULSE_LEN {
        return nothing;
    }
    let for_server = Seen::Up(RelayCount::ForServer);
    if payload == demux::PULSE_LEN {
        return for_server;
    }
    let words = (pkt.at::<Be32>(PAYLOAD), pkt.at::<Be32>(PAYLOAD + size_of::<Be32>()));
    let (first, second) = match words {
        (Some(first), Some(second)) if payload >= TWO_WORDS => (first.get(), second.get()),
        (Some(first), _) if payload < TWO_WORDS => (first.get(), 0),
        // In another buffer, which TC can reach; or three bytes and no more.
        _ => return if pkt.is_paged() { Seen::Up(RelayCount::LeftToServer) } else { nothing },
    };
    let label = Label::of_word(first);
    match demux::kind(payload, (first >> 24) as u8, second) {
        Kind::Vxlan if payload < TWO_WORDS => malformed,
        // Without a label it is for a VTEP, and here is none.
        Kind::Vxlan if label.is_zero() => nothing,
        Kind::Vxlan => Seen::Labelled(Labelled { label, is_frame: true }),
        Kind::Control | Kind::RelayedPulse if label.is_zero() => for_server,
        Kind::Control | Kind::RelayedPulse => Seen::Labelled(Labelled { label, is_frame: false }),
        Kind::Stun => Seen::Stun,
        Kind::Pulse => for_server,
        Kind::Nothing => nothing,
    }
}

/// Where a frame goes.
struct Way<'a> {
    leg: &'a LegRow,
    found: Found,
    /// Bytes of UDP payload.
    payload: u64,
    link: &'a RelayLink,
    mac: [u8; 6],
    verdict: Verdict,
}

#[inline(always)]
fn send_on<P: Packet + Rewrite + FrameMeta, T: Tables>(
    pkt: &mut P,
    tables: &T,
    config: &RelayConfig,
    hook: Hook,
    ifindex: u32,
    label: Label,
) -> Result<Verdict, RelayCount> {
    let way = way(pkt, tables, hook, ifindex, label)?;
    if !way.leg.meter().admits(way.payload, tables.now_ns()) {
        return Err(RelayCount::TooFast);
    }
    rewrite(pkt, config, &way).ok_or(RelayCount::Malformed)?;
    tables.count(hook.bytes(), way.payload);
    Ok(way.verdict)
}

#[inline(always)]
fn way<'a, P: Packet + FrameMeta, T: Tables>(
    pkt: &P,
    tables: &'a T,
    hook: Hook,
    ifindex: u32,
    label: Label,
) -> Result<Way<'a>, RelayCount> {
    let unknown = RelayCount::UnknownLabel;
    let leg = tables.leg(label).ok_or(unknown)?;
    let found = leg.of(label).ok_or(unknown)?;
    let (ip, udp) = (pkt.at::<Ipv4Hdr>(EthHdr::LEN).ok_or(unknown)?, pkt.at::<UdpHdr>(L4).ok_or(unknown)?);
    if found.from != (RelayAddr { addr: ip.src.0, port: udp.src.get() }).to_word() {
        return Err(RelayCount::OtherSender);
    }
    if ip.ttl <= 1 {
        return Err(RelayCount::TtlExpired);
    }
    let hop = found.hop.ok_or(RelayCount::LeftToServer)?;
    let link = tables.link(hop.link).filter(|link| link.ifindex != 0).ok_or(RelayCount::LeftToServer)?;
    if is_left_to_a_nic(ip, udp) {
        return Err(RelayCount::LeftToServer);
    }
    let can = |flag| link.flags & flag != 0;
    let too_long = ip.total_len.get() as u32 > link.mtu;
    let verdict = match hook {
        Hook::Tc if pkt.gso_size() != 0 => return Err(RelayCount::LeftToServer),
        Hook::Tc if too_long => return Err(RelayCount::TooLong),
        // It may be several in one, which TC can tell.
        Hook::Xdp if too_long => return Err(RelayCount::LeftToServer),
        Hook::Tc => Verdict::Send { ifindex: link.ifindex },
        Hook::Xdp if link.ifindex == ifindex && can(RelayLinkFlags::XDP_TX) => Verdict::Back,
        Hook::Xdp if can(RelayLinkFlags::XDP_REDIRECT) => Verdict::Send { ifindex: link.ifindex },
        Hook::Xdp => return Err(RelayCount::LeftToServer),
    };
    let payload = (udp.len.get() as u64).wrapping_sub(UdpHdr::LEN as u64);
    Ok(Way { leg, found, payload, link, mac: hop.mac.0, verdict })
}

/// True if a UDP checksum is the sum of the pseudo-header alone: somebody on this machine has left the rest to a NIC, which would write
/// it into what has no checksum. One in 65,536 that are complete looks so, too, and takes the longer way; VTEPs' frames have none.
#[inline(always)]
fn is_left_to_a_nic(ip: &Ipv4Hdr, udp: &UdpHdr) -> bool {
    let addresses = halves(ip.src.raw()) + halves(ip.dst.raw());
    let pseudo = addresses + u32::from(u16::from_ne_bytes([0, PROTO_UDP])) + u32::from(udp.len.raw());
    udp.checksum.raw() != 0 && u32::from(udp.checksum.raw()) == halves(halves(pseudo))
}

/// `None`: the frame cannot be changed.
#[inline(always)]
fn rewrite<P: Packet + Rewrite>(pkt: &mut P, config: &RelayConfig, way: &Way<'_>) -> Option<()> {
    const TTL_AT: usize = EthHdr::LEN + offset_of!(Ipv4Hdr, ttl);
    const ADDRESSES_AT: usize = EthHdr::LEN + offset_of!(Ipv4Hdr, src);
    const UDP_CHECKSUM_AT: usize = L4 + offset_of!(UdpHdr, checksum);
    let ip = pkt.at::<Ipv4Hdr>(EthHdr::LEN)?;
    let ttl = ip.ttl.wrapping_sub(1);
    let to = Be32(way.found.to.addr);
    // The server's own address stays in the sum: it was the destination and becomes the source.
    let mut sum = u16::from_ne_bytes(ip.checksum_with_ttl(ttl).0);
    for (old, new) in [(ip.src.raw() as u16, to.raw() as u16), ((ip.src.raw() >> 16) as u16, (to.raw() >> 16) as u16)] {
        sum = updated(sum, old, new);
    }
    let time = [Be16([ttl, ip.protocol]), Be16(sum.to_ne_bytes())];
    let first = pkt.at::<Be32>(PAYLOAD)?.get();
    let label = Be32::new(first & !Label::MAX | way.found.to_label.get());
    let links = [way.mac, way.link.mac];
    let written = pkt.put(0, &links)
        && pkt.put(TTL_AT, &time)
        && pkt.put(ADDRESSES_AT, &[Be32(config.local_v4), to])
        && pkt.put(L4, &[Be16(config.udp_port), Be16::new(way.found.to.port)])
        && pkt.put(UDP_CHECKSUM_AT, &Be16([0; 2]))
        && pkt.put(PAYLOAD, &label);
    if written { Some(()) } else { None }
}
