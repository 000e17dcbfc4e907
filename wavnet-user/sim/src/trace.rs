//! The last things that happened, for people, and a digest of all of them, for comparing runs.

use std::{collections::VecDeque, fmt, net::SocketAddr};

use wavnet_proto::time::Time;

use crate::{
    Attached, Direction, HostId, Reason, SegmentId,
    datagram::{Flight, Origin, Via},
    rng::mix,
};

/// How a datagram's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Delivered(HostId),
    /// By a router, a link or a host, or on a segment: which one is named for people.
    Dropped(Reason, Option<At>),
}

/// Where something was dropped, if it is worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Segment(SegmentId),
    Attached(Attached),
}

/// One line.
#[derive(Debug)]
enum Line {
    Ended { at: Time, flight: Box<Ended>, verdict: Verdict },
    Note { at: Time, text: String },
}

/// What is kept of a datagram.
#[derive(Debug)]
struct Ended {
    origin: Origin,
    sent_at: Time,
    from: SocketAddr,
    to: SocketAddr,
    via: Vec<Via>,
    len: usize,
}

/// The trace of one network.
#[derive(Debug)]
pub(crate) struct Trace {
    seed: u64,
    keep: usize,
    lines: VecDeque<Line>,
    forgotten: u64,
    digest: u64,
}

impl Trace {
    pub(crate) const fn new(seed: u64) -> Trace {
        Trace { seed, keep: 0, lines: VecDeque::new(), forgotten: 0, digest: 0 }
    }

    /// From now on the last so many lines are kept.
    pub(crate) fn keep(&mut self, lines: usize) {
        self.keep = lines;
        while self.lines.len() > lines {
            self.lines.pop_front();
            self.forgotten += 1;
        }
    }

    pub(crate) const fn is_on(&self) -> bool {
        self.keep != 0
    }

    pub(crate) const fn digest(&self) -> u64 {
        self.digest
    }

    const fn stir(&mut self, n: u64) {
        self.digest = mix(self.digest.rotate_left(5) ^ n);
    }

    /// A node was woken.
    pub(crate) const fn woken(&mut self, at: Time, host: HostId) {
        self.stir(at.as_nanos());
        self.stir(host.0 as u64);
    }

    /// A datagram's way has ended. Returns its payload.
    pub(crate) fn ended(&mut self, at: Time, flight: Flight, verdict: Verdict) -> Vec<u8> {
        let Flight { datagram, origin, sent_at, from, to, via, .. } = flight;
        self.stir(at.as_nanos());
        self.stir(match verdict {
            Verdict::Delivered(host) => u64::from(host.0),
            Verdict::Dropped(reason, _) => u64::MAX - reason as u64,
        });
        self.stir(u64::from(datagram.from.port()) << 16 | u64::from(datagram.to.port()));
        for chunk in datagram.payload.chunks(8) {
            self.stir(chunk.iter().fold(chunk.len() as u64, |n, byte| n << 8 | u64::from(*byte)));
        }
        if self.is_on() {
            let len = datagram.payload.len();
            let flight = Box::new(Ended { origin, sent_at, from, to, via, len });
            self.put(Line::Ended { at, flight, verdict });
        }
        datagram.payload
    }

    /// Something else happened. The text is made only if it is kept.
    pub(crate) fn note(&mut self, at: Time, text: impl FnOnce() -> String) {
        if self.is_on() {
            self.put(Line::Note { at, text: text() });
        }
    }

    fn put(&mut self, line: Line) {
        if self.lines.len() == self.keep {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        self.lines.push_back(line);
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Note { at, text } => write!(f, "{at}  {text}"),
            Line::Ended { at, flight, verdict } => {
                write!(f, "{at}  ")?;
                match flight.origin {
                    Origin::Host(host) => write!(f, "{host} {}", flight.from)?,
                    Origin::Adversary => write!(f, "adversary as {}", flight.from)?,
                }
                let of = |way| flight.via.iter().filter(move |via| via.way == way);
                for via in of(Direction::Up) {
                    write!(f, " → {} {}", via.router, via.endpoint)?;
                }
                write!(f, " → {}", flight.to)?;
                for via in of(Direction::Down) {
                    write!(f, " → {} {}", via.router, via.endpoint)?;
                }
                write!(f, "  {} bytes  ", flight.len)?;
                match verdict {
                    Verdict::Delivered(host) => write!(f, "delivered to {host}")?,
                    Verdict::Dropped(reason, None) => write!(f, "dropped: {reason}")?,
                    Verdict::Dropped(reason, Some(At::Segment(segment))) => {
                        write!(f, "dropped on {segment}: {reason}")?
                    }
                    Verdict::Dropped(reason, Some(At::Attached(at))) => write!(f, "dropped at {at}: {reason}")?,
                }
                let micros = at.since(flight.sent_at).as_micros();
                write!(f, ", after {}.{:03} ms", micros / 1000, micros % 1000)
            }
        }
    }
}

/// The lines that are kept, oldest first.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.forgotten != 0 {
            writeln!(f, "({} lines before)", self.forgotten)?;
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A failed assertion prints what led to it.
impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() && self.is_on() {
            eprintln!("network of seed {}:\n{self}", self.seed);
        }
    }
}
