//! Frames from the underlay: validate, decapsulate, deliver to a port or to all ports of the VNI. Pulses are answered, and what is for
//! the agent's socket goes up.

use super::{
    Note, Of, Tables, Verdict, flow,
    flow::is_tcp,
    outer::{L4, OUTER, Outer, VxlanFrame, outer},
    pulse,
    receiver::{longest, receiver},
    sender::sender,
    source,
};
use crate::{
    abi::{Config, Count, Lane, PortFlags},
    addr::Mac,
    fdb::{Key, Place, seek},
    packet::{Copies, FrameMeta, HandOver, NotHandedOver, Noted, Packet, Rewrite, Strip},
    reason::Reason,
    wire::{
        EthHdr, Ipv4Hdr, UdpHdr, VxlanHdr,
        ethernet::{TAG_LEN, ethertype},
    },
};

/// XDP on the underlay: unicast straight to ports; TCP, and what ports do not take from XDP, decapsulated to [`tc`]; everything
/// else goes up as it came.
#[inline(always)]
pub fn xdp<P: Packet + Rewrite + Strip + HandOver + FrameMeta, T: Tables>(pkt: &mut P, tables: &T) -> Verdict {
    let (from, fate) = match decide::<P, T, true>(pkt, tables) {
        Decision::Pass | Decision::Flood { .. } => return Verdict::Pass,
        Decision::Drop(reason) => return drop(tables, reason),
        Decision::Done(verdict) => return verdict,
        Decision::Known { from, fate } => (from, fate),
    };
    let mut handed_over = false;
    if let Ok(to) = &fate
        && to.way != Way::Direct
    {
        match pkt.hand_over(OUTER, from.inner, &Note::new(tables.cookie(), to.index, from.vni_index)) {
            Ok(()) => handed_over = true,
            Err(NotHandedOver::Lost(reason)) => return drop(tables, reason),
            // TC does all of it, and learns then: what learning counts is counted once.
            Err(NotHandedOver::Unable) if to.way == Way::ByTc => return Verdict::Pass,
            Err(NotHandedOver::Unable) => {}
        }
    }
    from.note(tables);
    match fate {
        Err(reason) => drop(tables, reason),
        Ok(to) if handed_over => {
            arrived(tables, &from, 1, from.inner as u64);
            tables.sent(Of::Port(to.index), 1, from.inner as u64);
            Verdict::HandedOver
        }
        Ok(to) => deliver(pkt, tables, &to, &from),
    }
}

/// TC ingress on the underlay: whatever XDP left, or everything where there is no XDP.
#[inline(always)]
pub fn tc<P: Packet + Rewrite + Strip + Noted + FrameMeta + Copies, T: Tables>(pkt: &mut P, tables: &T) -> Verdict {
    if let Some((index, vni_index)) = pkt.note().and_then(|note| note.read(tables.cookie())) {
        if !is_tcp(pkt, 0)
            && let Some(eth) = pkt.at::<EthHdr>(0)
        {
            let lane = Lane::to(tables.seed(), vni_index, eth.dst());
            let _ = tables.gate(lane, |gate| gate.seen(lane, pkt.gso_segs().max(1)));
        }
        if pkt.has_meta_tag() {
            return drop(tables, Reason::OuterTagged);
        }
        // Counted and measured by XDP. Only what has changed meanwhile can stand in its way.
        return match receiver(tables, index, vni_index, 0, false) {
            Ok(port) => Verdict::ToPort { index, ifindex: port.ifindex },
            Err(reason) => drop(tables, reason),
        };
    }
    // Paged frames: all headers to the linear part, outer and inner. What is shorter is not ours or gets its reason below.
    const HEADERS: usize = EthHdr::LEN + Ipv4Hdr::LEN + UdpHdr::LEN + VxlanHdr::LEN + EthHdr::LEN;
    if pkt.at::<[u8; HEADERS]>(0).is_none() {
        let len = pkt.len();
        pkt.pull(if len < HEADERS { len } else { HEADERS });
    }
    match decide::<P, T, false>(pkt, tables) {
        Decision::Pass | Decision::Done(Verdict::Pass) => {
            tables.count(Count::PassedUp, 1);
            Verdict::Pass
        }
        Decision::Done(verdict) => verdict,
        Decision::Drop(reason) | Decision::Known { fate: Err(reason), .. } => drop(tables, reason),
        Decision::Known { fate: Ok(to), from } => deliver(pkt, tables, &to, &from),
        Decision::Flood { from, tagged } => flood(pkt, tables, &from, tagged),
    }
}

/// Bytes of Ethernet, IPv4 and TCP headers: only for counting the frames of super-packets whose segments nobody has counted.
const INNER_HEADERS: usize = EthHdr::LEN + 40;

/// Where an encapsulated frame came from.
struct From {
    vni_index: u16,
    vtep_index: u16,
    mac: Mac,
    learns: bool,
    /// Bytes of the inner frame.
    inner: usize,
}

impl From {
    /// Learns where the sender is: once for each frame, by the program that decides its fate.
    #[inline(always)]
    fn note<T: Tables>(&self, tables: &T) {
        if self.learns
            && let Some(source) = seek(tables.fdb(), Key::new(self.vni_index, self.mac))
        {
            source::note(tables, &source, Place::Vtep(self.vtep_index), tables.now_ns());
        }
    }
}

/// How a frame gets to its port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the program that sees it.
    Direct,
    /// By TC if GRO lies between: super-packets are cheaper to deliver than their segments. Chosen by protocol, for fragments
    /// and for what has no payload, too, so that no frame of a flow overtakes another.
    ByGro,
    /// By TC: the port takes nothing from XDP.
    ByTc,
}

/// A port that gets a frame.
struct To {
    index: u16,
    ifindex: u32,
    way: Way,
}

enum Decision {
    Pass,
    Drop(Reason),
    /// It was no frame, and all has been done about it.
    Done(Verdict),
    /// The destination is known: a port, or nobody, for this reason.
    Known {
        from: From,
        fate: Result<To, Reason>,
    },
    Flood {
        from: From,
        tagged: bool,
    },
}

impl core::convert::From<Reason> for Decision {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Decision::Drop(reason)
    }
}

#[inline(always)]
fn drop<T: Tables>(tables: &T, reason: Reason) -> Verdict {
    tables.dropped(reason);
    Verdict::Drop(reason)
}

#[inline(always)]
fn decide<P: Packet + Rewrite + FrameMeta, T: Tables, const BEFORE_TC: bool>(pkt: &mut P, tables: &T) -> Decision {
    let Some(config) = tables.config() else { return Decision::Pass };
    match outer(pkt, config) {
        Outer::NotOurs => Decision::Pass,
        Outer::Bad(reason) => Decision::Drop(reason),
        Outer::Pulse(pulse) => Decision::Done(pulse::receive::<P, T, BEFORE_TC>(pkt, tables, config, &pulse)),
        Outer::Vxlan(frame) => match inner::<P, T, BEFORE_TC>(pkt, tables, config, &frame) {
            Ok(decision) => decision,
            Err(reason) => Decision::Drop(reason),
        },
    }
}

#[inline(always)]
fn inner<P: Packet + FrameMeta, T: Tables, const BEFORE_TC: bool>(
    pkt: &P,
    tables: &T,
    config: &Config,
    frame: &VxlanFrame,
) -> Result<Decision, Reason> {
    let member = match sender(pkt, tables, config, frame) {
        Err(Reason::UnknownPath) if !frame.main => return Ok(Decision::Pass),
        sent => sent?,
    };
    if frame.inner < EthHdr::LEN {
        return Err(Reason::InnerTruncated);
    }
    // There, but in another buffer: TC can reach it.
    let Some(eth) = pkt.at::<EthHdr>(OUTER) else { return Ok(Decision::Pass) };
    source::check(eth)?;
    let (vni_index, vtep_index) = (member.vni_index, member.vtep_index);
    // Early, and both at once: a large table is not in the CPU's cache.
    let seek = |mac| seek(tables.fdb(), Key::new(vni_index, mac)).ok_or(Reason::UnknownVni);
    let (dst, src) = (eth.dst(), eth.src());
    let sought = seek(dst)?;
    seek(src)?;
    // TCP never takes another way than by GRO; all else keeps its order by the gate.
    let tcp = is_tcp(pkt, OUTER);
    let lane = Lane::to(tables.seed(), vni_index, dst);
    if !BEFORE_TC && !tcp {
        let _ = tables.gate(lane, |gate| gate.seen(lane, 1));
    }
    let passed = || {
        if BEFORE_TC && !tcp {
            let _ = tables.gate(lane, |gate| gate.passed(lane, tables.now_ns()));
        }
    };
    let from = From { vni_index, vtep_index, learns: member.learns, mac: src, inner: frame.inner };
    let tagged = ethertype::is_tag(eth.ethertype.get());
    if !BEFORE_TC {
        from.note(tables);
    }
    // A frame from its own destination moves that first: TC learns before it looks.
    if BEFORE_TC && dst == src {
        passed();
        return Ok(Decision::Pass);
    }
    let known = if dst.is_group() { None } else { sought.entry() };
    let Some(known) = known else {
        passed();
        return Ok(Decision::Flood { from, tagged });
    };
    let index = match known.place {
        Place::Port(index) => index,
        // Rare enough to be left to TC.
        Place::Vtep(_) if BEFORE_TC => {
            passed();
            return Ok(Decision::Pass);
        }
        Place::Vtep(_) => return Err(Reason::SplitHorizon),
    };
    let mut way = Way::Direct;
    if BEFORE_TC && let Some(port) = tables.port(index) {
        // It may be a super-packet, which only TC can tell from a frame that is too long.
        if frame.inner > longest(port, tagged) {
            passed();
            return Ok(Decision::Pass);
        }
        way = if port.flags & PortFlags::DELIVER_TC != 0 || port.flags & PortFlags::ONE_BUFFER != 0 && pkt.is_paged() {
            Way::ByTc
        } else if tcp {
            Way::ByGro
        } else if tables.gate(lane, |gate| gate.is_closed(lane, tables.now_ns())).unwrap_or(true) {
            Way::ByTc
        } else {
            Way::Direct
        };
        // The kernel takes an inner tag off what is handed over, and nobody could tell it from an outer one any more.
        if way == Way::ByTc && tagged {
            passed();
            return Ok(Decision::Pass);
        }
    }
    let fate = receiver(tables, index, vni_index, measured(pkt, frame.inner), tagged);
    if way == Way::ByTc && fate.is_ok() {
        passed();
    }
    Ok(Decision::Known { from, fate: fate.map(|port| To { index, ifindex: port.ifindex, way }) })
}

/// Bytes that must fit a port's MTU. A super-packet's segments were measured by its sender; what counts is each frame's length.
#[inline(always)]
fn measured<P: FrameMeta>(pkt: &P, inner: usize) -> usize {
    if pkt.gso_size() == 0 { inner } else { 0 }
}

#[inline(always)]
fn deliver<P: Packet + Strip + FrameMeta, T: Tables>(pkt: &mut P, tables: &T, to: &To, from: &From) -> Verdict {
    let frames = pkt.frames(OUTER + from.inner, OUTER + INNER_HEADERS);
    if let Err(reason) = strip(pkt, from) {
        return drop(tables, reason);
    }
    let bytes = bytes(pkt, from, frames);
    arrived(tables, from, frames, bytes);
    tables.sent(Of::Port(to.index), frames, bytes);
    Verdict::ToPort { index: to.index, ifindex: to.ifindex }
}

#[inline(always)]
fn strip<P: Packet + Strip + FrameMeta>(pkt: &mut P, from: &From) -> Result<(), Reason> {
    // A super-packet is one tunnelled frame, or it is datagrams that GRO merged for forwarding: those behind the first begin with
    // outer headers and may be another tenant's. GRO merges datagrams with a checksum only.
    if pkt.gso_size() != 0
        && pkt.at::<UdpHdr>(L4).is_none_or(|udp| udp.checksum.get() != 0)
        && !pkt.is_tcp_super_packet()
    {
        return Err(Reason::OuterAggregated);
    }
    if pkt.strip(OUTER, from.inner) { Ok(()) } else { Err(Reason::Rewrite) }
}

/// Bytes of what was decapsulated: the headers of a super-packet go with each of its frames.
#[inline(always)]
fn bytes<P: Packet + FrameMeta>(pkt: &P, from: &From, frames: u64) -> u64 {
    let inner = from.inner as u64;
    if frames == 1 {
        return inner;
    }
    let tag = if pkt.has_meta_tag() { TAG_LEN } else { 0 };
    inner + (frames - 1) * (flow(pkt).headers + tag) as u64
}

#[inline(always)]
fn arrived<T: Tables>(tables: &T, from: &From, frames: u64, bytes: u64) {
    tables.received(Of::Vtep(from.vtep_index), frames, bytes);
    tables.received(Of::Vni(from.vni_index), frames, bytes);
}

/// Copies to every port of the VNI; never to a VTEP (split horizon).
#[inline(always)]
fn flood<P: Packet + Strip + FrameMeta + Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    from: &From,
    tagged: bool,
) -> Verdict {
    let frames = pkt.frames(OUTER + from.inner, OUTER + INNER_HEADERS);
    let Some(set) = tables.flood(from.vni_index) else { return drop(tables, Reason::NoReceiver) };
    if set.port_count == 0 {
        return drop(tables, Reason::NoReceiver);
    }
    let len = measured(pkt, from.inner);
    if let Err(reason) = strip(pkt, from) {
        return drop(tables, reason);
    }
    let bytes = bytes(pkt, from, frames);
    arrived(tables, from, frames, bytes);
    tables.count(Count::Flooded, 1);
    P::repeat(set.port_count, |i| {
        if let Some(&index) = set.ports.get(i as usize) {
            match receiver(tables, index, from.vni_index, len, tagged) {
                Ok(port) => super::copy_to_port(pkt, tables, index, port.ifindex, frames, bytes),
                Err(reason) => tables.dropped(reason),
            }
        }
        true
    });
    Verdict::Consumed
}
