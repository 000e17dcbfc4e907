//! What is to happen, by time.

use std::{cmp::Ordering, collections::BinaryHeap};

use wavnet_proto::time::Time;

use crate::datagram::Flight;

/// Where a datagram is. Segments and interfaces by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before its sender's link.
    Leave { iface: u32 },
    /// On a segment; `from` is the interface by which it came, unless it came from the segment's router.
    Cross { segment: u32, from: Option<u32> },
    /// Before what lies between two attachments of a segment.
    Path { segment: u32, from: u32, to: u32 },
    /// Before its receiver's link.
    Approach { segment: u32, iface: u32 },
    /// There.
    Arrive { segment: u32, iface: u32 },
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A datagram comes to its next place.
    Flight(Box<Flight>, Stage),
    /// A host's node is started.
    Start(u32),
    /// A host's node asked to be woken about now.
    Wake(u32),
    /// The scenario wanted something done.
    Action(u32),
}

/// What happens when.
#[derive(Debug)]
struct Entry {
    at: Time,
    /// When it was put in: of two events at one time the older comes first.
    turn: u64,
    event: Event,
}

impl Ord for Entry {
    /// The first is the greatest, for a heap that gives the greatest first.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.turn).cmp(&(self.at, self.turn))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.turn == other.turn
    }
}

impl Eq for Entry {}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    turn: u64,
    in_flight: u64,
}

impl Queue {
    pub(crate) fn put(&mut self, at: Time, event: Event) {
        self.in_flight += u64::from(matches!(event, Event::Flight(..)));
        self.heap.push(Entry { at, turn: self.turn, event });
        self.turn += 1;
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        let Entry { at, event, .. } = self.heap.pop()?;
        self.in_flight -= u64::from(matches!(event, Event::Flight(..)));
        Some((at, event))
    }

    /// How many datagrams are on their way.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_in_which_they_were_put_in() {
        let mut queue = Queue::default();
        for (at, host) in [(5, 0), (3, 1), (5, 2), (3, 3), (4, 4), (5, 5)] {
            queue.put(Time::from_nanos(at), Event::Wake(host));
        }
        let mut order = Vec::new();
        while let Some((at, Event::Wake(host))) = queue.pop() {
            order.push((at.as_nanos(), host));
        }
        assert_eq!(order, [(3, 1), (3, 3), (4, 4), (5, 0), (5, 2), (5, 5)]);
        assert_eq!(queue.next_at(), None);
    }
}
