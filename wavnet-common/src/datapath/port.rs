//! Frames from a VM: to another port of the VNI, to a VTEP, or to all of both.

use super::{
    Kind, Of, Tables, Verdict, copy_to_port, encap, flow,
    hold::{self, Held},
    receiver::receiver,
    source, source_port,
};
use crate::{
    abi::{Bulk, Count, FloodSet, Heartbeat, Hop, Lane, Port, PortFlags, PortFlow, VtepFlags},
    addr::Mac,
    fdb::{Key, Place, seek},
    packet::{AsIpv4, Copies, FrameMeta, Grow, Packet},
    reason::Reason,
    wire::{
        EthHdr,
        ethernet::{TAG_LEN, ethertype},
    },
};

/// TC ingress on a port.
#[inline(always)]
pub fn tc<P: Packet + FrameMeta + Grow + AsIpv4 + Copies, T: Tables>(pkt: &mut P, tables: &T, ifindex: u32) -> Verdict {
    // Told apart this early, as the verifier then has the fewest paths to walk. While there is an agent nobody is sent on errands:
    // it is somebody else's mark.
    let verdict = match pkt.errand() {
        Some(vtep_index) if !is_agent_alive(tables, tables.now_ns()) => on_errand(pkt, tables, ifindex, vtep_index),
        _ => forward(pkt, tables, ifindex),
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(reason) => {
            tables.dropped(reason);
            Verdict::Drop(reason)
        }
    }
}

/// IPv6 with extensions and TCP with options.
const LONGEST_HEADERS: usize = 100;

/// What is known of a frame from a VM.
pub(super) struct Frame {
    pub(super) port_index: u16,
    pub(super) vni: u32,
    pub(super) vni_index: u16,
    pub(super) now_ns: u64,
    /// The agent's heartbeat is fresh.
    pub(super) agent_alive: bool,
    pub(super) tagged: bool,
    /// Bytes of the frame, or of a super-packet's longest segment, with tags.
    pub(super) segment: usize,
    pub(super) frames: u64,
    /// Bytes of them all: the headers of a super-packet go with each segment.
    pub(super) bytes: u64,
    pub(super) source_port: u16,
    /// The flow's.
    pub(super) hash: u32,
    pub(super) kind: Kind,
}

impl Frame {
    /// Whose frames this one must not overtake.
    #[inline(always)]
    pub(super) fn lane<T: Tables>(&self, tables: &T, dst: Mac) -> Lane {
        Lane::from(tables.seed(), self.port_index, self.hash, dst)
    }

    /// Whose super-packets make XDP leave this frame to TC.
    #[inline(always)]
    pub(super) fn flow<T: Tables>(&self, tables: &T) -> PortFlow {
        PortFlow::new(tables.seed(), self.port_index, self.hash)
    }
}

#[inline(always)]
fn forward<P: Packet + FrameMeta + Grow + AsIpv4 + Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let (port_index, port) = origin(tables, ifindex)?;
    let eth = link_header(pkt)?;
    let dst = eth.dst();
    // Early: a large table is not in the CPU's cache. For groups, too, of which there is nothing in the table: the verifier need not
    // walk everything twice then.
    let sought = seek(tables.fdb(), Key::new(port.vni_index, dst)).ok_or(Reason::UnknownPort)?;
    let frame = inspect(pkt, tables, &eth, port_index, port);
    // Of a port that has no XDP yet it is remembered what XDP will want to know.
    if port.flags & (PortFlags::XDP | PortFlags::ADAPTIVE) != 0 && frame.kind.is_udp() {
        came_from_xdp(pkt, tables, port, &frame, dst);
    }
    tables.received(Of::Port(port_index), frame.frames, frame.bytes);
    source::check(&eth)?;
    if frame.tagged && port.flags & PortFlags::VLAN_DISCARD != 0 {
        return Err(Reason::VlanTagged);
    }
    note(tables, port, &frame, &eth);

    let known = if dst.is_group() { None } else { sought.entry() };
    let Some(known) = known else { return flood(pkt, tables, &frame, ifindex) };
    if port.flags & PortFlags::ADAPTIVE != 0 {
        weigh(pkt, tables, &frame);
    }
    match known.place {
        Place::Vtep(index) => to_vtep(pkt, tables, &frame, index),
        Place::Port(index) if index == port_index => Err(Reason::Hairpin),
        Place::Port(index) => {
            let port = receiver(tables, index, frame.vni_index, frame.segment, frame.tagged)?;
            tables.sent(Of::Port(index), frame.frames, frame.bytes);
            Ok(Verdict::ToPort { index, ifindex: port.ifindex })
        }
    }
}

/// Counts what speaks for XDP on the port, and what against it, of what goes to a known place.
#[inline(always)]
fn weigh<P: FrameMeta, T: Tables>(pkt: &P, tables: &T, frame: &Frame) {
    if pkt.gso_size() != 0 {
        tables.mix(frame.port_index, |mix| mix.super_packets += 1);
    } else if frame.kind.is_udp() && !frame.tagged {
        tables.mix(frame.port_index, |mix| mix.left += 1);
    }
}

/// XDP has left a datagram to us.
#[inline(always)]
fn came_from_xdp<P: FrameMeta, T: Tables>(pkt: &P, tables: &T, port: &Port, frame: &Frame, dst: Mac) {
    let tap = port.flags & PortFlags::TAP != 0;
    let flow = frame.flow(tables);
    let Some(bulky) = tables.bulky(flow.set()) else { return };
    // A tap's tag was in the frame when XDP saw it, and the frame none of XDP's; a veth's has been beside it.
    if !(bulky.of(flow, frame.now_ns) == Bulk::Settled || tap && frame.tagged) {
        // A tap's super-packet was one before XDP, too; any other was made behind it (GRO).
        let passed = if tap { 1 } else { pkt.gso_segs().max(1) };
        let lane = frame.lane(tables, dst);
        let _ = tables.gate(lane, |gate| gate.seen(lane, passed));
    }
    if pkt.gso_size() != 0 {
        bulky.sends(flow, frame.now_ns);
    }
}

/// A frame that came for the first time a moment ago, and was counted, checked and learned from then.
#[inline(always)]
fn on_errand<P: Packet + FrameMeta + Grow + AsIpv4 + Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    ifindex: u32,
    vtep_index: u16,
) -> Result<Verdict, Reason> {
    let (port_index, port) = origin(tables, ifindex)?;
    let eth = link_header(pkt)?;
    let frame = inspect(pkt, tables, &eth, port_index, port);
    // The kernel looks routes up by mark, too.
    pkt.end_errand();
    to_vtep(pkt, tables, &frame, vtep_index)
}

/// Learns where the sender of a frame is.
#[inline(always)]
pub(super) fn note<T: Tables>(tables: &T, port: &Port, frame: &Frame, eth: &EthHdr) {
    if port.flags & PortFlags::NO_LEARNING == 0
        && let Some(source) = seek(tables.fdb(), Key::new(frame.vni_index, eth.src()))
    {
        source::note(tables, &source, Place::Port(frame.port_index), frame.now_ns);
    }
}

#[inline(always)]
pub(super) fn is_agent_alive<T: Tables>(tables: &T, now_ns: u64) -> bool {
    now_ns.saturating_sub(tables.heartbeat_ns()) < Heartbeat::FRESH_NS
}

/// The port that a frame came from.
#[inline(always)]
pub(super) fn origin<T: Tables>(tables: &T, ifindex: u32) -> Result<(u16, &Port), Reason> {
    let port_index = tables.port_of(ifindex).ok_or(Reason::UnknownPort)?;
    let port = tables.port(port_index).ok_or(Reason::UnknownPort)?;
    if port.ifindex == ifindex { Ok((port_index, port)) } else { Err(Reason::UnknownPort) }
}

#[inline(always)]
fn link_header<P: Packet>(pkt: &mut P) -> Result<EthHdr, Reason> {
    if pkt.at::<EthHdr>(0).is_none() && !pkt.pull(EthHdr::LEN) {
        return Err(Reason::InnerTruncated);
    }
    pkt.at::<EthHdr>(0).copied().ok_or(Reason::InnerTruncated)
}

#[inline(always)]
fn inspect<P: Packet + FrameMeta, T: Tables>(pkt: &P, tables: &T, eth: &EthHdr, port_index: u16, port: &Port) -> Frame {
    let kind = eth.ethertype.get();
    let meta_tag = pkt.has_meta_tag();
    let tag = if meta_tag { TAG_LEN } else { 0 };
    let len = pkt.len() + tag;
    let flow = flow(pkt);
    // Headers that cannot be read are taken for the longest, so that no segment is too long unnoticed.
    let headers = if flow.headers == 0 { EthHdr::LEN + LONGEST_HEADERS } else { flow.headers };
    let segment = match pkt.gso_size() {
        0 => len,
        size => size + headers + tag,
    };
    let frames = pkt.frames(pkt.len(), headers);
    let now_ns = tables.now_ns();
    Frame {
        port_index,
        vni: port.vni,
        vni_index: port.vni_index,
        now_ns,
        agent_alive: is_agent_alive(tables, now_ns),
        tagged: meta_tag || ethertype::is_tag(kind),
        segment,
        frames,
        bytes: len as u64 + (frames - 1) * (headers + tag) as u64,
        source_port: source_port(flow.hash),
        hash: flow.hash,
        kind: flow.kind,
    }
}

/// How a frame gets to a VTEP.
pub(super) struct Path<'a> {
    pub(super) hop: &'a Hop,
    /// The agent does not know the link address, or is not there to know better: the kernel shall find it.
    pub(super) by_kernel: bool,
    /// Not now, but later.
    pub(super) held: Option<Held<'a>>,
}

#[inline(always)]
pub(super) fn path<'a, T: Tables>(tables: &'a T, frame: &Frame, index: u16) -> Result<Path<'a>, Reason> {
    let vtep = tables.vtep(index).ok_or(Reason::NoRoute)?;
    let hop = if vtep.half == 0 { &vtep.hops[0] } else { &vtep.hops[1] };
    if hop.ifindex == 0 {
        return Err(Reason::NoRoute);
    }
    if frame.segment > hop.max_inner as usize {
        return Err(Reason::ExceedsUnderlayMtu);
    }
    let held = if vtep.flags & VtepFlags::HELD != 0 { hold::held(tables, frame, index) } else { None };
    Ok(Path { hop, by_kernel: !(frame.agent_alive && hop.is_resolved()), held })
}

#[inline(always)]
fn to_vtep<P: Packet + Grow + AsIpv4, T: Tables>(
    pkt: &mut P,
    tables: &T,
    frame: &Frame,
    index: u16,
) -> Result<Verdict, Reason> {
    let path = path(tables, frame, index)?;
    pkt.grow(encap::OUTER_LEN, frame.hash)?;
    let inner = pkt.len() - encap::OUTER_LEN;
    if !encap::write(pkt, path.hop, frame.vni, frame.source_port, inner) {
        return Err(Reason::Rewrite);
    }
    if let Some(held) = path.held {
        if !held.wait(pkt, tables, frame, index) {
            return Err(Reason::Rewrite);
        }
        departed(tables, frame, index);
        return Ok(Verdict::Held { ifindex: held.ifindex });
    }
    if path.by_kernel && !pkt.become_ipv4() {
        return Err(Reason::Rewrite);
    }
    departed(tables, frame, index);
    let ifindex = path.hop.ifindex;
    if path.by_kernel {
        tables.count(Count::KernelNextHop, 1);
        Ok(Verdict::ToNeighbour { ifindex })
    } else {
        Ok(Verdict::ToWire { ifindex })
    }
}

#[inline(always)]
pub(super) fn departed<T: Tables>(tables: &T, frame: &Frame, vtep_index: u16) {
    tables.sent(Of::Vtep(vtep_index), frame.frames, frame.bytes);
    tables.sent(Of::Vni(frame.vni_index), frame.frames, frame.bytes);
}

/// Copies to every other port of the VNI, then, encapsulated once and addressed anew for each, to every VTEP.
#[inline(always)]
fn flood<P: Packet + FrameMeta + Grow + AsIpv4 + Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    frame: &Frame,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    let set = tables.flood(frame.vni_index).ok_or(Reason::NoReceiver)?;
    // The sender is one of the ports.
    if set.port_count <= 1 && set.vtep_count == 0 {
        return Err(Reason::NoReceiver);
    }
    tables.count(Count::Flooded, 1);
    to_other_ports(pkt, tables, frame, set);
    match set.vtep_count {
        0 => Ok(Verdict::Consumed),
        // The usual case of two sites costs no copy, and the kernel's next hop serves it too.
        1 => to_vtep(pkt, tables, frame, set.vteps[0]).inspect(|_| tables.count(Count::FloodCopies, 1)),
        _ if frame.agent_alive => to_all_vteps(pkt, tables, frame, set),
        _ => to_all_vteps_by_kernel(pkt, tables, set, ifindex),
    }
}

#[inline(always)]
fn to_other_ports<P: Copies, T: Tables>(pkt: &mut P, tables: &T, frame: &Frame, set: &FloodSet) {
    P::repeat(set.port_count, |i| {
        if let Some(&index) = set.ports.get(i as usize)
            && index != frame.port_index
        {
            match receiver(tables, index, frame.vni_index, frame.segment, frame.tagged) {
                Ok(port) => copy_to_port(pkt, tables, index, port.ifindex, frame.frames, frame.bytes),
                Err(reason) => tables.dropped(reason),
            }
        }
        true
    });
}

#[inline(always)]
fn to_all_vteps<P: Packet + Grow + Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    frame: &Frame,
    set: &FloodSet,
) -> Result<Verdict, Reason> {
    pkt.grow(encap::OUTER_LEN, frame.hash)?;
    let inner = pkt.len() - encap::OUTER_LEN;
    P::repeat(set.vtep_count, |i| {
        if let Some(&index) = set.vteps.get(i as usize) {
            match path(tables, frame, index) {
                Ok(path) if path.hop.is_resolved() || path.held.is_some() => {
                    let ifindex = path.held.map_or(path.hop.ifindex, |held| held.ifindex);
                    if encap::write(pkt, path.hop, frame.vni, frame.source_port, inner)
                        && path.held.is_none_or(|held| held.wait(pkt, tables, frame, index))
                        && pkt.copy_to(ifindex)
                    {
                        tables.count(Count::FloodCopies, 1);
                        departed(tables, frame, index);
                    } else {
                        tables.dropped(Reason::CloneFailed);
                    }
                }
                // The agent has the kernel resolve it. Should the peer be gone for good, its copies shall not fill queues.
                Ok(_) => tables.dropped(Reason::NeighbourUnresolved),
                Err(reason) => tables.dropped(reason),
            }
        }
        true
    });
    Ok(Verdict::Consumed)
}

/// Without an agent only the kernel knows next hops, but a clone cannot go through its neighbour output: a copy for each VTEP comes
/// in by the port again.
#[inline(always)]
fn to_all_vteps_by_kernel<P: Copies, T: Tables>(
    pkt: &mut P,
    tables: &T,
    set: &FloodSet,
    ifindex: u32,
) -> Result<Verdict, Reason> {
    P::repeat(set.vtep_count, |i| {
        if let Some(&index) = set.vteps.get(i as usize) {
            if pkt.send_on_errand(ifindex, index) {
                tables.count(Count::FloodCopies, 1);
            } else {
                tables.dropped(Reason::CloneFailed);
            }
        }
        true
    });
    Ok(Verdict::Consumed)
}
