//! What the simulated hosts run: an agent's mesh with a model of the datapath, or a rendezvous server.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{ANSWER, Command, Event, Mesh, PathId, PathKind, RELAYED_PULSE, Way},
    rendezvous::Rendezvous,
    time::Time,
    transmit::{Socket, Transmit},
    trust::PublicKey,
    wire::Label,
};
use wavnet_sim::{Node, SocketRequest};

use crate::liar::Liar;

/// The VNI that all hosts of these scenarios have.
pub(crate) const VNI: u32 = 100;

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) from: PublicKey,
    pub(crate) number: u64,
    pub(crate) at: Time,
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

/// An agent: the mesh, and the tables that the kernel would have.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) mesh: Mesh,
    admitted: BTreeMap<PublicKey, BTreeSet<Vni>>,
    paths: BTreeMap<PathId, Row>,
    selected: BTreeMap<PublicKey, PathId>,
    held: BTreeMap<PublicKey, Held>,
    /// How often frames were held back.
    pub(crate) holds: u64,
    frames_out: VecDeque<Transmit>,
    requests: VecDeque<SocketRequest>,
    pub(crate) frames: Vec<Frame>,
    /// Frames from where no path is, or for a VNI that is not the peer's.
    pub(crate) refused: u64,
    pub(crate) events: Vec<(Time, Event)>,
}

impl Agent {
    pub(crate) fn new(mesh: Mesh) -> Agent {
        Agent {
            mesh,
            admitted: BTreeMap::new(),
            paths: BTreeMap::new(),
            selected: BTreeMap::new(),
            held: BTreeMap::new(),
            holds: 0,
            frames_out: VecDeque::new(),
            requests: VecDeque::new(),
            frames: Vec::new(),
            refused: 0,
            events: Vec::new(),
        }
    }

    /// Which kind of path frames for a peer take.
    pub(crate) fn path_to(&self, peer: PublicKey) -> Option<PathKind> {
        let selected = self.selected.get(&peer)?;
        let row = self.paths.get(selected).expect("a selected path was added");
        assert_eq!(row.peer, peer, "frames for one peer go to another");
        let view = self.mesh.peers().find(|p| p.key == peer).expect("a peer with a path");
        let path = view.selected().expect("the mesh knows what it has selected").clone();
        assert_eq!(path.way, row.way);
        Some(path.kind)
    }

    /// Where frames for a peer go.
    pub(crate) fn way_to(&self, peer: PublicKey) -> Option<Way> {
        self.paths.get(self.selected.get(&peer)?).map(|row| row.way)
    }

    pub(crate) fn is_admitted(&self, peer: PublicKey) -> bool {
        self.admitted.contains_key(&peer)
    }

    /// How many paths there are.
    pub(crate) fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Sends a frame, if there is a path.
    pub(crate) fn send(&mut self, now: Time, peer: PublicKey, number: u64) -> bool {
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
        let owner = self.paths.values().find(|row| row.way == way).map(|row| row.peer);
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
        let Some((path, row)) = self.paths.iter_mut().find(|(_, row)| row.way == way) else { return false };
        if number & ANSWER == 0 {
            let payload = way.pulse((number | ANSWER).to_be_bytes());
            self.frames_out.push_back(Transmit { from: way.socket, to: way.remote, payload });
            return true;
        }
        let number = number & !ANSWER;
        if row.pulses[usize::from(number % 4)].take_if(|waits| *waits == number).is_some() {
            let (path, peer) = (*path, row.peer);
            self.mesh.pulse_answered(now, &peer, path, number, now);
            self.settle(now);
        }
        true
    }

    /// Carries out what the mesh wants after a call by the scenario.
    pub(crate) fn drain(&mut self, now: Time) {
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
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
                assert!(self.paths.values().all(|row| row.peer != peer), "paths go before their peer");
                assert!(!self.selected.contains_key(&peer), "frames go to somebody who is gone");
                assert!(!self.held.contains_key(&peer), "frames wait for somebody who is gone");
                assert!(self.admitted.remove(&peer).is_some(), "only who was admitted is expelled");
            }
            Command::AddPath { path, peer, way } => {
                assert!(self.admitted.contains_key(&peer), "a path of nobody");
                assert!(self.paths.values().all(|row| row.way != way), "one way is two paths");
                let row = Row { peer, way, pulses: [None; 4] };
                assert!(self.paths.insert(path, row).is_none(), "a number that is in use");
                assert!(
                    self.paths.values().filter(|row| row.peer == peer).count() <= 4,
                    "more paths than there is room for"
                );
            }
            Command::RemovePath { path } => {
                assert!(self.selected.values().all(|p| *p != path), "a path goes while frames take it");
                assert!(self.paths.remove(&path).is_some(), "a path that is not there");
            }
            Command::Select { peer, path: Some(path) } => {
                assert_eq!(
                    self.paths.get(&path).map(|row| row.peer),
                    Some(peer),
                    "frames take a path that is not there"
                );
                self.selected.insert(peer, path);
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
            Command::Open(socket) => self.requests.push_back(SocketRequest::Open { socket, port: None }),
            Command::Close(socket) => self.requests.push_back(SocketRequest::Close(socket)),
        }
    }
}

/// What a host runs.
pub(crate) enum Host {
    Agent(Box<Agent>),
    Server(Box<Rendezvous>),
    Liar(Box<Liar>),
}

impl Host {
    pub(crate) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            _ => panic!("a server is no agent"),
        }
    }

    pub(crate) fn liar_mut(&mut self) -> &mut Liar {
        match self {
            Host::Liar(liar) => liar,
            _ => panic!("it does not lie"),
        }
    }

    pub(crate) fn server_mut(&mut self) -> &mut Rendezvous {
        match self {
            Host::Server(server) => server,
            _ => panic!("it is no server"),
        }
    }

    pub(crate) fn agent_mut(&mut self) -> &mut Agent {
        match self {
            Host::Agent(agent) => agent,
            _ => panic!("a server is no agent"),
        }
    }
}

impl Node for Host {
    fn handle_input(&mut self, now: Time, socket: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
        match self {
            Host::Agent(agent) => match *payload {
                [d, e] if agent.pulse(now, Way { socket, remote: from, label: Label::ZERO }, [d, e]) => {}
                [RELAYED_PULSE, a, b, c, d, e]
                    if agent.pulse(now, Way { socket, remote: from, label: Label::from_bytes([a, b, c]) }, [d, e]) => {}
                [first, a, b, c, _, ..] if first & 0x08 != 0 => {
                    agent.receive(now, Way { socket, remote: from, label: Label::from_bytes([a, b, c]) }, payload);
                }
                _ => {
                    agent.mesh.handle_input(now, socket, from, payload);
                    agent.settle(now);
                }
            },
            Host::Liar(liar) => liar.handle_input(now, from, payload),
            Host::Server(server) => {
                server.handle_input(now, socket, from, payload);
                while server.poll_command().is_some() {}
                while server.poll_event().is_some() {}
            }
        }
    }

    fn handle_timeout(&mut self, now: Time) {
        match self {
            Host::Agent(agent) => {
                agent.mesh.handle_timeout(now);
                agent.settle(now);
            }
            Host::Liar(_) => {}
            Host::Server(server) => {
                server.handle_timeout(now);
                while server.poll_command().is_some() {}
                while server.poll_event().is_some() {}
            }
        }
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        match self {
            Host::Agent(agent) => agent.mesh.poll_timeout(),
            Host::Server(server) => server.poll_timeout(),
            Host::Liar(_) => None,
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        match self {
            Host::Agent(agent) => agent.frames_out.pop_front().or_else(|| agent.mesh.poll_transmit()),
            Host::Server(server) => server.poll_transmit(),
            Host::Liar(liar) => liar.poll_transmit(),
        }
    }

    fn handle_sockets(&mut self, now: Time, sockets: &[(Socket, SocketAddr)]) {
        if let Host::Agent(agent) = self {
            let main = sockets.iter().filter(|(s, _)| *s == Socket::Main).map(|(_, addr)| *addr);
            agent.mesh.set_addresses(now, main.collect());
            agent.settle(now);
        }
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        match self {
            Host::Agent(agent) => agent.requests.pop_front(),
            Host::Server(_) | Host::Liar(_) => None,
        }
    }
}
