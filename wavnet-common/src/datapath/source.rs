//! Checks and learning that every frame's MAC addresses go through, from whichever side it comes.

use super::Tables;
use crate::{
    abi::{Count, Event, EventKind, PlaceCode},
    fdb::{Key, Learnt, Place, Seen, Sought, learn_at},
    reason::Reason,
    wire::EthHdr,
};

/// Refuses frames that no station may send and no bridge may forward.
#[inline(always)]
pub(super) fn check(eth: &EthHdr) -> Result<(), Reason> {
    if !eth.src().is_station() {
        return Err(Reason::BadSourceMac);
    }
    if eth.dst().is_bridge_reserved() {
        return Err(Reason::BridgeReserved);
    }
    Ok(())
}

/// Learns the source of a frame, counts and reports what changed.
///
/// A function of its own in the kernel, too: the compiler would make copies of it for each way that a frame goes on from there.
#[inline(never)]
pub(super) fn note<T: Tables>(tables: &T, source: &Sought, place: Place, now_ns: u64) {
    let key = source.key();
    match learn_at(source, place, Seen::at(now_ns), 0) {
        Learnt::Known | Learnt::Raced => {}
        Learnt::New => {
            tables.count(Count::Learned, 1);
            tables.event(&event(EventKind::Learned, key, PlaceCode::NONE, place, now_ns));
        }
        Learnt::Moved(from) => {
            tables.count(Count::Moved, 1);
            tables.event(&event(EventKind::Moved, key, PlaceCode::new(from), place, now_ns));
        }
        Learnt::Kept => tables.count(Count::StaticKept, 1),
        Learnt::Full => tables.count(Count::FdbFull, 1),
    }
}

#[inline(always)]
fn event(kind: EventKind, key: Key, from: PlaceCode, to: Place, at_ns: u64) -> Event {
    Event {
        at_ns,
        kind: kind as u32,
        vni_index: key.vni_index().into(),
        from,
        to: PlaceCode::new(to),
        mac: key.mac(),
        reserved: [0; 2],
    }
}
