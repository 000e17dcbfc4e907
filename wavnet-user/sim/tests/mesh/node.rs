//! What the simulated hosts run: an agent's mesh with a model of the datapath, or a rendezvous server.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{Command, Event, Mesh, PathId, PathKind, Way},
    rendezvous::Rendezvous,
    time::Time,
    transmit::{Socket, Transmit},
    trust::PublicKey,
    wire::Label,
};
use wavnet_sim::{Node, SocketRequest};

/// The VNI that all hosts of these scenarios have.
pub(crate) const VNI: u32 = 100;

/// A frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) from: PublicKey,
    pub(crate) number: u64,
    pub(crate) at: Time,
}

/// An agent: the mesh, and the tables that the kernel would have.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) mesh: Mesh,
    admitted: BTreeMap<PublicKey, BTreeSet<Vni>>,
    paths: BTreeMap<PathId, (PublicKey, Way)>,
    selected: BTreeMap<PublicKey, PathId>,
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
        let (owner, way) = self.paths.get(selected).expect("a selected path was added");
        assert_eq!(*owner, peer, "frames for one peer go to another");
        let view = self.mesh.peers().find(|p| p.key == peer).expect("a peer with a path");
        let path = view.selected().expect("the mesh knows what it has selected").clone();
        assert_eq!(path.way, *way);
        Some(path.kind)
    }

    /// Sends a frame, if there is a path.
    pub(crate) fn send(&mut self, peer: PublicKey, number: u64) -> bool {
        let Some((_, way)) = self.selected.get(&peer).and_then(|id| self.paths.get(id)) else { return false };
        let [a, b, c] = way.label.to_bytes();
        let [_, x, y, z] = VNI.to_be_bytes();
        let mut payload = vec![0x08, a, b, c, x, y, z, 0];
        payload.extend(number.to_be_bytes());
        self.frames_out.push_back(Transmit { from: way.socket, to: way.remote, payload });
        true
    }

    fn receive(&mut self, now: Time, way: Way, payload: &[u8]) {
        let owner = self.paths.values().find(|(_, w)| *w == way).map(|(peer, _)| *peer);
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

    fn settle(&mut self, now: Time) {
        while let Some(command) = self.mesh.poll_command() {
            self.carry_out(command);
        }
        while let Some(event) = self.mesh.poll_event() {
            self.events.push((now, event));
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Admit { peer, vnis } => {
                self.admitted.insert(peer, vnis);
            }
            Command::Expel { peer } => {
                assert!(self.paths.values().all(|(p, _)| *p != peer), "paths go before their peer");
                assert!(self.admitted.remove(&peer).is_some(), "only who was admitted is expelled");
            }
            Command::AddPath { path, peer, way } => {
                assert!(self.admitted.contains_key(&peer), "a path of nobody");
                assert!(self.paths.values().all(|(_, w)| *w != way), "one way is two paths");
                assert!(self.paths.insert(path, (peer, way)).is_none(), "a number that is in use");
            }
            Command::RemovePath { path } => {
                assert!(self.selected.values().all(|p| *p != path), "a path goes while frames take it");
                assert!(self.paths.remove(&path).is_some(), "a path that is not there");
            }
            Command::Select { peer, path: Some(path) } => {
                assert!(self.paths.contains_key(&path), "frames take a path that is not there");
                self.selected.insert(peer, path);
            }
            Command::Select { peer, path: None } => {
                self.selected.remove(&peer);
            }
            Command::Expect { path, .. } => assert!(self.paths.contains_key(&path)),
            Command::Open(socket) => self.requests.push_back(SocketRequest::Open { socket, port: None }),
            Command::Close(socket) => self.requests.push_back(SocketRequest::Close(socket)),
        }
    }
}

/// What a host runs.
pub(crate) enum Host {
    Agent(Box<Agent>),
    Server(Box<Rendezvous>),
}

impl Host {
    pub(crate) fn agent(&self) -> &Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(_) => panic!("a server is no agent"),
        }
    }

    pub(crate) fn agent_mut(&mut self) -> &mut Agent {
        match self {
            Host::Agent(agent) => agent,
            Host::Server(_) => panic!("a server is no agent"),
        }
    }
}

impl Node for Host {
    fn handle_input(&mut self, now: Time, socket: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
        match self {
            Host::Agent(agent) => match *payload {
                [first, a, b, c, _, ..] if first & 0x08 != 0 => {
                    agent.receive(now, Way { socket, remote: from, label: Label::from_bytes([a, b, c]) }, payload);
                }
                _ => {
                    agent.mesh.handle_input(now, socket, from, payload);
                    agent.settle(now);
                }
            },
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
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        match self {
            Host::Agent(agent) => agent.frames_out.pop_front().or_else(|| agent.mesh.poll_transmit()),
            Host::Server(server) => server.poll_transmit(),
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
            Host::Server(_) => None,
        }
    }
}
