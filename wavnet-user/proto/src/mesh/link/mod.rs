//! The link to one rendezvous server: handshake, session, and whether the server lives.

mod lease;
mod pulses;
mod sync;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use self::sync::Syncing;
use super::{
    context::Context,
    output::{Event, ServerTrouble},
    pulse::{Health, Pulses},
    settings::Server,
    timer::Timer,
};
use crate::{
    rng::Rng,
    time::Time,
    trust::{HandshakeError, Initiation, OpenError, Psk, PublicKey, Session},
    wire::{Cookie, Data, Label, Message, Messages, Name, Response, Unknown, Writer, message::ByeReason},
};

/// Before HELLO, INIT or a request is sent once more; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// After so many greetings or requests without an answer the server is told as lost.
const SILENT_AFTER: u32 = 4;
/// INITs before it asks for another cookie.
const INITS: u32 = 1;
/// A handshake that has not ended by then begins anew.
const ENOUGH: Duration = Duration::from_secs(5);
/// Cookies that come faster than this are somebody's copies.
const COOKIES: Duration = Duration::from_millis(50);
/// After a refusal.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Between two handshakes that others' words (UNKNOWN) lead to.
const DISTRUST: Duration = Duration::from_secs(1);
/// Between two looks whether a server that we have a session with elsewhere is there under this address, too.
const STAND_BY: Duration = Duration::from_secs(10);
/// So long after the server has driven us out for another host with our key, that is still what is the matter: the two take turns, and each
/// turn lasts for a minute or two.
const RIVALRY: Duration = Duration::from_secs(600);

/// The link to one server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: usize,
    pub(super) server: Server,
    greeting: Option<Greeting>,
    session: Option<Session>,
    /// The one before: what the server has sent by it may be on its way.
    before: Option<Session>,
    /// Greetings without an answer.
    greetings: u32,
    /// REGISTERs and REFRESHes without an answer.
    requests: u32,
    /// The lease, once it was given.
    lease: Option<Duration>,
    /// When it ends unless it is extended.
    lease_ends: Time,
    /// When it last said where it sees us.
    registered_at: Time,
    /// REGISTER goes out, and not REFRESH: what was told is not what is so.
    stale: bool,
    /// The last request's number, and which of them may still be answered by REGISTERED.
    request: u32,
    asked: Option<(u32, u32)>,
    /// When REGISTER or REFRESH last left.
    told: Time,
    pub(super) relays: bool,
    /// Its other addresses that answer STUN.
    pub(super) stun: Vec<SocketAddr>,
    /// Who the server says is there.
    pub(super) directory: BTreeMap<PublicKey, Name>,
    sync: Option<Syncing>,
    /// Of the directory as we have it, and as the server says that it is.
    version: u64,
    newest: u64,
    /// Pulses keep the mapping to the server open, and say whether the server lives.
    pub(super) pulses: Pulses,
    /// What was told of it last.
    trouble: Option<ServerTrouble>,
    /// When the server last drove us out for another host with our key.
    rivalled: Option<Time>,
    /// When we last looked into what others say of our session, and of our address.
    looked: [Option<Time>; 2],
    /// How often it may say that we are elsewhere.
    moves: lease::Moves,
}

/// A pause after so many tries. No two hosts keep step: they may all have lost the server at the same moment.
fn pause(tries: u32, rng: &mut Rng) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    pause + pause.mul_f64(rng.below(256) as f64 / 1024.0)
}

/// A handshake under way.
#[derive(Debug)]
struct Greeting {
    initiation: Initiation,
    begun: Time,
    /// INIT and when it left, once COOKIE came.
    init: Option<(Vec<u8>, Time)>,
    tries: u32,
}

impl Link {
    pub(super) fn new(index: usize, server: Server, idle: Duration) -> Link {
        Link {
            index,
            server,
            greeting: None,
            session: None,
            before: None,
            greetings: 0,
            requests: 0,
            lease: None,
            lease_ends: Time::ZERO,
            registered_at: Time::ZERO,
            stale: true,
            request: 0,
            asked: None,
            told: Time::ZERO,
            relays: false,
            stun: Vec::new(),
            directory: BTreeMap::new(),
            sync: None,
            version: 0,
            newest: 0,
            pulses: Pulses::new(idle),
            trouble: None,
            rivalled: None,
            looked: [None; 2],
            moves: lease::Moves::default(),
        }
    }

    /// True if the server has us.
    pub(super) fn is_up(&self, now: Time) -> bool {
        self.session.is_some() && self.lease.is_some() && now < self.lease_ends
    }

    /// True if it has us no more, or answers no requests. What becomes of pulses does not count: they may need longer to come back than an answer.
    pub(super) fn is_gone(&self, now: Time) -> bool {
        !self.is_up(now) || self.requests >= SILENT_AFTER || self.trouble == Some(ServerTrouble::Silent)
    }

    /// When it last said where it sees us, and was believed.
    pub(super) fn registered_at(&self) -> Time {
        self.registered_at
    }

    /// True if it has us, and answers.
    pub(super) fn is_sound(&self, now: Time) -> bool {
        let answers = self.requests < SILENT_AFTER && self.pulses.health(now) != Health::Dead;
        self.is_up(now) && answers && self.trouble.is_none()
    }

    pub(super) fn trouble(&self) -> Option<ServerTrouble> {
        self.trouble
    }

    /// The same for an operator: another host with our key is the matter for as long as that one and we take turns.
    pub(super) fn lasting_trouble(&self, now: Time) -> Option<ServerTrouble> {
        if self.is_rivalled(now) { Some(ServerTrouble::Replaced) } else { self.trouble }
    }

    fn is_rivalled(&self, now: Time) -> bool {
        self.rivalled.is_some_and(|at| now.since(at) < RIVALRY)
    }

    /// Indices of sessions, of what it expects to hear.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        let greeting = self.greeting.as_ref().map(|g| g.initiation.index());
        let sessions = [&self.session, &self.before].into_iter().flatten();
        greeting.into_iter().chain(sessions.map(Session::local_index))
    }

    /// Begins a handshake. What there is goes on until it ends.
    pub(super) fn greet(&mut self, cx: &mut Context<'_>, index: u32) {
        let psk = Psk::Access(&cx.local.settings.access);
        let initiation = Initiation::start(&cx.local.secret, psk, index, cx.rng);
        self.greeting = Some(Greeting { initiation, begun: cx.now, init: None, tries: 0 });
        self.hello(cx);
    }

    fn hello(&mut self, cx: &mut Context<'_>) {
        let Some(greeting) = &self.greeting else { return };
        cx.out.send_main(self.server.addr, greeting.initiation.hello_datagram());
        self.greetings = self.greetings.saturating_add(1);
        cx.timers.set(Timer::Greet(self.index), cx.now + pause(self.greetings, cx.rng));
    }

    /// HELLO or INIT was not answered. `index` is for a new handshake.
    pub(super) fn greet_again(&mut self, cx: &mut Context<'_>, index: u32) {
        if self.greetings >= SILENT_AFTER {
            self.lost(cx, ServerTrouble::Silent);
        }
        match &mut self.greeting {
            Some(Greeting { init: Some((init, sent)), tries, .. }) if *tries < INITS => {
                (*tries, *sent) = (*tries + 1, cx.now);
                cx.out.send_main(self.server.addr, init.clone());
                self.greetings = self.greetings.saturating_add(1);
                cx.timers.set(Timer::Greet(self.index), cx.now + pause(self.greetings, cx.rng));
            }
            // The same until it is clear that nothing will come of it: an answer may take longer than our patience.
            Some(greeting) if greeting.init.is_none() || cx.now.since(greeting.begun) < ENOUGH => {
                (greeting.init, greeting.tries) = (None, 0);
                self.hello(cx);
            }
            _ => self.greet(cx, index),
        }
    }

    pub(super) fn cookie(&mut self, cx: &mut Context<'_>, cookie: &Cookie<'_>) -> Result<(), HandshakeError> {
        let greeting = self.greeting.as_mut().ok_or(HandshakeError::State)?;
        if greeting.init.as_ref().is_some_and(|(_, sent)| cx.now.since(*sent) < COOKIES) {
            return Ok(());
        }
        match greeting.initiation.handle_cookie(cookie, self.server.key, &[]) {
            Ok(init) => {
                cx.out.send_main(self.server.addr, init.clone());
                (greeting.init, greeting.tries) = (Some((init, cx.now)), 0);
                self.greetings = 1;
                cx.timers.set(Timer::Greet(self.index), cx.now + pause(1, cx.rng));
                Ok(())
            }
            Err(error) => {
                match error {
                    HandshakeError::Peer { .. } if self.server.key.is_some() => self.lost(cx, ServerTrouble::WrongKey),
                    // It is another one than a moment ago, which only a new handshake can be for.
                    HandshakeError::Peer { .. } => {
                        self.greeting = None;
                        cx.timers.set(Timer::Greet(self.index), cx.now + FIRST_PAUSE);
                    }
                    _ => {}
                }
                Err(error)
            }
        }
    }

    pub(super) fn response(&mut self, cx: &mut Context<'_>, response: &Response<'_>) -> Result<(), HandshakeError> {
        let greeting = self.greeting.as_mut().ok_or(HandshakeError::State)?;
        let (session, _) = greeting.initiation.handle_response(cx.now, response)?;
        self.greeting = None;
        self.before = self.session.replace(session);
        (self.greetings, self.requests, self.stale) = (0, 0, true);
        (self.version, self.newest, self.sync) = (0, 0, None);
        cx.timers.stop(Timer::Greet(self.index));
        cx.timers.stop(Timer::Sync(self.index));
        self.register(cx);
        Ok(())
    }

    /// The server may not know us any more: a handshake. What it told stays in force until it has ended.
    fn relink(&mut self, cx: &mut Context<'_>, index: u32) {
        if cx.now >= self.lease_ends {
            self.lease = None;
            // Who had no room has forgotten our session by then, and answers all the same.
            if self.trouble != Some(ServerTrouble::Full) {
                self.lost(cx, ServerTrouble::Silent);
            }
        }
        cx.timers.stop(Timer::Register(self.index));
        if self.greeting.is_none() {
            self.greetings = 0;
            self.greet(cx, index);
        } else {
            self.greet_now(cx);
        }
    }

    /// The server is there, and there is no session: it is called now, and not when it is time.
    fn greet_now(&mut self, cx: &mut Context<'_>) {
        self.greetings = 0;
        cx.timers.set_no_later(Timer::Greet(self.index), cx.now);
    }

    /// There was a session, and it is of no use any more.
    fn has_expired(&self, now: Time) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_expired(now))
    }

    /// True if there is a session with this server.
    pub(super) fn has_session_with(&self, server: PublicKey) -> bool {
        self.session.as_ref().is_some_and(|session| session.peer() == server)
    }

    /// A handshake is under way.
    pub(super) fn is_greeting(&self) -> bool {
        self.greeting.is_some()
    }

    /// A handshake is about to end.
    pub(super) fn is_calling(&self) -> bool {
        self.trouble.is_none() && self.greeting.as_ref().is_some_and(|g| g.init.is_some())
    }

    /// The server that we have a session with, or have called.
    pub(super) fn server_key(&self) -> Option<PublicKey> {
        let called = self.greeting.as_ref().and_then(|g| g.initiation.remote());
        self.session.as_ref().map(Session::peer).or(called)
    }

    /// It is the server of another link, under another address: two sessions would drive each other out. It is tried if that one fails.
    pub(super) fn stand_by(&mut self, cx: &mut Context<'_>) {
        self.stop(cx);
        (self.trouble, self.rivalled) = (None, None);
        cx.timers.set(Timer::Greet(self.index), cx.now + STAND_BY);
    }

    /// Decrypts what the server says; false: some of it cannot be read.
    pub(super) fn open(&mut self, now: Time, data: &Data<'_>) -> Result<(Vec<Message>, bool), OpenError> {
        let meant = |s: &&mut Session| s.local_index() == data.receiver && !s.is_expired(now);
        let mut plaintext = Vec::new();
        let of_now = self.session.as_mut().filter(meant);
        let is_of_now = of_now.is_some();
        let session = of_now.or(self.before.as_mut().filter(meant)).ok_or(OpenError::Forged)?;
        session.open(data, &mut plaintext)?;
        if is_of_now {
            self.before = None;
        }
        let mut whole = true;
        let read = Messages::new(&plaintext).map_while(|message| message.inspect_err(|_| whole = false).ok());
        // The end of the session before is none of this one.
        let messages = read.filter(|message| is_of_now || !matches!(message, Message::Bye { .. })).collect();
        Ok((messages, whole))
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, messages: &[Message]) -> bool {
        let Some(session) = self.session.as_mut().filter(|s| !s.is_expired(cx.now)) else { return false };
        let mut writer = Writer::new();
        // What breaks a limit cannot be said; what makes these messages keeps the limits.
        messages.iter().for_each(|m| drop(writer.push(m)));
        for plaintext in writer.finish() {
            let mut datagram = Vec::with_capacity(plaintext.len() + 64);
            if session.seal(Label::ZERO, &plaintext, &mut datagram).is_err() {
                return false;
            }
            cx.out.send_main(self.server.addr, datagram);
        }
        true
    }

    /// BYE.
    pub(super) fn bye(&mut self, cx: &mut Context<'_>, reason: ByeReason) {
        let (trouble, pause) = match reason {
            ByeReason::NOT_ALLOWED => (ServerTrouble::Refused, REFUSED_PAUSE),
            ByeReason::REPLACED => (ServerTrouble::Replaced, REFUSED_PAUSE / 2),
            _ => (ServerTrouble::Closing, FIRST_PAUSE),
        };
        self.lost(cx, trouble);
        if trouble == ServerTrouble::Replaced {
            self.rivalled = Some(cx.now);
        }
        self.stop(cx);
        cx.timers.set(Timer::Greet(self.index), cx.now + pause);
    }

    /// Ends what there is.
    pub(super) fn stop(&mut self, cx: &mut Context<'_>) {
        (self.session, self.before, self.greeting, self.lease, self.sync) = (None, None, None, None, None);
        (self.greetings, self.requests, self.asked) = (0, 0, None);
        let i = self.index;
        [Timer::Greet(i), Timer::Register(i), Timer::Sync(i), Timer::ServerPulse(i)]
            .into_iter()
            .for_each(|timer| cx.timers.stop(timer));
    }

    /// Somebody says that the server does not know us. It proves nothing, so it is looked into, once a second at the most.
    pub(super) fn unknown(&mut self, cx: &mut Context<'_>, unknown: &Unknown, index: u32) {
        let (plausible, looked) = match unknown {
            Unknown::Data { receiver, .. } => {
                (self.session.as_ref().is_some_and(|s| s.remote_index() == *receiver), &mut self.looked[0])
            }
            Unknown::Pulse(pulse) => (self.pulses.is_under_way(u16::from_be_bytes(*pulse)), &mut self.looked[1]),
        };
        if !plausible || looked.is_some_and(|at| cx.now.since(at) < DISTRUST) {
            return;
        }
        *looked = Some(cx.now);
        match unknown {
            Unknown::Data { .. } => self.relink(cx, index),
            Unknown::Pulse(_) if self.has_expired(cx.now) => self.greet_now(cx),
            Unknown::Pulse(_) => self.moved(cx),
        }
    }

    fn lost(&mut self, cx: &mut Context<'_>, trouble: ServerTrouble) {
        if self.trouble.replace(trouble) != Some(trouble) && !self.is_rivalled(cx.now) {
            cx.out.event(Event::ServerLost { server: self.index, why: trouble });
        }
    }
}
