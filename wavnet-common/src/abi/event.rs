//! What the programs tell the agent through the ring buffer.

use super::Plain;
use crate::{addr::Mac, fdb::Place};

/// What happened. Values of [`Event::kind`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A MAC was entered into the FDB; `from` is [`PlaceCode::NONE`].
    Learned = 1,
    /// A MAC moved from `from` to `to`.
    Moved = 2,
}

/// A [`Place`] or none as a plain number.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceCode(pub u32);

impl PlaceCode {
    /// No place.
    pub const NONE: PlaceCode = PlaceCode(u32::MAX);
    const REMOTE: u32 = 1 << 16;

    /// The number for a place.
    #[inline(always)]
    pub const fn new(place: Place) -> PlaceCode {
        match place {
            Place::Port(i) => PlaceCode(i as u32),
            Place::Vtep(i) => PlaceCode(PlaceCode::REMOTE | i as u32),
        }
    }

    /// The place, or `None` for [`PlaceCode::NONE`].
    pub const fn place(self) -> Option<Place> {
        if self.0 == PlaceCode::NONE.0 {
            None
        } else if self.0 & PlaceCode::REMOTE != 0 {
            Some(Place::Vtep(self.0 as u16))
        } else {
            Some(Place::Port(self.0 as u16))
        }
    }
}

/// A record of the ring buffer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC (coarse) nanoseconds.
    pub at_ns: u64,
    /// An [`EventKind`].
    pub kind: u32,
    /// Index of the VNI in `VNIS`.
    pub vni_index: u32,
    /// Where the MAC was.
    pub from: PlaceCode,
    /// Where the MAC is.
    pub to: PlaceCode,
    /// The MAC.
    pub mac: Mac,
    /// Zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Event>() == 32);

impl Event {
    /// A record of the ring buffer; `None` if it has not the length of one. Any contents are an event, if not one of ours.
    pub fn from_bytes(record: &[u8]) -> Option<Event> {
        // SAFETY: `Event` is plain data: any bytes are a valid value; the length is checked.
        (record.len() == size_of::<Event>()).then(|| unsafe { record.as_ptr().cast::<Event>().read_unaligned() })
    }
}

// SAFETY: repr(C) of integers without padding (size asserted above).
unsafe impl Plain for Event {}
