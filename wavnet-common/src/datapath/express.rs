//! XDP on a port: datagrams for known places, which need nothing of the stack. Everything else goes up, for `port::tc`; so do tagged
//! ones and those with IP options.
//!
//! XDP sees bytes alone. What the kernel or a VM keeps beside them would be lost: checksums that are still to be computed, and
//! that a packet is many. So only UDP goes this way, whose checksum tells its own state (`udp`); and what is
//! wrong with a frame, TC finds out and counts: nothing is dropped here but what there is no room to put a header before. Of a tap's
//! frames not even the bytes tell that there is nothing beside them; those are sealed (`guard`).
//!
//! A flow must not overtake itself on two ways. Its datagrams go up while others of it that went up wait (`Gate`), and always while it sends
//! super-packets (`Bulky`).

use super::{
    Kind, Of, Tables, Verdict, encap,
    flow::plain_udp,
    port::{Frame, departed, is_agent_alive, note, origin, path},
    receiver::{longest, receiver},
    source, source_port,
    udp::{self, Checksum},
};
use crate::{
    abi::{Bulk, HopFlags, Port, PortFlags},
    fdb::{Key, Place, Sought, seek},
    packet::{FrameMeta, Grow, Packet, Seal, Sum},
    reason::Reason,
    wire::{EthHdr, ethernet::ethertype},
};

/// XDP on a port.
#[inline(always)]
pub fn xdp<P: Packet + FrameMeta + Grow + Sum + Seal, T: Tables>(pkt: &mut P, tables: &T, ifindex: u32) -> Verdict {
    let Ok((port_index, port)) = origin(tables, ifindex) else { return Verdict::Pass };
    let Some(flow) = plain_udp(pkt) else { return Verdict::Pass };
    let now_ns = tables.now_ns();
    let Some(eth) = pkt.at::<EthHdr>(0).copied() else { return Verdict::Pass };
    let len = pkt.len();
    let frame = Frame {
        port_index,
        vni: port.vni,
        vni_index: port.vni_index,
        now_ns,
        agent_alive: is_agent_alive(tables, now_ns),
        tagged: false,
        segment: len,
        frames: 1,
        bytes: len as u64,
        source_port: source_port(flow.hash),
        hash: flow.hash,
        kind: flow.kind,
    };
    let flow = frame.flow(tables);
    let carried = match tables.bulky(flow.set()).map(|bulky| bulky.of(flow, now_ns)) {
        // Those of its flow go up all the time: nobody waits for them.
        None | Some(Bulk::Settled) => return Verdict::Pass,
        Some(Bulk::Fading) => None,
        Some(Bulk::No) => carry(pkt, tables, port, &frame, &eth),
    };
    match carried {
        Some(verdict) => verdict,
        None => {
            let lane = frame.lane(tables, eth.dst());
            let _ = tables.gate(lane, |gate| gate.passed(lane, now_ns));
            Verdict::Pass
        }
    }
}

/// Where a frame goes.
enum Way<'a> {
    ToVtep(u16, super::port::Path<'a>),
    ToPort(u16, u32),
}

#[inline(always)]
fn carry<P: Packet + FrameMeta + Grow + Sum + Seal, T: Tables>(
    pkt: &mut P,
    tables: &T,
    port: &Port,
    frame: &Frame,
    eth: &EthHdr,
) -> Option<Verdict> {
    if frame.segment > longest(port, frame.tagged) {
        // A super-packet, if it is no mistake. TC will know.
        return None;
    }
    // Early: a large table is not in the CPU's cache.
    let sought = seek(tables.fdb(), Key::new(frame.vni_index, eth.dst()))?;
    let lane = frame.lane(tables, eth.dst());
    if tables.gate(lane, |gate| gate.is_closed(lane, frame.now_ns))? {
        return None;
    }
    // Not every port and NIC takes more than one buffer.
    if pkt.is_paged() || is_tap(port) && !pkt.is_raw() {
        return None;
    }
    source::check(eth).ok()?;
    let way = way(tables, frame, eth, &sought)?;
    // A fragment's checksum is complete: the kernel or VM that makes fragments sees to it.
    if frame.kind == Kind::Udp {
        let v4 = eth.ethertype.get() == ethertype::IPV4;
        let settled = if v4 { checksum::<P, false>(pkt, port) } else { checksum::<P, true>(pkt, port) };
        if settled.is_none() {
            // Out of its place in any case. Nobody waits for it: those of its flow before it are XDP's, and those after it
            // would come before them.
            return Some(Verdict::Pass);
        }
    }
    tables.received(Of::Port(frame.port_index), frame.frames, frame.bytes);
    tables.mix(frame.port_index, |mix| mix.carried += 1);
    note(tables, port, frame, eth);
    let verdict = match way {
        Way::ToPort(index, ifindex) => {
            tables.sent(Of::Port(index), frame.frames, frame.bytes);
            Verdict::ToPort { index, ifindex }
        }
        Way::ToVtep(index, path) => {
            let written = pkt.grow(encap::OUTER_LEN, frame.hash).and_then(|()| {
                let written = encap::write(pkt, path.hop, frame.vni, frame.source_port, frame.segment);
                if written { Ok(()) } else { Err(Reason::Rewrite) }
            });
            if let Err(reason) = written {
                return Some(dropped(tables, reason));
            }
            departed(tables, frame, index);
            Verdict::ToWire { ifindex: path.hop.ifindex }
        }
    };
    // Last, as a seal moves with the front of the frame.
    Some(if is_tap(port) { sealed(pkt, tables, verdict) } else { verdict })
}

/// Read anew each time, so that the verifier need not follow both kinds from one question to the next.
#[inline(always)]
fn is_tap(port: &Port) -> bool {
    core::hint::black_box(port).flags & PortFlags::TAP != 0
}

#[inline(always)]
fn sealed<P: Seal, T: Tables>(pkt: &mut P, tables: &T, verdict: Verdict) -> Verdict {
    match (pkt.seal(tables.cookie()), verdict) {
        (Ok(true), Verdict::ToPort { ifindex, .. } | Verdict::ToWire { ifindex }) => Verdict::Sealed { ifindex },
        (Ok(_), verdict) => verdict,
        (Err(reason), _) => dropped(tables, reason),
    }
}

#[inline(always)]
fn dropped<T: Tables>(tables: &T, reason: Reason) -> Verdict {
    tables.dropped(reason);
    Verdict::Drop(reason)
}

/// Sees to it that the datagram's checksum is complete. `None`: that is not for XDP to do.
#[inline(always)]
fn checksum<P: Packet + Sum, const V6: bool>(pkt: &mut P, port: &Port) -> Option<()> {
    match udp::settle::<P, V6>(pkt, port.flags & PortFlags::DATAGRAM_GSO == 0)? {
        Checksum::Right => Some(()),
        Checksum::Completed(sum) => udp::write_checksum::<P, V6>(pkt, sum),
    }
}

#[inline(always)]
fn way<'a, T: Tables>(tables: &'a T, frame: &Frame, eth: &EthHdr, sought: &Sought) -> Option<Way<'a>> {
    let dst = eth.dst();
    // A frame from its own destination moves that first.
    if dst.is_group() || dst == eth.src() {
        return None;
    }
    match sought.entry()?.place {
        Place::Port(index) if index == frame.port_index => None,
        Place::Port(index) => {
            let to = receiver(tables, index, frame.vni_index, frame.segment, frame.tagged).ok()?;
            if to.flags & PortFlags::DELIVER_TC != 0 { None } else { Some(Way::ToPort(index, to.ifindex)) }
        }
        Place::Vtep(index) => {
            let path = path(tables, frame, index).ok()?;
            // What is held back is TC's, and what comes after it follows until TC has seen the last of it.
            let by_xdp = path.hop.flags & HopFlags::XDP != 0 && !path.by_kernel && path.held.is_none();
            if by_xdp { Some(Way::ToVtep(index, path)) } else { None }
        }
    }
}
