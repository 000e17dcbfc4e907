//! One peer: its sessions, what it says of itself, and the ways to it.
//!
//! The one with the smaller key begins the handshake, by way of a server that both are registered with. Openers to all addresses of the
//! other side go out meanwhile, so that the NATs in between are open when the session stands; then each way is probed within it.

mod search;
mod sessions;
mod talk;
mod ways;

use std::{collections::BTreeSet, time::Duration};

use wavnet_common::addr::Vni;

pub(super) use self::search::is_rested;
use self::{search::Progress, sessions::Sessions};
use super::{
    context::Context,
    output::{Command, Event, PathKind, Way},
    path::{Path, Paths},
    timer::Timer,
};
use crate::{
    time::Time,
    trust::{Initiation, Psk, PublicKey, Request, Session},
    wire::{
        Candidate, Data, Label, Message, Name, NatSummary, Response, Writer,
        message::{Connect, Forward},
    },
};

/// Before CONNECT is sent once more; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long the one with the greater key waits for the other one to begin.
const COURTESY: Duration = Duration::from_secs(1);
/// A peer that is in no directory is forgotten when nothing has come from it for so long.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// How a datagram came, or how one is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// By itself.
    Way(Way),
    /// Inside a server's FORWARD.
    Server,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) key: PublicKey,
    pub(super) name: Option<Name>,
    /// Some server says that it is there.
    pub(super) listed: bool,
    greeting: Option<(Initiation, Vec<u8>)>,
    /// The last INIT of the peer's that was answered, and with what: the answer may get lost, and costs much to make.
    answered: Option<([u8; 16], Vec<u8>)>,
    sessions: Sessions,
    connects: u32,
    /// The session may be of no use any more.
    renew: bool,
    /// Of its PEER_HELLO that has arrived; zero: none has.
    generation: u32,
    /// Of ours that has arrived there.
    told: u32,
    tells: u32,
    pub(super) vnis: BTreeSet<Vni>,
    admitted: Option<BTreeSet<Vni>>,
    pub(super) nat: NatSummary,
    candidates: Vec<Candidate>,
    pub(super) paths: Paths,
    busy: bool,
    punches: u32,
    search: Option<Progress>,
    searches: u32,
    /// Since when it has no path, for [`Event::Path`].
    pathless: Time,
    last_heard: Time,
}

impl Peer {
    pub(super) fn new(key: PublicKey, now: Time) -> Peer {
        Peer {
            key,
            name: None,
            listed: false,
            greeting: None,
            answered: None,
            sessions: Sessions::default(),
            connects: 0,
            renew: false,
            generation: 0,
            told: 0,
            tells: 0,
            vnis: BTreeSet::new(),
            admitted: None,
            nat: NatSummary::default(),
            candidates: Vec::new(),
            paths: Paths::default(),
            busy: false,
            punches: 0,
            search: None,
            searches: 0,
            pathless: now,
            last_heard: now,
        }
    }

    /// It has shown who it is.
    pub(super) fn is_connected(&self) -> bool {
        self.sessions.current().is_some()
    }

    pub(super) fn is_silent(&self, now: Time) -> bool {
        now.since(self.last_heard) >= SILENCE
    }

    pub(super) fn admitted(&self) -> Option<&BTreeSet<Vni>> {
        self.admitted.as_ref()
    }

    fn begins(&self, cx: &Context<'_>) -> bool {
        cx.local.key < self.key
    }

    /// A server says that it is there: it is to be connected.
    pub(super) fn want(&mut self, cx: &mut Context<'_>, delay: Duration) {
        self.listed = true;
        if !self.is_connected() {
            let courtesy = if self.begins(cx) { Duration::ZERO } else { COURTESY };
            cx.timers.set_no_later(Timer::Connect(self.key), cx.now + delay + courtesy);
        }
    }

    /// [`Timer::Connect`]: what to say to a server now. `index` is for a handshake.
    pub(super) fn connect(&mut self, cx: &mut Context<'_>, index: u32) -> Vec<Message> {
        if self.is_connected() && self.greeting.is_none() && !self.renew {
            return Vec::new();
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.connects.min(10)).min(LONGEST_PAUSE);
        self.connects += 1;
        cx.timers.set(Timer::Connect(self.key), cx.now + pause);
        let candidates = cx.local.candidates();
        let mut messages = vec![Message::Connect(Connect { request: cx.rng.u32(), peer: self.key, candidates })];
        if self.begins(cx) {
            messages
                .extend(self.greet(cx, index).map(|datagram| Message::Forward(Forward { peer: self.key, datagram })));
        }
        messages
    }

    /// What to say to a server that has taken us in anew: it is to relay for this peer as well.
    pub(super) fn reconnect(&self, cx: &mut Context<'_>) -> Option<Message> {
        let candidates = cx.local.candidates();
        let connect = Connect { request: cx.rng.u32(), peer: self.key, candidates };
        self.begins(cx).then_some(Message::Connect(connect))
    }

    /// The peer does not know our session (says somebody): another one is needed if that is true.
    pub(super) fn lost_there(&mut self, cx: &mut Context<'_>, receiver: u32) {
        if self.sessions.current().is_some_and(|s| s.remote_index() == receiver) && self.greeting.is_none() {
            self.connects = 0;
            self.renew = true;
            cx.timers.set_no_later(Timer::Connect(self.key), cx.now);
        }
    }

    /// INIT of the handshake that is under way, or of a new one.
    fn greet(&mut self, cx: &mut Context<'_>, index: u32) -> Option<Vec<u8>> {
        if self.greeting.is_none() {
            let psk = Psk::Member(&cx.local.settings.member);
            let mut initiation = Initiation::start(&cx.local.secret, psk, index, cx.rng);
            let init = initiation.init_without_cookie(self.key, &[]).ok()?;
            cx.out.owned.push(index);
            self.greeting = Some((initiation, init));
        }
        self.greeting.as_ref().map(|(_, init)| init.clone())
    }

    /// [`Timer::Rekey`]: a new handshake, over the best path there is.
    pub(super) fn rekey(&mut self, cx: &mut Context<'_>, index: u32) {
        let Some(session) = self.sessions.current() else { return };
        if !session.needs_rekey(cx.now) {
            return cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::LOOK);
        }
        self.connects = 0;
        if let Some(init) = self.greet(cx, index) {
            self.send_raw(cx, init);
        }
        cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::RETRY);
        cx.timers.set(Timer::Connect(self.key), cx.now + FIRST_PAUSE);
    }

    /// It begins a handshake, and may. Nothing that was said so far proves that it is here now.
    pub(super) fn requested(&mut self, cx: &mut Context<'_>, request: Request, mac: [u8; 16], via: Via, index: u32) {
        let Ok((response, session)) = request.respond(cx.now, index, &[]) else { return };
        cx.out.owned.push(index);
        self.sessions.offer(session, &mut cx.out.disowned);
        self.answered = Some((mac, response.clone()));
        self.answer(cx, via, response);
    }

    /// True if this INIT has come before, and was answered again.
    pub(super) fn requested_again(&mut self, cx: &mut Context<'_>, mac: &[u8; 16], via: Via) -> bool {
        let before = self.answered.as_ref().filter(|(m, _)| m == mac && self.sessions.waits());
        let Some(response) = before.map(|(_, response)| response.clone()) else { return false };
        self.answer(cx, via, response);
        true
    }

    fn answer(&self, cx: &mut Context<'_>, via: Via, response: Vec<u8>) {
        match via {
            Via::Way(way) => cx.out.send(way, response),
            Via::Server => cx.out.forward(self.key, response),
        }
    }

    /// It answers a handshake.
    pub(super) fn response(&mut self, cx: &mut Context<'_>, response: &Response<'_>) {
        let Some((initiation, _)) = &mut self.greeting else { return };
        let Ok((session, _)) = initiation.handle_response(cx.now, response) else { return };
        self.greeting = None;
        self.establish(cx, session);
    }

    fn establish(&mut self, cx: &mut Context<'_>, session: Session) {
        let first = self.sessions.current().is_none();
        self.sessions.replace(session, &mut cx.out.disowned);
        self.established(cx, first);
    }

    fn established(&mut self, cx: &mut Context<'_>, first: bool) {
        (self.connects, self.renew, self.last_heard) = (0, false, cx.now);
        cx.timers.stop(Timer::Connect(self.key));
        cx.timers.set(Timer::Rekey(self.key), cx.now + sessions::LOOK);
        cx.timers.set(Timer::Forget(self.key), cx.now + SILENCE);
        // A peer that has started anew knows nothing of us.
        (self.told, self.tells) = (0, 0);
        self.tell(cx);
        if first {
            for path in self.paths.iter_mut() {
                path.retry();
            }
        }
        self.probe_all(cx);
        cx.timers.set_no_later(Timer::Punch(self.key), cx.now + ways::FIRST_PUNCH);
    }

    /// Decrypts what it says. `None`: it was not for us, or not from it.
    pub(super) fn open(&mut self, cx: &mut Context<'_>, data: &Data<'_>) -> Option<Vec<u8>> {
        let mut plaintext = Vec::new();
        let confirmed = self.sessions.open(data, &mut plaintext, &mut cx.out.disowned)?;
        self.last_heard = cx.now;
        if let Some(first) = confirmed {
            self.established(cx, first);
        }
        Some(plaintext)
    }

    /// Says something by one way.
    fn say(&mut self, cx: &mut Context<'_>, way: Way, messages: &[Message]) {
        for datagram in self.seal(way.label, messages) {
            cx.out.send(way, datagram);
        }
    }

    /// Says something by the best way there is.
    fn say_anyhow(&mut self, cx: &mut Context<'_>, messages: &[Message]) {
        match self.best_way(cx.now) {
            Some(way) => self.say(cx, way, messages),
            None => {
                for datagram in self.seal(Label::ZERO, messages) {
                    cx.out.forward(self.key, datagram);
                }
            }
        }
    }

    fn send_raw(&mut self, cx: &mut Context<'_>, datagram: Vec<u8>) {
        match self.best_way(cx.now).filter(|way| !way.is_relayed()) {
            Some(way) => cx.out.send(way, datagram),
            None => cx.out.forward(self.key, datagram),
        }
    }

    fn seal(&mut self, label: Label, messages: &[Message]) -> Vec<Vec<u8>> {
        let Some(session) = self.sessions.current_mut() else { return Vec::new() };
        let mut writer = Writer::new();
        // What breaks a limit cannot be said; what makes these messages keeps the limits.
        messages.iter().for_each(|m| drop(writer.push(m)));
        let seal = |plaintext: Vec<u8>| {
            let mut datagram = Vec::with_capacity(plaintext.len() + 64);
            session.seal(label, &plaintext, &mut datagram).ok().map(|()| datagram)
        };
        writer.finish().into_iter().filter_map(seal).collect()
    }

    /// Ends everything with it.
    pub(super) fn expel(&mut self, cx: &mut Context<'_>) {
        self.stop_search(cx);
        self.sessions.clear(&mut cx.out.disowned);
        cx.out.disowned.extend(self.greeting.take().map(|(initiation, _)| initiation.index()));
        let ids: Vec<_> = self.paths.iter().map(|p| p.id).collect();
        if self.paths.selected.take().is_some() {
            cx.out.command(Command::Select { peer: self.key, path: None });
        }
        ids.into_iter().for_each(|id| self.drop_path(cx, id));
        if self.admitted.take().is_some() {
            cx.out.command(Command::Expel { peer: self.key });
            cx.out.event(Event::Gone { peer: self.key });
        }
        for timer in [Timer::Connect, Timer::Tell, Timer::Punch, Timer::Search, Timer::Rekey, Timer::Forget] {
            cx.timers.stop(timer(self.key));
        }
    }

    /// What its selected path is.
    pub(super) fn path_kind(&self) -> Option<PathKind> {
        self.paths.selected().map(|p: &Path| p.kind)
    }
}
