//! What every part of the mesh works with: the time, randomness, what is known of this host, and where output goes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use super::{
    budget::Budget,
    mapped::Mapped,
    output::{Command, Event, PathId, Way},
    path::WayId,
    paths::Paths,
    peer::is_rested,
    pulse::Pulses,
    search,
    settings::Settings,
    timer::Timer,
    turns::Turns,
};
use crate::{
    rng::Rng,
    stun::TransactionId,
    time::Time,
    timers::Timers,
    transmit::{Socket, Transmit},
    trust::{PublicKey, SecretKey},
    wire::{Candidate, CandidateKind, MAX_CANDIDATES, NatSummary},
};

/// Between two pulses, whatever is said of a NAT.
const SHORTEST: Duration = Duration::from_secs(1);

/// Paths without frames are looked at on beats: each look wakes the agent, and one for a thousand of them is as good as a thousand. The short ones are
/// for answers that are to be missed in time.
const BEAT: Duration = Duration::from_millis(250);
const SHORT_BEAT: Duration = Duration::from_millis(20);

/// What is known of this host.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) secret: SecretKey,
    pub(super) key: PublicKey,
    pub(super) settings: Settings,
    /// The main socket's addresses, one for each of the host's.
    pub(super) hosts: Vec<SocketAddr>,
    /// How servers see it.
    pub(super) mapped: BTreeMap<usize, Mapped>,
    /// What is in front of it.
    pub(super) nat: NatSummary,
    /// Counts what others are to be told anew.
    pub(super) generation: u32,
    /// When this host's beats are: no two hosts keep step.
    pub(super) phase: Duration,
}

impl Local {
    /// Where others may try to reach this host.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let mut seen = BTreeSet::new();
        let hosts = self.hosts.iter().map(|addr| Candidate { kind: CandidateKind::Host, addr: *addr });
        let mapped = self.mapped.values().map(|seen| Candidate { kind: CandidateKind::Mapped, addr: seen.addr });
        // What servers saw first: it is what works for most, and a host with many addresses must not push it out.
        mapped.chain(hosts).filter(|c| seen.insert(c.addr)).take(MAX_CANDIDATES).collect()
    }

    /// How long an idle path through these NATs may be silent.
    pub(super) fn idle(&self, theirs: &NatSummary) -> Duration {
        let known = |nat: &NatSummary| Some(u64::from(nat.lifetime)).filter(|s| *s > 0);
        let shortest = [known(&self.nat), known(theirs)].into_iter().flatten().min();
        // Twice within its life: one may be lost.
        let fits = shortest.map_or(Duration::MAX, |s| Duration::from_secs(s) * 2 / 5);
        self.settings.pulse.min(fits.max(SHORTEST))
    }

    /// When a path is to be looked at whose pulses are due at this time: on a beat, unless frames flow by it. If an answer is awaited, the next
    /// short one; else the last one before.
    pub(super) fn beat(&self, pulses: &Pulses, due: Time) -> Time {
        if pulses.is_busy() {
            return due;
        }
        let beat = if pulses.is_awaited() { SHORT_BEAT } else { BEAT };
        let over = Duration::from_nanos((due.since(Time::ZERO + self.phase).as_nanos() % beat.as_nanos()) as u64);
        match over {
            Duration::ZERO => due,
            _ if pulses.is_awaited() => due + (beat - over),
            _ => due - over,
        }
    }

    /// True if the address is one of this host's own.
    pub(super) fn is_own(&self, addr: SocketAddr) -> bool {
        self.hosts.contains(&addr)
    }
}

/// What is to be sent, done and told, and the numbers of paths.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) transmits: VecDeque<Transmit>,
    pub(super) commands: VecDeque<Command>,
    pub(super) events: VecDeque<Event>,
    /// Datagrams for peers, to go inside a server's FORWARD; by that server's link if it is said.
    pub(super) forwards: Vec<(PublicKey, Option<usize>, Vec<u8>)>,
    /// Session indices that a peer has taken, and that are no longer anybody's.
    pub(super) owned: Vec<u32>,
    pub(super) disowned: Vec<u32>,
    /// A peer has lost its last path.
    pub(super) lost: bool,
    /// This host may be elsewhere, as servers see it.
    pub(super) displaced: bool,
    /// Servers whose relay does not answer.
    pub(super) doubtful: BTreeSet<SocketAddr>,
    /// The ways that frames are taken from.
    pub(super) ways: BTreeMap<Way, (PublicKey, WayId)>,
    /// Ways that an earlier agent has left, and whose they were. Those of a peer go when it is connected, or gone.
    pub(super) left: BTreeMap<Way, PublicKey>,
    /// Ways that this peer has proved to be its own while they are another one's.
    pub(super) contested: Vec<(Way, PublicKey)>,
    /// A server to ask for a mapping, and for which peer which question was asked.
    pub(super) stun_server: Option<SocketAddr>,
    pub(super) question: Option<(TransactionId, PublicKey)>,
    /// Whom a search or prediction is under way for, and who waits.
    pub(super) turns: Turns,
    /// When the last search ended.
    pub(super) searched: Option<Time>,
    /// Extra sockets that are open, and the one that was opened last.
    sockets: BTreeSet<u16>,
    last_socket: u16,
    /// What may be sent to who has never answered.
    pub(super) strangers: Budget,
    /// Numbers of paths that were used and are free again; not before the command that frees one is given.
    free: Vec<u16>,
    next: u16,
    next_way: u32,
}

impl Output {
    pub(super) fn send(&mut self, way: Way, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { from: way.socket, to: way.remote, payload });
    }

    pub(super) fn send_main(&mut self, to: SocketAddr, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { from: Socket::Main, to, payload });
    }

    /// Has a server hand this to a peer: that of this link, or any.
    pub(super) fn forward(&mut self, peer: PublicKey, link: Option<usize>, datagram: Vec<u8>) {
        self.forwards.push((peer, link, datagram));
    }

    /// True if the NATs have forgotten the last search.
    pub(super) fn may_search(&self, now: Time) -> bool {
        is_rested(self.searched, now)
    }

    pub(super) fn command(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// A number for a way.
    pub(super) fn way_id(&mut self) -> WayId {
        // Four thousand million of them are not there at once.
        self.next_way = self.next_way.wrapping_add(1);
        WayId(self.next_way)
    }

    /// A number for a path, if one is free.
    pub(super) fn take_slot(&mut self, peers: usize) -> Option<PathId> {
        if let Some(free) = self.free.pop() {
            return Some(PathId(free));
        }
        let most = peers.saturating_mul(Paths::TAKEN).min(usize::from(u16::MAX));
        let next = Some(self.next).filter(|next| usize::from(*next) < most)?;
        self.next += 1;
        Some(PathId(next))
    }

    pub(super) fn free_slot(&mut self, path: PathId) {
        self.free.push(path.0);
    }

    /// Opens so many sockets, if there are: the datapath knows no more ports than a search takes. Each in its turn: a NAT that remembers a socket's port would give it the mapping of before.
    pub(super) fn open_sockets(&mut self, count: usize) -> Vec<u16> {
        let first = self.last_socket.wrapping_add(1) % search::NUMBERS;
        let numbers = (first..search::NUMBERS).chain(0..first);
        let free: Vec<u16> = numbers.filter(|n| !self.sockets.contains(n)).take(count).collect();
        for n in &free {
            self.sockets.insert(*n);
            self.command(Command::Open(Socket::Extra(*n)));
        }
        self.last_socket = free.last().copied().unwrap_or(self.last_socket);
        free
    }

    /// Opens this one, if it is not.
    pub(super) fn open_socket(&mut self, n: u16) {
        if self.sockets.insert(n) {
            self.command(Command::Open(Socket::Extra(n)));
        }
    }

    pub(super) fn close_socket(&mut self, n: u16) {
        if self.sockets.remove(&n) {
            self.command(Command::Close(Socket::Extra(n)));
        }
    }
}

/// One call's surroundings.
pub(super) struct Context<'a> {
    pub(super) now: Time,
    pub(super) rng: &'a mut Rng,
    pub(super) local: &'a Local,
    pub(super) timers: &'a mut Timers<Timer>,
    pub(super) out: &'a mut Output,
}
