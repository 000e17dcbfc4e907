//! Checks and learning that every frame's MAC addresses go through, from whichever side it comes.

use super::Tables;
use crate::{
    abi::{Count, Event, EventKind, PlaceCode},
    addr::Mac,
    fdb::{Key, Learnt, Place, Seen, learn},
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
#[inline(always)]
pub(super) fn note<T: Tables>(tables: &T, vni_index: u16, mac: Mac, place: Place, now_ns: u64) {
    match learn(tables.fdb(), Key::new(vni_index, mac), place, Seen::at(now_ns), 0) {
        Learnt::Known | Learnt::Raced => {}
        Learnt::New => {
            tables.count(Count::Learned, 1);
            tables.event(&event(EventKind::Learned, vni_index, mac, PlaceCode::NONE, place, now_ns));
        }
        Learnt::Moved(from) => {
            tables.count(Count::Moved, 1);
            tables.event(&event(EventKind::Moved, vni_index, mac, PlaceCode::new(from), place, now_ns));
        }
        Learnt::Kept => tables.count(Count::StaticKept, 1),
        Learnt::Full => tables.count(Count::FdbFull, 1),
    }
}

#[inline(always)]
fn event(kind: EventKind, vni_index: u16, mac: Mac, from: PlaceCode, to: Place, at_ns: u64) -> Event {
    Event { at_ns, kind: kind as u32, vni_index: vni_index.into(), from, to: PlaceCode::new(to), mac, reserved: [0; 2] }
}
