//! Frames take another path, none is lost on the way, and none overtakes another.
//!
//! If the new path may be faster, frames are held back from the last on the old path (MARKER follows it) until it has arrived (`MARKER_SEEN`
//! comes), or must have. If the old path is dead there is nothing to wait for.

use std::time::Duration;

use super::{Context, Peer, Said, Timer, Way};
use crate::{
    mesh::{
        output::{Command, Event},
        path::{Path, WayId},
    },
    time::Time,
    wire::{Message, message::Selected},
};

/// Frames are held back no longer than this.
const LONGEST: Duration = Duration::from_millis(500);
/// What MARKER's answer may take longer than the round trips that were measured, until it is taken for lost and MARKER sent again.
const MARGIN: Duration = Duration::from_millis(30);
/// From when frames are held back until MARKER leaves: those before them may wait in queues of this host, such as that of another CPU.
const SETTLE: Duration = Duration::from_millis(5);
/// Paths of a kind are compared no more often.
const REST: Duration = Duration::from_secs(5);
/// How often it is said which path our frames take.
const TOLD: u8 = 3;

/// Frames are held back; they are to take another path.
#[derive(Debug)]
pub(super) struct Switch {
    to: WayId,
    transaction: u64,
    ends: Time,
    /// Until MARKER, which may have been lost, is sent again.
    pause: Duration,
}

impl Peer {
    pub(super) fn switches_to(&self, id: WayId) -> bool {
        self.switch.as_ref().is_some_and(|switch| switch.to == id)
    }

    /// Puts the best path in force.
    pub(super) fn reselect(&mut self, cx: &mut Context<'_>) {
        let stay = self.switched.is_some_and(|at| cx.now.since(at) < REST);
        let choice = self.paths.choose(cx.now, stay, self.doubted).filter(|_| self.admitted.is_some());
        if choice == self.paths.selected {
            self.stay(cx);
        } else if self.paths.works(cx.now, self.doubted)
            && let Some(to) = choice
        {
            self.leave_for(cx, to);
        } else {
            self.select(cx, choice);
        }
        if self.has_direct(cx.now) {
            self.stop_search(cx);
        }
    }

    /// The path in use works, and another one is better.
    fn leave_for(&mut self, cx: &mut Context<'_>, to: WayId) {
        if let Some(switch) = &mut self.switch {
            switch.to = to;
            return;
        }
        let Some(pause) = self.wait_for(to) else { return self.select(cx, Some(to)) };
        let transaction = cx.rng.u64();
        self.switch = Some(Switch { to, transaction, ends: cx.now + LONGEST, pause });
        cx.out.command(Command::Hold { peer: self.key });
        cx.timers.set(Timer::Switch(self.key), cx.now + SETTLE);
    }

    /// When to send MARKER again, if a frame that leaves later by the other path might arrive before one on the path in use. Its answer is waited
    /// for as long as frames may be held back: a queue that the frames themselves have filled shows in no round trip that was measured before.
    fn wait_for(&self, to: WayId) -> Option<Duration> {
        let (old, new) = (self.paths.selected()?, self.paths.get(to)?);
        let Some((rtt, varies)) = old.rtt() else { return Some(LONGEST / 4) };
        let slowest = rtt + varies * 4;
        // One way of two paths differs by half of what the round trips do, if they are alike in both directions, which nobody promises.
        let slower = new.pulses.rtt().is_some_and(|new| new.least > slowest * 2);
        (!slower).then(|| (slowest + MARGIN).min(LONGEST))
    }

    /// [`Timer::Switch`]
    pub(in crate::mesh) fn switch_now(&mut self, cx: &mut Context<'_>) {
        let Some(switch) = &mut self.switch else { return };
        if cx.now >= switch.ends {
            let to = switch.to;
            return self.select(cx, Some(to));
        }
        let next = switch.ends.min(cx.now + switch.pause);
        let transaction = switch.transaction;
        if let Some(way) = self.paths.selected().map(|p| p.way) {
            self.say(cx, way, &[Message::Marker { transaction }]);
        }
        cx.timers.set(Timer::Switch(self.key), next);
    }

    pub(super) fn hear_marker(&mut self, cx: &mut Context<'_>, way: Way, transaction: u64) {
        // Frames come by ways in service alone. To answer elsewhere would be to send where a forged source says.
        if self.paths.by_way(&way).and_then(|id| self.paths.get(id)).is_some_and(|path| path.slot.is_some()) {
            self.say(cx, way, &[Message::MarkerSeen { transaction }]);
        }
    }

    pub(super) fn hear_marker_seen(&mut self, cx: &mut Context<'_>, transaction: u64) {
        if let Some(to) = self.switch.as_ref().filter(|s| s.transaction == transaction).map(|s| s.to) {
            self.select(cx, Some(to));
        }
    }

    /// The path in use remains so: what was held back goes by it.
    fn stay(&mut self, cx: &mut Context<'_>) {
        if self.switch.take().is_some() {
            cx.timers.stop(Timer::Switch(self.key));
            cx.out.command(Command::Release { peer: self.key });
        }
    }

    /// Has frames take this path, from now on.
    pub(super) fn select(&mut self, cx: &mut Context<'_>, choice: Option<WayId>) {
        let choice = choice.filter(|id| self.paths.get(*id).is_some_and(|p| p.slot.is_some()));
        if choice != self.paths.selected {
            let before = self.paths.selected.and_then(|id| self.paths.get_mut(id));
            let old = before.map(|path| {
                path.pulses.set_busy(false);
                path.kind
            });
            self.paths.selected = choice;
            let new = choice.and_then(|id| self.paths.get(id));
            let (kind, slot) = (new.map(|p| p.kind), new.and_then(|p| p.slot));
            cx.out.command(Command::Select { peer: self.key, path: slot });
            self.switched = Some(cx.now).filter(|_| old.is_some() && kind.is_some());
            if kind.is_none() {
                self.pathless = cx.now;
                cx.out.lost = true;
            }
            if kind != old {
                cx.out.event(Event::Path { peer: self.key, kind, after: cx.now.since(self.pathless) });
            }
            self.attend(cx);
            if old.is_none() && kind.is_some() {
                // While there was no path, what we said of ourselves may have been lost for long.
                self.tells = 0;
                self.tell_again(cx);
            }
            self.pace_relays(cx);
        }
        self.stay(cx);
    }

    /// The selected path is a new one: it is watched closely if frames flow, and the peer is told.
    fn attend(&mut self, cx: &mut Context<'_>) {
        let Some(path) = self.paths.selected.and_then(|id| self.paths.get_mut(id)) else { return };
        path.pulses.set_busy(self.busy);
        path.tell_selected = TOLD;
        let (id, at) = (path.id, path.pulses.next(cx.now).max(cx.now));
        cx.timers.set_no_later(Timer::Pulse(self.key, id), at);
        self.repeat_selected(cx, id);
    }

    /// Says that our frames come by this path, if they do: that may have been lost so far.
    pub(super) fn repeat_selected(&mut self, cx: &mut Context<'_>, id: WayId) {
        let selected = self.paths.selected;
        let Some(path) = self.paths.get_mut(id).filter(|p| p.tell_selected > 0) else { return };
        path.tell_selected -= 1;
        if selected == Some(id) {
            let (way, transaction) = (path.way, cx.rng.u64());
            self.say(cx, way, &[Message::Selected(Selected { transaction, flags: 0 })]);
        }
    }

    pub(super) fn hear_selected(&mut self, way: Way, said: Said) {
        if said >= self.select_said {
            self.select_said = said;
            self.paths.iter_mut().for_each(|p: &mut Path| p.theirs = p.way == way);
        }
    }

    /// This path is about to go: frames take another one, if there is one.
    pub(super) fn leave(&mut self, cx: &mut Context<'_>, id: WayId) {
        if self.switches_to(id) {
            self.stay(cx);
        }
        if self.paths.selected == Some(id) {
            let others = self.paths.best_but(id, cx.now, self.doubted);
            self.select(cx, others);
        }
    }
}
