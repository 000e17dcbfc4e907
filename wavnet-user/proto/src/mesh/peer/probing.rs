//! PROBE and `PROBE_ANSWER`: which ways lead to the peer, and whether it takes frames from there.

use std::time::Duration;

use super::{Context, Peer, Timer, Way, ways};
use crate::{
    mesh::path::{Path, Said, WayId},
    transmit::Socket,
    wire::{
        Message,
        message::{Probe, ProbeAnswer},
        opener,
    },
};

/// A probe that comes by a way that we are probing, too, is answered; another probe of ours need not leave at once.
const JUST_PROBED: Duration = Duration::from_millis(20);

impl Peer {
    /// Probes every way that is not known to work, from the start.
    pub(in crate::mesh) fn probe_all(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<WayId> = self.paths.iter().filter(|p| !(p.proven && p.taken)).map(|p| p.id).collect();
        for id in ids {
            if let Some(path) = self.paths.get_mut(id) {
                path.retry();
            }
            self.probe(cx, id);
        }
    }

    /// Every way may have changed under us, or the peer may have forgotten it: each is to show that it still works, now. Until one has,
    /// frames take the one that they took.
    pub(in crate::mesh) fn doubt_all(&mut self, cx: &mut Context<'_>) {
        self.doubted = Some(cx.now);
        self.verify(cx);
    }

    /// Asks by every way that seems to work, and tries the others.
    pub(super) fn verify(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<WayId> = self.paths.iter().map(|p| p.id).collect();
        for id in ids {
            let Some(path) = self.paths.get_mut(id) else { continue };
            if path.proven && path.taken {
                self.ask(cx, id);
                self.pulse_soon(cx, id);
            } else if path.last_probed().is_none_or(|at| cx.now.since(at) >= ways::REST) {
                path.retry();
                self.probe(cx, id);
            }
        }
    }

    /// A probe out of turn.
    pub(super) fn ask(&mut self, cx: &mut Context<'_>, id: WayId) {
        let Some(path) = self.paths.get_mut(id) else { return };
        let (way, transaction, flags) = (path.way, path.probe(cx.now, cx.rng), path.flags());
        self.say(cx, way, &[Message::Probe(Probe { transaction, flags })]);
    }

    /// Before the peer is admitted no way is watched but once a minute. Which of them still lead there shows now, so that what is said next goes by one that does.
    pub(super) fn ask_unwatched(&mut self, cx: &mut Context<'_>) {
        if self.admitted.is_some() {
            return;
        }
        let ids: Vec<WayId> = self.paths.iter().filter(|p| p.proven).map(|p| p.id).collect();
        ids.into_iter().for_each(|id| self.ask(cx, id));
    }

    /// [`Timer::Probe`]: probes a way, or opens it while there is no session, if that is due.
    pub(in crate::mesh) fn probe(&mut self, cx: &mut Context<'_>, id: WayId) {
        let connected = self.is_connected();
        let Some(path) = self.paths.get_mut(id) else { return };
        if path.is_hopeless(cx.now) {
            // A relay's way stays: the peer may come back, and there is no other.
            let stays = path.way.is_relayed() && path.known;
            if stays {
                self.remove_from_service(cx, id)
            } else {
                self.drop_path(cx, id)
            }
            return self.seek_servers(cx);
        }
        if path.next_probe(cx.now).is_some_and(|at| at <= cx.now) {
            let way = path.way;
            let allowed = path.known || way.is_relayed() || cx.out.strangers.take(cx.now, way.remote.ip());
            if !allowed {
                path.opened(cx.now);
            } else if connected {
                self.ask(cx, id);
            } else {
                path.opened(cx.now);
                cx.out.send(way, opener(way.label, cx.rng.bytes()));
            }
        }
        let Some(path) = self.paths.get(id) else { return };
        if let Some(at) = path.next_look(cx.now) {
            cx.timers.set(Timer::Probe(self.key, id), at);
        }
    }

    pub(super) fn hear_probe(&mut self, cx: &mut Context<'_>, way: Way, said: Said, probe: Probe) {
        // Sockets of a search for somebody else are not for this peer.
        if matches!(way.socket, Socket::Extra(n) if !self.owns(n)) {
            return;
        }
        let id = self.find_or_add(cx, way);
        let path = id.and_then(|id| self.paths.get_mut(id));
        let known = path.as_ref().is_some_and(|p| p.known) || way.is_relayed();
        // Who cannot be the sender is not to be flooded by what is sent in his name.
        if !known && !cx.out.strangers.take(cx.now, way.remote.ip()) {
            return;
        }
        let flags = path.as_ref().map_or(0, |p| p.flags());
        let answer = ProbeAnswer { transaction: probe.transaction, flags, from: way.remote };
        let mut ask = false;
        if let Some(path) = path {
            path.hear(cx.now);
            let forgotten = path.hear_flags(said, probe.flags);
            let unproven = !path.proven && path.last_probed().is_none_or(|at| cx.now.since(at) >= JUST_PROBED);
            ask = forgotten || unproven;
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

    pub(super) fn hear_answer(&mut self, cx: &mut Context<'_>, way: Way, said: Said, answer: ProbeAnswer) {
        let Some(path) = self.paths.by_way(&way).and_then(|id| self.paths.get_mut(id)) else { return };
        let news = !path.proven;
        if !path.answered(cx.now, answer.transaction) {
            return;
        }
        let (id, forgotten) = (path.id, path.hear_flags(said, answer.flags));
        if news || forgotten {
            path.retry();
        }
        if news && way.is_relayed() {
            self.forget_asks(cx.now);
        }
        if news {
            self.add_proven(cx);
            self.pulse_soon(cx, id);
        }
        // Until the peer takes frames from here.
        if self.paths.get(id).is_some_and(|p: &Path| !p.taken) {
            self.probe(cx, id);
        }
        self.reselect(cx);
    }
}
