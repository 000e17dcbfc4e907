//! Sockets and a clock for a classifier, but for its main socket, which others own.

use std::{collections::BTreeMap, fmt, future::poll_fn, io, net::SocketAddr, task::Poll};

use tokio::time::{Instant, sleep_until};
use wavnet_proto::{
    nat::{Classifier, Event, Options, Report, StunServer},
    rng::Rng,
    time::Time,
    transmit::{Socket, Transmit},
};

use super::exit::{Exit, Udp};

/// Room for an answer. What is longer is none that a classifier asked for.
const BUFFER: usize = 2048;

/// What the owner of the main socket is to do, or to know.
#[derive(Debug)]
pub enum Step {
    /// Send this by the main socket; [`Runner::handle_unsent`] if that fails.
    Send {
        /// Destination.
        to: SocketAddr,
        /// UDP payload.
        payload: Vec<u8>,
    },
    /// What is known: once when all but the lifetime is, and once more with it.
    Report(Box<Report>),
    /// There is nothing more to come.
    Finished,
}

/// The first datagram that the system would not send.
#[derive(Debug)]
pub struct Unsent {
    /// Destination.
    pub to: SocketAddr,
    /// Why.
    pub error: io::Error,
}

/// A classification under way. Whoever owns the main socket awaits [`Runner::next`] and does what that says, and offers what comes in by the
/// main socket to [`Runner::handle_main`].
pub struct Runner {
    classifier: Classifier,
    started: Instant,
    exit: Exit,
    extras: BTreeMap<u16, Udp>,
    unsent: Option<Unsent>,
    buffer: Box<[u8]>,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Runner { exit, extras, unsent, .. } = self;
        f.debug_struct("Runner")
            .field("exit", exit)
            .field("extras", extras)
            .field("unsent", unsent)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Begins. The main socket is at `exit`; sockets beside it are opened there, in the runtime of this thread. Servers of the other family
    /// are not asked.
    pub fn new(exit: Exit, servers: &[StunServer], options: Options, mut rng: Rng) -> Runner {
        let random = Box::new(move |bytes: &mut [u8]| rng.fill(bytes));
        let classifier = Classifier::new(Time::ZERO, exit.local, servers, options, random);
        let buffer = vec![0; BUFFER].into();
        Runner { classifier, started: Instant::now(), exit, extras: BTreeMap::new(), unsent: None, buffer }
    }

    /// A datagram came in by the main socket. True if it belongs to the classification: nobody else should look at it then.
    pub fn handle_main(&mut self, from: SocketAddr, payload: &[u8]) -> bool {
        let now = self.now();
        self.classifier.handle_input(now, Socket::Main, from, payload)
    }

    /// A datagram could not be sent. The classification goes on as if it had been lost on the way.
    pub fn handle_unsent(&mut self, to: SocketAddr, error: io::Error) {
        // A full buffer says nothing about the network.
        if error.kind() != io::ErrorKind::WouldBlock {
            self.unsent.get_or_insert(Unsent { to, error });
        }
    }

    /// What is next; pending for ever after [`Step::Finished`]. It may be dropped at any time and called again: nothing is lost.
    pub async fn next(&mut self) -> Step {
        loop {
            if let Some(step) = self.advance() {
                return step;
            }
            self.wait().await;
        }
    }

    /// What is known by now.
    pub fn report(&self) -> Report {
        self.classifier.report()
    }

    /// The first datagram that could not be sent.
    pub const fn unsent(&self) -> Option<&Unsent> {
        self.unsent.as_ref()
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Does what the classifier wants, up to what somebody else has to do or to know.
    fn advance(&mut self) -> Option<Step> {
        while let Some(event) = self.classifier.poll_event() {
            match event {
                Event::OpenSocket(number) => {
                    let opened = self.exit.open(0).and_then(Udp::new);
                    let now = self.now();
                    self.classifier.handle_socket(now, number, opened.is_ok());
                    self.extras.extend(opened.ok().map(|socket| (number, socket)));
                }
                Event::CloseSocket(number) => {
                    self.extras.remove(&number);
                }
                Event::Report(report) => return Some(Step::Report(report)),
                Event::Finished => return Some(Step::Finished),
            }
        }
        while let Some(Transmit { from, to, payload }) = self.classifier.poll_transmit() {
            match from {
                Socket::Main => return Some(Step::Send { to, payload }),
                Socket::Extra(number) => {
                    let sent = self.extras.get(&number).map_or(Ok(()), |socket| socket.send(to, &payload));
                    sent.unwrap_or_else(|error| self.handle_unsent(to, error));
                }
                // Servers have those.
                Socket::Other(_) => {}
            }
        }
        None
    }

    /// Until something came in by a socket of ours, or time has passed.
    async fn wait(&mut self) {
        let Runner { classifier, started, extras, buffer, .. } = self;
        let due = classifier.poll_timeout().map(|at| *started + at.since(Time::ZERO));
        let timeout = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let receive = poll_fn(|cx| {
            for (number, socket) in extras.iter() {
                if let Poll::Ready((from, len)) = socket.poll_receive(cx, buffer) {
                    return Poll::Ready((*number, from, len));
                }
            }
            Poll::Pending
        });
        tokio::select! {
            (number, from, len) = receive => {
                let now = Time::ZERO + started.elapsed();
                let payload = buffer.get(..len).unwrap_or_default();
                classifier.handle_input(now, Socket::Extra(number), from, payload);
            }
            () = timeout => classifier.handle_timeout(Time::ZERO + started.elapsed()),
        }
    }
}
