//! The relayed ways to a peer: how they are kept while frames take a direct path, and how a server is asked for another one, or where the peer is.
//!
//! A relay has room for so many pairs, and each pulse over it costs the server one. So a relayed way that only stands by is pulsed once a
//! minute while frames flow, and not at all while none do: both sides and the server then forget it. When the direct path is in doubt, or
//! frames begin to flow, CONNECT brings it back.

use std::time::Duration;

use super::{Context, Peer, Time, Timer};
use crate::mesh::path::{Path, WayId};

/// Between two pulses over a relayed way that stands by while frames flow: it is to be there when the direct path dies.
const STANDBY: Duration = Duration::from_secs(60);
/// One by which nothing has come for so long is given up. The server keeps it for longer.
const UNUSED: Duration = Duration::from_secs(150);
/// Frames that flow for so long are more than a broadcast now and then.
const SUSTAINED: Duration = Duration::from_secs(5);
/// Until a server is asked for a relayed way once more; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// A peer that cannot be reached is sought out of turn no more often: what was asked may still be answered.
const SOUGHT: Duration = Duration::from_secs(2);

/// Whether frames flow, and when a server was asked for a relayed way.
#[derive(Debug, Default)]
pub(super) struct Standby {
    /// Since when frames flow; and when they last had flowed for a while.
    since: Option<Time>,
    flowed: Option<Time>,
    asks: u32,
    last: Time,
    next: Time,
    /// When the peer was last sought out of turn.
    sought: Time,
    /// Servers are to tell the peer where we are now.
    moved: bool,
    /// What was asked last was only where the peer is: there was a relayed way.
    only_where: bool,
}

impl Standby {
    /// Frames flow, or no longer do.
    fn set_busy(&mut self, now: Time, busy: bool) {
        if self.has_traffic(now) {
            self.flowed = Some(now);
        }
        self.since = busy.then_some(now);
    }

    /// Servers are asked once more, then or as soon as they may be.
    fn hurry(&mut self, at: Time) {
        let soonest = if self.last == Time::ZERO { at } else { at.max(self.last + FIRST_PAUSE) };
        self.next = self.next.min(soonest);
    }

    /// Frames flow, or did a moment ago.
    fn has_traffic(&self, now: Time) -> bool {
        let flows = self.since.is_some_and(|since| now.since(since) >= SUSTAINED);
        flows || self.flowed.is_some_and(|at| now.since(at) < STANDBY)
    }
}

impl Peer {
    /// Frames flow to the peer, or no longer do.
    pub(super) fn note_traffic(&mut self, cx: &mut Context<'_>, busy: bool) {
        self.standby.set_busy(cx.now, busy);
        if !busy {
            return;
        }
        let at = cx.now + SUSTAINED;
        let relayed: Vec<WayId> = self.paths.iter().filter(|p| p.way.is_relayed()).map(|p| p.id).collect();
        // One that is there now may be given up until then.
        cx.timers.set_no_later(Timer::Connect(self.key), at);
        relayed.into_iter().for_each(|id| cx.timers.set_no_later(Timer::Pulse(self.key, id), at));
    }

    /// True if frames take a direct path, and this one is a relay's.
    pub(super) fn stands_by(&self, path: &Path) -> bool {
        path.way.is_relayed() && self.paths.selected().is_some_and(|p| !p.way.is_relayed())
    }

    /// How long a path may be silent.
    pub(super) fn idle(&self, cx: &Context<'_>, path: &Path) -> Duration {
        match self.stands_by(path) {
            true if self.standby.has_traffic(cx.now) => STANDBY,
            true => Duration::MAX,
            false => cx.local.idle(&self.nat),
        }
    }

    /// What a path that is not due is looked at for: when it will have been unused for too long. `None`: it is to be pulsed.
    pub(super) fn rests(&self, cx: &Context<'_>, path: &Path) -> Option<Time> {
        let is_quiet = !path.hurry && !path.is_challenged() && path.seems_good(cx.now);
        let rests = self.stands_by(path) && is_quiet && path.due(cx) > cx.now;
        rests.then(|| self.gives_up(path).min(path.due(cx)))
    }

    /// When a relayed way that stands by is given up.
    pub(super) fn gives_up(&self, path: &Path) -> Time {
        if self.stands_by(path) && !path.theirs { path.last_heard() + UNUSED } else { Time::END }
    }

    /// Frames take another path: relayed ways are needed more than before, or less.
    pub(super) fn pace_relays(&mut self, cx: &mut Context<'_>) {
        let relayed = self.paths.iter().filter(|p| p.way.is_relayed() && p.proven);
        let paces: Vec<(WayId, Duration, Time)> = relayed.map(|p| (p.id, self.idle(cx, p), self.gives_up(p))).collect();
        for (id, idle, gives_up) in paces {
            let Some(path) = self.paths.get_mut(id) else { continue };
            path.pulses.set_idle(idle);
            let at = path.pulses.next(cx.now).min(gives_up);
            cx.timers.set_no_later(Timer::Pulse(self.key, id), at.max(cx.now));
        }
    }

    /// This host is elsewhere, as a server sees it. Servers tell those with whom we share a relayed way; others hear of it by CONNECT.
    pub(in crate::mesh) fn tell_moved(&mut self, cx: &mut Context<'_>) {
        if self.is_connected() && !self.has_relay(cx.now) {
            self.standby.moved = true;
            self.standby.hurry(cx.now);
            self.seek_servers(cx);
        }
    }

    /// True if there is no path to it, and there may be one.
    pub(in crate::mesh) fn is_lost(&self, now: Time) -> bool {
        (self.is_connected() || self.listed) && !self.paths.iter().any(|path| path.is_usable(now))
    }

    /// It may be to be reached again: servers are asked, and both sides try all addresses, at that time.
    pub(in crate::mesh) fn seek_anew(&mut self, cx: &mut Context<'_>, at: Time) {
        if cx.now.since(self.standby.sought) < SOUGHT {
            return;
        }
        (self.standby.sought, self.standby.asks, self.connects) = (cx.now, 0, 0);
        self.standby.hurry(at);
        if self.is_connected() {
            (self.punches, self.proposed) = (0, false);
            cx.timers.set_no_later(Timer::Punch(self.key), at);
            self.seek_servers(cx);
        } else {
            cx.timers.set_no_later(Timer::Connect(self.key), at);
        }
    }

    fn has_relay(&self, now: Time) -> bool {
        self.paths.iter().any(|p| p.way.is_relayed() && p.is_promising(now))
    }

    fn wants_relay(&self, now: Time) -> bool {
        let direct = || self.paths.selected().is_some_and(|p| !p.way.is_relayed() && p.works(now, self.doubted));
        let wanted = || self.standby.moved || self.standby.has_traffic(now) || !direct();
        !self.has_relay(now) && wanted()
    }

    /// True if a relayed way is wanted from servers, or their word where the peer is.
    fn wants_servers(&self, cx: &Context<'_>) -> bool {
        self.is_connected() && (self.wants_relay(cx.now) || self.is_unseen(cx))
    }

    /// Has servers asked for a relayed way or where the peer is, if that is wanted.
    pub(in crate::mesh) fn seek_servers(&mut self, cx: &mut Context<'_>) {
        if self.standby.only_where && self.wants_relay(cx.now) {
            // That is more urgent than what was asked in vain before.
            (self.standby.only_where, self.standby.asks) = (false, 0);
            self.standby.hurry(cx.now);
        }
        // Frames that have just begun to flow may go on.
        let sustained = self.standby.since.map(|since| since + SUSTAINED).filter(|at| *at > cx.now);
        if let Some(at) = sustained {
            cx.timers.set_no_later(Timer::Connect(self.key), at);
        }
        if self.wants_servers(cx) {
            cx.timers.set_no_later(Timer::Connect(self.key), self.standby.next.max(cx.now));
        }
    }

    /// Which of the servers that have the peer are to be asked now: those that relay, or all if it is about where we are, or the peer is. The next
    /// time is later.
    pub(super) fn servers_to_ask<'a>(
        &mut self,
        cx: &mut Context<'_>,
        links: &'a [usize],
        relays: &'a [usize],
    ) -> &'a [usize] {
        if !self.wants_servers(cx) || cx.now < self.standby.next {
            return &[];
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.standby.asks.min(10)).min(LONGEST_PAUSE);
        let jitter = pause.mul_f64(cx.rng.below(256) as f64 / 1024.0);
        self.standby.asks = self.standby.asks.saturating_add(1);
        (self.standby.last, self.standby.next) = (cx.now, cx.now + pause + jitter);
        self.standby.only_where = !self.wants_relay(cx.now);
        if self.standby.moved || self.is_unseen(cx) { links } else { relays }
    }

    /// A server has told both where the other one is.
    pub(super) fn introduced(&mut self, cx: &mut Context<'_>) {
        self.standby.moved = false;
        self.seek_servers(cx);
    }

    /// A relayed way works, or the peer has come anew: the next time it is missed, servers are asked at once.
    pub(super) fn forget_asks(&mut self, now: Time) {
        self.standby.asks = 0;
        self.standby.next = self.standby.next.min(now + FIRST_PAUSE);
    }
}
