//! What every part of the mesh works with: the time, randomness, what is known of this host, and where output goes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use super::{
    output::{Command, Event, PathId, Way},
    peer::is_rested,
    settings::Settings,
    timer::Timer,
};
use crate::{
    rng::Rng,
    time::Time,
    timers::Timers,
    transmit::{Socket, Transmit},
    trust::{PublicKey, SecretKey},
    wire::{Candidate, CandidateKind, MAX_CANDIDATES, NatSummary},
};

/// What is known of this host.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) secret: SecretKey,
    pub(super) key: PublicKey,
    pub(super) settings: Settings,
    /// The main socket's addresses, one for each of the host's.
    pub(super) hosts: Vec<SocketAddr>,
    /// How servers see it.
    pub(super) mapped: BTreeMap<usize, SocketAddr>,
    /// What is in front of it.
    pub(super) nat: NatSummary,
    /// Counts what others are to be told anew.
    pub(super) generation: u32,
}

impl Local {
    /// Where others may try to reach this host.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let mut seen = BTreeSet::new();
        let hosts = self.hosts.iter().map(|addr| Candidate { kind: CandidateKind::Host, addr: *addr });
        let mapped = self.mapped.values().map(|addr| Candidate { kind: CandidateKind::Mapped, addr: *addr });
        // What servers saw first: it is what works for most, and a host with many addresses must not push it out.
        mapped.chain(hosts).filter(|c| seen.insert(c.addr)).take(MAX_CANDIDATES).collect()
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
    /// Datagrams for peers, to go inside a server's FORWARD.
    pub(super) forwards: Vec<(PublicKey, Vec<u8>)>,
    /// Session indices that a peer has taken, and that are no longer anybody's.
    pub(super) owned: Vec<u32>,
    pub(super) disowned: Vec<u32>,
    /// The ways that frames are taken from.
    pub(super) ways: BTreeMap<Way, (PublicKey, PathId)>,
    /// Whom a search is under way for: one at a time, for the sake of the NATs.
    pub(super) searching: Option<PublicKey>,
    /// When the last search ended.
    pub(super) searched: Option<Time>,
    /// Numbers that were used and are free again; not before the command that frees one is given.
    free: Vec<u16>,
    next: u16,
}

impl Output {
    pub(super) fn send(&mut self, way: Way, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { from: way.socket, to: way.remote, payload });
    }

    pub(super) fn send_main(&mut self, to: SocketAddr, payload: Vec<u8>) {
        self.transmits.push_back(Transmit { from: Socket::Main, to, payload });
    }

    /// Has a server hand this to a peer.
    pub(super) fn forward(&mut self, peer: PublicKey, datagram: Vec<u8>) {
        self.forwards.push((peer, datagram));
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

    /// A number for a path; `None`: all are taken.
    pub(super) fn take_id(&mut self) -> Option<PathId> {
        self.free
            .pop()
            .or_else(|| {
                let id = self.next;
                self.next = self.next.checked_add(1)?;
                Some(id)
            })
            .map(PathId)
    }

    pub(super) fn free_id(&mut self, id: PathId) {
        self.free.push(id.0);
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
