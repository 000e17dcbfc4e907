//! The search for a way through a symmetric NAT, agreed on with the peer.
//!
//! One side is behind a symmetric NAT and the other one is not, and lets in only what it has sent to: then ordinary probes never meet.
//! Both sides must search at the same time, and each has one search at a time: the side behind the symmetric NAT asks.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Peer,
    predict::{self, Prediction},
};
use crate::{
    mesh::{
        context::Context,
        nat::{Obstacle, obstacle},
        output::Way,
        path::WayId,
        search::{Search, Side, Step, back_off},
        timer::Timer,
    },
    time::Time,
    transmit::Socket,
    wire::{Candidate, CandidateKind, Label, Message, NatSummary, message::Search as Said},
};

/// From the moment when both sides know each other until a search: ordinary probes come first.
const PATIENCE: Duration = Duration::from_millis(600);
/// Who has said nothing of its NAT after so many tries of ordinary probes will not.
const LISTEN: u32 = 2;
/// After a question that was not answered, or answered with *later*: as a rule the peer is about to learn what is in front of it. It
/// doubles up to [`LATER`].
const SOON: Duration = Duration::from_millis(250);
const LATER: Duration = Duration::from_secs(2);
/// So many questions without an answer, and the next pauses double on up to [`SELDOM`]. A peer that says *later* is there: as after a few.
const MANY: u32 = 30;
const FEW: u32 = 3;
const SELDOM: Duration = Duration::from_secs(30);

/// After a search the next one is as soon as if it were the first, because somebody says that one of both is elsewhere, no sooner than this.
const START_OVER: Duration = Duration::from_secs(300);
/// Between two looks whether what a search has found still has to show where it leads.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// How far a search is.
#[derive(Debug)]
pub(super) struct Progress {
    search: Search,
    /// Sockets that are open for it, in the order in which it numbers them.
    sockets: Vec<u16>,
}

impl Peer {
    /// Our part in a search; `None` while there is nothing to aim it at.
    fn side(&self, cx: &Context<'_>) -> Option<Side> {
        self.target()?;
        match obstacle(&cx.local.nat, &self.nat)? {
            Obstacle::Ours => Some(Side::Hard),
            Obstacle::Theirs => Some(Side::Easy),
            // So many ports on both sides would have to meet that no router could bear it.
            Obstacle::Both => None,
        }
    }

    /// When the next search is due, if one can find a way and it is ours to ask. Predictions come before the first one, and then do not put it off.
    fn search_due(&self, cx: &Context<'_>) -> Option<Time> {
        let asks = cx.local.settings.search && self.side(cx) == Some(Side::Hard);
        let rested = || self.search_over.filter(|_| self.searches > 0).map(|at| at + back_off(self.searches));
        asks.then(|| rested().unwrap_or(cx.now))
    }

    /// True if NATs have forgotten the last search with this peer.
    fn is_rested(&self, cx: &Context<'_>) -> bool {
        self.search.is_none() && is_rested(self.search_over, cx.now)
    }

    /// Whether predictions in vain may be followed by others. A NAT that only seems to count is to be searched first.
    pub(super) fn may_predict_anew(&self, cx: &Context<'_>) -> bool {
        self.is_rested(cx) && (self.searches > 0 || self.is_put_off() || self.search_due(cx).is_none())
    }

    /// Whether ports are to be predicted now, before (or in place of) a search.
    pub(super) fn is_to_predict(&self, cx: &Context<'_>) -> bool {
        let is_due = self.searches > 0 && self.search_due(cx).is_some_and(|due| due <= cx.now);
        let waits = is_due && !self.is_put_off() && cx.out.may_search(cx.now);
        !waits && self.may_predict(cx)
    }

    /// True if the peer has no time for a search: ports may be predicted meanwhile.
    fn is_put_off(&self) -> bool {
        self.asks >= FEW
    }

    /// Whether a search is worth it; if so, when.
    pub(in crate::mesh) fn consider_search(&mut self, cx: &mut Context<'_>) {
        self.note_obstacle(cx);
        let idle = self.search.is_none() && self.prediction.is_none();
        // Who has not said what its NAT is like is about to, as a rule; a prediction before that is made for another kind.
        let predicts = self.is_to_predict(cx);
        let is_early = predicts && self.nat == NatSummary::default() && self.punches < LISTEN;
        if !cx.local.settings.search || !idle || is_early || self.has_direct(cx.now) {
            return;
        }
        let at = match self.search_due(cx) {
            _ if predicts && self.predictions > 0 => cx.now + predict::PAUSE,
            _ if predicts => cx.now + PATIENCE,
            Some(due) => due.max(cx.now + PATIENCE),
            None => return,
        };
        cx.timers.set_no_later(Timer::Search(self.key), at);
    }

    /// What was tried in vain before says nothing of what stands in the way now.
    fn note_obstacle(&mut self, cx: &mut Context<'_>) {
        let Some(obstacle) = obstacle(&cx.local.nat, &self.nat) else { return };
        let now = (obstacle, self.step(cx));
        if self.obstacle.is_some_and(|before| before != now) {
            if !self.is_rested(cx) {
                // Not on top of what is in the NATs still. When a search is over this is considered anew.
                let at = self.search_over.filter(|_| self.search.is_none()).map(|at| at + LEFTOVERS);
                return at.into_iter().for_each(|at| cx.timers.set_no_later(Timer::Search(self.key), at.max(cx.now)));
            }
            self.renew_predictions(cx);
            self.start_over(cx.now);
        }
        self.obstacle = Some(now);
    }

    /// [`Timer::Search`]: asks, or goes on.
    pub(in crate::mesh) fn search(&mut self, cx: &mut Context<'_>) {
        if self.prediction.is_some() {
            return self.go_on_predicting(cx);
        }
        if self.search.is_some() {
            return self.go_on(cx);
        }
        if self.has_direct(cx.now) || !self.is_connected() {
            return;
        }
        self.note_obstacle(cx);
        let mut pause = LATER;
        if cx.out.turns.is_called(self.key) && self.answer_told(cx) {
            return;
        }
        if self.is_to_predict(cx) {
            if cx.out.turns.are_free() {
                return self.predict(cx, Vec::new());
            }
            cx.out.turns.will_ask(self.key);
        } else {
            match self.search_due(cx) {
                None => return,
                Some(due) if due > cx.now => return cx.timers.set(Timer::Search(self.key), due),
                Some(_) if cx.out.turns.are_free() && cx.out.may_search(cx.now) => pause = self.ask_for_search(cx),
                Some(_) => {}
            }
        }
        let jitter = Duration::from_millis(cx.rng.below(500)).min(pause / 4);
        cx.timers.set(Timer::Search(self.key), cx.now + pause + jitter);
    }

    /// Asks the peer to begin with us; when to ask again.
    fn ask_for_search(&mut self, cx: &mut Context<'_>) -> Duration {
        let longest = if self.asks < MANY { LATER } else { SELDOM };
        let pause = SOON.saturating_mul(1 << self.asks.min(7)).min(longest);
        self.asks = self.asks.saturating_add(1);
        let ask = Said { transaction: cx.rng.u64(), phase: Said::ASK };
        self.asked.rotate_right(1);
        self.asked[0] = Some(ask.transaction);
        self.say_anyhow(cx, &[Message::Search(ask)]);
        pause
    }

    pub(super) fn hear_search(&mut self, cx: &mut Context<'_>, said: Said) {
        let side = self.side(cx).filter(|_| cx.local.settings.search && !self.has_direct(cx.now));
        if said.phase == Said::LATER && self.asked.contains(&Some(said.transaction)) {
            // It is there, and busy: who waits for long is not to come after all who begin to ask.
            self.asks = self.asks.min(FEW);
        }
        match (said.phase, side) {
            // GO was lost.
            (Said::ASK, Some(Side::Easy)) if self.search.is_some() => {
                self.say_anyhow(cx, &[Message::Search(Said { phase: Said::GO, ..said })]);
            }
            (Said::ASK, Some(Side::Easy)) => {
                let rested = self.search_over.is_none_or(|at| cx.now.since(at) >= back_off(self.searches) / 2);
                let free = rested && cx.out.turns.are_free() && cx.out.may_search(cx.now);
                let phase = if free { Said::GO } else { Said::LATER };
                self.say_anyhow(cx, &[Message::Search(Said { phase, ..said })]);
                if free {
                    self.begin(cx, Side::Easy);
                }
            }
            // Whoever says so unasked would have us search at its pace and not at ours.
            (Said::GO, Some(Side::Hard))
                if self.asked.contains(&Some(said.transaction))
                    && cx.out.turns.are_free()
                    && cx.out.may_search(cx.now) =>
            {
                self.begin(cx, Side::Hard);
            }
            _ => {}
        }
    }

    fn begin(&mut self, cx: &mut Context<'_>, side: Side) {
        cx.out.turns.begin(self.key);
        (self.asks, self.asked) = (0, Default::default());
        self.searches = self.searches.saturating_add(1);
        self.search = Some(Progress { search: Search::new(side, cx.now, cx.rng), sockets: Vec::new() });
        self.go_on(cx);
    }

    fn go_on(&mut self, cx: &mut Context<'_>) {
        let target = self.target();
        let Some(progress) = &mut self.search else { return };
        let (step, next) = progress.search.step(cx.now);
        if step == Step::Over {
            let waits = |p: &Progress| p.search.may_wait(cx.now) && self.has_found(&p.sockets);
            if self.search.as_ref().is_some_and(waits) {
                return cx.timers.set(Timer::Search(self.key), cx.now + LOOK);
            }
            self.stop_search(cx);
            return self.consider_search(cx);
        }
        if let Step::Sockets { count, open: true, .. } = step {
            progress.sockets.extend(cx.out.open_sockets(count.into()));
        }
        cx.timers.set(Timer::Search(self.key), next);
        let Some(mapped) = target else { return };
        let direct = |socket, remote| Way { socket, remote, label: Label::ZERO };
        let ways: Vec<Way> = match step {
            Step::Sockets { first, count, .. } => {
                let sockets = progress.sockets.iter().skip(first.into()).take(count.into());
                sockets.map(|n| direct(Socket::Extra(*n), mapped)).collect()
            }
            Step::Ports(ports) => {
                ports.into_iter().map(|port| direct(Socket::Main, (mapped.ip(), port).into())).collect()
            }
            Step::Over => Vec::new(),
        };
        self.scatter(cx, &ways);
    }

    /// True if something has come by one of these sockets that has yet to show where it leads: on long ways that takes longer.
    pub(super) fn has_found(&self, sockets: &[u16]) -> bool {
        let is_by = |socket| matches!(socket, Socket::Extra(n) if sockets.contains(&n));
        self.paths.iter().any(|p| !p.proven && is_by(p.way.socket))
    }

    /// Where the peer's one mapping is, if a server has seen it at that address.
    pub(super) fn target(&self) -> Option<SocketAddr> {
        let is_target =
            |c: &&Candidate| c.kind == CandidateKind::Mapped && c.addr.is_ipv4() && self.is_seen_at(c.addr.ip());
        self.candidates.iter().find(is_target).map(|c| c.addr)
    }

    /// True if a search could help, but no server has seen the peer where it says that it is: it has moved, and we were not told, or its word is all
    /// there is.
    pub(super) fn is_unseen(&self, cx: &Context<'_>) -> bool {
        let tells = self.candidates.iter().any(|c| c.kind == CandidateKind::Mapped && c.addr.is_ipv4());
        let helps = cx.local.settings.search && obstacle(&cx.local.nat, &self.nat).is_some();
        tells && helps && self.target().is_none() && !self.has_direct(cx.now)
    }

    pub(super) fn is_seen_at(&self, ip: IpAddr) -> bool {
        self.seen_at.contains(&Some(ip))
    }

    /// A server has seen the peer there.
    pub(super) fn note_seen(&mut self, now: Time, ip: IpAddr) {
        if !self.is_seen_at(ip) {
            self.start_over(now);
            self.seen_at.rotate_right(1);
            self.seen_at[0] = Some(ip);
        }
    }

    /// A direct path has lasted: no attempt before it was in vain.
    pub(super) fn note_lasted(&mut self) {
        if self.paths.iter().any(|path| !path.way.is_relayed() && path.has_lasted()) {
            self.forget_attempts();
        }
    }

    /// Attempts of before say nothing of the next ones.
    pub(in crate::mesh) fn forget_attempts(&mut self) {
        (self.searches, self.asks, self.predictions) = (0, 0, 0);
    }

    /// The same, on somebody's word. He is not to have routers searched at his pace.
    pub(in crate::mesh) fn start_over(&mut self, now: Time) {
        if self.search.is_none() && self.search_over.is_none_or(|at| now.since(at) >= START_OVER) {
            self.forget_attempts();
        }
    }

    /// True if this extra socket is this peer's.
    pub(super) fn owns(&self, n: u16) -> bool {
        let searches = self.search.as_ref().is_some_and(|progress| progress.sockets.contains(&n));
        let predicts = self.prediction.as_ref().is_some_and(|prediction| prediction.owns(n));
        searches || predicts || self.paths.iter().any(|p| p.way.socket == Socket::Extra(n))
    }

    /// Ends a search: because of a direct path, or in vain. Sockets that no path needs are closed.
    pub(in crate::mesh) fn stop_search(&mut self, cx: &mut Context<'_>) {
        let (search, prediction) = (self.search.take(), self.prediction.take());
        if search.is_none() && prediction.is_none() {
            return;
        }
        cx.timers.stop(Timer::Search(self.key));
        if let Some(next) = cx.out.turns.end(cx.now) {
            cx.timers.set_no_later(Timer::Search(next), cx.now);
        }
        if search.is_some() {
            self.search_over = Some(cx.now);
        }
        if prediction.is_some() && self.has_direct(cx.now) {
            self.predictions = 0;
        }
        // What predictions in vain have left there counts as well.
        let in_vain = prediction.as_ref().is_some_and(Prediction::has_sent) && !self.has_direct(cx.now);
        if search.is_some() || in_vain {
            cx.out.searched = Some(cx.now);
        }
        let sockets = search.map(|s| s.sockets).into_iter().chain(prediction.map(Prediction::into_sockets));
        for n in sockets.flatten() {
            let socket = Socket::Extra(n);
            let in_vain: Vec<WayId> =
                self.paths.iter().filter(|p| p.way.socket == socket && !p.proven).map(|p| p.id).collect();
            in_vain.into_iter().for_each(|id| self.drop_path(cx, id));
            if !self.owns(n) {
                cx.out.close_socket(n);
            }
        }
    }
}

/// For how long a NAT keeps what a search has left there; as long is there no other.
const LEFTOVERS: Duration = Duration::from_secs(35);

/// True if what an earlier search has left in NATs is gone.
pub(in crate::mesh) fn is_rested(searched: Option<Time>, now: Time) -> bool {
    searched.is_none_or(|at| now.since(at) >= LEFTOVERS)
}
