//! One way to a peer: whether it leads there, and how well.

use std::{cmp::Reverse, collections::VecDeque, time::Duration};

use super::{
    context::Context,
    output::{PathId, PathKind, Way},
    pulse::{Health, Pulses},
};
use crate::{rng::Rng, time::Time, wire::message::Probe};

/// After so many probes without an answer a way leads nowhere.
const TRIES: u8 = 9;
/// And after so many, if there is a path already.
const BRIEF: u8 = 2;
/// Probes whose answers are waited for.
const ASKED: usize = 8;
/// Before the second probe; the pause doubles up to [`LONGEST`].
const FIRST_PAUSE: Duration = Duration::from_millis(60);
const LONGEST: Duration = Duration::from_secs(1);
/// How long a path that has died must work before frames leave another one for it; it doubles with each death up to a minute.
const PROBATION: Duration = Duration::from_secs(1);
/// What the peer needs to say that it takes frames from a path, at the most.
const SETTLING: Duration = Duration::from_secs(1);
/// A way that frames are not taken from is not watched. Who has not shown for so long that it works may have died meanwhile.
const UNWATCHED: Duration = Duration::from_secs(2);
/// Who has lived for so long is as one that has never died.
const FORGIVEN: Duration = Duration::from_secs(300);

/// A path that was found by a search, or a prediction, was not found in vain if it works for so long.
const LASTED: Duration = Duration::from_secs(60);

/// How long a proof lasts.
const PROOF: Duration = Duration::from_secs(60);
/// Probes without an answer after which there is none; and the shortest pause between them.
const CHALLENGES: u8 = 5;
const CHALLENGE: Duration = Duration::from_millis(200);

/// What is to be done to find out whether the peer itself is at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Nothing, for now.
    Wait,
    /// Probe it.
    Ask,
    /// It is not.
    Failed,
}

/// Number of a way, unique among those that there are. (A [`PathId`] is given to those that frames are taken from.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct WayId(pub(super) u32);

/// When a peer said something: by which session, and as which of its datagrams. The latest word counts, and not the last that arrives.
pub(super) type Said = (u32, u64);

/// One way to a peer.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) id: WayId,
    pub(super) way: Way,
    pub(super) kind: PathKind,
    /// Frames from there are taken: the shell was told, and calls it so.
    pub(super) slot: Option<PathId>,
    /// Since when; and the peer has answered a probe since, and so knows it.
    served: Time,
    is_told: bool,
    /// The peer has answered a probe of ours from there: it is the peer's.
    pub(super) proven: bool,
    /// It has done so at some time.
    pub(super) known: bool,
    /// The peer says the same of us: frames that we send there are taken.
    pub(super) taken: bool,
    /// The peer's frames come by it.
    pub(super) theirs: bool,
    said: Said,
    /// Probes under way.
    asked: VecDeque<(u64, Time)>,
    tries: u8,
    last_try: Option<Time>,
    proven_at: Time,
    deaths: u8,
    /// When the last thing left that was answered.
    verified: Time,
    /// When the last probe was answered, and how many were not since then that should have been.
    proved: Time,
    challenges: u8,
    /// When the peer last said something by it, or answered.
    heard: Time,
    /// The relay no longer has its label, says somebody.
    unlabelled: bool,
    /// A pulse is wanted before it is due.
    pub(super) hurry: bool,
    /// How often more the peer is to be told that frames take it.
    pub(super) tell_selected: u8,
    pub(super) pulses: Pulses,
}

impl Path {
    pub(super) fn new(id: WayId, way: Way, kind: PathKind, idle: Duration) -> Path {
        Path {
            id,
            way,
            kind,
            slot: None,
            served: Time::ZERO,
            is_told: false,
            proven: false,
            known: false,
            taken: false,
            theirs: false,
            said: (0, 0),
            asked: VecDeque::new(),
            tries: 0,
            last_try: None,
            proven_at: Time::ZERO,
            deaths: 0,
            verified: Time::ZERO,
            proved: Time::ZERO,
            challenges: 0,
            heard: Time::ZERO,
            unlabelled: false,
            hurry: false,
            tell_selected: 0,
            pulses: Pulses::new(idle),
        }
    }

    /// Makes a probe's transaction.
    pub(super) fn probe(&mut self, now: Time, rng: &mut Rng) -> u64 {
        let transaction = rng.u64();
        if self.asked.len() == ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((transaction, now));
        self.opened(now);
        transaction
    }

    /// An opener went out in a probe's stead, or nothing might.
    pub(super) fn opened(&mut self, now: Time) {
        (self.tries, self.last_try) = (self.tries.saturating_add(1), Some(now));
    }

    /// What a probe, or an answer, says of us.
    pub(super) fn flags(&self) -> u8 {
        if self.slot.is_some() { Probe::TAKEN } else { 0 }
    }

    /// Notes the peer's flags. True if it no longer takes frames from here.
    pub(super) fn hear_flags(&mut self, said: Said, flags: u8) -> bool {
        if said < self.said {
            return false;
        }
        self.said = said;
        let before = std::mem::replace(&mut self.taken, flags & Probe::TAKEN != 0);
        before && !self.taken
    }

    pub(super) fn last_probed(&self) -> Option<Time> {
        self.last_try
    }

    /// True if this answers a probe of ours.
    pub(super) fn answered(&mut self, now: Time, transaction: u64) -> bool {
        let place = self.asked.iter().position(|(t, _)| *t == transaction);
        let Some((_, sent)) = place.and_then(|place| self.asked.remove(place)) else { return false };
        self.pulses.seen(Some(now.since(sent)));
        self.verified = self.verified.max(sent);
        self.is_told = self.slot.is_some();
        (self.proved, self.challenges) = (now, 0);
        self.hear(now);
        if !self.proven {
            (self.proven, self.known, self.proven_at) = (true, true, now);
        }
        true
    }

    /// True if this answers a pulse of ours.
    pub(super) fn pulsed(&mut self, at: Time, number: u16) -> bool {
        let Some(sample) = self.pulses.answered(at, number) else { return false };
        self.verified = self.verified.max(at - sample);
        self.hear(at);
        true
    }

    /// The peer says something by it.
    pub(super) fn hear(&mut self, now: Time) {
        (self.heard, self.unlabelled) = (self.heard.max(now), false);
    }

    /// When the peer last did so.
    pub(super) fn last_heard(&self) -> Time {
        self.heard
    }

    /// The relay does not know its label, says somebody.
    pub(super) fn unlabel(&mut self) {
        self.unlabelled = true;
    }

    /// When the last thing left by it that was answered.
    pub(super) fn last_worked(&self) -> Time {
        self.verified
    }

    /// True if it works as far as is known, or it is about to show whether it does.
    pub(super) fn is_promising(&self, now: Time) -> bool {
        let is_new = !self.known && self.tries < TRIES;
        !self.unlabelled && (self.seems_good(now) || is_new)
    }

    /// True if it seems to work, and has shown so since there was reason to doubt it.
    pub(super) fn works(&self, now: Time, doubted: Option<Time>) -> bool {
        self.is_usable(now) && self.seems_good(now) && doubted.is_none_or(|since| self.verified >= since)
    }

    /// Whether the peer itself is still there. Pulses do not say: whoever has its address now, and knows us, answers them.
    pub(super) fn challenge(&mut self, now: Time) -> Challenge {
        let since = self.last_try.map_or(Duration::MAX, |at| now.since(at));
        if self.challenges == 0 && !self.is_proof_over(now) || since < self.pulses.patience().max(CHALLENGE) {
            return Challenge::Wait;
        }
        self.challenges = self.challenges.saturating_add(1);
        if self.challenges > CHALLENGES { Challenge::Failed } else { Challenge::Ask }
    }

    /// True if the peer itself is to be asked for anew.
    pub(super) fn is_proof_over(&self, now: Time) -> bool {
        now.since(self.proved) >= PROOF
    }

    /// Somebody else says something from there.
    pub(super) fn contest(&mut self) {
        self.challenges = self.challenges.max(1);
    }

    /// True if an answer is awaited.
    pub(super) fn is_challenged(&self) -> bool {
        self.challenges > 0
    }

    /// True if nothing speaks against it.
    pub(super) fn seems_good(&self, now: Time) -> bool {
        self.proven && self.pulses.health(now) == Health::Good
    }

    /// True if it is too early to tell.
    pub(super) fn is_untried(&self) -> bool {
        !self.proven && self.tries < 4
    }

    /// When to probe it (again); `None`: there is nothing to find out, or no hope.
    pub(super) fn next_probe(&self, now: Time) -> Option<Time> {
        let is_told = self.slot.is_none() || self.is_told;
        if self.proven && self.taken && is_told || self.tries >= TRIES {
            return None;
        }
        let pause = FIRST_PAUSE * 2u32.pow(u32::from(self.tries.saturating_sub(1)).min(5));
        Some(self.last_try.map_or(now, |at| at + pause.min(LONGEST)))
    }

    /// Frames from there are taken from now on. It may have been proved long ago: the peer is to hear of it by a probe, and that may be lost.
    pub(super) fn serve(&mut self, now: Time, slot: PathId) {
        (self.slot, self.served, self.is_told) = (Some(slot), now, false);
        // These do not say so yet.
        self.asked.clear();
        self.retry();
    }

    /// When its next pulse is due, or it is to be looked whether an answer has come.
    pub(super) fn due(&self, cx: &Context<'_>) -> Time {
        cx.local.beat(&self.pulses, self.pulses.next(cx.now))
    }

    /// Starts over: the way may lead there now.
    pub(super) fn retry(&mut self) {
        (self.tries, self.last_try) = (0, None);
    }

    /// Starts over, and gives up soon.
    pub(super) fn retry_briefly(&mut self) {
        (self.tries, self.last_try) = (TRIES - BRIEF, None);
    }

    /// It must show anew that it works: answers to what was asked before say nothing any more.
    pub(super) fn doubt(&mut self) {
        (self.proven, self.taken) = (false, false);
        self.asked.clear();
        self.retry();
    }

    /// True if it has worked for so long that what has found it was worth it.
    pub(super) fn has_lasted(&self) -> bool {
        self.proven && self.taken && self.proved.since(self.proven_at) >= LASTED
    }

    /// It has died.
    pub(super) fn died(&mut self, now: Time) {
        if now.since(self.proven_at) >= FORGIVEN {
            self.deaths = 0;
        }
        (self.deaths, self.challenges) = (self.deaths.saturating_add(1), 0);
        self.doubt();
    }

    /// True if frames may leave a path that works for this one.
    fn is_trusted(&self, now: Time) -> bool {
        let probation = PROBATION * 2u32.pow(u32::from(self.deaths.saturating_sub(1)).min(6));
        self.deaths == 0 || now.since(self.proven_at) >= probation
    }

    /// When to look whether to probe it or to give it up.
    pub(super) fn next_look(&self, now: Time) -> Option<Time> {
        let given_up = (!self.proven && self.tries >= TRIES).then(|| self.last_try.map_or(now, |at| at + LONGEST));
        self.next_probe(now).or(given_up)
    }

    /// True if it was probed often enough in vain.
    pub(super) fn is_hopeless(&self, now: Time) -> bool {
        !self.proven && self.tries >= TRIES && self.last_try.is_some_and(|at| now.since(at) >= LONGEST)
    }

    /// True if frames can be sent by it.
    pub(super) fn is_usable(&self, now: Time) -> bool {
        self.slot.is_some() && self.proven && self.taken && self.pulses.health(now) != Health::Dead
    }

    /// True if it has not shown lately that it works. Of one that is watched that says nothing: those that idle are pulsed seldom.
    pub(super) fn is_old(&self, now: Time) -> bool {
        now.since(self.verified) >= UNWATCHED
    }

    /// True if it works, frames are taken from it, and the peer has hardly had the time to say that it takes frames from there.
    pub(super) fn is_settling(&self, now: Time) -> bool {
        self.seems_good(now) && !self.taken && now.since(self.served) < SETTLING
    }

    /// True if it has not shown that it works since frames are taken from it, nor for a while before that.
    fn is_uncertain(&self) -> bool {
        self.is_old(self.served)
    }

    /// True if frames can be sent by it, and nothing is known that speaks against it.
    pub(super) fn is_sound(&self, now: Time, doubted: Option<Time>) -> bool {
        self.is_usable(now) && !self.is_uncertain() && !self.is_stale(now, doubted)
    }

    /// True if it has not shown that it still works, though it had the time to, since there was reason to doubt it.
    pub(super) fn is_stale(&self, now: Time, doubted: Option<Time>) -> bool {
        let had_time = |since: Time| now.since(since) >= self.pulses.patience();
        let is_overdue = |since: Time| self.verified < since && had_time(since);
        self.unlabelled || self.is_uncertain() && had_time(self.served) || doubted.is_some_and(is_overdue)
    }

    /// Of ways that are not known to work the one for which this is the greatest should be tried first: by when it last worked, unless its relay no longer has its label.
    pub(super) fn freshness(&self) -> impl Ord + use<> {
        (!self.unlabelled, self.verified, !self.way.is_relayed(), Reverse(self.rtt()))
    }

    /// Smoothed round trip, and how far from it others are.
    pub(super) fn rtt(&self) -> Option<(Duration, Duration)> {
        self.pulses.rtt().map(|r| (r.smoothed, r.deviation))
    }

    /// True if frames should leave `other` for this one: it is direct and the other is not; or it is on the LAN and no slower; or it is faster,
    /// by a fifth and by more than both vary.
    pub(super) fn is_better_than(&self, other: &Path, now: Time) -> bool {
        const HAIR: Duration = Duration::from_millis(1);
        if !self.is_trusted(now) {
            return false;
        }
        let of = |path: &Path| path.rtt().unwrap_or((Duration::from_secs(10), Duration::ZERO));
        let ((ours, varies), (theirs, theirs_varies)) = (of(self), of(other));
        match (self.kind, other.kind) {
            (PathKind::Lan | PathKind::Direct, PathKind::Relayed) => true,
            (PathKind::Relayed, PathKind::Lan | PathKind::Direct) => false,
            (PathKind::Lan, PathKind::Direct) => ours <= theirs + HAIR,
            _ => ours * 5 / 4 + HAIR + varies.max(theirs_varies) < theirs,
        }
    }
}

#[cfg(test)]
mod tests;
