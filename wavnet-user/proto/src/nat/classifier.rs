//! The state machine: time, answers and sockets come in, requests and a report go out.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
};

use super::{
    Event, Note, Options, Report, StunServer,
    attempt::{Attempt, Fresh},
    course::Stage,
    lifetime::Search,
    probe::{Probe, plain},
    transaction::Transaction,
};
use crate::{
    stun::Message,
    time::Time,
    transmit::{Socket, Transmit},
};

/// Fills a buffer with random bytes of a cryptographic generator: transaction ids come from it.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

/// No more servers are asked than so many, the first ones of the list.
const MOST_SERVERS: usize = 8;

/// What a classifier waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The next question may begin: there is a pause between two of them.
    Pace,
    /// A question is sent again, or given up.
    Retransmit(Probe),
    /// The shell has not told whether it opened a socket, by number.
    Socket(u16),
    /// A socket, by its place in the round, has been idle for as long as is to be tried.
    Idle(u8),
}

/// Finds out what kind of NAT is in front of this host. See the [module](super).
pub struct Classifier {
    pub(super) options: Options,
    pub(super) local: SocketAddr,
    pub(super) servers: Vec<StunServer>,
    pub(super) random: Random,
    pub(super) stage: Stage,
    pub(super) attempt: Attempt,
    /// The mapping moved in an attempt before this one.
    pub(super) repeated: bool,
    pub(super) search: Option<Search>,
    /// Questions that are to begin, and those on their way.
    pub(super) waiting: VecDeque<Probe>,
    pub(super) open: BTreeMap<Probe, Transaction>,
    pub(super) timers: BTreeMap<Timer, Time>,
    pub(super) begun: u32,
    next_socket: u16,
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) events: VecDeque<Event>,
}

impl Classifier {
    /// Begins at once: the first request is there to be polled.
    ///
    /// `local` is the main socket's own address as servers would see it without a NAT, so not an unspecified one. Servers
    /// of the other family are not asked, and no more than eight.
    pub fn new(now: Time, local: SocketAddr, servers: &[StunServer], options: Options, random: Random) -> Classifier {
        let local = plain(local);
        let usable = servers.iter().filter(|s| plain(s.address).is_ipv4() == local.is_ipv4() && s.address.port() != 0);
        let mut classifier = Classifier {
            options,
            local,
            servers: usable.take(MOST_SERVERS).cloned().collect(),
            random,
            stage: Stage::Connect,
            attempt: Attempt::new(options.first_socket),
            repeated: false,
            search: None,
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
            timers: BTreeMap::new(),
            begun: 0,
            next_socket: options.first_socket,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        classifier.start(now);
        classifier.advance(now);
        classifier
    }

    /// A datagram came in by a socket. True if it belongs to the classifier, whatever it thinks of it: nobody else should look
    /// at it then.
    pub fn handle_input(&mut self, now: Time, socket: Socket, from: SocketAddr, bytes: &[u8]) -> bool {
        let Ok(message) = Message::parse(bytes) else { return false };
        let Some((probe, transaction)) = self.open.iter().find(|(_, t)| t.id == message.id) else { return false };
        if let Some(outcome) = transaction.judge(socket, from, &message) {
            self.conclude(now, *probe, outcome, Some(&message));
            self.advance(now);
        }
        true
    }

    /// The shell has opened the socket that [`Event::OpenSocket`] asked for, or cannot.
    pub fn handle_socket(&mut self, now: Time, number: u16, opened: bool) {
        if self.timers.remove(&Timer::Socket(number)).is_some() {
            if self.attempt.fresh == Fresh::Asked(number) {
                self.attempt.fresh = if opened { Fresh::Open(number) } else { Fresh::Refused };
            } else {
                self.idle_socket(number, opened);
            }
        } else if opened && !self.uses_socket(number) {
            // It was not waited for any longer.
            self.close(number);
        }
        self.advance(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        let due: Vec<Timer> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            // One that came before it may have made it pointless.
            if self.timers.remove(&timer).is_none() {
                continue;
            }
            match timer {
                Timer::Pace => {}
                Timer::Retransmit(probe) => self.transmit(now, probe),
                // It counts as refused. If it is opened later, it is closed again.
                Timer::Socket(number) if self.attempt.fresh == Fresh::Asked(number) => {
                    self.attempt.fresh = Fresh::Refused;
                }
                Timer::Socket(number) => self.idle_socket(number, false),
                Timer::Idle(step) => self.waiting.push_back(Probe::Ask(step)),
            }
        }
        self.advance(now);
    }

    /// When to call [`Classifier::handle_timeout`]; `None` when all is done.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.values().min().copied()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is known by now.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut summary = self.attempt.summary(self.local);
        let lifetime = self.search.as_ref().and_then(Search::found);
        if let Some(found) = lifetime {
            (summary.lifetime, summary.lifetime_at_least) = found.to_summary();
        }
        let mut notes = self.attempt.notes(&self.servers);
        notes.extend(self.servers.is_empty().then_some(Note::NoServer));
        notes.extend((self.repeated || summary.unstable).then_some(Note::Moved));
        let server = self.attempt.targets().map(|t| t.main);
        if let (Some(search), None, Some(server)) = (&self.search, lifetime, server) {
            notes.extend(search.why_nothing(server));
        }
        Report { summary, local: self.local, mapped: self.attempt.first(), server, lifetime, notes }
    }

    /// Asks the shell for a socket.
    pub(super) fn open_socket(&mut self, now: Time) -> u16 {
        let number = self.next_socket;
        self.next_socket = number.wrapping_add(1);
        self.events.push_back(Event::OpenSocket(number));
        self.timers.insert(Timer::Socket(number), now + self.options.socket_wait);
        number
    }

    fn uses_socket(&self, number: u16) -> bool {
        let fresh = self.attempt.fresh == Fresh::Open(number) && !self.attempt.closed;
        fresh || self.is_idle_socket(number)
    }

    pub(super) fn close(&mut self, number: u16) {
        self.events.push_back(Event::CloseSocket(number));
    }

    pub(super) fn close_fresh(&mut self) {
        if let Fresh::Open(number) = self.attempt.fresh
            && !std::mem::replace(&mut self.attempt.closed, true)
        {
            self.close(number);
        }
    }

    /// Tells what is known.
    pub(super) fn tell(&mut self) {
        self.events.push_back(Event::Report(Box::new(self.report())));
    }

    pub(super) fn finish(&mut self) {
        self.stage = Stage::Done;
        self.waiting.clear();
        self.open.clear();
        self.timers.clear();
        self.events.push_back(Event::Finished);
    }
}
