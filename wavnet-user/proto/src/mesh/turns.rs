//! Whose search or prediction is under way: one at a time, for the sake of the NATs.

use std::collections::VecDeque;

use crate::trust::PublicKey;

/// Predictions that find another one under way come when it has ended. Without that two hosts that are each busy with a third one, in step, would
/// never have time for each other.
///
/// One that only waits for the peer's answer makes way for a peer that waits for ours. Between two hosts it is always the same that asks first, so
/// hosts cannot wait for each other in a circle.
#[derive(Debug, Default)]
pub(super) struct Turns {
    under_way: Option<PublicKey>,
    only_waits: bool,
    called: Option<PublicKey>,
    /// Peers that wait for our answer.
    asked: VecDeque<PublicKey>,
    /// Peers that we are to ask.
    to_ask: VecDeque<PublicKey>,
}

impl Turns {
    /// None is under way.
    pub(super) fn are_free(&self) -> bool {
        self.under_way.is_none()
    }

    /// That for this peer begins.
    pub(super) fn begin(&mut self, peer: PublicKey) {
        [&mut self.asked, &mut self.to_ask].into_iter().for_each(|all| all.retain(|waiting| *waiting != peer));
        (self.under_way, self.only_waits) = (Some(peer), false);
    }

    /// The one under way does nothing but wait for the peer's answer; or it goes on.
    pub(super) fn set_waiting(&mut self, waits: bool) {
        self.only_waits = waits;
    }

    /// This peer waits for our answer.
    pub(super) fn is_asked_by(&mut self, peer: PublicKey) {
        queue(&mut self.asked, peer);
    }

    /// This peer is to be asked when nothing else is under way.
    pub(super) fn will_ask(&mut self, peer: PublicKey) {
        queue(&mut self.to_ask, peer);
    }

    /// The peer whose prediction, if it only waits, makes way for one that waits for our answer.
    pub(super) fn makes_way(&self) -> Option<PublicKey> {
        self.under_way.filter(|_| self.only_waits && !self.asked.is_empty())
    }

    /// The one under way has ended: whose turn it is.
    pub(super) fn end(&mut self) -> Option<PublicKey> {
        (self.under_way, self.only_waits) = (None, false);
        self.called = self.asked.pop_front().or_else(|| self.to_ask.pop_front());
        self.called
    }

    /// True, once, if it is this peer's turn.
    pub(super) fn take(&mut self, peer: PublicKey) -> bool {
        self.called.take_if(|called| *called == peer).is_some()
    }
}

fn queue(all: &mut VecDeque<PublicKey>, peer: PublicKey) {
    if !all.contains(&peer) {
        all.push_back(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rng::Rng, trust::SecretKey};

    #[test]
    fn those_who_wait_come_in_their_order_and_once() {
        let mut rng = Rng::from_seed([3; 32]);
        let [a, b, c, d] = std::array::from_fn(|_| SecretKey::generate(&mut rng).public());
        let mut turns = Turns::default();
        turns.begin(a);
        turns.will_ask(d);
        turns.set_waiting(true);
        assert!(!turns.are_free() && turns.makes_way().is_none(), "nobody waits for an answer");
        [b, c, b].into_iter().for_each(|peer| turns.is_asked_by(peer));
        assert_eq!(turns.makes_way(), Some(a));
        turns.set_waiting(false);
        assert_eq!(turns.makes_way(), None);
        assert_eq!(turns.end(), Some(b));
        assert!(turns.are_free() && !turns.take(c) && turns.take(b) && !turns.take(b));
        // What has begun by itself meanwhile does not wait any more.
        turns.begin(c);
        assert_eq!(turns.end(), Some(d));
        assert_eq!(turns.end(), None);
    }
}
