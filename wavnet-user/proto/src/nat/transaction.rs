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
