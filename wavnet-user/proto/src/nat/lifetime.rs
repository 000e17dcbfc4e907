//! How long an idle mapping lives (RFC 5780 section 4.6).
//!
//! Each idle time that is tried has a socket of its own, so that all can be tried at once, and so that none is a mapping
//! that had traffic before: NATs give those more time, and it is the least that others must reckon with.

use std::{net::SocketAddr, time::Duration};

use super::{
    Filtering, Lifetime, LifetimeSearch, Note, Situation,
    classifier::{Classifier, Timer},
    course::Stage,
    probe::{Outcome, Probe},
};
use crate::{time::Time, transmit::Socket};

/// What is left between survived and not survived is not searched if it is no more than this.
const FINE: Duration = Duration::from_secs(1);

/// Longer than what eight bytes can tell is not tried.
const LONGEST: Duration = Duration::from_secs(u16::MAX as u64);

/// A search, and what it has found.
#[derive(Clone, Debug)]
pub(super) struct Search {
    plan: LifetimeSearch,
    /// Round 0 has no idle time: it shows that the server and the NAT are fit for it.
    round: u8,
    steps: Vec<Step>,
    /// A mapping was reached in round 0.
    fit: bool,
    /// The server does not do it.
    unfit: bool,
    measured: bool,
    alive_after: Duration,
    dead_after: Option<Duration>,
}

/// One idle time that is tried.
#[derive(Clone, Copy, Debug)]
struct Step {
    socket: u16,
    wait: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The shell is to open the socket.
    Opening,
    /// It asks where it seems to be, which makes the mapping.
    Keeping,
    /// It is idle.
    Idle { since: Time, port: u16 },
    /// The server answers to it.
    Asking { idle: Duration },
    /// Found out, or given up. The socket is closed.
    Done,
}

impl Search {
    fn new(plan: LifetimeSearch) -> Search {
        let shortest = plan.shortest.clamp(FINE, LONGEST);
        let plan = LifetimeSearch {
            shortest,
            longest: plan.longest.clamp(shortest, LONGEST),
            sockets: plan.sockets.clamp(1, LifetimeSearch::MOST_SOCKETS),
            rounds: plan.rounds.clamp(1, LifetimeSearch::MOST_ROUNDS),
        };
        Search {
            plan,
            round: 0,
            steps: Vec::new(),
            fit: false,
            unfit: false,
            measured: false,
            alive_after: Duration::ZERO,
            dead_after: None,
        }
    }

    /// What was found; `None`: nothing yet.
    pub(super) fn found(&self) -> Option<Lifetime> {
        let Search { alive_after, dead_after, .. } = *self;
        self.measured.then_some(Lifetime { alive_after, dead_after })
    }

    /// Why nothing was found with a server, once it is over.
    pub(super) fn why_nothing(&self, server: SocketAddr) -> Option<Note> {
        let why = if self.unfit { Note::NoResponsePort(server) } else { Note::NotIdle };
        self.is_over().then_some(why)
    }

    /// The idle times of a round, in equal ratios.
    fn waits(&self) -> Vec<Duration> {
        let n = f64::from(self.plan.sockets);
        let (low, high, parts) = match (self.round, self.dead_after) {
            (0, _) => return vec![Duration::ZERO],
            // The longest is one of them.
            (1, _) | (_, None) => (self.plan.shortest, self.plan.longest, n),
            // The ends are known.
            (_, Some(dead)) => (self.alive_after.max(FINE).min(dead), dead, n + 1.0),
        };
        let ratio = (high.as_secs_f64() / low.as_secs_f64().max(1e-9)).max(1.0);
        let wait = |i: u8| Duration::try_from_secs_f64(low.as_secs_f64() * ratio.powf(f64::from(i) / parts));
        (1..=self.plan.sockets).map(|i| wait(i).unwrap_or(high).min(high)).collect()
    }

    fn is_over(&self) -> bool {
        self.steps.iter().all(|s| s.state == State::Done)
    }

    /// True if another round can tell more.
    fn goes_on(&self) -> bool {
        let wide = self.dead_after.is_some_and(|dead| dead.saturating_sub(self.alive_after) > FINE);
        !self.unfit && self.round < self.plan.rounds && (self.round == 0 && self.fit || wide)
    }

    /// The socket of a step.
    pub(super) fn socket(&self, step: u8) -> Option<Socket> {
        self.steps.get(usize::from(step)).map(|s| Socket::Extra(s.socket))
    }

    /// A step's idle time is over: its socket, and the mapping's port.
    pub(super) fn ask(&mut self, step: u8, now: Time) -> Option<(Socket, u16)> {
        let step = self.steps.get_mut(usize::from(step))?;
        let State::Idle { since, port } = step.state else { return None };
        step.state = State::Asking { idle: now.since(since) };
        Some((Socket::Extra(step.socket), port))
    }

    fn alive(&mut self, idle: Duration) {
        if self.round == 0 {
            self.fit = true;
            return;
        }
        self.measured = true;
        self.alive_after = self.alive_after.max(idle);
        // What did not survive less was lost on the way. It is asked for late if the clock jumped.
        self.dead_after = self.dead_after.filter(|dead| *dead > self.alive_after);
    }

    fn dead(&mut self, idle: Duration) {
        if self.round == 0 {
            self.unfit = true;
        } else if idle > self.alive_after {
            self.measured = true;
            self.dead_after = Some(self.dead_after.map_or(idle, |dead| dead.min(idle)));
        }
    }
}

impl Lifetime {
    /// Seconds, and whether it may be more, as [`super::NatSummary`] has them.
    pub(super) fn to_summary(self) -> (u16, bool) {
        // Less than a second is known, too: zero would say that nothing is.
        (u16::try_from(self.alive_after.as_secs()).unwrap_or(u16::MAX).max(1), self.dead_after.is_none())
    }
}

impl Classifier {
    /// Goes on to the lifetime, if that is wanted and there is one.
    pub(super) fn begin_lifetime(&mut self, now: Time) {
        let summary = self.report().summary;
        let open = summary.situation == Situation::Direct && summary.filtering == Filtering::EndpointIndependent;
        let answers = self.attempt.outcome(Probe::Confirm).and_then(Outcome::mapped).is_some();
        match self.options.lifetime {
            Some(plan) if answers && !open && !summary.unstable => {
                self.stage = Stage::Lifetime;
                self.search = Some(Search::new(plan));
                self.begin_round(now);
            }
            _ => self.finish(),
        }
    }

    fn begin_round(&mut self, now: Time) {
        let waits = self.search.as_ref().map(Search::waits).unwrap_or_default();
        let step = |wait| Step { socket: self.open_socket(now), wait, state: State::Opening };
        let steps = waits.into_iter().map(step).collect();
        if let Some(search) = &mut self.search {
            search.steps = steps;
        }
    }

    /// True if the stage is over.
    pub(super) fn advance_lifetime(&mut self, now: Time) -> bool {
        let Some(search) = &mut self.search else { return false };
        if !search.is_over() {
            return false;
        }
        if search.goes_on() {
            search.round += 1;
            self.begin_round(now);
            return false;
        }
        self.tell();
        self.finish();
        true
    }

    /// True for the socket of a step that is not over.
    pub(super) fn is_idle_socket(&self, number: u16) -> bool {
        let steps = self.search.iter().flat_map(|s| &s.steps);
        steps.into_iter().any(|s| s.socket == number && s.state != State::Done)
    }

    /// A step's socket is open, or will not be.
    pub(super) fn idle_socket(&mut self, number: u16, opened: bool) {
        let steps = self.search.iter_mut().flat_map(|s| &mut s.steps);
        let found = steps.zip(0..).find(|(s, _)| s.socket == number && s.state == State::Opening);
        let Some((step, place)) = found else { return };
        if opened {
            step.state = State::Keeping;
            self.waiting.push_back(Probe::Keep(place));
        } else {
            step.state = State::Done;
        }
    }

    /// Something came of a step's question.
    pub(super) fn conclude_idle(&mut self, now: Time, probe: Probe, place: u8, outcome: Outcome) {
        let first = self.attempt.first();
        let Some(search) = &mut self.search else { return };
        let Some(step) = search.steps.get_mut(usize::from(place)) else { return };
        match (probe, step.state, outcome) {
            (Probe::Keep(_), State::Keeping, Outcome::Answered(mapped)) if same_ip(first, mapped) => {
                step.state = State::Idle { since: now, port: mapped.port() };
                if step.wait.is_zero() {
                    self.waiting.push_back(Probe::Ask(place));
                } else {
                    self.timers.insert(Timer::Idle(place), now + step.wait);
                }
                return;
            }
            (Probe::Ask(_), State::Asking { idle }, Outcome::Answered(_)) => search.alive(idle),
            (Probe::Ask(_), State::Asking { idle }, Outcome::Silent) => {
                search.dead(idle);
                self.end_steps(|s, ended| s.wait > ended.wait, place);
            }
            (Probe::Ask(_), State::Asking { .. }, Outcome::Refused(_) | Outcome::Disobeyed) => {
                search.unfit = true;
                self.end_steps(|_, _| true, place);
            }
            // The socket cannot be asked for from the main one's address, or not at all.
            _ => {}
        }
        self.end_steps(|_, _| false, place);
    }

    /// Ends a step, and those that need not be tried any more: a mapping does not survive more than what it did not survive.
    fn end_steps(&mut self, also: impl Fn(&Step, &Step) -> bool, place: u8) {
        let steps = self.search.as_ref().map(|s| s.steps.clone()).unwrap_or_default();
        let Some(ended) = steps.get(usize::from(place)) else { return };
        for (step, n) in steps.iter().zip(0..) {
            if step.state == State::Done || n != place && !also(step, ended) {
                continue;
            }
            if step.state != State::Opening {
                self.close(step.socket);
            }
            self.timers.remove(&Timer::Socket(step.socket));
            self.timers.remove(&Timer::Idle(n));
            self.forget(Probe::Keep(n));
            self.forget(Probe::Ask(n));
            if let Some(step) = self.search.as_mut().and_then(|s| s.steps.get_mut(usize::from(n))) {
                step.state = State::Done;
            }
        }
    }
}

/// The server answers to the address that the main socket's requests come from.
fn same_ip(first: Option<SocketAddr>, mapped: SocketAddr) -> bool {
    first.is_some_and(|first| first.ip() == mapped.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn what_is_found_does_not_contradict_itself() {
        let mut search = Search::new(LifetimeSearch::default());
        (search.fit, search.round) = (true, 1);
        assert_eq!((search.found(), search.goes_on()), (None, false));
        search.alive(secs(40));
        search.dead(secs(66));
        search.dead(secs(110));
        search.dead(secs(30));
        search.alive(secs(24));
        let found = |alive, dead: Option<u64>| Some(Lifetime { alive_after: secs(alive), dead_after: dead.map(secs) });
        assert_eq!((search.found(), search.goes_on()), (found(40, Some(66)), true));
        search.alive(secs(200));
        assert_eq!((search.found(), search.goes_on()), (found(200, None), false));
    }

    #[test]
    fn waits_are_in_order_and_within_what_is_left() {
        let mut search = Search::new(LifetimeSearch::default());
        assert_eq!(search.waits(), [Duration::ZERO]);
        search.round = 1;
        let seconds = |search: &Search| search.waits().iter().map(Duration::as_secs).collect::<Vec<_>>();
        assert_eq!(seconds(&search), [24, 40, 67, 110, 182, 300]);
        search.round = 2;
        (search.alive_after, search.dead_after) = (secs(110), Some(secs(182)));
        assert_eq!(seconds(&search), [118, 127, 136, 146, 157, 169]);
        // Nothing was survived.
        (search.alive_after, search.dead_after) = (Duration::ZERO, Some(secs(24)));
        assert_eq!(seconds(&search), [1, 2, 3, 6, 9, 15]);
    }
}
