//! What a scenario does to datagrams.

use super::Network;
use crate::{Captured, Datagram, Fate, FilterId, Node, Passing, Place, SegmentId, TapId};

impl<N: Node> Network<N> {
    /// Puts a datagram on a segment, from whomever it says that it is, and sends it on its way from there. Taps and filters on that segment do not
    /// see it there. A captured one is replayed so.
    pub fn inject(&mut self, segment: SegmentId, datagram: Datagram) {
        self.world.inject(segment, datagram);
    }

    /// Keeps the last so many datagrams that come by a place.
    pub fn tap(&mut self, place: Place, keep: usize) -> TapId {
        self.world.hooks.tap(place, keep)
    }

    /// What a tap has seen, oldest first.
    pub fn captured(&self, tap: TapId) -> impl DoubleEndedIterator<Item = &Captured> + ExactSizeIterator {
        self.world.hooks.captured(tap).iter()
    }

    /// Has a closure decide about each datagram that comes by a place, and change it if it likes. Of several filters the first decides that does not let
    /// it pass.
    pub fn filter(&mut self, place: Place, filter: impl FnMut(Passing<'_>) -> Fate + 'static) -> FilterId {
        self.world.hooks.filter(place, Box::new(filter))
    }

    /// Removes a filter.
    pub fn remove_filter(&mut self, filter: FilterId) {
        self.world.hooks.remove_filter(filter);
    }
}
