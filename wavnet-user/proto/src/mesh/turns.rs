//! Whose search or prediction is under way: one at a time, for the sake of the NATs.

use std::{collections::VecDeque, time::Duration};

use crate::{time::Time, trust::PublicKey};

/// For how long a peer's question may wait for its turn: the peer waits for the answer a little longer.
pub(super) const FRESH: Duration = Duration::from_millis(1750);

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
    /// Peers that wait for our answer, and since when.
    asked: VecDeque<(PublicKey, Time)>,
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
        self.waits_no_more(peer);
        (self.under_way, self.only_waits) = (Some(peer), false);
    }

    /// The one under way does nothing but wait for the peer's answer; or it goes on.
    pub(super) fn set_waiting(&mut self, waits: bool) {
        self.only_waits = waits;
    }

    /// This peer has asked at that time, and waits for our answer.
    pub(super) fn is_asked_by(&mut self, peer: PublicKey, at: Time) {
        match self.asked.iter_mut().find(|(waiting, _)| *waiting == peer) {
            Some((_, asked)) => *asked = at,
            None => self.asked.push_back((peer, at)),
        }
    }

    /// This peer is to be asked when nothing else is under way.
    pub(super) fn will_ask(&mut self, peer: PublicKey) {
        if !self.to_ask.contains(&peer) {
            self.to_ask.push_back(peer);
        }
    }

    /// The peer whose prediction, if it only waits, makes way for one that waits for our answer.
    pub(super) fn makes_way(&self, now: Time) -> Option<PublicKey> {
        self.under_way.filter(|_| self.only_waits && self.asked.iter().any(|(_, at)| now.since(*at) < FRESH))
    }

    /// The one under way has ended: whose turn it is.
    pub(super) fn end(&mut self, now: Time) -> Option<PublicKey> {
        (self.under_way, self.only_waits) = (None, false);
        self.asked.retain(|(_, at)| now.since(*at) < FRESH);
        let asked = self.asked.pop_front().map(|(peer, _)| peer);
        self.called = asked.or_else(|| self.to_ask.pop_front());
        self.called
    }

    /// True if it is this peer's turn.
    pub(super) fn is_called(&self, peer: PublicKey) -> bool {
        self.called == Some(peer)
    }

    /// This peer is no more: it waits no longer. Whose turn it is, if it was its.
    pub(super) fn forget(&mut self, peer: PublicKey, now: Time) -> Option<PublicKey> {
        self.waits_no_more(peer);
        self.pass(peer, now)
    }

    fn waits_no_more(&mut self, peer: PublicKey) {
        self.asked.retain(|(waiting, _)| *waiting != peer);
        self.to_ask.retain(|waiting| *waiting != peer);
    }

    /// This peer has had its turn: whose is next, if it had no use for it.
    pub(super) fn pass(&mut self, peer: PublicKey, now: Time) -> Option<PublicKey> {
        self.called.take_if(|called| *called == peer)?;
        if self.are_free() { self.end(now) } else { None }
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
        let (mut turns, now) = (Turns::default(), Time::ZERO);
        turns.begin(a);
        turns.will_ask(d);
        turns.set_waiting(true);
        assert!(!turns.are_free() && turns.makes_way(now).is_none(), "nobody waits for an answer");
        [b, c, b].into_iter().for_each(|peer| turns.is_asked_by(peer, now));
        assert_eq!(turns.makes_way(now), Some(a));
        turns.set_waiting(false);
        assert_eq!(turns.makes_way(now), None);
        assert_eq!(turns.end(now), Some(b));
        assert!(turns.are_free() && !turns.is_called(c) && turns.is_called(b));
        // What has begun by itself meanwhile does not wait any more.
        turns.begin(c);
        assert_eq!(turns.pass(b, now), None);
        assert_eq!(turns.end(now), Some(d));
        assert_eq!(turns.pass(d, now), None);
    }

    #[test]
    fn a_turn_that_is_of_no_use_is_passed_on_and_who_waits_no_more_has_none() {
        let mut rng = Rng::from_seed([4; 32]);
        let [a, b, c, d] = std::array::from_fn(|_| SecretKey::generate(&mut rng).public());
        let (mut turns, now) = (Turns::default(), Time::ZERO);
        turns.begin(a);
        turns.set_waiting(true);
        [b, c].into_iter().for_each(|peer| turns.is_asked_by(peer, now));
        assert_eq!(turns.end(now), Some(b));
        assert_eq!(turns.pass(c, now), None, "it is not its turn");
        assert_eq!(turns.pass(b, now), Some(c));
        turns.begin(a);
        turns.set_waiting(true);
        [b, d].into_iter().for_each(|peer| turns.is_asked_by(peer, now));
        let later = now + FRESH;
        assert_eq!(turns.makes_way(later), None);
        turns.is_asked_by(d, later);
        assert_eq!((turns.makes_way(later), turns.end(later)), (Some(a), Some(d)));
    }

    #[test]
    fn who_is_no_more_neither_waits_nor_keeps_its_turn() {
        let mut rng = Rng::from_seed([5; 32]);
        let [a, b, c, d] = std::array::from_fn(|_| SecretKey::generate(&mut rng).public());
        let (mut turns, now) = (Turns::default(), Time::ZERO);
        turns.begin(a);
        [b, c].into_iter().for_each(|peer| turns.is_asked_by(peer, now));
        turns.will_ask(d);
        assert_eq!((turns.forget(c, now), turns.end(now)), (None, Some(b)));
        assert_eq!(turns.forget(b, now), Some(d), "it was called, and others wait");
        turns.begin(d);
        assert_eq!((turns.forget(d, now), turns.are_free()), (None, false), "what is under way is ended by itself");
    }
}
