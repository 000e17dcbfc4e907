//! What a scenario does to datagrams on their way: look at them, keep them, change them, hold them back.

use std::{collections::VecDeque, fmt};

use wavnet_proto::time::Time;

use crate::{Attached, Datagram, Direction, SegmentId};

/// Where datagrams are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// On every segment that they cross, the LANs included: as they are there.
    Everywhere,
    /// On one.
    Segment(SegmentId),
    /// Before they go over the link of a host or a router.
    Link(Attached, Direction),
}

impl Place {
    fn includes(self, here: Place) -> bool {
        self == here || self == Place::Everywhere && matches!(here, Place::Segment(_))
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, as the filter left it.
    Pass,
    /// It goes no further.
    Drop,
    /// It goes on after this time.
    Delay(std::time::Duration),
    /// It goes on, and so does a copy after this time.
    Duplicate(std::time::Duration),
}

/// A datagram before a filter, which may change it.
#[derive(Debug)]
pub struct Passing<'a> {
    /// The network's time.
    pub now: Time,
    /// A segment or a link.
    pub place: Place,
    /// As it is there.
    pub datagram: &'a mut Datagram,
}

/// A filter: a closure of the scenario.
pub type Filter = Box<dyn FnMut(Passing<'_>) -> Fate>;

/// A filter in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u32);

/// A tap in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(usize);

/// A datagram that a tap saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, by the network's time.
    pub at: Time,
    /// As it was there.
    pub datagram: Datagram,
}

#[derive(Debug)]
struct Tap {
    place: Place,
    keep: usize,
    captured: VecDeque<Captured>,
}

/// The taps and filters of a network. Taps see datagrams before filters do.
#[derive(Default)]
pub(crate) struct Hooks {
    taps: Vec<Tap>,
    filters: Vec<(FilterId, Place, Filter)>,
    added: u32,
}

impl Hooks {
    pub(crate) fn tap(&mut self, place: Place, keep: usize) -> TapId {
        self.taps.push(Tap { place, keep, captured: VecDeque::new() });
        TapId(self.taps.len() - 1)
    }

    pub(crate) fn captured(&self, tap: TapId) -> &VecDeque<Captured> {
        &self.taps[tap.0].captured
    }

    pub(crate) fn filter(&mut self, place: Place, filter: Filter) -> FilterId {
        let id = FilterId(self.added);
        self.added += 1;
        self.filters.push((id, place, filter));
        id
    }

    pub(crate) fn remove_filter(&mut self, id: FilterId) {
        self.filters.retain(|(of, ..)| *of != id);
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.taps.is_empty() && self.filters.is_empty()
    }

    /// A datagram comes to a place. The first filter that does not let it pass decides.
    pub(crate) fn see(&mut self, now: Time, place: Place, datagram: &mut Datagram) -> Fate {
        for tap in self.taps.iter_mut().filter(|tap| tap.keep > 0 && tap.place.includes(place)) {
            if tap.captured.len() == tap.keep {
                tap.captured.pop_front();
            }
            tap.captured.push_back(Captured { at: now, datagram: datagram.clone() });
        }
        for (_, of, filter) in &mut self.filters {
            if of.includes(place) {
                let fate = filter(Passing { now, place, datagram: &mut *datagram });
                if fate != Fate::Pass {
                    return fate;
                }
            }
        }
        Fate::Pass
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<_> = self.filters.iter().map(|(id, place, _)| (id, place)).collect();
        f.debug_struct("Hooks").field("taps", &self.taps).field("filters", &filters).finish_non_exhaustive()
    }
}
