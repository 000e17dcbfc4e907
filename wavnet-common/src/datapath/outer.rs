//! Is a frame from the underlay ours, what is it, and is its outer header right?

use crate::{
    abi::{Arrival, Config, ConfigFlags},
    addr::Label,
    packet::{FrameMeta, Packet},
    reason::Reason,
    wire::{
        Be32, EthHdr, Ipv4Hdr, PulseHdr, RelayedPulseHdr, UdpHdr, VxlanHdr,
        demux::{self, Kind},
        ethernet::ethertype,
        ipv4::PROTO_UDP,
    },
};

/// Bytes before the UDP header.
pub(super) const L4: usize = EthHdr::LEN + Ipv4Hdr::LEN;
/// Bytes before the UDP payload.
pub(super) const PAYLOAD: usize = L4 + UdpHdr::LEN;
/// Bytes before the inner frame. A constant wherever it is used: the verifier follows no other.
pub(super) const OUTER: usize = PAYLOAD + VxlanHdr::LEN;

/// An outer header that is ours and right.
pub(super) struct VxlanFrame {
    pub(super) vni: u32,
    pub(super) src: [u8; 4],
    /// Bytes of the inner frame.
    pub(super) inner: usize,
    /// It came to our main port.
    pub(super) main: bool,
}

/// A CONNECT_PULSE.
#[derive(Clone, Copy)]
pub(super) struct Pulse {
    pub(super) pulse: PulseHdr,
    /// Where it stands in the frame.
    pub(super) relayed: bool,
    pub(super) label: Label,
}

/// What an outer header says.
pub(super) enum Outer {
    NotOurs,
    Bad(Reason),
    Vxlan(VxlanFrame),
    Pulse(Pulse),
}

/// Is it IPv4, UDP, to our address and our port? Then it is ours, and every flaw from there on is a counted drop. What is for the
/// agent's socket goes up as what is not ours does. An extra port may be another program's by now, or the source port of what is
/// masqueraded here: of what comes there only frames and pulses by a known path are ours, and what is neither passes.
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
            Some(udp) if is_main(udp, config) => Outer::Bad(Reason::OuterOptions),
            _ => Outer::NotOurs,
        };
    }
    // Constants from here on. (With a variable offset the compiler drops checks that it can infer and the verifier cannot.)
    let Some(udp) = pkt.at::<UdpHdr>(L4) else { return Outer::NotOurs };
    let main = is_main(udp, config);
    if !main && !is_extra(udp, config) {
        return Outer::NotOurs;
    }
    match datagram(pkt, config, main) {
        Outer::Bad(_) if !main => Outer::NotOurs,
        what => what,
    }
}

/// The same of a datagram without IP options to one of our ports.
#[inline(always)]
fn datagram<P: Packet + FrameMeta>(pkt: &P, config: &Config, main: bool) -> Outer {
    let (Some(ip), Some(udp)) = (pkt.at::<Ipv4Hdr>(EthHdr::LEN), pkt.at::<UdpHdr>(L4)) else { return Outer::NotOurs };
    if ip.frag.get() & (Ipv4Hdr::MF | Ipv4Hdr::OFFSET) != 0 {
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
    if ip.src.0[0] == 0 {
        return Outer::Bad(Reason::OuterSource);
    }
    let payload = if pkt.gso_size() != 0 {
        // It never was on a wire: its outer length fields are those of a segment or meaningless.
        pkt.len().wrapping_sub(PAYLOAD)
    } else {
        let (total, datagram) = (ip.total_len.get() as usize, udp.len.get() as usize);
        if total != Ipv4Hdr::LEN + datagram || datagram < UdpHdr::LEN {
            return Outer::Bad(Reason::OuterMalformed);
        }
        if EthHdr::LEN + total > pkt.len() {
            return Outer::Bad(Reason::OuterTruncated);
        }
        datagram - UdpHdr::LEN
    };
    if payload < VxlanHdr::LEN {
        return short(pkt, payload);
    }
    let Some(vxlan) = pkt.at::<VxlanHdr>(PAYLOAD) else {
        // There, but in another buffer: TC can reach it.
        return if pkt.len() >= OUTER { Outer::NotOurs } else { Outer::Bad(Reason::OuterTruncated) };
    };
    match demux::kind(payload, vxlan.flags.0[0], vxlan.vni.get()) {
        Kind::Vxlan => {
            Outer::Vxlan(VxlanFrame { vni: vxlan.vni.get() >> 8, src: ip.src.0, inner: payload - VxlanHdr::LEN, main })
        }
        Kind::Stun | Kind::Control if config.has(ConfigFlags::CONTROL) => Outer::NotOurs,
        Kind::Stun | Kind::Control => Outer::Bad(Reason::VxlanFlags),
        // The latter two are shorter.
        Kind::Nothing | Kind::Pulse | Kind::RelayedPulse => Outer::Bad(Reason::UnknownPayload),
    }
}

/// A payload that is shorter than any header but that of a pulse. All of it is in the frame, if not in the first buffer.
#[inline(always)]
fn short<P: Packet>(pkt: &P, payload: usize) -> Outer {
    if payload == 0 {
        return Outer::Bad(Reason::UnknownPayload);
    }
    let Some(first) = pkt.at::<u8>(PAYLOAD) else { return Outer::NotOurs };
    match demux::kind(payload, *first, 0) {
        Kind::Pulse => pkt
            .at::<PulseHdr>(PAYLOAD)
            .map_or(Outer::NotOurs, |pulse| Outer::Pulse(Pulse { pulse: *pulse, relayed: false, label: Label::ZERO })),
        Kind::RelayedPulse => pkt.at::<RelayedPulseHdr>(PAYLOAD).map_or(Outer::NotOurs, |relayed| {
            let [a, b, c] = relayed.label;
            let label = Label::of_word(u32::from_be_bytes([0, a, b, c]));
            Outer::Pulse(Pulse { pulse: relayed.pulse, relayed: true, label })
        }),
        Kind::Vxlan => Outer::Bad(Reason::OuterMalformed),
        Kind::Stun | Kind::Control | Kind::Nothing => Outer::Bad(Reason::UnknownPayload),
    }
}

#[inline(always)]
fn is_main(udp: &UdpHdr, config: &Config) -> bool {
    udp.dst.0 == config.udp_port
}

#[inline(always)]
fn is_extra(udp: &UdpHdr, config: &Config) -> bool {
    config.extra_ports.contain(udp.dst.get())
}

/// Where a datagram with such an outer header came from, and to which of our ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Came {
    pub(super) at: Arrival,
    pub(super) label: Label,
}

/// Reads it once more: what goes by its address alone does without. `None`: it is no such header.
#[inline(always)]
pub(super) fn came<P: Packet>(pkt: &P, config: &Config, label: Label) -> Option<Came> {
    let addr = pkt.at::<Ipv4Hdr>(EthHdr::LEN)?.src.0;
    let udp = pkt.at::<UdpHdr>(L4)?;
    Some(Came { at: Arrival { addr, port: udp.src.get(), to: config.local_port(udp.dst.get()) }, label })
}
