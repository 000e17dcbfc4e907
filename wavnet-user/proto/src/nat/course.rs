//! The course of a classification: what is asked when, and what is made of the answer.

use std::{net::SocketAddr, time::Duration};

use super::{
    attempt::{Attempt, Fresh},
    classifier::{Classifier, Timer},
    probe::{Outcome, Probe, plain},
    targets::Targets,
    transaction::{Expected, Transaction},
    verdict::Sighting,
};
use crate::{
    stun::{Attribute, AttributeType, Builder, Class, Message, TransactionId},
    time::Time,
    transmit::Socket,
};

/// What a classifier is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Looking for a server that answers and can tell most.
    Connect,
    /// Asking it all that it can tell.
    Probe,
    /// Making sure that the mapping has not moved meanwhile.
    Confirm,
    /// Measuring how long an idle mapping lives.
    Lifetime,
    /// Nothing.
    Done,
}

impl Classifier {
    /// Begins an attempt.
    pub(super) fn start(&mut self, now: Time) {
        if self.servers.is_empty() {
            self.attempt.fresh = Fresh::Refused;
        } else {
            let number = self.open_socket(now);
            self.attempt = Attempt::new(number);
        }
        self.connect();
    }

    /// Has the servers asked that were not yet.
    fn connect(&mut self) {
        self.stage = Stage::Connect;
        for probe in (0..).map(Probe::Connect).take(self.servers.len()) {
            if self.attempt.ask(probe) {
                self.waiting.push_back(probe);
            }
        }
    }

    /// Goes on as far as can be without anything new, and begins what is to begin.
    pub(super) fn advance(&mut self, now: Time) {
        loop {
            while self.step(now) {}
            if self.timers.contains_key(&Timer::Pace) {
                return;
            }
            let Some(probe) = self.waiting.pop_front() else { return };
            self.begin(now, probe);
        }
    }

    /// True if the stage is another one now.
    fn step(&mut self, now: Time) -> bool {
        let busy = !self.waiting.is_empty() || !self.open.is_empty();
        match self.stage {
            Stage::Connect => {
                if !self.attempt.choose(self.servers.len()) {
                    return false;
                }
                // The others are asked if they are needed.
                for probe in (0..).map(Probe::Connect).take(self.servers.len()) {
                    if self.attempt.outcome(probe).is_none() {
                        self.forget(probe);
                        self.attempt.unask(probe);
                    }
                }
                if self.attempt.chosen.is_some() {
                    self.stage = Stage::Probe;
                } else {
                    self.close_fresh();
                    self.tell();
                    self.finish();
                }
                true
            }
            Stage::Probe => {
                for probe in self.attempt.wanted(self.local) {
                    if self.attempt.ask(probe) {
                        self.waiting.push_back(probe);
                    }
                }
                let asked = matches!(self.attempt.fresh, Fresh::Asked(_));
                if asked || busy || !self.waiting.is_empty() {
                    return false;
                }
                if self.attempt.finds_deceit() {
                    self.connect();
                } else {
                    self.stage = Stage::Confirm;
                    self.waiting.push_back(Probe::Confirm);
                }
                true
            }
            Stage::Confirm if busy => false,
            Stage::Confirm if self.attempt.moved() && !self.repeated => {
                self.repeated = true;
                self.close_fresh();
                self.start(now);
                true
            }
            Stage::Confirm => {
                self.close_fresh();
                self.tell();
                self.begin_lifetime(now);
                true
            }
            Stage::Lifetime => self.advance_lifetime(now),
            Stage::Done => false,
        }
    }

    /// Asks a question for the first time.
    fn begin(&mut self, now: Time, probe: Probe) {
        let mut random = [0; 12];
        (self.random)(&mut random);
        let id = TransactionId::new(random);
        let built = self.question(now, probe).and_then(|(via, to, expected, attribute)| {
            let payload = Builder::message(Class::Request, id, attribute.as_slice()).ok()?;
            Some((via, to, expected, payload))
        });
        // What it needs is gone.
        let Some((via, to, expected, payload)) = built else {
            return self.conclude(now, probe, Outcome::Silent, None);
        };
        self.timers.insert(Timer::Pace, now + self.options.pace.max(Duration::from_millis(1)));
        let transaction = Transaction::new(id, (via, to), expected, payload, self.begun);
        self.begun = self.begun.saturating_add(1);
        self.open.insert(probe, transaction);
        self.transmit(now, probe);
    }

    /// Socket, destination, what is expected, and what is asked for.
    fn question(
        &mut self,
        now: Time,
        probe: Probe,
    ) -> Option<(Socket, SocketAddr, Expected, Option<Attribute<'static>>)> {
        let fresh = match self.attempt.fresh {
            Fresh::Open(number) => Some(Socket::Extra(number)),
            Fresh::Asked(_) | Fresh::Refused => None,
        };
        let change = |ip| Some(Attribute::ChangeRequest { ip, port: true });
        if let Probe::Connect(n) = probe {
            let to = plain(self.servers.get(usize::from(n))?.address);
            return Some((Socket::Main, to, Expected::Plain, None));
        }
        let t = self.attempt.targets()?;
        let filtering = fresh.unwrap_or(Socket::Main);
        Some(match probe {
            Probe::MapAddress => (Socket::Main, t.address?, Expected::Plain, None),
            Probe::MapBoth => (Socket::Main, t.both?, Expected::Plain, None),
            Probe::MapPort => (Socket::Main, t.port?, Expected::Plain, None),
            Probe::Open | Probe::Reopen => (fresh?, t.main, Expected::Plain, None),
            Probe::FilterBoth => (filtering, t.main, Expected::From(t.named?), change(true)),
            Probe::FilterPort => (filtering, t.main, Expected::From(t.port?), change(false)),
            Probe::HairpinOut => (Socket::Main, self.attempt.fresh_mapped()?, Expected::Itself(fresh?), None),
            Probe::HairpinIn => (fresh?, self.attempt.first()?, Expected::Itself(Socket::Main), None),
            Probe::Connect(_) | Probe::Confirm => (Socket::Main, t.main, Expected::Plain, None),
            Probe::Keep(step) => (self.search.as_ref()?.socket(step)?, t.main, Expected::Plain, None),
            Probe::Ask(step) => {
                let (socket, port) = self.search.as_mut()?.ask(step, now)?;
                (Socket::Main, t.main, Expected::At(socket, port), Some(Attribute::ResponsePort(port)))
            }
        })
    }

    /// Sends a question that is on its way once more, or gives it up.
    pub(super) fn transmit(&mut self, now: Time, probe: Probe) {
        let Some(transaction) = self.open.get_mut(&probe) else { return };
        match transaction.send(&self.options.retransmission) {
            Some((transmit, pause)) => {
                self.transmits.push_back(transmit);
                self.timers.insert(Timer::Retransmit(probe), now + pause);
            }
            None => self.conclude(now, probe, Outcome::Silent, None),
        }
    }

    /// Drops a question, wherever it is.
    pub(super) fn forget(&mut self, probe: Probe) -> Option<Transaction> {
        self.waiting.retain(|p| *p != probe);
        self.timers.remove(&Timer::Retransmit(probe));
        self.open.remove(&probe)
    }

    /// Notes what came of a question.
    pub(super) fn conclude(&mut self, now: Time, probe: Probe, outcome: Outcome, message: Option<&Message<'_>>) {
        let transaction = self.forget(probe);
        if let Probe::Keep(step) | Probe::Ask(step) = probe {
            return self.conclude_idle(now, probe, step, outcome);
        }
        self.attempt.outcomes.insert(probe, outcome);
        // One way is enough.
        let other_way = match (probe, outcome) {
            (Probe::HairpinOut, Outcome::Answered(_)) => Some(Probe::HairpinIn),
            (Probe::HairpinIn, Outcome::Answered(_)) => Some(Probe::HairpinOut),
            _ => None,
        };
        if let Some(other_way) = other_way {
            self.forget(other_way);
            self.attempt.outcomes.entry(other_way).or_insert(Outcome::Silent);
        }
        let (Some(t), Some(message), Outcome::Answered(mapped)) = (transaction, message, outcome) else { return };
        if let Probe::Connect(_) | Probe::MapAddress | Probe::MapBoth | Probe::MapPort = probe {
            self.attempt.sightings.push(Sighting { order: t.order, to: t.to, mapped });
            let clear = message.address(AttributeType::MAPPED_ADDRESS);
            self.attempt.rewritten |= clear.is_some_and(|c| plain(c) != mapped);
        }
        if let Probe::Connect(n) = probe
            && let Some(server) = self.servers.get(usize::from(n))
        {
            let other = message.address(AttributeType::OTHER_ADDRESS);
            self.attempt.connected.insert(n, Targets::new(server, other));
        }
    }
}
