//! Pulses over the paths to a peer, and what follows from them.

use std::time::Duration;

use super::{Context, Peer, Time, Timer, Way};
use crate::mesh::{
    output::Command,
    path::{Challenge, Path, WayId},
    pulse::Health,
};

/// Pulses are looked at no more often.
const TICK: Duration = Duration::from_millis(20);
/// Between two pulses that doubt leads to.
const REST: Duration = Duration::from_millis(200);
/// Between two looks whether there is room for a path.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Between two probes that somebody's word leads to.
const DISTRUST: Duration = Duration::from_millis(100);

impl Peer {
    /// [`Timer::Pulse`]: sends the next one, and looks how the path is.
    pub(in crate::mesh) fn pulse(&mut self, cx: &mut Context<'_>, id: WayId) {
        let Some(idle) = self.paths.get(id).filter(|p| p.proven).map(|p| self.idle(cx, p)) else { return };
        let Some(path) = self.paths.get_mut(id) else { return };
        path.pulses.set_idle(idle);
        if let Some(at) = self.paths.get(id).and_then(|path| self.rests(cx, path)) {
            if at > cx.now {
                return cx.timers.set(Timer::Pulse(self.key, id), at);
            }
            return self.drop_path(cx, id);
        }
        let Some(path) = self.paths.get_mut(id) else { return };
        let health = path.pulses.health(cx.now);
        if health != Health::Good && path.way.is_relayed() {
            // It may have started anew, and know no labels of before.
            cx.out.doubtful.insert(path.way.remote);
        } else if health != Health::Good && self.busy && self.paths.selected == Some(id) {
            // Our NAT may have given us another port: servers are to tell that to those with whom a relay is only just being set up.
            cx.out.displaced = true;
        }
        match health {
            Health::Dead => return self.died(cx, id),
            Health::Doubtful if self.paths.selected == Some(id) => self.check_others(cx, id),
            _ => {}
        }
        if health != Health::Good {
            self.seek_servers(cx);
        }
        match self.challenge(cx, id) {
            Challenge::Failed => return self.died(cx, id),
            Challenge::Ask => self.ask(cx, id),
            Challenge::Wait => {}
        }
        // When it was proved there may have been no room for it. While there is none, the peer may not know it either, and has no answer.
        if self.paths.get(id).is_some_and(|path| path.slot.is_none()) {
            self.add_proven(cx);
        }
        if let Some(path) = self.paths.get(id).filter(|path| path.slot.is_none()) {
            if self.gives_up(path) <= cx.now {
                return self.drop_path(cx, id);
            }
            let pause = if path.is_challenged() { REST } else { idle };
            return cx.timers.set(Timer::Pulse(self.key, id), cx.now + pause.min(LONGEST_REST));
        }
        self.repeat_selected(cx, id);
        let Some(path) = self.paths.get_mut(id) else { return };
        if std::mem::take(&mut path.hurry) || path.due(cx) <= cx.now {
            let pulse = path.pulses.send(cx.now, cx.rng);
            if let Some(slot) = path.slot {
                cx.out.command(Command::Expect { path: slot, number: u16::from_be_bytes(pulse) });
            }
            let way = path.way;
            cx.out.send(way, way.pulse(pulse));
        }
        let next = path.due(cx).min(if path.is_challenged() { cx.now + REST } else { Time::END });
        let gives_up = self.paths.get(id).map_or(Time::END, |path| self.gives_up(path));
        cx.timers.set(Timer::Pulse(self.key, id), next.min(gives_up).max(cx.now + TICK));
    }

    /// Whether the peer itself is to be asked for by this path. Not by a relayed way that only stands by, and that there was no room for: else it
    /// would be kept for good.
    fn challenge(&mut self, cx: &Context<'_>, id: WayId) -> Challenge {
        let rests = self.paths.get(id).is_some_and(|p| p.slot.is_none() && !p.is_challenged() && self.stands_by(p));
        let path = self.paths.get_mut(id).filter(|_| !rests);
        let challenge = path.map_or(Challenge::Wait, |path| path.challenge(cx.now));
        if challenge == Challenge::Ask && self.paths.selected == Some(id) {
            // Each time that this was said may have been lost.
            self.paths.get_mut(id).into_iter().for_each(|path| path.tell_selected = path.tell_selected.max(1));
        }
        challenge
    }

    /// Another peer says something from the end of this path: is this one still there?
    pub(in crate::mesh) fn contested(&mut self, cx: &mut Context<'_>, id: WayId) {
        if let Some(path) = self.paths.get_mut(id).filter(|p| p.proven) {
            path.contest();
            cx.timers.set_no_later(Timer::Pulse(self.key, id), cx.now);
        }
    }

    /// This host stood still. The peer may be about to give up paths over which its kernel answers our pulses until then: it is to hear of us now.
    pub(in crate::mesh) fn woke(&mut self, cx: &mut Context<'_>) {
        // Who is to be asked for anew is so by the next pulse.
        let is_watched = |p: &&Path| p.proven && p.slot.is_some() && !self.stands_by(p) && !p.is_proof_over(cx.now);
        let ids: Vec<WayId> = self.paths.iter().filter(is_watched).map(|p| p.id).collect();
        ids.into_iter().for_each(|id| self.ask(cx, id));
    }

    /// Another peer has proved that it is at the end of this path.
    pub(in crate::mesh) fn usurped(&mut self, cx: &mut Context<'_>, id: WayId) {
        self.remove_from_service(cx, id);
        self.died(cx, id);
    }

    /// The selected path is in doubt: are the others alive?
    fn check_others(&mut self, cx: &mut Context<'_>, selected: WayId) {
        let others: Vec<WayId> = self.paths.iter().filter(|p| p.id != selected).map(|p| p.id).collect();
        others.into_iter().for_each(|id| self.pulse_soon(cx, id));
    }

    /// Looks whether a path lives before it would be its turn.
    pub(super) fn pulse_soon(&mut self, cx: &mut Context<'_>, id: WayId) {
        let Some(path) = self.paths.get_mut(id).filter(|p| p.proven) else { return };
        path.hurry = true;
        let at = path.pulses.last_sent().map_or(cx.now, |last| (last + REST).max(cx.now));
        cx.timers.set_no_later(Timer::Pulse(self.key, id), at);
    }

    /// A path no longer works. The peer may still use it for a while, so frames are taken until probes have failed as well.
    fn died(&mut self, cx: &mut Context<'_>, id: WayId) {
        self.note_lasted();
        let Some(path) = self.paths.get_mut(id) else { return };
        path.died(cx.now);
        cx.timers.stop(Timer::Pulse(self.key, id));
        if self.paths.selected == Some(id) {
            // What has ended it may have ended others, as a NAT that all direct ones lead through: each is to show that it has worked since.
            self.doubted = self.doubted.max(self.paths.get(id).map(Path::last_worked));
            self.check_others(cx, id);
        }
        self.reselect(cx);
        self.probe(cx, id);
        self.seek_servers(cx);
        if !self.has_direct(cx.now) {
            self.punches = 0;
            cx.timers.set_no_later(Timer::Punch(self.key), cx.now);
        }
    }

    /// A pulse of ours came back by this path.
    pub(in crate::mesh) fn pulsed(&mut self, cx: &mut Context<'_>, id: WayId, at: Time, number: u16) {
        let Some(path) = self.paths.get_mut(id) else { return };
        if path.pulsed(at, number) {
            self.last_heard = self.last_heard.max(at);
            self.reselect(cx);
        }
    }

    /// The peer does not know us at the other end of this way (says somebody): show it who we are, and see what it says.
    pub(in crate::mesh) fn unknown_there(&mut self, cx: &mut Context<'_>, way: Way, number: u16) {
        let Some(path) = self.paths.by_way(&way).and_then(|id| self.paths.get(id)) else { return };
        if !path.pulses.is_under_way(number) {
            return;
        }
        let (id, rested) = (path.id, path.last_probed().is_none_or(|at| cx.now.since(at) >= DISTRUST));
        if rested {
            self.ask(cx, id);
        }
        if way.is_relayed()
            && let Some(path) = self.paths.get_mut(id)
        {
            path.unlabel();
            self.seek_servers(cx);
        }
    }

    /// Frames flow to the peer, or no longer do.
    pub(in crate::mesh) fn set_busy(&mut self, cx: &mut Context<'_>, busy: bool) {
        if std::mem::replace(&mut self.busy, busy) == busy {
            return;
        }
        self.note_traffic(cx, busy);
        let Some(path) = self.paths.selected.and_then(|id| self.paths.get_mut(id)) else { return };
        path.pulses.set_busy(busy);
        cx.timers.set_no_later(Timer::Pulse(self.key, path.id), path.pulses.next(cx.now).max(cx.now));
    }
}
