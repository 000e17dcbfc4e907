//! Getting a session with a peer, and keeping it: CONNECT, INIT, new keys, and finding out that the other side has lost it.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Asked, Context, Peer, SILENCE, Time, Timer, Via, Way,
    sessions::{self, By},
    ways,
};
use crate::{
    bucket::Rate,
    trust::{HandshakeError, Initiation, OpenError, Psk, Request},
    wire::{
        Data, Message, Response,
        message::{Connect, Forward},
        relabelled,
    },
};

/// Before CONNECT is sent once more; it grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the one with the greater key waits for the other one to begin; and how long if that one has just asked for us.
const COURTESY: Duration = Duration::from_millis(250);
const INVITED_COURTESY: Duration = Duration::from_secs(1);
/// How long a peer has to show that its session stands, if there is reason to doubt it.
const VERIFY: Duration = Duration::from_millis(400);
const LONGEST_VERIFY: Duration = Duration::from_secs(3);
/// A handshake that has not ended by then begins anew.
const ENOUGH: Duration = Duration::from_secs(5);
/// So often a peer is sought by way of one server before it is the next one's turn.
const TURN: usize = 2;
/// Handshakes that are computed for one peer.
const REQUESTS: Rate = Rate { per_second: 1, burst: 5 };

/// A handshake that we have begun.
#[derive(Debug)]
pub(super) struct Greeting {
    initiation: Initiation,
    init: Vec<u8>,
    begun: Time,
}

impl Greeting {
    pub(super) fn index(&self) -> u32 {
        self.initiation.index()
    }
}

impl Peer {
    /// A server says that it is there: it is to be connected.
    pub(in crate::mesh) fn want(&mut self, cx: &mut Context<'_>, delay: Duration) {
        self.listed = true;
        let courtesy = if self.begins(cx) { Duration::ZERO } else { COURTESY };
        cx.timers.set_no_later(Timer::Connect(self.key), cx.now + delay + courtesy);
    }

    /// A server says that it has come, or come again.
    pub(in crate::mesh) fn came(&mut self, now: Time) {
        self.connects = 0;
        self.forget_asks(now);
    }

    /// A server has taken us in anew and knows nothing of our sessions with others, or has lost this peer.
    pub(in crate::mesh) fn uninvite(&mut self, link: usize) {
        self.invited.remove(&link);
    }

    /// Links have other places now; those of whom none is said have ended.
    pub(in crate::mesh) fn links_moved(&mut self, places: &BTreeMap<usize, usize>) {
        self.invited = self.invited.iter().filter_map(|link| places.get(link)).copied().collect();
        self.heard_by = self.heard_by.and_then(|link| places.get(&link).copied());
        let place = |link: Option<usize>| link.map_or(Some(None), |link| places.get(&link).copied().map(Some));
        let requests = std::mem::take(&mut self.requests).into_iter();
        self.requests = requests.filter_map(|(link, bucket)| Some((place(link)?, bucket))).collect();
    }

    /// It has said something that only it can say.
    pub(in crate::mesh) fn heard(&mut self, via: Via) {
        if let Via::Server(link) = via {
            self.heard_by = Some(link);
        }
    }

    /// By so many servers, one after the other, it was sought in vain since it was last heard.
    pub(in crate::mesh) fn servers_passed(&self) -> usize {
        self.turns as usize / TURN
    }

    /// True if it was last heard by way of this link's server, of all servers.
    pub(in crate::mesh) fn was_heard_by(&self, link: usize) -> bool {
        self.heard_by == Some(link)
    }

    /// True if this link's server has invited us to each other.
    pub(in crate::mesh) fn is_invited(&self, link: usize) -> bool {
        self.invited.contains(&link)
    }

    /// True if it is to be asked for at one of these links.
    pub(in crate::mesh) fn needs(&self, links: &[usize]) -> bool {
        !self.is_connected() || links.iter().any(|i| !self.invited.contains(i))
    }

    /// [`Timer::Connect`]: what to say to servers now; `links` have this peer, the first is the best; `relays` are those of them that relay.
    /// `index` is for a handshake.
    pub(in crate::mesh) fn connect(
        &mut self,
        cx: &mut Context<'_>,
        index: u32,
        links: &[usize],
        relays: &[usize],
    ) -> Asked {
        let mut asked = Asked::new();
        let verify = self.time_to_verify(cx.now);
        let time_is_over = |since: &mut Time| cx.now.since(*since) >= verify;
        if self.suspect.take_if(time_is_over).is_some_and(|since| self.last_said < since) {
            self.renew = true;
        }
        let unknown = !self.is_connected() || self.renew || self.greeting.is_some();
        let missed = self.servers_to_ask(cx, links, relays);
        if !unknown && !self.needs(links) {
            self.connects = 0;
            if let Some(since) = self.suspect {
                cx.timers.set_no_later(Timer::Connect(self.key), since + verify);
            }
            if missed.is_empty() {
                self.seek_servers(cx);
                return asked;
            }
        } else {
            let pause = FIRST_PAUSE.mul_f64(1.5_f64.powi(self.connects.min(20).cast_signed())).min(LONGEST_PAUSE);
            let jitter = pause.mul_f64(cx.rng.below(256) as f64 / 1024.0);
            cx.timers.set(Timer::Connect(self.key), cx.now + pause + jitter);
            self.connects = self.connects.saturating_add(1);
        }
        self.seek_servers(cx);
        let peer = self.key;
        let connect = |cx: &mut Context<'_>| {
            let candidates = cx.local.candidates();
            Message::Connect(Connect { request: cx.rng.u32(), peer, candidates })
        };
        for i in links.iter().filter(|i| missed.contains(i) || !self.invited.contains(i)) {
            asked.insert(*i, vec![connect(cx)]);
        }
        // By the first server that has it; by the next one if nothing comes of it.
        let turn = self.servers_passed().checked_rem(links.len());
        if let Some(i) = turn.and_then(|turn| links.get(turn)).filter(|_| unknown) {
            self.turns = self.turns.wrapping_add(1);
            let messages = asked.entry(*i).or_default();
            if messages.is_empty() {
                messages.push(connect(cx));
            }
            if self.begins(cx) {
                let init = self.greet(cx, index);
                messages.extend(init.map(|datagram| Message::Forward(Forward { peer, datagram })));
            }
        }
        if unknown && self.begins(cx) {
            // The path may stand, where the session does not.
            self.greet_directly(cx, index);
        }
        asked
    }

    fn greet_directly(&mut self, cx: &mut Context<'_>, index: u32) {
        let direct = self.paths.iter().find(|p| p.proven && !p.way.is_relayed()).map(|p| p.way);
        let left = cx.out.left.iter().filter(|(_, key)| **key == self.key).map(|(way, _)| *way);
        let ways: Vec<Way> = direct.into_iter().chain(left).collect();
        if !ways.is_empty()
            && let Some(init) = self.greet(cx, index)
        {
            ways.into_iter().for_each(|way| cx.out.send(way, relabelled(init.clone(), way.label)));
        }
    }

    /// The ways to it that an earlier agent has left are nothing special any more.
    fn take_left(&self, cx: &mut Context<'_>) -> Vec<Way> {
        cx.out.left.extract_if(.., |_, key| *key == self.key).map(|(way, _)| way).collect()
    }

    /// Gives up the ways to it that an earlier agent has left.
    pub(in crate::mesh) fn forget_left(&mut self, cx: &mut Context<'_>) {
        self.take_left(cx).iter().for_each(|way| self.close_unused(cx, way));
    }

    /// A server brings us together. If we believe to be connected, the peer may have started anew and need us to begin.
    pub(super) fn asked_for(&mut self, cx: &mut Context<'_>, link: usize) {
        self.invited.insert(link);
        if !self.begins(cx) {
            if !self.is_connected() {
                cx.timers.set(Timer::Connect(self.key), cx.now + INVITED_COURTESY);
            }
            return;
        }
        if !self.is_connected() {
            if self.greeting.is_none() {
                cx.timers.set_no_later(Timer::Connect(self.key), cx.now);
            }
        } else if self.suspect.is_none() && !self.renew && self.greeting.is_none() {
            // (An answer to our own CONNECT is no sign of anything.)
            self.suspect = Some(cx.now);
            cx.timers.set_no_later(Timer::Connect(self.key), cx.now + self.time_to_verify(cx.now));
            self.verify(cx);
        }
    }

    /// How long it has to show that its session stands: long enough for an answer by the path there is.
    fn time_to_verify(&self, now: Time) -> Duration {
        let path = self.best_way(now).and_then(|way| self.paths.by_way(&way)).and_then(|id| self.paths.get(id));
        path.map_or(VERIFY, |path| (path.pulses.patience() * 2).clamp(VERIFY, LONGEST_VERIFY))
    }

    /// The peer does not know our session (says somebody): another one is needed if that is true.
    pub(in crate::mesh) fn lost_there(&mut self, cx: &mut Context<'_>, receiver: u32) {
        if self.sessions.current().is_none_or(|s| s.remote_index() != receiver) || self.greeting.is_some() {
            return;
        }
        // It is looked into no more often than once a second.
        let at = self.sessions.current().map_or(cx.now, |s| s.established() + Duration::from_secs(1));
        if !self.renew {
            (self.connects, self.renew) = (0, true);
            cx.timers.set_no_later(Timer::Connect(self.key), at.max(cx.now));
        }
    }

    /// INIT of the handshake that is under way, or of a new one.
    fn greet(&mut self, cx: &mut Context<'_>, index: u32) -> Option<Vec<u8>> {
        if let Some(old) = self.greeting.take_if(|greeting| cx.now.since(greeting.begun) >= ENOUGH) {
            cx.out.disowned.push(old.index());
        }
        if self.greeting.is_none() {
            let psk = Psk::Member(&cx.local.settings.member);
            let mut initiation = Initiation::start(&cx.local.secret, psk, index, cx.rng);
            let init = initiation.init_without_cookie(self.key, &[]).ok()?;
            cx.out.owned.push(index);
            self.greeting = Some(Greeting { initiation, init, begun: cx.now });
        }
        self.greeting.as_ref().map(|greeting| greeting.init.clone())
    }

    /// [`Timer::Rekey`]: a new handshake when it is time, over the best path there is.
    pub(in crate::mesh) fn rekey(&mut self, cx: &mut Context<'_>, index: u32) {
        if self.sessions.expire(cx.now, &mut cx.out.disowned) {
            return self.lost(cx);
        }
        let Some(session) = self.sessions.current() else { return };
        if !session.needs_rekey(cx.now) {
            return cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::LOOK);
        }
        self.connects = 0;
        if let Some(init) = self.greet(cx, index) {
            match self.best_way(cx.now) {
                Some(way) => cx.out.send(way, relabelled(init, way.label)),
                None => cx.out.forward(self.key, None, init),
            }
        }
        cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::RETRY);
        cx.timers.set(Timer::Connect(self.key), cx.now + FIRST_PAUSE);
    }

    /// Its session is over, and none has taken its place: who is at the other end of its paths is not known any more.
    fn lost(&mut self, cx: &mut Context<'_>) {
        self.stop_search(cx);
        self.note_lasted();
        self.drop_all_paths(cx);
        (self.connects, self.renew, self.suspect) = (0, false, None);
        cx.out.disowned.extend(self.greeting.take().map(|greeting| greeting.index()));
        self.invited.clear();
        cx.timers.set(Timer::Connect(self.key), cx.now);
    }

    /// True if a handshake may be computed for it now.
    pub(in crate::mesh) fn may_request(&mut self, now: Time, via: Via) -> bool {
        let link = if let Via::Server(link) = via { Some(link) } else { None };
        self.requests.entry(link).or_default().take(now, REQUESTS, 1)
    }

    /// It begins a handshake, and may. Nothing that was said so far proves that it is here now.
    pub(in crate::mesh) fn requested(
        &mut self,
        cx: &mut Context<'_>,
        request: Request,
        mac: [u8; 16],
        via: Via,
        index: u32,
    ) {
        let Ok((response, session)) = request.respond(cx.now, index, &[]) else { return };
        cx.out.owned.push(index);
        self.sessions.offer(session, &mut cx.out.disowned);
        self.answered = Some((mac, response.clone()));
        self.answer(cx, via, response);
        if !self.is_connected() {
            cx.timers.set(Timer::Connect(self.key), cx.now + INVITED_COURTESY);
        }
    }

    /// True if this INIT has come before: it is answered as then, unless its session is in use already.
    pub(in crate::mesh) fn requested_again(&mut self, cx: &mut Context<'_>, mac: &[u8; 16], via: Via) -> bool {
        let Some((_, response)) = self.answered.as_ref().filter(|(m, _)| m == mac) else { return false };
        if self.sessions.waits() {
            self.answer(cx, via, response.clone());
        }
        true
    }

    fn answer(&self, cx: &mut Context<'_>, via: Via, response: Vec<u8>) {
        match via {
            Via::Way(way) => cx.out.send(way, relabelled(response, way.label)),
            Via::Server(link) => cx.out.forward(self.key, Some(link), response),
        }
    }

    /// It answers a handshake.
    pub(in crate::mesh) fn response(
        &mut self,
        cx: &mut Context<'_>,
        response: &Response<'_>,
    ) -> Result<(), HandshakeError> {
        let greeting = self.greeting.as_mut().ok_or(HandshakeError::State)?;
        let (session, _) = greeting.initiation.handle_response(cx.now, response)?;
        self.greeting = None;
        let first = self.sessions.current().is_none();
        self.sessions.replace(session, &mut cx.out.disowned);
        self.established(cx, first);
        Ok(())
    }

    fn established(&mut self, cx: &mut Context<'_>, first: bool) {
        self.epoch = self.epoch.wrapping_add(1);
        (self.connects, self.renew, self.suspect) = (0, false, None);
        self.last_heard = cx.now;
        // A handshake of ours that is still under way has been overtaken.
        cx.out.disowned.extend(self.greeting.take().map(|greeting| greeting.index()));
        cx.timers.set_no_later(Timer::Connect(self.key), cx.now + INVITED_COURTESY);
        cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::LOOK);
        cx.timers.set(Timer::Forget(self.key), cx.now + SILENCE);
        // A peer that has started anew knows nothing of us, and counts from the start.
        (self.told, self.tells, self.generation, self.whereabouts, self.asks) = (0, 0, 0, 0, 0);
        self.tell(cx);
        for way in self.take_left(cx) {
            self.find_or_add(cx, way);
            self.close_unused(cx, &way);
        }
        if first {
            self.probe_all(cx);
        } else {
            self.verify(cx);
        }
        cx.timers.set_no_later(Timer::Punch(self.key), cx.now + ways::FIRST_PUNCH);
    }

    /// Decrypts what it says, and when. An error: it was not for us, or not from it, or came before.
    pub(in crate::mesh) fn open(
        &mut self,
        cx: &mut Context<'_>,
        data: &Data<'_>,
    ) -> Result<(Vec<u8>, (u32, u64)), OpenError> {
        let mut plaintext = Vec::new();
        let by = self.sessions.open(cx.now, data, &mut plaintext, &mut cx.out.disowned)?;
        (self.last_heard, self.last_said, self.turns) = (cx.now, cx.now, 0);
        match by {
            By::New { first } => self.established(cx, first),
            // It has our session, whatever gave reason to doubt that. (Ours to renew is what we have begun to.)
            By::Current if self.greeting.is_none() => self.renew = false,
            By::Current | By::Before => {}
        }
        let epoch = if by == By::Before { self.epoch.wrapping_sub(1) } else { self.epoch };
        Ok((plaintext, (epoch, data.counter)))
    }

    /// Whether this session is the one that the peer uses now.
    pub(super) fn is_of_now(&self, said: (u32, u64)) -> bool {
        said.0 == self.epoch
    }

    /// True if it uses a session whose time is over on our side.
    pub(in crate::mesh) fn has_expired(&self, now: Time) -> bool {
        self.sessions.current().is_some_and(|s| s.is_expired(now))
    }
}
