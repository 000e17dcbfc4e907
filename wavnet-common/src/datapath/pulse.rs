//! CONNECT_PULSE (docs/wire.md section 1): answered in place, and answers noted.
//!
//! Only who comes by a known path gets an answer, as long as what it sent, to where it came from: nobody can have us send to
//! somebody else. What comes by another one is for the agent.

use core::mem::offset_of;

use super::{
    Tables, Verdict,
    outer::{L4, PAYLOAD, Pulse, came},
    path,
};
use crate::{
    abi::{Config, ConfigFlags, Count, LocalPort},
    packet::{Packet, Rewrite},
    reason::Reason,
    wire::{
        Be16, EthHdr, Ipv4Hdr, PulseHdr, RelayedPulseHdr, UdpHdr,
        ipv4::{PROTO_UDP, halves, updated},
    },
};

/// The TTL of what we send.
const TTL: u8 = 64;

/// Where TTL, protocol and checksum stand.
const TTL_AT: usize = EthHdr::LEN + offset_of!(Ipv4Hdr, ttl);
/// Where both addresses stand.
const ADDRESSES_AT: usize = EthHdr::LEN + offset_of!(Ipv4Hdr, src);
const UDP_CHECKSUM_AT: usize = L4 + offset_of!(UdpHdr, checksum);

/// A pulse came in. `BEFORE_TC`: what cannot be done here goes up as it came, to TC.
#[inline(always)]
pub(super) fn receive<P: Packet + Rewrite, T: Tables, const BEFORE_TC: bool>(
    pkt: &mut P,
    tables: &T,
    config: &Config,
    pulse: &Pulse,
) -> Verdict {
    let Some(came) = came(pkt, config, pulse.label) else { return Verdict::Pass };
    let found = if config.has(ConfigFlags::DYNAMIC) { path::find(tables, &came) } else { Err(Reason::UnknownPath) };
    match found {
        Ok(found) if pulse.pulse.is_answer() => {
            let number = pulse.pulse.number();
            let noted = tables.path(found.index).is_some_and(|path| path.answered(number, tables.precise_ns()));
            if noted {
                tables.count(Count::PulseReturned, 1);
                Verdict::Consumed
            } else {
                dropped(tables, Reason::PulseStray)
            }
        }
        Ok(_) if BEFORE_TC && !config.has(ConfigFlags::XDP_TX) => Verdict::Pass,
        Ok(found) => {
            if turn_round(pkt, pulse).is_none() {
                return dropped(tables, Reason::Rewrite);
            }
            if let Some(path) = tables.path(found.index) {
                path.asked(tables.precise_ns());
            }
            tables.count(Count::PulseAnswered, 1);
            Verdict::Answered
        }
        Err(Reason::UnknownPath) if config.has(ConfigFlags::CONTROL) || came.at.to != LocalPort::MAIN => {
            if !BEFORE_TC {
                tables.count(Count::PulseUnknown, 1);
            }
            Verdict::Pass
        }
        Err(reason) => dropped(tables, reason),
    }
}

#[inline(always)]
fn dropped<T: Tables>(tables: &T, reason: Reason) -> Verdict {
    tables.dropped(reason);
    Verdict::Drop(reason)
}

/// Makes a pulse its own answer. `None`: the frame cannot be changed, or nobody can be answered.
#[inline(always)]
fn turn_round<P: Packet + Rewrite>(pkt: &mut P, pulse: &Pulse) -> Option<()> {
    let answer = PulseHdr::answer(pulse.pulse.number());
    let eth = pkt.at::<EthHdr>(0)?;
    if eth.dst().is_group() {
        return None;
    }
    let link = [eth.src, eth.dst];
    let ip = pkt.at::<Ipv4Hdr>(EthHdr::LEN)?;
    let (time, addresses) = ([Be16([TTL, ip.protocol]), ip.checksum_with_ttl(TTL)], [ip.dst, ip.src]);
    let udp = pkt.at::<UdpHdr>(L4)?;
    let (ports, checksum) = ([udp.dst, udp.src], checksum(ip, udp, pulse, answer));
    let written = pkt.put(0, &link)
        && pkt.put(TTL_AT, &time)
        && pkt.put(ADDRESSES_AT, &addresses)
        && pkt.put(L4, &ports)
        && pkt.put(UDP_CHECKSUM_AT, &checksum)
        && if pulse.relayed {
            pkt.put(PAYLOAD + RelayedPulseHdr::LEN - PulseHdr::LEN, &answer)
        } else {
            pkt.put(PAYLOAD, &answer)
        };
    if written { Some(()) } else { None }
}

/// The UDP checksum of the answer. Addresses and ports that have changed places do not change it. None stays none; and what is left to
/// a NIC, the sum of the pseudo-header alone, stays that: one in 65,536 that are complete looks so, too, and its answer is wrong.
#[inline(always)]
fn checksum(ip: &Ipv4Hdr, udp: &UdpHdr, pulse: &Pulse, answer: PulseHdr) -> Be16 {
    let now = udp.checksum.raw();
    let addresses = halves(ip.src.raw()) + halves(ip.dst.raw());
    let pseudo = addresses + u32::from(u16::from_ne_bytes([0, PROTO_UDP])) + u32::from(udp.len.raw());
    if now == 0 || u32::from(now) == halves(halves(pseudo)) {
        return udp.checksum;
    }
    // Zero would say that there is none.
    match updated(now, pulse.pulse.0.raw(), answer.0.raw()) {
        0 => Be16([0xff; 2]),
        sum => Be16(sum.to_ne_bytes()),
    }
}
