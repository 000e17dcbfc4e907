//! The rendezvous server: hosts register with it, learn of each other, and are brought together; where no direct path works, it relays.
//!
//! docs/wire.md has what is said. STUN is not for this core: it needs no state ([`crate::stun`]).
//!
//! - `admission`: HELLO, INIT and what keeps floods of them out; `session`: DATA, sessions, and where a host is.
//! - `requests`: REGISTER, REFRESH, SYNC, BYE; `directory`: who is there, in versions; `push`: CHANGED, and INVITE to partners of who moved.
//! - `connect`: CONNECT and FORWARD; `relays`: pairs and their labels; `relay`: frames with labels, and the map for who relays faster.
//! - [`persist`]: what outlives the process.
//!
//! **Contract.** After each call the shell takes all commands, then all transmits and events, and calls [`Rendezvous::handle_timeout`] no later than
//! [`Rendezvous::poll_timeout`] says. All tables are bounded by [`Limits`]; what is dropped is counted.

mod admission;
mod connect;
mod counters;
mod damper;
mod directory;
mod hosts;
mod output;
pub mod persist;
mod push;
mod relay;
mod relays;
mod requests;
mod session;
mod settings;
mod start;
#[cfg(feature = "testing")]
pub mod testing;
mod timer;
mod view;
mod vnis;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use wavnet_common::wire::{
    VxlanHdr,
    demux::{self, Kind},
};

pub use counters::{Counters, Done, Dropped};
pub use output::{Command, Event, Leave, RelayKey, RelayTarget};
pub use settings::{Limits, Network, Settings};
pub use view::{HostView, NetworkView, View};

use self::{
    admission::Admission,
    damper::Damper,
    directory::Directory,
    hosts::{HostId, Hosts},
    push::{Moved, Round},
    relays::Relays,
    timer::Timer,
};
use crate::{
    bucket::Bucket,
    rng::Rng,
    time::Time,
    timers::Timers,
    transmit::{Socket, Transmit},
    trust::{CookieJar, NetworkId, PublicKey, SecretKey, Session},
    wire::{Datagram, Header, Label, Message, Unknown, WireError, Writer, unknown},
};

/// Bit of a pulse that says *answer*.
const ANSWER: u8 = 0x80;

/// A network and who is there.
#[derive(Debug)]
struct Served {
    network: Network,
    directory: Directory,
    /// Those concerned by a change are being told.
    round: Option<Round>,
    /// When the last round began.
    round_at: Time,
}

/// What is to be sent, done and told.
#[derive(Debug, Default)]
struct Output {
    transmits: VecDeque<Transmit>,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
    /// Messages of this call, for each host in one datagram if they fit.
    messages: BTreeMap<HostId, Writer>,
}

/// The server. See the [module](self).
pub struct Rendezvous {
    secret: SecretKey,
    rng: Rng,
    jar: CookieJar,
    settings: Settings,
    incarnation: u32,
    networks: BTreeMap<NetworkId, Served>,
    hosts: Hosts,
    relays: Relays,
    timers: Timers<Timer>,
    admission: Admission,
    unknowns: Bucket,
    damper: Damper,
    moved: BTreeMap<HostId, Moved>,
    /// When it was last looked for pairs that may give way to others.
    looked_for_room: Time,
    counters: Counters,
    out: Output,
    /// Memory for what is decrypted.
    plaintext: Vec<u8>,
}

impl Rendezvous {
    /// The server's public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.secret.public()
    }

    /// Takes a datagram that is not STUN.
    pub fn handle_input(&mut self, now: Time, socket: Socket, from: SocketAddr, payload: &[u8]) {
        if let Err(reason) = self.input(now, socket, from, payload) {
            self.drop(reason);
        }
        self.flush();
    }

    fn drop(&mut self, reason: Dropped) {
        if self.counters.drop(reason) {
            self.out.events.push_back(Event::Dropped { reason });
        }
    }

    fn input(&mut self, now: Time, socket: Socket, from: SocketAddr, payload: &[u8]) -> Result<(), Dropped> {
        if socket != Socket::Main {
            return Err(Dropped::Socket);
        }
        match *payload {
            [first, second] => self.pulse(now, from, [first, second]),
            [first, a, b, c, _, _, ..] if is_labelled(first, payload.len()) && [a, b, c] != [0; 3] => {
                self.relay(now, from, Label::from_bytes([a, b, c]), payload)
            }
            [b'W', ..] => self.control(now, from, payload),
            _ => Err(Dropped::Foreign),
        }
    }

    fn control(&mut self, now: Time, from: SocketAddr, payload: &[u8]) -> Result<(), Dropped> {
        let (Header { .. }, datagram) = Datagram::parse(payload).map_err(|e| match e {
            WireError::Version(_) => Dropped::Version,
            _ => Dropped::Malformed,
        })?;
        match datagram {
            Datagram::Hello(hello) => self.hello(now, from, &hello),
            Datagram::Init(init) => self.init(now, from, &init),
            Datagram::Data(data) => self.data(now, from, &data),
            Datagram::Opener => Ok(()),
            Datagram::Cookie(_) | Datagram::Response(_) | Datagram::Unknown(_) => Err(Dropped::Unwanted),
        }
    }

    /// Answers a pulse of a host that has a session; any other is told that it has none.
    fn pulse(&mut self, now: Time, from: SocketAddr, [first, second]: [u8; 2]) -> Result<(), Dropped> {
        if first & ANSWER != 0 {
            return Err(Dropped::Unwanted);
        }
        if self.hosts.by_addr(from).is_some_and(|host| host.current.is_some()) {
            self.out.send(from, vec![first | ANSWER, second]);
            self.counters.note(Done::Pulse);
            return Ok(());
        }
        self.answer_unknown(now, from, Label::ZERO, Unknown::Pulse([first, second]));
        Err(Dropped::Pulse)
    }

    fn answer_unknown(&mut self, now: Time, to: SocketAddr, label: Label, what: Unknown) {
        if self.unknowns.take(now, self.settings.limits.unknowns, 1) {
            self.out.send(to, unknown(label, what));
            self.counters.note(Done::Unknown);
        }
    }

    /// Does what time has come for.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Lease(host) => self.lease_ended(now, host),
                Timer::Changed(network) => self.push_changed(now, network),
                Timer::Moved => self.push_moved(now),
                Timer::Sweep => self.sweep(now),
            }
        }
        self.flush();
    }

    /// When [`Rendezvous::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next thing to do, before anything is sent.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.out.commands.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// Has a message sent to a host at the end of this call, if it has a session.
    fn tell(&mut self, host: HostId, message: &Message) -> Result<(), Dropped> {
        let writer = self.out.messages.entry(host).or_default();
        writer.push(message).map_err(|_| Dropped::Message)
    }

    /// Encrypts what is to be told.
    fn flush(&mut self) {
        for (id, writer) in std::mem::take(&mut self.out.messages) {
            let Some(host) = self.hosts.get_mut(id) else { continue };
            let Some(session) = &mut host.current else { continue };
            self.out.seal(session, host.addr, writer);
        }
    }
}

impl Output {
    /// Encrypts what is to be told, and sends it.
    fn seal(&mut self, session: &mut Session, to: SocketAddr, writer: Writer) {
        for plaintext in writer.finish() {
            let mut datagram = Vec::new();
            // Keys that are used up: the host will ask for others.
            if session.seal(Label::ZERO, &plaintext, &mut datagram).is_ok() {
                self.send(to, datagram);
            }
        }
    }

    /// The same of one message.
    fn tell(&mut self, session: &mut Session, to: SocketAddr, message: &Message) {
        let mut writer = Writer::new();
        // One of a few bytes always fits.
        let _ = writer.push(message);
        self.seal(session, to, writer);
    }

    fn send(&mut self, to: SocketAddr, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { from: Socket::Main, to, payload });
    }
}

/// What carries a label: VXLAN, control, and pulses for a relay (docs/wire.md section 1).
fn is_labelled(first: u8, len: usize) -> bool {
    match demux::kind(len, first, 0) {
        Kind::Vxlan => len >= VxlanHdr::LEN,
        Kind::Control | Kind::RelayedPulse => true,
        Kind::Pulse | Kind::Stun | Kind::Nothing => false,
    }
}
