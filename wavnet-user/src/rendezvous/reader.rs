//! Threads that receive: STUN is answered at once, everything else goes to the core.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use tracing::warn;
use wavnet_proto::{
    stun::{
        Sources,
        server::{LONGEST_ANSWER, Responder},
    },
    time::Time,
    transmit::Socket,
};

use super::{
    datagrams::{BATCH, Incoming, Outgoing},
    sockets::{Bound, Family},
    stats::{Stats, add},
};

/// The host's addresses that a wildcard socket remembers how to answer for.
const LOCALS: usize = 64;

/// Datagrams for the core, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    items: Vec<(Socket, SocketAddr, usize)>,
}

impl Packets {
    fn push(&mut self, socket: Socket, from: SocketAddr, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.items.push((socket, from, payload.len()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Socket, SocketAddr, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.items.iter().map(move |(socket, from, len)| {
            let (payload, after) = rest.split_at_checked(*len).unwrap_or_default();
            rest = after;
            (*socket, *from, payload)
        })
    }
}

/// One thread's.
struct Reader {
    socket: UdpSocket,
    which: Socket,
    is_wildcard: bool,
    family: Arc<Family>,
    /// The family's sockets of each kind, to answer by another one than was asked.
    exits: Arc<HashMap<Socket, UdpSocket>>,
    /// For the address that it listens at; `None` if that is all of them.
    responder: Option<Responder>,
    /// For those of the host's addresses that were asked, if it listens at all of them.
    responders: HashMap<IpAddr, Responder>,
    sources: Arc<Sources>,
    /// The start of the time that `sources` go by.
    started: Instant,
    core: SyncSender<Packets>,
    stats: Arc<Stats>,
}

/// Starts a thread for each socket of a family. They end with the process, or once the core is gone.
///
/// # Errors
/// The system refuses threads or descriptors.
pub(super) fn start(
    mut family: Family,
    core: &SyncSender<Packets>,
    stats: &Arc<Stats>,
    sources: &Arc<Sources>,
    started: Instant,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let sockets = std::mem::take(&mut family.sockets);
    let mut exits = HashMap::new();
    for bound in &sockets {
        exits.insert(bound.which, bound.socket.try_clone().context("duplicating a socket")?);
    }
    let (family, exits) = (Arc::new(family), Arc::new(exits));
    let mut threads = Vec::new();
    for Bound { socket, which, is_wildcard } in sockets {
        let reader = Reader {
            socket,
            which,
            is_wildcard,
            family: Arc::clone(&family),
            exits: Arc::clone(&exits),
            responder: family.responder(None).ok(),
            responders: HashMap::new(),
            sources: Arc::clone(sources),
            started,
            core: core.clone(),
            stats: Arc::clone(stats),
        };
        let thread = thread::Builder::new().name("receiver".into()).spawn(move || reader.run());
        threads.push(thread.context("starting a thread")?);
    }
    Ok(threads)
}

/// What became of a request of STUN.
enum Outcome {
    Answered,
    /// By an error.
    Refused,
    /// Its source has had as many answers as it may.
    TooFast,
}

/// What is decided by magic cookie and length (docs/wire.md section 1). Requests of RFC 3489 have no cookie, and nothing else begins
/// with 0x00, 0x01, so they are tried as well.
fn is_stun(payload: &[u8]) -> bool {
    payload.len() >= 20 && matches!(payload, [0 | 1, ..])
}

impl Reader {
    fn run(mut self) {
        let (mut incoming, mut answers) = (Incoming::new(), Outgoing::new());
        let mut others: HashMap<Socket, Outgoing> = HashMap::new();
        loop {
            if let Err(e) = incoming.receive(self.socket.as_fd()) {
                if e.kind() != io::ErrorKind::Interrupted {
                    warn!(error = %e, "cannot receive");
                    thread::sleep(Duration::from_secs(1));
                }
                continue;
            }
            let now = Time::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let mut packets = Packets::default();
            let (mut answered, mut refused, mut too_fast, mut ignored, mut too_long) = (0, 0, 0, 0, 0);
            for one in incoming.iter() {
                let Some((from, local, payload)) = one else {
                    too_long += 1;
                    continue;
                };
                if !is_stun(payload) {
                    packets.push(self.which, from, payload);
                    continue;
                }
                let local = local.filter(|_| self.is_wildcard);
                match self.answer(now, from, local, payload, &mut answers, &mut others) {
                    Some(Outcome::Answered) => answered += 1,
                    Some(Outcome::Refused) => refused += 1,
                    Some(Outcome::TooFast) => too_fast += 1,
                    None => ignored += 1,
                }
            }
            let mut lost = if answers.len() > 0 { answers.send(self.socket.as_fd()) } else { 0 };
            for (which, outgoing) in others.iter_mut().filter(|(_, outgoing)| outgoing.len() > 0) {
                lost += self.exits.get(which).map_or(0, |exit| outgoing.send(exit.as_fd()));
            }
            let stats = &self.stats;
            add(&stats.stun_answered, answered);
            add(&stats.stun_refused, refused);
            add(&stats.stun_too_fast, too_fast);
            add(&stats.stun_ignored, ignored);
            add(&stats.too_long, too_long);
            add(&stats.not_sent, lost as u64);
            if !packets.items.is_empty() {
                match self.core.try_send(packets) {
                    Ok(()) => {}
                    Err(TrySendError::Full(packets)) => add(&self.stats.queue_full, packets.items.len() as u64),
                    // The server ends.
                    Err(TrySendError::Disconnected(_)) => return,
                }
            }
        }
    }

    /// Answers a request; `None`: there is nothing to answer.
    fn answer(
        &mut self,
        now: Time,
        from: SocketAddr,
        local: Option<IpAddr>,
        payload: &[u8],
        answers: &mut Outgoing,
        others: &mut HashMap<Socket, Outgoing>,
    ) -> Option<Outcome> {
        if let Some(local) = local
            && !self.responders.contains_key(&local)
        {
            if self.responders.len() >= LOCALS {
                self.responders.clear();
            }
            self.responders.insert(local, self.family.responder(Some(local)).ok()?);
        }
        let responder = local.and_then(|local| self.responders.get(&local)).or(self.responder.as_ref())?;
        let mut outcome = None;
        let mut by = self.which;
        // A buffer of its own first: which socket it leaves by is known only then.
        answers.push(LONGEST_ANSWER, local, |out| {
            let done = responder.respond(self.which, from, payload, out).ok()?;
            if !self.sources.admits(now, done.to.ip()) {
                outcome = Some(Outcome::TooFast);
                return None;
            }
            outcome = Some(if done.error.is_some() { Outcome::Refused } else { Outcome::Answered });
            by = done.from;
            if by == self.which {
                return Some((done.len, done.to));
            }
            let other = others.entry(by).or_insert_with(Outgoing::new);
            let ready = out.get(..done.len)?;
            other.push(done.len, local, |buffer| {
                buffer.copy_from_slice(ready);
                Some((done.len, done.to))
            });
            None
        });
        outcome
    }
}

const _: () = assert!(BATCH * LONGEST_ANSWER <= Outgoing::ROOM, "there is room for the answers to a batch");
