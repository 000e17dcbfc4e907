//! An agent: the mesh, with a model of the tables that the kernel would have, which checks what it is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{ANSWER, Command, Event, Mesh, PathId, PathKind, RELAYED_PULSE, Settings, Way},
    time::Time,
    transmit::{Socket, Transmit},
    trust::PublicKey,
    wire::Label,
};

use crate::{Node, SocketRequest};

/// The VNI that frames are of.
pub const VNI: u32 = 100;

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whose path it came by.
    pub from: PublicKey,
    /// Its number.
    pub number: u64,
    /// When, by the host's clock.
    pub at: Time,
}

/// A row of the kernel's table of paths.
#[derive(Clone, Debug)]
struct Row {
    peer: PublicKey,
    way: Way,
    /// Pulses under way, by the lowest bits of their numbers.
    pulses: [Option<u16>; 4],
}

/// Frames for a peer that wait, since when.
#[derive(Debug)]
struct Held {
    since: Time,
    numbers: Vec<u64>,
}

/// No frame waits for longer.
const LONGEST_HOLD: Duration = Duration::from_millis(510);

/// Ports of extra sockets that carry frames, one after the other.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 512;

/// An agent: the mesh, and the tables that the kernel would have.
#[derive(Debug)]
pub struct Agent {
    /// The core.
    pub mesh: Mesh,
    admitted: BTreeMap<PublicKey, BTreeSet<Vni>>,
    paths: BTreeMap<PathId, Row>,
    by_way: BTreeMap<Way, PathId>,
    selected: BTreeMap<PublicKey, PathId>,
    held: BTreeMap<PublicKey, Held>,
    /// What an agent before this one has left in the tables: ways that frames are taken from, and where frames are sent.
    left: BTreeMap<Way, PublicKey>,
    left_selected: BTreeMap<PublicKey, Way>,
    /// Peers that there is room for.
    room: usize,
    /// How often frames were held back.
    pub holds: u64,
    frames_out: VecDeque<Transmit>,
    requests: VecDeque<SocketRequest>,
    /// Frames that came.
    pub frames: Vec<Frame>,
    /// Frames from where no path is, or for a VNI that is not the peer's.
    pub refused: u64,
    /// What the mesh told, and when.
    pub events: Vec<(Time, Event)>,
}

impl Agent {
    /// With empty tables.
    #[must_use]
    pub fn new(mesh: Mesh) -> Agent {
        Agent {
            mesh,
            admitted: BTreeMap::new(),
            paths: BTreeMap::new(),
            by_way: BTreeMap::new(),
            selected: BTreeMap::new(),
            held: BTreeMap::new(),
            left: BTreeMap::new(),
            left_selected: BTreeMap::new(),
            room: Settings::PEERS,
            holds: 0,
            frames_out: VecDeque::new(),
            requests: VecDeque::new(),
            frames: Vec::new(),
            refused: 0,
            events: Vec::new(),
        }
    }

    /// With the tables of one that has ended without a word.
    #[must_use]
    pub fn after(before: &Agent, mesh: Mesh) -> Agent {
        let left = before.paths.values().map(|row| (row.way, row.peer)).collect();
        let left_selected = before.selected.keys().filter_map(|peer| Some((*peer, before.way_to(*peer)?))).collect();
        Agent { left, left_selected, admitted: before.admitted.clone(), ..Agent::new(mesh) }
    }

    /// Which kind of path frames for a peer take.
    ///
    /// # Panics
    ///
    /// If the mesh and the tables do not agree.
    #[must_use]
    pub fn path_to(&self, peer: PublicKey) -> Option<PathKind> {
        let selected = self.selected.get(&peer)?;
        let row = self.paths.get(selected).expect("a selected path was added");
        assert_eq!(row.peer, peer, "frames for one peer go to another");
        let view = self.mesh.peer(&peer).expect("a peer with a path");
        let path = view.selected().expect("the mesh knows what it has selected").clone();
        assert_eq!(path.way, row.way);
        Some(path.kind)
    }

    /// Where frames for a peer go.
    #[must_use]
    pub fn way_to(&self, peer: PublicKey) -> Option<Way> {
        let selected = self.selected.get(&peer).and_then(|path| self.paths.get(path));
        selected.map(|row| row.way).or_else(|| self.left_selected.get(&peer).copied())
    }

    /// Whether frames of a peer are taken, if they come by a path of its own.
    #[must_use]
    pub fn is_admitted(&self, peer: PublicKey) -> bool {
        self.admitted.contains_key(&peer)
    }

    /// The VNIs that a peer's frames are taken for; `None`: it is not admitted.
    #[must_use]
    pub fn admitted(&self, peer: PublicKey) -> Option<&BTreeSet<Vni>> {
        self.admitted.get(&peer)
    }

    /// Whose frames are taken from where.
    pub fn ways(&self) -> impl Iterator<Item = (PublicKey, Way)> {
        self.paths.values().map(|row| (row.peer, row.way))
    }

    /// How many paths there are.
    #[must_use]
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Sends a frame, if there is a path.
    ///
    /// # Panics
    ///
    /// If frames for this peer have been held back for too long.
    pub fn send(&mut self, now: Time, peer: PublicKey, number: u64) -> bool {
        if let Some(held) = self.held.get_mut(&peer) {
            assert!(now.since(held.since) <= LONGEST_HOLD, "held for {:?}", now.since(held.since));
            held.numbers.push(number);
            return true;
        }
        self.emit(peer, number)
    }

    fn emit(&mut self, peer: PublicKey, number: u64) -> bool {
        let Some(way) = self.way_to(peer) else { return false };
        let [a, b, c] = way.label.to_bytes();
        let [_, x, y, z] = VNI.to_be_bytes();
        let mut payload = vec![0x08, a, b, c, x, y, z, 0];
        payload.extend(number.to_be_bytes());
        self.frames_out.push_back(Transmit { from: way.socket, to: way.remote, payload });
        true
    }

    fn receive(&mut self, now: Time, way: Way, payload: &[u8]) {
        let owner = self.by_way.get(&way).and_then(|path| self.paths.get(path)).map(|row| row.peer);
        let owner = owner.or_else(|| self.left.get(&way).copied());
        let vni = Vni::new(VNI).expect("a VNI");
        let member = |peer: &PublicKey| self.admitted.get(peer).is_some_and(|vnis| vnis.contains(&vni));
        match (owner.filter(member), payload.get(8..16)) {
            (Some(from), Some(number)) => {
                let number = u64::from_be_bytes(number.try_into().expect("8 bytes"));
                self.frames.push(Frame { from, number, at: now });
            }
            _ => self.refused += 1,
        }
    }

    /// What the kernel does with a pulse. False: it is for the mesh.
    fn pulse(&mut self, now: Time, way: Way, pulse: [u8; 2]) -> bool {
        let number = u16::from_be_bytes(pulse);
        let path = self.by_way.get(&way).copied();
        if path.is_none() && !self.left.contains_key(&way) {
            return false;
        }
        if number & ANSWER == 0 {
            let payload = way.pulse((number | ANSWER).to_be_bytes());
            self.frames_out.push_back(Transmit { from: way.socket, to: way.remote, payload });
            return true;
        }
        let Some((path, row)) = path.and_then(|path| Some((path, self.paths.get_mut(&path)?))) else { return true };
        let number = number & !ANSWER;
        if row.pulses[usize::from(number % 4)].take_if(|waits| *waits == number).is_some() {
            let peer = row.peer;
            self.mesh.pulse_answered(now, &peer, path, number, now);
            self.settle(now);
        }
        true
    }

    /// Carries out what the mesh wants, after a call by the scenario.
    pub fn settle(&mut self, now: Time) {
        while let Some(command) = self.mesh.poll_command() {
            self.carry_out(now, command);
        }
        while let Some(event) = self.mesh.poll_event() {
            self.events.push((now, event));
        }
    }

    fn carry_out(&mut self, now: Time, command: Command) {
        match command {
            Command::Admit { peer, vnis } => {
                self.admitted.insert(peer, vnis);
            }
            Command::Expel { peer } => {
                let left = || self.paths.values().any(|row| row.peer == peer);
                assert!(!left(), "paths go before their peer");
                assert!(!self.selected.contains_key(&peer), "frames go to somebody who is gone");
                assert!(!self.held.contains_key(&peer), "frames wait for somebody who is gone");
                assert!(self.admitted.remove(&peer).is_some(), "only who was admitted is expelled");
                self.left.retain(|_, owner| *owner != peer);
                self.left_selected.remove(&peer);
            }
            Command::AddPath { path, peer, way } => {
                assert!(self.admitted.contains_key(&peer), "a path of nobody");
                assert!(self.by_way.insert(way, path).is_none(), "one way is two paths");
                self.left.remove(&way);
                let row = Row { peer, way, pulses: [None; 4] };
                assert!(self.paths.insert(path, row).is_none(), "a number that is in use");
                assert!(usize::from(path.0) < 4 * self.room, "more paths than there is room for");
            }
            Command::RemovePath { path } => {
                assert!(self.selected.values().all(|p| *p != path), "a path goes while frames take it");
                let row = self.paths.remove(&path).expect("a path that is there");
                self.by_way.remove(&row.way);
            }
            Command::Select { peer, path: Some(path) } => {
                assert_eq!(
                    self.paths.get(&path).map(|row| row.peer),
                    Some(peer),
                    "frames take a path that is not there"
                );
                self.selected.insert(peer, path);
                self.left_selected.remove(&peer);
            }
            Command::Select { peer, path: None } => {
                self.selected.remove(&peer);
            }
            Command::Hold { peer } => {
                self.holds += 1;
                assert!(self.selected.contains_key(&peer), "frames wait where none can be sent");
                let before = self.held.insert(peer, Held { since: now, numbers: Vec::new() });
                assert!(before.is_none(), "held twice");
            }
            Command::Release { peer } => {
                let held = self.held.remove(&peer).expect("held before");
                held.numbers.into_iter().for_each(|number| {
                    self.emit(peer, number);
                });
            }
            Command::Expect { path, number } => {
                let row = self.paths.get_mut(&path).expect("a path that is there");
                row.pulses[usize::from(number % 4)] = Some(number);
            }
            Command::Open(socket) => {
                // As the shell gives them: the same number, the same port.
                let port = match socket {
                    Socket::Extra(n) if n < PORTS => Some(FIRST_PORT + n),
                    _ => None,
                };
                self.requests.push_back(SocketRequest::Open { socket, port });
            }
            Command::Close(socket) => self.requests.push_back(SocketRequest::Close(socket)),
        }
    }
}

impl Node for Agent {
    fn handle_input(&mut self, now: Time, socket: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let way = |label: [u8; 3]| Way { socket, remote: from, label: Label::from_bytes(label) };
        match *payload {
            [d, e] if self.pulse(now, way([0; 3]), [d, e]) => {}
            [RELAYED_PULSE, a, b, c, d, e] if self.pulse(now, way([a, b, c]), [d, e]) => {}
            [first, a, b, c, _, ..] if first & 0x08 != 0 => self.receive(now, way([a, b, c]), payload),
            _ => {
                self.mesh.handle_input(now, socket, from, payload);
                self.settle(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        self.mesh.handle_timeout(now);
        self.settle(now);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.mesh.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.frames_out.pop_front().or_else(|| self.mesh.poll_transmit())
    }

    fn handle_sockets(&mut self, now: Time, sockets: &[(Socket, SocketAddr)]) {
        let main = sockets.iter().filter(|(s, _)| *s == Socket::Main).map(|(_, addr)| *addr);
        self.mesh.set_addresses(now, main.collect());
        self.mesh.take_over(now, self.left.clone());
        self.settle(now);
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        self.requests.pop_front()
    }
}
