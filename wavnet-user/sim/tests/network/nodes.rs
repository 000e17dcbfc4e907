//! Nodes for tests: one that echoes, one that pings, one that does what it is told.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use wavnet_proto::{
    time::Time,
    transmit::{Socket, Transmit},
};
use wavnet_sim::{Node, SocketRequest};

/// Sends everything back to where it came from.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    out: VecDeque<Transmit>,
}

impl Node for Echo {
    fn handle_input(&mut self, _: Time, socket: Socket, _: SocketAddr, from: SocketAddr, payload: &[u8]) {
        self.out.push_back(Transmit { from: socket, to: from, payload: payload.to_vec() });
    }

    fn handle_timeout(&mut self, _: Time) {}

    fn poll_timeout(&mut self) -> Option<Time> {
        None
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }
}

/// Pings others in turn, once in a while. A ping is a number of eight bytes, and so is its answer.
#[derive(Debug)]
pub(crate) struct Pinger {
    targets: Vec<SocketAddr>,
    period: Duration,
    next: Option<Time>,
    /// When each ping was sent.
    pub(crate) sent: Vec<Time>,
    /// Pings that were answered, and how long that took.
    pub(crate) answered: Vec<(u64, Duration)>,
    out: VecDeque<Transmit>,
}

impl Pinger {
    pub(crate) fn new(targets: Vec<SocketAddr>, period: Duration) -> Pinger {
        Pinger { targets, period, next: None, sent: Vec::new(), answered: Vec::new(), out: VecDeque::new() }
    }
}

impl Node for Pinger {
    fn handle_sockets(&mut self, now: Time, _: &[(Socket, SocketAddr)]) {
        self.next.get_or_insert(now + self.period);
    }

    fn handle_input(&mut self, now: Time, _: Socket, _: SocketAddr, _: SocketAddr, payload: &[u8]) {
        let number = u64::from_be_bytes(payload.try_into().unwrap());
        self.answered.push((number, now.since(self.sent[number as usize])));
    }

    fn handle_timeout(&mut self, now: Time) {
        let number = self.sent.len();
        let to = self.targets[number % self.targets.len()];
        self.out.push_back(Transmit { from: Socket::Main, to, payload: (number as u64).to_be_bytes().to_vec() });
        self.sent.push(now);
        self.next = Some(now + self.period);
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.next
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }
}

/// A datagram that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) at: Time,
    pub(crate) socket: Socket,
    pub(crate) local: SocketAddr,
    pub(crate) from: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

/// Does what it is told, and remembers what happened to it.
#[derive(Debug, Default)]
pub(crate) struct Puppet {
    pub(crate) received: Vec<Received>,
    /// As it was told them last.
    pub(crate) sockets: Vec<(Socket, SocketAddr)>,
    pub(crate) told: usize,
    /// When it is to be woken.
    pub(crate) timeout: Option<Time>,
    /// When it was, by its own clock.
    pub(crate) woken: Vec<Time>,
    pub(crate) out: VecDeque<Transmit>,
    pub(crate) requests: VecDeque<SocketRequest>,
}

impl Puppet {
    pub(crate) fn send(&mut self, from: Socket, to: SocketAddr, payload: &[u8]) {
        self.out.push_back(Transmit { from, to, payload: payload.to_vec() });
    }
}

impl Node for Puppet {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        self.received.push(Received { at: now, socket, local, from, payload: payload.to_vec() });
    }

    fn handle_timeout(&mut self, now: Time) {
        self.woken.push(now);
        self.timeout = None;
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.timeout
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    fn handle_sockets(&mut self, _: Time, sockets: &[(Socket, SocketAddr)]) {
        self.sockets = sockets.to_vec();
        self.told += 1;
    }

    fn poll_socket_request(&mut self) -> Option<SocketRequest> {
        self.requests.pop_front()
    }
}
