//! A host behind a NAT, STUN servers, and the network in between, stepped through simulated time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_proto::{
    nat::{Classifier, Event, Filtering, Mapping, Options, Report, StunServer},
    stun::{
        Message,
        server::{LONGEST_ANSWER, Responder},
    },
    time::Time,
    transmit::{Socket, Transmit},
};

use super::model::{Alloc, Dice, Nat};

const SOCKETS: [Socket; 4] = [Socket::Main, Socket::Other(1), Socket::Other(2), Socket::Other(3)];

/// What a server does with a request instead of answering it.
pub(crate) enum Twist {
    /// It answers after all.
    Honest,
    /// Nothing.
    Silent,
    /// It answers this request instead.
    Instead(Vec<u8>),
    /// It sends this, from there.
    Says(Socket, Vec<u8>),
}

type Twister = Box<dyn FnMut(Time, Socket, SocketAddr, &Message<'_>) -> Twist>;

pub(crate) struct Server {
    pub(crate) responder: Responder,
    pub(crate) twist: Twister,
}

/// What the shell does when it is asked for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sockets {
    Opened,
    Refused,
    /// It never tells.
    Forgotten,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// What someone does who sees each request of the host's as it leaves: source, destination and bytes of what comes to the host.
pub(crate) type Attacker = Box<dyn FnMut(&Transmit) -> Vec<(Socket, SocketAddr, Vec<u8>)>>;

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) nat: Option<Nat>,
    pub(crate) servers: Vec<Server>,
    pub(crate) host: IpAddr,
    pub(crate) options: Options,
    /// One way.
    pub(crate) delay: Duration,
    /// Of each packet each way, percent.
    pub(crate) loss: u64,
    /// And of these come twice, the second late.
    pub(crate) twice: u64,
    pub(crate) sockets: Sockets,
    pub(crate) attacker: Option<Attacker>,
    /// What happens to the NAT, and when.
    pub(crate) reboots: Vec<Time>,
    /// And when it forgets a single socket.
    pub(crate) forgets: Option<(Time, Socket)>,
    pub(crate) seed: u64,
    queue: BTreeMap<(Time, u64), Packet>,
    count: u64,
    pub(crate) lost: u32,
    open: BTreeSet<u16>,
    /// Everything that the host sent.
    pub(crate) sent: Vec<(Time, Transmit)>,
    pub(crate) reports: Vec<(Time, Report)>,
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) const MAIN_PORT: u16 = 4789;

impl World {
    /// A host behind a NAT, and one server with two addresses.
    pub(crate) fn new(mapping: Mapping, filtering: Filtering, alloc: Alloc, ipv6: bool, seed: u64) -> World {
        let (host, outside, server, other) = match ipv6 {
            false => ("10.0.0.2", "198.51.100.7", "192.0.2.1:3478", "192.0.2.2"),
            true => ("fd00::2", "2001:db8:7::7", "[2001:db8::1]:3478", "[2001:db8::2]"),
        };
        let responder = Responder::new(at(server), Some(3479), Some(at(&format!("{other}:1")).ip())).unwrap();
        let nat = Nat::new(outside, mapping, filtering, alloc, seed);
        World { nat: Some(nat), ..World::direct(host, vec![World::server(responder)], seed) }
    }

    pub(crate) fn direct(host: &str, servers: Vec<Server>, seed: u64) -> World {
        World {
            now: Time::from_nanos(1_000_000_000),
            nat: None,
            servers,
            host: host.parse().unwrap(),
            options: Options::default(),
            delay: Duration::from_millis(10),
            loss: 0,
            twice: 0,
            sockets: Sockets::Opened,
            attacker: None,
            reboots: Vec::new(),
            forgets: None,
            seed,
            queue: BTreeMap::new(),
            count: 0,
            lost: 0,
            open: BTreeSet::new(),
            sent: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub(crate) fn server(responder: Responder) -> Server {
        Server { responder, twist: Box::new(|_, _, _, _| Twist::Honest) }
    }

    pub(crate) fn local(&self, socket: Socket) -> SocketAddr {
        let port = match socket {
            Socket::Extra(n) => 40_000 + n,
            _ => MAIN_PORT,
        };
        SocketAddr::new(self.host, port)
    }

    fn socket(&self, local: SocketAddr) -> Option<Socket> {
        let extra = |n| self.open.contains(&n).then_some(Socket::Extra(n));
        match local.port() {
            _ if local.ip() != self.host => None,
            MAIN_PORT => Some(Socket::Main),
            port => extra(port.checked_sub(40_000)?),
        }
    }

    /// The servers, as the host is told of them.
    pub(crate) fn known(&self) -> Vec<StunServer> {
        let address = |s: &Server| s.responder.origin(Socket::Main).unwrap();
        self.servers.iter().map(|s| StunServer { address: address(s), others: Vec::new() }).collect()
    }

    pub(crate) fn run(&mut self) -> Report {
        let known = self.known();
        self.run_with(&known)
    }

    /// Classifies from start to end; the last report.
    pub(crate) fn run_with(&mut self, known: &[StunServer]) -> Report {
        let mut dice = Dice(self.seed ^ 0x1d);
        let random = Box::new(move |bytes: &mut [u8]| bytes.iter_mut().for_each(|b| *b = dice.next() as u8));
        let local = self.local(Socket::Main);
        let mut classifier = Classifier::new(self.now, local, known, self.options, random);
        let mut dice = Dice(self.seed);
        let mut finished = false;
        for _ in 0..100_000 {
            finished |= self.drain(&mut classifier, &mut dice);
            let packet = self.queue.first_key_value().map(|((time, _), _)| *time);
            let Some(next) = packet.into_iter().chain(classifier.poll_timeout()).min() else {
                assert!(finished, "seed {}: it waits for nothing", self.seed);
                assert!(self.open.is_empty(), "seed {}: sockets {:?} were left open", self.seed, self.open);
                return self.reports.last().expect("a report").1.clone();
            };
            assert!(next >= self.now, "seed {}", self.seed);
            self.now = next;
            if let Some(nat) = &mut self.nat
                && self.reboots.first().is_some_and(|when| *when <= next)
            {
                self.reboots.remove(0);
                nat.reboot();
            }
            if let Some((_, socket)) = self.forgets.take_if(|(when, _)| *when <= next) {
                let inside = self.local(socket);
                self.nat.as_mut().unwrap().forget(inside);
            }
            match packet {
                Some(time) if time == next => {
                    let packet = self.queue.pop_first().expect("it is there").1;
                    self.arrives(packet, &mut classifier, &mut dice);
                }
                _ => {
                    classifier.handle_timeout(next);
                    let later = classifier.poll_timeout().is_none_or(|t| t > next);
                    assert!(later, "seed {}: a timeout that does not pass", self.seed);
                }
            }
        }
        panic!("seed {}: it does not end", self.seed);
    }

    /// True if it has finished.
    fn drain(&mut self, classifier: &mut Classifier, dice: &mut Dice) -> bool {
        let mut finished = false;
        loop {
            if let Some(event) = classifier.poll_event() {
                match event {
                    Event::OpenSocket(n) => {
                        let opened = self.sockets == Sockets::Opened;
                        if opened {
                            assert!(self.open.insert(n), "socket {n} is open");
                        }
                        if self.sockets != Sockets::Forgotten {
                            classifier.handle_socket(self.now, n, opened);
                        }
                    }
                    Event::CloseSocket(n) => assert!(self.open.remove(&n), "socket {n} is not open"),
                    Event::Report(report) => self.reports.push((self.now, *report)),
                    Event::Finished => finished = true,
                }
            } else if let Some(transmit) = classifier.poll_transmit() {
                self.leaves(transmit, classifier, dice);
            } else {
                return finished;
            }
        }
    }

    fn leaves(&mut self, transmit: Transmit, classifier: &mut Classifier, dice: &mut Dice) {
        self.sent.push((self.now, transmit.clone()));
        if let Some(attacker) = &mut self.attacker {
            for (socket, from, bytes) in attacker(&transmit) {
                classifier.handle_input(self.now, socket, from, &bytes);
            }
        }
        let inside = self.local(transmit.from);
        assert_eq!(self.socket(inside), Some(transmit.from), "what sends is open");
        let from = match &mut self.nat {
            Some(nat) => nat.outbound(self.now, inside, transmit.to),
            None => inside,
        };
        let packet = Packet { from, to: transmit.to, bytes: transmit.payload };
        let Some(nat) = self.nat.as_mut().filter(|n| n.ips.contains(&transmit.to.ip())) else {
            return self.travels(packet, dice);
        };
        // To the NAT itself: back to the inside, if it does that.
        let Some(by_half) = nat.hairpin else { return };
        if let Some(to) = nat.inbound(self.now, from, packet.to)
            && let Some(socket) = self.socket(to)
        {
            let seen = if by_half { inside } else { from };
            classifier.handle_input(self.now, socket, seen, &packet.bytes);
        }
    }

    fn travels(&mut self, packet: Packet, dice: &mut Dice) {
        for again in 0..=u64::from(dice.percent(self.twice)) {
            if dice.percent(self.loss) {
                self.lost += 1;
            } else {
                self.count += 1;
                let when = self.now + self.delay * (1 + 3 * again as u32);
                self.queue.insert((when, self.count), packet.clone());
            }
        }
    }

    fn arrives(&mut self, packet: Packet, classifier: &mut Classifier, dice: &mut Dice) {
        let serves = |s: &Server| SOCKETS.into_iter().find(|o| s.responder.origin(*o) == Some(packet.to));
        let found = self.servers.iter().enumerate().find_map(|(n, s)| Some((n, serves(s)?)));
        let Some((n, by)) = found else {
            let to = match &mut self.nat {
                Some(nat) => nat.inbound(self.now, packet.from, packet.to),
                None => Some(packet.to),
            };
            if let Some(socket) = to.and_then(|to| self.socket(to)) {
                classifier.handle_input(self.now, socket, packet.from, &packet.bytes);
            }
            return;
        };
        let server = &mut self.servers[n];
        let mut out = [0; LONGEST_ANSWER];
        let message = Message::parse(&packet.bytes).unwrap();
        let request = match (server.twist)(self.now, by, packet.from, &message) {
            Twist::Silent => return,
            Twist::Says(socket, bytes) => {
                let from = server.responder.origin(socket).unwrap();
                return self.travels(Packet { from, to: packet.from, bytes }, dice);
            }
            Twist::Instead(bytes) => bytes,
            Twist::Honest => packet.bytes.clone(),
        };
        if let Ok(answer) = server.responder.respond(by, packet.from, &request, &mut out) {
            let from = server.responder.origin(answer.from).unwrap();
            self.travels(Packet { from, to: answer.to, bytes: out[..answer.len].to_vec() }, dice);
        }
    }
}
