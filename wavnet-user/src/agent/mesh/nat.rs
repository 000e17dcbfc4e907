//! What kind of NAT is in front of this host: found out as soon as there is a server to ask, and again when something has changed.

use std::{net::SocketAddr, time::Duration};

use wavnet_proto::{
    nat::{Classifier, Event, NatSummary, Options, Report, StunServer},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
};

/// How often it is looked again: NATs are reconfigured and replaced.
const AGAIN: Duration = Duration::from_secs(600);
/// Sockets of a classification have numbers from here on: those before belong to searches.
const FIRST_SOCKET: u16 = 1024;

/// A classification that is under way, and the last one's result.
pub(super) struct Classification {
    rng: Rng,
    classifier: Option<Classifier>,
    due: Option<Time>,
    report: Option<Report>,
}

/// What the classification wants done.
pub(super) enum Wish {
    /// Open an extra socket.
    Open(u16),
    /// Close it.
    Close(u16),
    /// Others should know this.
    Known(NatSummary),
}

impl Classification {
    pub(super) fn new(rng: Rng) -> Classification {
        Classification { rng, classifier: None, due: Some(Time::ZERO), report: None }
    }

    /// Everything may be different now.
    pub(super) fn restart(&mut self) {
        (self.classifier, self.due) = (None, Some(Time::ZERO));
    }

    /// What was found out last.
    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Begins, if it is time and there is somebody to ask.
    pub(super) fn begin(&mut self, now: Time, local: SocketAddr, servers: &[StunServer]) {
        if self.classifier.is_some() || self.due.is_none_or(|due| now < due) || servers.is_empty() {
            return;
        }
        let options = Options { first_socket: FIRST_SOCKET, ..Options::default() };
        let mut random = self.rng.fork();
        let random = Box::new(move |buffer: &mut [u8]| random.fill(buffer));
        self.classifier = Some(Classifier::new(now, local, servers, options, random));
        self.due = Some(now + AGAIN);
    }

    /// True if the datagram was for it.
    pub(super) fn handle_input(&mut self, now: Time, socket: Socket, from: SocketAddr, payload: &[u8]) -> bool {
        self.classifier.as_mut().is_some_and(|c| c.handle_input(now, socket, from, payload))
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if let Some(classifier) = &mut self.classifier {
            classifier.handle_timeout(now);
        }
    }

    /// A socket that was asked for is open, or cannot be.
    pub(super) fn opened(&mut self, now: Time, n: u16, opened: bool) {
        if let Some(classifier) = &mut self.classifier {
            classifier.handle_socket(now, n, opened);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.classifier.as_ref()?.poll_timeout()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.classifier.as_mut()?.poll_transmit()
    }

    pub(super) fn poll_wish(&mut self) -> Option<Wish> {
        loop {
            match self.classifier.as_mut()?.poll_event()? {
                Event::OpenSocket(n) => return Some(Wish::Open(n)),
                Event::CloseSocket(n) => return Some(Wish::Close(n)),
                Event::Report(report) => {
                    let summary = report.summary;
                    self.report = Some(*report);
                    return Some(Wish::Known(summary));
                }
                Event::Finished => {}
            }
        }
    }
}
