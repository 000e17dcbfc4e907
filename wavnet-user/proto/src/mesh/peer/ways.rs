//! The ways to a peer: opened, probed, kept alive, chosen.

use std::{net::IpAddr, time::Duration};

use super::Peer;
use crate::{
    mesh::{
        context::Context,
        output::{Command, Event, PathId, PathKind, Way},
        path::Path,
        pulse::Health,
        timer::Timer,
    },
    time::Time,
    transmit::Socket,
    wire::{
        Candidate, CandidateKind, Label, Message,
        message::{Probe, ProbeAnswer},
        opener,
    },
};

/// From the handshake until both sides try once more, if there is no direct path then.
pub(super) const FIRST_PUNCH: Duration = Duration::from_secs(4);
/// The longest pause between two tries.
const LAST_PUNCH: Duration = Duration::from_secs(300);
/// A way that is told again is not probed anew before this: who tells may be told himself.
const REST: Duration = Duration::from_millis(500);
/// A probe that comes by a way that we are probing, too, is answered; another probe of ours need not leave at once.
const JUST_PROBED: Duration = Duration::from_millis(20);
/// Pulses are looked at no more often.
const TICK: Duration = Duration::from_millis(20);

impl Peer {
    /// Tries these addresses, from our end. What comes back tells.
    pub(in crate::mesh) fn punch(&mut self, cx: &mut Context<'_>, candidates: &[Candidate]) {
        for candidate in candidates.iter().filter(|c| c.kind != CandidateKind::Relayed) {
            let reachable = cx.local.hosts.iter().any(|own| own.is_ipv4() == candidate.addr.is_ipv4());
            if !reachable || cx.local.is_own(candidate.addr) {
                continue;
            }
            let way = Way { socket: Socket::Main, remote: candidate.addr, label: Label::ZERO };
            let Some(id) = self.find_or_add(cx, way) else { continue };
            let rested = |p: &&mut Path| p.last_probed().is_none_or(|at| cx.now.since(at) >= REST);
            if let Some(path) = self.paths.get_mut(id).filter(|p| !p.proven).filter(rested) {
                path.retry();
                self.probe(cx, id);
            }
        }
    }

    /// [`Timer::Punch`]: while there is no direct path, both sides try once more, ever more seldom.
    pub(in crate::mesh) fn punch_again(&mut self, cx: &mut Context<'_>) {
        if !self.is_connected() || self.has_direct(cx.now) {
            self.punches = 0;
            return;
        }
        self.punches += 1;
        self.propose(cx);
        let candidates = self.candidates.clone();
        self.punch(cx, &candidates);
        self.consider_search(cx);
        let pause = FIRST_PUNCH.saturating_mul(3u32.saturating_pow(self.punches.min(6)));
        cx.timers.set(Timer::Punch(self.key), cx.now + pause.min(LAST_PUNCH));
    }

    pub(super) fn has_direct(&self, now: Time) -> bool {
        self.paths.iter().any(|p| !p.way.is_relayed() && p.is_usable(now))
    }

    /// Probes every way that is not known to work, from the start.
    pub(in crate::mesh) fn probe_all(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<PathId> = self.paths.iter().filter(|p| !(p.proven && p.taken)).map(|p| p.id).collect();
        for id in ids {
            if let Some(path) = self.paths.get_mut(id) {
                path.retry();
            }
            self.probe(cx, id);
        }
    }

    /// Every way may have changed under us: each is to show that it still works, now.
    pub(in crate::mesh) fn doubt_all(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<PathId> = self.paths.iter().map(|p| p.id).collect();
        for id in ids {
            if let Some(path) = self.paths.get_mut(id) {
                path.doubt();
            }
            self.probe(cx, id);
        }
    }

    /// [`Timer::Probe`]: probes a way, or opens it while there is no session, if that is due.
    pub(in crate::mesh) fn probe(&mut self, cx: &mut Context<'_>, id: PathId) {
        let connected = self.is_connected();
        let Some(path) = self.paths.get_mut(id) else { return };
        if path.is_hopeless(cx.now) {
            // A relay's way stays: the peer may come back, and there is no other.
            return if path.way.is_relayed() && path.added {
                self.remove_added(cx, id)
            } else {
                self.drop_path(cx, id)
            };
        }
        match path.next_probe(cx.now) {
            Some(at) if at <= cx.now => {
                let way = path.way;
                if connected {
                    let (transaction, flags) = (path.probe(cx.now, cx.rng), path.flags());
                    self.say(cx, way, &[Message::Probe(Probe { transaction, flags })]);
                } else {
                    path.opened(cx.now);
                    let datagram = opener(way.label, cx.rng.bytes());
                    cx.out.send(way, datagram);
                }
            }
            _ => {}
        }
        let Some(path) = self.paths.get(id) else { return };
        if let Some(at) = path.next_look(cx.now) {
            cx.timers.set(Timer::Probe(self.key, id), at);
        }
    }

    pub(super) fn hear_probe(&mut self, cx: &mut Context<'_>, way: Way, probe: Probe) {
        let id = self.find_or_add(cx, way);
        let path = id.and_then(|id| self.paths.get_mut(id));
        let flags = path.as_ref().map_or(0, |p| p.flags());
        let answer = ProbeAnswer { transaction: probe.transaction, flags, from: way.remote };
        let mut ask = false;
        if let Some(path) = path {
            path.taken = probe.flags & Probe::TAKEN != 0;
            ask = !path.proven && path.last_probed().is_none_or(|at| cx.now.since(at) >= JUST_PROBED);
            if ask {
                path.retry();
            }
        }
        self.say(cx, way, &[Message::ProbeAnswer(answer)]);
        if let Some(id) = id.filter(|_| ask) {
            self.probe(cx, id);
        }
        self.reselect(cx);
    }

    pub(super) fn hear_answer(&mut self, cx: &mut Context<'_>, way: Way, answer: ProbeAnswer) {
        let Some(path) = self.paths.by_way(&way).and_then(|id| self.paths.get_mut(id)) else { return };
        if path.answered(cx.now, answer.transaction).is_none() {
            return;
        }
        path.taken = answer.flags & Probe::TAKEN != 0;
        let (id, news) = (path.id, !path.proven);
        path.proven = true;
        if news {
            path.retry();
            self.add_proven(cx);
            self.probe(cx, id);
            cx.timers.set(Timer::Pulse(self.key, id), cx.now);
        }
        self.reselect(cx);
    }

    /// Has frames taken from every way that the peer has proved to be its own, once it is admitted.
    pub(super) fn add_proven(&mut self, cx: &mut Context<'_>) {
        if self.admitted.is_none() {
            return;
        }
        let mut news = Vec::new();
        for path in self.paths.iter_mut().filter(|p| p.proven && !p.added) {
            path.added = true;
            news.push((path.way, path.probe(cx.now, cx.rng)));
            cx.out.ways.insert(path.way, (self.key, path.id));
            cx.out.command(Command::AddPath { path: path.id, peer: self.key, way: path.way });
        }
        // The peer waits for this word before it sends frames.
        for (way, transaction) in news {
            self.say(cx, way, &[Message::Probe(Probe { transaction, flags: Probe::TAKEN })]);
        }
    }

    pub(super) fn find_or_add(&mut self, cx: &mut Context<'_>, way: Way) -> Option<PathId> {
        if let Some(id) = self.paths.by_way(&way) {
            return Some(id);
        }
        if !self.paths.has_room() {
            let idle = |p: &&Path| !p.proven && !p.way.is_relayed();
            let id = self.paths.iter().filter(idle).min_by_key(|p| p.last_probed()).map(|p| p.id)?;
            self.drop_path(cx, id);
        }
        let id = cx.out.take_id()?;
        let kind = self.kind_of(&way);
        self.paths.add(Path::new(id, way, kind, cx.local.settings.pulse));
        Some(id)
    }

    /// What kind of path each way is, now that the peer has said what its addresses are.
    pub(super) fn classify(&mut self) {
        let kinds: Vec<(PathId, PathKind)> = self.paths.iter().map(|p| (p.id, self.kind_of(&p.way))).collect();
        for (id, kind) in kinds {
            if let Some(path) = self.paths.get_mut(id) {
                path.kind = kind;
            }
        }
    }

    fn kind_of(&self, way: &Way) -> PathKind {
        let host = |c: &Candidate| c.kind == CandidateKind::Host && c.addr == way.remote;
        if way.is_relayed() {
            PathKind::Relayed
        } else if is_private(way.remote.ip()) && self.candidates.iter().any(host) {
            PathKind::Lan
        } else {
            PathKind::Direct
        }
    }

    /// Frames are no longer taken from a way that is kept all the same.
    fn remove_added(&mut self, cx: &mut Context<'_>, id: PathId) {
        let Some(path) = self.paths.get_mut(id) else { return };
        if std::mem::take(&mut path.added) {
            cx.out.ways.remove(&path.way);
            cx.out.command(Command::RemovePath { path: id });
        }
    }

    pub(super) fn drop_path(&mut self, cx: &mut Context<'_>, id: PathId) {
        if self.paths.selected == Some(id) {
            self.paths.selected = None;
            cx.out.command(Command::Select { peer: self.key, path: None });
        }
        self.remove_added(cx, id);
        if self.paths.remove(id).is_some() {
            cx.timers.stop(Timer::Probe(self.key, id));
            cx.timers.stop(Timer::Pulse(self.key, id));
            cx.out.free_id(id);
        }
    }

    /// [`Timer::Pulse`]: sends the next one, and looks how the path is.
    pub(in crate::mesh) fn pulse(&mut self, cx: &mut Context<'_>, id: PathId) {
        let Some(path) = self.paths.get_mut(id).filter(|p| p.proven) else { return };
        match path.pulses.health(cx.now) {
            Health::Dead => return self.died(cx, id),
            Health::Doubtful if self.paths.selected == Some(id) => self.check_others(cx, id),
            _ => {}
        }
        let Some(path) = self.paths.get_mut(id) else { return };
        if path.pulses.next(cx.now) <= cx.now {
            let pulse = path.pulses.send(cx.now, cx.rng);
            if path.added {
                cx.out.command(Command::Expect { path: id, number: u16::from_be_bytes(pulse) });
            }
            let way = path.way;
            cx.out.send(way, way.pulse(pulse));
        }
        let next = path.pulses.next(cx.now).max(cx.now + TICK);
        cx.timers.set(Timer::Pulse(self.key, id), next);
    }

    /// The selected path is in doubt: are the others alive?
    fn check_others(&mut self, cx: &mut Context<'_>, selected: PathId) {
        for path in self.paths.iter().filter(|p| p.id != selected && p.proven) {
            cx.timers.set_no_later(
                Timer::Pulse(self.key, path.id),
                path.pulses.last_sent().map_or(cx.now, |at| at + TICK * 10),
            );
        }
    }

    /// A path no longer works. The peer may still use it for a while, so frames are taken until probes have failed as well.
    fn died(&mut self, cx: &mut Context<'_>, id: PathId) {
        let Some(path) = self.paths.get_mut(id) else { return };
        path.doubt();
        cx.timers.stop(Timer::Pulse(self.key, id));
        self.probe(cx, id);
        self.reselect(cx);
        if !self.has_direct(cx.now) {
            self.punches = 0;
            cx.timers.set_no_later(Timer::Punch(self.key), cx.now);
        }
    }

    /// A pulse of ours came back by this path.
    pub(in crate::mesh) fn pulsed(&mut self, cx: &mut Context<'_>, id: PathId, at: Time, number: u16) {
        let Some(path) = self.paths.get_mut(id) else { return };
        if path.pulses.answered(at, number).is_some() {
            self.last_heard = self.last_heard.max(at);
            self.reselect(cx);
        }
    }

    /// The peer does not know us at the other end of this way (says somebody): show it who we are.
    pub(in crate::mesh) fn unknown_there(&mut self, cx: &mut Context<'_>, way: Way, number: u16) {
        let Some(path) = self.paths.by_way(&way).and_then(|id| self.paths.get_mut(id)) else { return };
        if path.pulses.is_under_way(number) && path.last_probed().is_none_or(|at| cx.now.since(at) >= TICK * 5) {
            path.taken = false;
            path.retry();
            let id = path.id;
            self.probe(cx, id);
        }
    }

    /// Frames flow to the peer, or no longer do.
    pub(in crate::mesh) fn set_busy(&mut self, cx: &mut Context<'_>, busy: bool) {
        if std::mem::replace(&mut self.busy, busy) == busy {
            return;
        }
        let Some(id) = self.paths.selected else { return };
        if let Some(path) = self.paths.get_mut(id) {
            path.pulses.set_busy(busy);
            cx.timers.set_no_later(Timer::Pulse(self.key, id), path.pulses.next(cx.now));
        }
    }

    /// Puts the best path in force.
    pub(super) fn reselect(&mut self, cx: &mut Context<'_>) {
        let choice = self.paths.choose(cx.now).filter(|_| self.admitted.is_some());
        if choice == self.paths.selected {
            return;
        }
        if let Some(path) = self.paths.selected.and_then(|id| self.paths.get_mut(id)) {
            path.pulses.set_busy(false);
        }
        let before = self.path_kind();
        self.paths.selected = choice;
        cx.out.command(Command::Select { peer: self.key, path: choice });
        if let Some(path) = choice.and_then(|id| self.paths.get_mut(id)) {
            path.pulses.set_busy(self.busy);
            cx.timers.set_no_later(Timer::Pulse(self.key, path.id), path.pulses.next(cx.now));
        }
        let kind = self.path_kind();
        if choice.is_none() {
            self.pathless = cx.now;
        }
        if kind != before {
            cx.out.event(Event::Path { peer: self.key, kind, after: cx.now.since(self.pathless) });
        }
        if self.has_direct(cx.now) {
            self.stop_search(cx);
        }
    }

    /// The way that messages go by.
    pub(super) fn best_way(&self, now: Time) -> Option<Way> {
        let selected = self.paths.selected().filter(|p| p.pulses.health(now) == Health::Good);
        let proven = || self.paths.iter().find(|p| p.proven && p.pulses.health(now) == Health::Good);
        let relayed = || self.paths.iter().find(|p| p.way.is_relayed());
        selected.or_else(proven).or_else(relayed).map(|p| p.way)
    }
}

/// Addresses that only neighbours can reach (RFC 1918, 4193, 3927, 4291).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
