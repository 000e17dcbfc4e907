//! A rendezvous server's host: its core, and STUN on the same port, and on another port and another address if it has these.

use std::{fmt, net::SocketAddr};

use wavnet_proto::{
    rendezvous::{Command, Rendezvous, persist::Saved},
    stun::server::{LONGEST_ANSWER, Responder},
    time::Time,
    transmit::{Socket, Transmit},
};

use crate::Node;

/// A rendezvous server.
pub struct Server {
    /// The core.
    pub core: Rendezvous,
    /// What it wants kept: a store, for another one to start from.
    pub saved: Saved,
    stun: Vec<Responder>,
    answers: Vec<Transmit>,
}

impl Server {
    /// Around a core. What that one was started from is to be put into its store.
    #[must_use]
    pub fn new(core: Rendezvous) -> Server {
        Server { core, saved: Saved::default(), stun: Vec::new(), answers: Vec::new() }
    }

    fn settle(&mut self) {
        while let Some(command) = self.core.poll_command() {
            // It relays by itself: there is no other table to keep up to date.
            if let Command::Save(change) = command {
                self.saved.apply(change);
            }
        }
        while self.core.poll_event().is_some() {}
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("stun", &self.stun).finish_non_exhaustive()
    }
}

impl Node for Server {
    fn handle_input(&mut self, now: Time, socket: Socket, local: SocketAddr, from: SocketAddr, payload: &[u8]) {
        let mut buffer = [0; LONGEST_ANSWER];
        let stun = self.stun.iter().find(|stun| stun.origin(socket) == Some(local));
        if let Some(answer) = stun.and_then(|stun| stun.respond(socket, from, payload, &mut buffer).ok()) {
            let payload = buffer.get(..answer.len).unwrap_or_default().to_vec();
            self.answers.push(Transmit { from: answer.from, to: answer.to, payload });
            return;
        }
        self.core.handle_input(now, socket, from, payload);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Time) {
        self.core.handle_timeout(now);
        self.settle();
    }

    fn poll_timeout(&mut self) -> Option<Time> {
        self.core.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.answers.pop().or_else(|| self.core.poll_transmit())
    }

    fn handle_sockets(&mut self, _: Time, sockets: &[(Socket, SocketAddr)]) {
        let of = |wanted, is_ipv4| {
            let mut addrs = sockets.iter().filter(|(socket, addr)| *socket == wanted && addr.is_ipv4() == is_ipv4);
            addrs.next().map(|(_, addr)| *addr)
        };
        let responder = |is_ipv4| {
            let other = |n| of(Socket::Other(n), is_ipv4);
            Responder::new(of(Socket::Main, is_ipv4)?, other(1).map(|a| a.port()), other(2).map(|a| a.ip())).ok()
        };
        self.stun = [true, false].into_iter().filter_map(responder).collect();
    }
}
