//! One question on its way: sent again until something comes of it.

use std::{net::SocketAddr, time::Duration};

use super::{
    Retransmission,
    probe::{Outcome, is_usable, plain},
};
use crate::{
    stun::{Class, Message, TransactionId},
    transmit::{Socket, Transmit},
};

/// What comes back, and where, if all goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// An answer from where the request went.
    Plain,
    /// An answer from another of the server's addresses.
    From(SocketAddr),
    /// The request itself, at another socket.
    Itself(Socket),
    /// The answer, at another socket whose mapping has this port.
    At(Socket, u16),
}

/// A question on its way.
#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    /// Its place among all: a NAT made the mappings in this order.
    pub(super) order: u32,
    via: Socket,
    pub(super) to: SocketAddr,
    expected: Expected,
    payload: Vec<u8>,
    sent: u8,
    pause: Duration,
}

impl Transaction {
    pub(super) fn new(
        id: TransactionId,
        (via, to): (Socket, SocketAddr),
        expected: Expected,
        payload: Vec<u8>,
        order: u32,
    ) -> Transaction {
        Transaction { id, order, via, to, expected, payload, sent: 0, pause: Duration::ZERO }
    }

    /// The next transmission, and how long to wait after it; `None`: it has been sent often enough.
    pub(super) fn send(&mut self, retransmission: &Retransmission) -> Option<(Transmit, Duration)> {
        let requests = retransmission.requests.max(1);
        if self.sent >= requests {
            return None;
        }
        self.sent += 1;
        self.pause = match self.sent {
            1 => retransmission.rto,
            _ => self.pause.saturating_mul(2),
        };
        // Nothing may make the shell spin.
        let shortest = Duration::from_millis(1);
        let last = retransmission.rto.saturating_mul(retransmission.last.into());
        let pause = if self.sent == requests { last } else { self.pause };
        let transmit = Transmit { from: self.via, to: self.to, payload: self.payload.clone() };
        Some((transmit, pause.max(shortest)))
    }

    /// What a message with this transaction's id means; `None`: nothing, whoever sent it.
    pub(super) fn judge(&self, socket: Socket, from: SocketAddr, message: &Message<'_>) -> Option<Outcome> {
        let from = plain(from);
        if let Expected::Itself(there) = self.expected {
            // Its source is the mapped address, or, with a NAT that hairpins by half (RFC 4787 REQ-9), the inner one.
            return (message.class == Class::Request && socket == there).then_some(Outcome::Answered(from));
        }
        let success = match message.class {
            Class::Success => true,
            Class::Error => false,
            Class::Request | Class::Indication => return None,
        };
        let mapped = message.mapped_address().map(plain).filter(|m| is_usable(*m, self.to));
        let answer = mapped.map_or(Outcome::Refused(None), Outcome::Answered);
        // Errors come to where the request came from, from where it went to.
        let direct = socket == self.via && from == self.to;
        if direct && !success {
            return Some(Outcome::Refused(error(message)));
        }
        match self.expected {
            _ if !success => None,
            Expected::Plain => direct.then_some(answer),
            Expected::From(other) if socket == self.via && from == other => Some(answer),
            Expected::From(_) => direct.then_some(Outcome::Disobeyed),
            Expected::At(there, _) if socket == there && from == self.to => Some(answer),
            // The mapping is dead if its port belongs to the asking socket by now.
            Expected::At(_, port) if direct && mapped.is_some_and(|m| m.port() == port) => Some(Outcome::Silent),
            Expected::At(..) => direct.then_some(Outcome::Disobeyed),
            Expected::Itself(_) => None,
        }
    }
}

fn error(message: &Message<'_>) -> Option<u16> {
    use crate::stun::{Attribute, AttributeType};
    match message.find(AttributeType::ERROR_CODE) {
        Ok(Some(Attribute::ErrorCode { code, .. })) => Some(code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Attribute, Builder};

    const ID: TransactionId = TransactionId::new([1; 12]);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What an answer means that came by a socket from an address, with this mapped address.
    fn judge(expected: Expected, socket: Socket, from: &str, mapped: &str) -> Option<Outcome> {
        let transaction = Transaction::new(ID, (Socket::Main, at("192.0.2.1:3478")), expected, Vec::new(), 0);
        let mapped = Attribute::XorMappedAddress(at(mapped));
        let bytes = Builder::message(Class::Success, ID, &[mapped]).unwrap();
        transaction.judge(socket, at(from), &Message::parse(&bytes).unwrap())
    }

    #[test]
    fn an_idle_mapping_is_alive_if_its_socket_hears() {
        let (server, idle, mapped) = ("192.0.2.1:3478", Socket::Extra(4), "198.51.100.7:5000");
        let ask = |socket, from, mapped| judge(Expected::At(idle, 5000), socket, from, mapped);
        assert_eq!(ask(idle, server, "198.51.100.7:6000"), Some(Outcome::Answered(at("198.51.100.7:6000"))));
        // The port has become the asking socket's: it had been free.
        assert_eq!(ask(Socket::Main, server, mapped), Some(Outcome::Silent));
        assert_eq!(ask(Socket::Main, server, "198.51.100.7:6000"), Some(Outcome::Disobeyed), "not sent there at all");
        assert_eq!(ask(idle, "192.0.2.1:9", mapped), None);
        assert_eq!(ask(Socket::Extra(5), server, mapped), None);
    }

    #[test]
    fn sockets_for_both_families_show_the_same_addresses() {
        let mapped = "198.51.100.7:5000";
        let answer = Some(Outcome::Answered(at(mapped)));
        assert_eq!(judge(Expected::Plain, Socket::Main, "[::ffff:192.0.2.1]:3478", mapped), answer);
        assert_eq!(judge(Expected::Plain, Socket::Main, "192.0.2.1:3478", "[::ffff:198.51.100.7]:5000"), answer);
        let other = Expected::From(at("192.0.2.2:3479"));
        assert_eq!(judge(other, Socket::Main, "192.0.2.2:3479", mapped), answer);
        assert_eq!(judge(other, Socket::Main, "192.0.2.1:3478", mapped), Some(Outcome::Disobeyed));
        assert_eq!(judge(other, Socket::Main, "192.0.2.2:3478", mapped), None);
    }

    #[test]
    fn nothing_makes_the_shell_spin() {
        let none = Retransmission { rto: Duration::ZERO, requests: 0, last: 0 };
        let mut transaction =
            Transaction::new(ID, (Socket::Main, at("192.0.2.1:3478")), Expected::Plain, Vec::new(), 0);
        assert!(transaction.send(&none).is_some_and(|(_, pause)| pause >= Duration::from_millis(1)));
        assert_eq!(transaction.send(&none), None);
        let endless = Retransmission { rto: Duration::MAX, requests: 255, last: 255 };
        assert!((0..254).all(|_| transaction.send(&endless).is_some()));
        assert_eq!(transaction.send(&endless), None);
    }
}
