//! What a core wants sent.

use std::net::SocketAddr;

/// Which of the host's UDP sockets a datagram leaves by, or came in by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Socket {
    /// The one that data and control share, on the underlay's UDP port.
    #[default]
    Main,
    /// One of those that are open while a path through a symmetric NAT is searched for, and the one that found it, by number.
    Extra(u16),
    /// A rendezvous server's other address or port, as numbered by RFC 5780: 1 the other port, 2 the other address, 3 both.
    Other(u8),
}

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The socket.
    pub from: Socket,
    /// Destination.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}
