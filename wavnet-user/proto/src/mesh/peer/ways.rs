//! The ways to a peer: found, tried, taken into service, given up.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::Peer;
use crate::{
    mesh::{
        context::Context,
        output::{Command, PathId, PathKind, Way},
        path::{Path, WayId},
        paths::Paths,
        settings::Server,
        timer::Timer,
    },
    time::Time,
    transmit::Socket,
    wire::{Candidate, CandidateKind, Label},
};

/// From the handshake until both sides try once more, if there is no direct path then.
pub(super) const FIRST_PUNCH: Duration = Duration::from_secs(4);
/// The longest pause between two tries.
const LAST_PUNCH: Duration = Duration::from_secs(300);
/// Between two times that both sides try once more and predict ports anew, after so many.
const RENEWAL: Duration = Duration::from_secs(60);
const SOON: u32 = 3;
/// Between two looks whether there is a better path than the direct one that there is; it doubles each time up to [`LAST_LOOK`].
const FIRST_LOOK: Duration = Duration::from_secs(60);
const LAST_LOOK: Duration = Duration::from_secs(600);
/// A way that is told again is not probed anew before this: who tells may be told himself.
pub(super) const REST: Duration = Duration::from_millis(500);

impl Peer {
    /// Tries these addresses, from our end. What comes back tells.
    pub(super) fn punch(&mut self, cx: &mut Context<'_>, candidates: &[Candidate]) {
        self.try_out(cx, candidates, Path::retry);
    }

    fn try_out(&mut self, cx: &mut Context<'_>, candidates: &[Candidate], retry: fn(&mut Path)) {
        for candidate in candidates.iter().filter(|c| c.kind != CandidateKind::Relayed) {
            let ip = candidate.addr.ip();
            let reachable = cx.local.hosts.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
            // Without the interface's number a link-local address of IPv6 says nothing.
            let senseless = ip.is_loopback() || matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !reachable || senseless || cx.local.is_own(candidate.addr) {
                continue;
            }
            let way = Way { socket: Socket::Main, remote: candidate.addr, label: Label::ZERO };
            let Some(id) = self.find_or_add(cx, way) else { continue };
            let rested = |p: &&mut Path| p.last_probed().is_none_or(|at| cx.now.since(at) >= REST);
            if let Some(path) = self.paths.get_mut(id).filter(|p| !p.proven).filter(rested) {
                retry(path);
                self.probe(cx, id);
            }
        }
    }

    /// Tries what the peer has told once more.
    pub(in crate::mesh) fn punch_known(&mut self, cx: &mut Context<'_>) {
        let candidates = self.candidates.clone();
        self.punch(cx, &candidates);
    }

    /// [`Timer::Punch`]: while there is no direct path, both sides try once more, ever more seldom.
    pub(in crate::mesh) fn punch_again(&mut self, cx: &mut Context<'_>) {
        let proposed = std::mem::take(&mut self.proposed);
        if !self.is_connected() {
            return;
        }
        if self.has_direct(cx.now) {
            return self.look_around(cx);
        }
        self.seek_servers(cx);
        if !proposed {
            self.propose(cx);
            // The peer tries when it hears that, and so do we, but for the first time, when nothing may be in the way: what comes to a
            // router without an input filter before its host has sent spoils the mapping.
            let way = self.best_way(cx.now).and_then(|way| self.paths.by_way(&way));
            let rtt = way.and_then(|id| self.paths.get(id)).and_then(Path::rtt);
            if let Some((rtt, _)) = rtt.filter(|_| self.punches > 0) {
                self.proposed = true;
                return cx.timers.set(Timer::Punch(self.key), cx.now + rtt / 2);
            }
        }
        self.punch_known(cx);
        self.has_punched(cx);
    }

    /// Both sides have tried: the next time is later, for both. What came too early to a router without an input filter is forgotten only if both
    /// rest at the same time.
    ///
    /// False: they had just done so. Both may have proposed it to each other.
    fn has_punched(&mut self, cx: &mut Context<'_>) -> bool {
        let is_first = cx.now.since(self.punched) >= REST;
        if is_first {
            self.looks = 0;
            self.renew_predictions(cx);
            (self.punched, self.punches) = (cx.now, self.punches.saturating_add(1));
        }
        // That the peer is there may be news.
        let is_heard = self.is_lost(cx.now) && self.is_to_predict(cx);
        if is_first || is_heard || cx.timers.at(Timer::Search(self.key)).is_none() {
            self.consider_search(cx);
        }
        let pause = self.punch_pause();
        // Hosts that have lost each other at the same time are not to try others in step for ever.
        let jitter = pause.mul_f64(cx.rng.below(256) as f64 / 1024.0);
        cx.timers.set(Timer::Punch(self.key), cx.now + pause + jitter);
        is_first
    }

    /// Until both sides try once more, at the least.
    fn punch_pause(&self) -> Duration {
        FIRST_PUNCH.saturating_mul(3u32.saturating_pow(self.punches.min(6))).min(LAST_PUNCH)
    }

    /// Both sides try anew: ports may be predicted once more. Not as often as the peer proposes it, and not on top of what a search has left in NATs.
    pub(super) fn renew_predictions(&mut self, cx: &Context<'_>) {
        let pause = if self.punches < SOON { FIRST_PUNCH } else { RENEWAL };
        if cx.now.since(self.renewed) >= pause && self.may_predict_anew(cx) {
            (self.predictions, self.renewed) = (0, cx.now);
        }
    }

    /// The peer has proposed to try, and we have. Where there is no path it hears nothing else of us, and begins nothing with one that may be gone.
    pub(super) fn was_proposed(&mut self, cx: &mut Context<'_>) {
        let is_first = !self.has_direct(cx.now) && !self.proposed && self.has_punched(cx);
        if is_first && self.is_lost(cx.now) && self.waits_for_prediction(cx) {
            self.propose(cx);
        }
    }

    /// There is a direct path. The LAN, or another one, may be better by now.
    fn look_around(&mut self, cx: &mut Context<'_>) {
        (self.punches, self.looks) = (0, self.looks.saturating_add(1));
        if self.paths.selected().is_none_or(|p| p.kind != PathKind::Lan) && self.looks > 1 {
            let candidates = self.candidates.clone();
            self.try_out(cx, &candidates, Path::retry_briefly);
        }
        let pause = FIRST_LOOK.saturating_mul(1 << self.looks.min(5).saturating_sub(1)).min(LAST_LOOK);
        let jitter = pause.mul_f64(cx.rng.below(256) as f64 / 1024.0);
        cx.timers.set(Timer::Punch(self.key), cx.now + pause + jitter);
    }

    pub(in crate::mesh) fn by_slot(&self, slot: PathId) -> Option<WayId> {
        self.paths.iter().find(|p| p.slot == Some(slot)).map(|p| p.id)
    }

    pub(super) fn has_direct(&self, now: Time) -> bool {
        self.paths.iter().any(|p| !p.way.is_relayed() && p.is_usable(now))
    }

    /// Has frames taken from every way that the peer has proved to be its own, once it is admitted.
    pub(in crate::mesh) fn add_proven(&mut self, cx: &mut Context<'_>) {
        if self.admitted.is_none() {
            return;
        }
        let mut ready: Vec<&Path> = self.paths.iter().filter(|p| p.proven && p.slot.is_none()).collect();
        // There may not be room for all: those that may have died come last.
        ready.sort_by_key(|p| p.is_old(cx.now));
        let ready: Vec<WayId> = ready.into_iter().map(|p| p.id).collect();
        for id in ready {
            self.take_into_service(cx, id);
        }
    }

    fn take_into_service(&mut self, cx: &mut Context<'_>, id: WayId) {
        // It was another peer's: a NAT that has forgotten everything gives one's port to the other. That one is told first.
        let way = self.paths.get(id).map(|p| p.way);
        if let Some(way) = way.filter(|way| cx.out.ways.contains_key(way)) {
            return cx.out.contested.push((way, self.key));
        }
        if self.paths.iter().filter(|p| p.slot.is_some()).count() >= Paths::TAKEN && !self.make_room(cx, id) {
            return;
        }
        let Some(slot) = cx.out.take_slot(cx.local.settings.peers) else { return };
        let Some(path) = self.paths.get_mut(id) else { return cx.out.free_slot(slot) };
        path.serve(cx.now, slot);
        let way = path.way;
        cx.out.ways.insert(way, (self.key, id));
        cx.out.command(Command::AddPath { path: slot, peer: self.key, way });
        cx.timers.set(Timer::Pulse(self.key, id), cx.now);
        // The peer waits for this word before it sends frames.
        self.ask(cx, id);
        // That word may be lost: the time for the next one is set.
        self.probe(cx, id);
    }

    /// Gives up the worst path that nobody's frames take, if it is worse than this one. Dead ones go first; one that the peer may be about to take
    /// is worth as much as another such: else two would push each other out for as long as dead ones are there.
    fn make_room(&mut self, cx: &mut Context<'_>, id: WayId) -> bool {
        let Some(new) = self.paths.get(id) else { return false };
        let in_use = |p: &Path| p.theirs || self.paths.selected == Some(p.id) || self.switches_to(p.id);
        let rank =
            |p: &Path| (p.seems_good(cx.now), p.is_usable(cx.now), !p.way.is_relayed(), std::cmp::Reverse(p.rtt()));
        // Each side has room for four, and not for the same four: where one is usable, that the peer does not take the others is no reason to have
        // them take turns.
        let has_usable = self.paths.iter().any(|p| p.is_usable(cx.now));
        // Where each has chosen others, one side comes round: else there would be none that both have.
        let comes_round = new.taken && !self.begins(cx);
        let is_worth_keeping = |p: &Path| {
            let may_be_taken = has_usable && p.seems_good(cx.now) && (p.taken || !comes_round);
            p.is_usable(cx.now) || p.is_settling(cx.now) || may_be_taken
        };
        // Direct ones lead through the same NATs, as a rule, and die together. What is left then is a relay, so that one of the four is a relay's.
        let relays = |p: &Path| p.way.is_relayed() && (p.is_usable(cx.now) || p.is_settling(cx.now));
        let is_last_relay = |p: &Path| relays(p) && self.paths.iter().filter(|p| relays(p)).count() == 1;
        let has_relay = || self.paths.iter().any(|p| p.way.is_relayed() && p.slot.is_some() && p.seems_good(cx.now));
        let gives_way = |w: &Path| {
            let is_needed = new.way.is_relayed() && !has_relay();
            !is_worth_keeping(w) || is_needed || new.is_better_than(w, cx.now)
        };
        let others = self.paths.iter().filter(|p| p.slot.is_some() && !in_use(p) && !is_last_relay(p));
        let Some(worst) = others.min_by_key(|p| rank(p)).filter(|w| gives_way(w)) else { return false };
        let id = worst.id;
        self.drop_path(cx, id);
        true
    }

    pub(super) fn find_or_add(&mut self, cx: &mut Context<'_>, way: Way) -> Option<WayId> {
        if let Some(id) = self.paths.by_way(&way) {
            return Some(id);
        }
        if !self.paths.has_room() {
            // A relay's way that has died may come back; there are not many of them.
            let idle = self.paths.iter().filter(|p| !p.proven);
            let id = idle.min_by_key(|p| (p.way.is_relayed(), p.last_probed())).map(|p| p.id)?;
            self.drop_path(cx, id);
        }
        let (id, kind) = (cx.out.way_id(), self.kind_of(&way));
        self.paths.add(Path::new(id, way, kind, cx.local.idle(&self.nat)));
        Some(id)
    }

    /// The label that a server's relay knows us by, for this peer.
    pub(super) fn relayed_by(&mut self, cx: &mut Context<'_>, way: Way) {
        if let Some(id) = self.paths.by_way(&way) {
            if let Some(path) = self.paths.get_mut(id).filter(|p| !p.proven) {
                path.retry();
                self.probe(cx, id);
            }
            return;
        }
        // Another label of the same server: it has started anew, or the session before was given up. Pulses will tell.
        let others = || self.paths.iter().filter(|p| p.way.is_relayed() && p.way.remote == way.remote);
        if others().count() >= Paths::RELAYED {
            let oldest = others().min_by_key(|p| (p.is_usable(cx.now), p.id)).map(|p| p.id);
            oldest.into_iter().for_each(|id| self.drop_path(cx, id));
        }
        let older: Vec<WayId> = self.paths.iter().filter(|p| p.way.is_relayed()).map(|p| p.id).collect();
        if let Some(id) = self.find_or_add(cx, way) {
            self.probe(cx, id);
        }
        older.into_iter().for_each(|id| self.pulse_soon(cx, id));
    }

    /// The servers are others now: what is dead of relays that are not among them does not come back.
    pub(in crate::mesh) fn forget_relays(&mut self, cx: &mut Context<'_>, servers: &[Server]) {
        let is_one = |remote: SocketAddr| servers.iter().any(|server| server.addr == remote);
        let dead = |p: &&Path| p.way.is_relayed() && !p.proven && !is_one(p.way.remote);
        let ids: Vec<WayId> = self.paths.iter().filter(dead).map(|p| p.id).collect();
        ids.into_iter().for_each(|id| self.drop_path(cx, id));
    }

    /// What kind of path each way is, and how seldom its pulses may be, now that the peer has said more.
    pub(in crate::mesh) fn classify(&mut self, cx: &mut Context<'_>) {
        let of = |p: &Path| (self.kind_of(&p.way), self.idle(cx, p));
        let all: Vec<(PathKind, Duration)> = self.paths.iter().map(of).collect();
        for (path, (kind, idle)) in self.paths.iter_mut().zip(all) {
            path.kind = kind;
            path.pulses.set_idle(idle);
            // The next one may have been put off for longer.
            if path.proven && path.slot.is_some() {
                let due = path.due(cx).max(cx.now);
                cx.timers.set_no_later(Timer::Pulse(self.key, path.id), due);
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
    pub(super) fn remove_from_service(&mut self, cx: &mut Context<'_>, id: WayId) {
        self.leave(cx, id);
        let Some(path) = self.paths.get_mut(id) else { return };
        // Its frames that come by it are dropped from now on.
        path.theirs = false;
        if let Some(slot) = path.slot.take() {
            cx.out.ways.remove(&path.way);
            cx.out.command(Command::RemovePath { path: slot });
            cx.out.free_slot(slot);
        }
    }

    pub(in crate::mesh) fn drop_path(&mut self, cx: &mut Context<'_>, id: WayId) {
        self.remove_from_service(cx, id);
        if let Some(path) = self.paths.remove(id) {
            cx.timers.stop(Timer::Probe(self.key, id));
            cx.timers.stop(Timer::Pulse(self.key, id));
            self.close_unused(cx, &path.way);
        }
    }

    /// Closes a way's extra socket if no other way of this peer needs it.
    pub(super) fn close_unused(&self, cx: &mut Context<'_>, way: &Way) {
        if let Socket::Extra(n) = way.socket
            && !self.owns(n)
        {
            cx.out.close_socket(n);
        }
    }

    /// All at once: none takes another one's place.
    pub(super) fn drop_all_paths(&mut self, cx: &mut Context<'_>) {
        self.select(cx, None);
        let ids: Vec<WayId> = self.paths.iter().map(|p| p.id).collect();
        ids.into_iter().for_each(|id| self.drop_path(cx, id));
    }

    /// The host has no address of this family any more.
    pub(in crate::mesh) fn drop_family(&mut self, cx: &mut Context<'_>, is_ipv4: bool) {
        let of_it = |p: &&Path| p.way.remote.is_ipv4() == is_ipv4;
        let ids: Vec<WayId> = self.paths.iter().filter(of_it).map(|p| p.id).collect();
        ids.into_iter().for_each(|id| self.drop_path(cx, id));
    }
}

/// Addresses that only neighbours can reach (RFC 1918, 4193, 3927, 4291).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}
