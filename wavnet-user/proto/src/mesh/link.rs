//! The link to one rendezvous server: handshake, registration, lease, directory.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    context::Context,
    output::{Event, ServerTrouble},
    pulse::{Health, Pulses},
    settings::Server,
    timer::Timer,
};
use crate::{
    time::Time,
    trust::{HandshakeError, Initiation, Psk, PublicKey, Session},
    wire::{
        Cookie, Data, Label, Message, Messages, Name, Response, Unknown, Writer,
        message::{ByeReason, HostState, Page, Refused, RefusedCode, Register, Registered, Sync},
    },
};

/// Before HELLO, INIT or a request is sent once more; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// After so many greetings without an answer the server is told as lost.
const SILENT_AFTER: u32 = 4;
/// INITs before it begins with HELLO again: the cookie may be too old.
const INITS: u32 = 4;
/// After a refusal.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// Between two handshakes that others' words (UNKNOWN) lead to.
const DISTRUST: Duration = Duration::from_secs(1);

/// The link to one server.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: usize,
    pub(super) server: Server,
    greeting: Option<Greeting>,
    session: Option<Session>,
    /// Greetings without an answer.
    greetings: u32,
    /// REGISTERs and REFRESHes without an answer.
    requests: u32,
    /// The lease, once it was given.
    lease: Option<Duration>,
    /// When it ends unless it is extended.
    lease_ends: Time,
    /// REGISTER goes out, and not REFRESH: what was told is not what is so.
    stale: bool,
    request: u32,
    pub(super) relays: bool,
    /// Its other addresses that answer STUN.
    pub(super) stun: Vec<SocketAddr>,
    /// Who the server says is there.
    pub(super) directory: BTreeMap<PublicKey, Name>,
    sync: Option<Syncing>,
    version: u64,
    /// Pulses keep the mapping to the server open, and say whether the server lives.
    pub(super) pulses: Pulses,
    /// What was told of it last.
    trouble: Option<ServerTrouble>,
    /// When we last looked into what others say of our session, and of our address.
    looked: [Option<Time>; 2],
}

fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE)
}

/// A handshake under way.
#[derive(Debug)]
struct Greeting {
    initiation: Initiation,
    /// INIT, once COOKIE came.
    init: Option<Vec<u8>>,
    tries: u32,
}

/// A directory being read.
#[derive(Debug)]
struct Syncing {
    request: u32,
    since: u64,
    after: Option<PublicKey>,
    /// The first page's: what is younger is read by another one.
    version: Option<u64>,
    /// Read from the start: who is not in it is gone.
    all: Option<BTreeMap<PublicKey, Name>>,
    tries: u32,
}

impl Link {
    pub(super) fn new(index: usize, server: Server, idle: Duration) -> Link {
        Link {
            index,
            server,
            greeting: None,
            session: None,
            greetings: 0,
            requests: 0,
            lease: None,
            lease_ends: Time::ZERO,
            stale: true,
            request: 0,
            relays: false,
            stun: Vec::new(),
            directory: BTreeMap::new(),
            sync: None,
            version: 0,
            pulses: Pulses::new(idle),
            trouble: None,
            looked: [None; 2],
        }
    }

    /// True if the server has us.
    pub(super) fn is_up(&self) -> bool {
        self.session.is_some() && self.lease.is_some()
    }

    pub(super) fn trouble(&self) -> Option<ServerTrouble> {
        self.trouble
    }

    /// Indices of sessions, of what it expects to hear.
    pub(super) fn indices(&self) -> impl Iterator<Item = u32> {
        let greeting = self.greeting.as_ref().map(|g| g.initiation.index());
        greeting.into_iter().chain(self.session.as_ref().map(Session::local_index))
    }

    /// Begins a handshake. What there is goes on until it ends.
    pub(super) fn greet(&mut self, cx: &mut Context<'_>, index: u32) {
        let psk = Psk::Access(&cx.local.settings.access);
        let initiation = Initiation::start(&cx.local.secret, psk, index, cx.rng);
        cx.out.send_main(self.server.addr, initiation.hello_datagram());
        self.greeting = Some(Greeting { initiation, init: None, tries: 0 });
        self.greetings += 1;
        cx.timers.set(Timer::Greet(self.index), cx.now + pause(self.greetings));
    }

    /// HELLO or INIT was not answered. `index` is for a new handshake.
    pub(super) fn greet_again(&mut self, cx: &mut Context<'_>, index: u32) {
        if self.greetings >= SILENT_AFTER {
            self.lost(cx, ServerTrouble::Silent);
        }
        match &mut self.greeting {
            Some(Greeting { init: Some(init), tries, .. }) if *tries < INITS => {
                *tries += 1;
                cx.out.send_main(self.server.addr, init.clone());
                self.greetings += 1;
                cx.timers.set(Timer::Greet(self.index), cx.now + pause(self.greetings));
            }
            _ => self.greet(cx, index),
        }
    }

    pub(super) fn cookie(&mut self, cx: &mut Context<'_>, cookie: &Cookie<'_>) {
        let Some(greeting) = &mut self.greeting else { return };
        match greeting.initiation.handle_cookie(cookie, self.server.key, &[]) {
            Ok(init) => {
                cx.out.send_main(self.server.addr, init.clone());
                (greeting.init, greeting.tries) = (Some(init), 0);
                self.greetings = 1;
                cx.timers.set(Timer::Greet(self.index), cx.now + FIRST_PAUSE);
            }
            Err(HandshakeError::Peer { .. }) => self.lost(cx, ServerTrouble::WrongKey),
            Err(_) => {}
        }
    }

    pub(super) fn response(&mut self, cx: &mut Context<'_>, response: &Response<'_>) {
        let Some(greeting) = &mut self.greeting else { return };
        let Ok((session, _)) = greeting.initiation.handle_response(cx.now, response) else { return };
        self.greeting = None;
        self.session = Some(session);
        (self.greetings, self.requests, self.stale, self.version, self.sync) = (0, 0, true, 0, None);
        cx.timers.stop(Timer::Greet(self.index));
        self.register(cx);
    }

    /// Tells the server (again) what it must know, or that we are still there.
    pub(super) fn register(&mut self, cx: &mut Context<'_>) {
        self.request = self.request.wrapping_add(1);
        let request = self.request;
        let local = cx.local;
        let message = if self.stale {
            Message::Register(Register {
                request,
                flags: 0,
                nat: local.nat,
                name: local.settings.name.clone(),
                candidates: local.candidates(),
                vnis: local.settings.vnis.clone(),
            })
        } else {
            Message::Refresh { request }
        };
        self.requests += 1;
        self.send(cx, &[message]);
        cx.timers.set(Timer::Register(self.index), cx.now + pause(self.requests));
    }

    /// [`Timer::Register`]. `index` is for a new handshake.
    pub(super) fn register_again(&mut self, cx: &mut Context<'_>, index: u32) {
        if self.session.is_none() {
            return;
        }
        if self.requests >= SILENT_AFTER || self.session.as_ref().is_some_and(|s| s.is_expired(cx.now)) {
            return self.relink(cx, index);
        }
        if self.session.as_ref().is_some_and(|s| s.needs_rekey(cx.now)) && self.greeting.is_none() {
            self.greet(cx, index);
        }
        self.register(cx);
    }

    /// The server may not know us any more: a handshake. What it told stays in force until it has ended.
    fn relink(&mut self, cx: &mut Context<'_>, index: u32) {
        if cx.now >= self.lease_ends {
            self.lease = None;
            self.lost(cx, ServerTrouble::Silent);
        }
        cx.timers.stop(Timer::Register(self.index));
        if self.greeting.is_none() {
            self.greetings = 0;
            self.greet(cx, index);
        }
    }

    /// What others must know of this host has changed.
    pub(super) fn touch(&mut self, cx: &mut Context<'_>) {
        self.stale = true;
        if self.session.is_some() {
            self.requests = 0;
            self.register(cx);
        }
    }

    /// Our address may be another one: tell the server at once.
    pub(super) fn moved(&mut self, cx: &mut Context<'_>) {
        if self.session.is_some() {
            self.register(cx);
        } else if let Some(greeting) = &self.greeting {
            cx.out.send_main(self.server.addr, greeting.initiation.hello_datagram());
        }
    }

    /// Decrypts what the server says.
    pub(super) fn open(&mut self, data: &Data<'_>) -> Option<Vec<Message>> {
        let session = self.session.as_mut().filter(|s| s.local_index() == data.receiver)?;
        let mut plaintext = Vec::new();
        session.open(data, &mut plaintext).ok()?;
        Some(Messages::new(&plaintext).filter_map(Result::ok).collect())
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, messages: &[Message]) -> bool {
        let Some(session) = &mut self.session else { return false };
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

    /// REGISTERED. True if our mapped address is news.
    pub(super) fn registered(&mut self, cx: &mut Context<'_>, answer: &Registered) -> bool {
        if answer.request != self.request {
            return false;
        }
        let lease = Duration::from_secs(answer.lease.max(10).into());
        let first = self.lease.replace(lease).is_none();
        (self.lease_ends, self.requests, self.stale, self.relays) = (cx.now + lease, 0, false, answer.relay);
        self.stun.clone_from(&answer.stun);
        cx.timers.set(Timer::Register(self.index), cx.now + lease / 3);
        if first {
            self.trouble = None;
            cx.out.event(Event::Registered { server: self.index, mapped: answer.mapped });
            cx.timers.set(Timer::ServerPulse(self.index), cx.now);
        }
        if answer.version != self.version {
            self.synchronise(cx);
        }
        cx.local.mapped.get(&self.index) != Some(&answer.mapped)
    }

    /// Asks for what is new in the directory, unless that is under way.
    pub(super) fn synchronise(&mut self, cx: &mut Context<'_>) {
        if self.sync.is_none() {
            let all = (self.version == 0).then(BTreeMap::new);
            let (since, request) = (self.version, 0);
            self.sync = Some(Syncing { request, since, after: None, version: None, all, tries: 0 });
            self.sync_again(cx);
        }
    }

    /// Asks for the next page, or for the same once more.
    pub(super) fn sync_again(&mut self, cx: &mut Context<'_>) {
        self.request = self.request.wrapping_add(1);
        let request = self.request;
        let Some(sync) = &mut self.sync else { return };
        (sync.request, sync.tries) = (request, sync.tries + 1);
        let (message, tries) = (Message::Sync(Sync { request, since: sync.since, after: sync.after }), sync.tries);
        if self.send(cx, &[message]) {
            cx.timers.set(Timer::Sync(self.index), cx.now + pause(tries));
        }
    }

    /// PAGE. True if somebody came or went.
    pub(super) fn page(&mut self, cx: &mut Context<'_>, page: Page) -> bool {
        let Some(sync) = self.sync.as_mut().filter(|s| s.request == page.request) else { return false };
        let version = *sync.version.get_or_insert(page.version);
        sync.tries = 0;
        let mut changed = false;
        let own = cx.local.key;
        let room = cx.local.settings.peers;
        let (after, more) = (page.entries.last().map(|e| e.key), page.more);
        for entry in page.entries.into_iter().filter(|e| e.key != own) {
            if entry.state == HostState::GONE {
                changed |= self.directory.remove(&entry.key).is_some();
                continue;
            }
            if let Some(all) = sync.all.as_mut().filter(|all| all.len() < room) {
                all.insert(entry.key, entry.name.clone());
            }
            if self.directory.len() < room || self.directory.contains_key(&entry.key) {
                changed |= self.directory.insert(entry.key, entry.name).is_none();
            }
        }
        // Pages that do not go on would never end.
        if more && after > sync.after {
            sync.after = after;
            self.sync_again(cx);
            return changed;
        }
        if let Some(all) = sync.all.take() {
            changed |= self.directory.keys().any(|key| !all.contains_key(key));
            self.directory = all;
        }
        (self.sync, self.version) = (None, version);
        cx.timers.stop(Timer::Sync(self.index));
        changed
    }

    /// CHANGED.
    pub(super) fn changed(&mut self, cx: &mut Context<'_>, version: u64) {
        if version != self.version {
            self.synchronise(cx);
        }
    }

    /// REFUSED.
    pub(super) fn refused(&mut self, cx: &mut Context<'_>, refused: &Refused) {
        if refused.code == RefusedCode::NOT_REGISTERED {
            self.touch(cx);
        }
    }

    /// BYE.
    pub(super) fn bye(&mut self, cx: &mut Context<'_>, reason: ByeReason) {
        let (trouble, pause) = match reason {
            ByeReason::NOT_ALLOWED => (ServerTrouble::Refused, REFUSED_PAUSE),
            ByeReason::REPLACED => {
                cx.out.event(Event::DuplicateIdentity { server: self.index });
                (ServerTrouble::Replaced, REFUSED_PAUSE / 2)
            }
            _ => (ServerTrouble::Closing, FIRST_PAUSE),
        };
        self.lost(cx, trouble);
        (self.session, self.greeting, self.lease, self.sync, self.greetings) = (None, None, None, None, 0);
        [Timer::Register(self.index), Timer::Sync(self.index), Timer::ServerPulse(self.index)]
            .into_iter()
            .for_each(|t| cx.timers.stop(t));
        cx.timers.set(Timer::Greet(self.index), cx.now + pause);
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
            Unknown::Pulse(_) => self.moved(cx),
        }
    }

    /// [`Timer::ServerPulse`].
    pub(super) fn pulse(&mut self, cx: &mut Context<'_>) {
        if self.session.is_none() {
            return;
        }
        let before = self.pulses.health(cx.now);
        if self.pulses.next(cx.now) <= cx.now {
            let pulse = self.pulses.send(cx.now, cx.rng);
            cx.out.send_main(self.server.addr, pulse.to_vec());
            // Where pulses do not come back a message may, and tells the server our address.
            if before != Health::Good {
                self.moved(cx);
            }
        }
        cx.timers.set(Timer::ServerPulse(self.index), self.pulses.next(cx.now).max(cx.now + Duration::from_millis(20)));
    }

    /// A pulse of ours came back.
    pub(super) fn pulsed(&mut self, now: Time, number: u16) {
        self.pulses.answered(now, number);
    }

    fn lost(&mut self, cx: &mut Context<'_>, trouble: ServerTrouble) {
        if self.trouble.replace(trouble) != Some(trouble) {
            cx.out.event(Event::ServerLost { server: self.index, why: trouble });
        }
    }
}
