//! What comes out of a classification.

use std::{net::SocketAddr, time::Duration};

use super::{NatSummary, PaperType};

/// Something for the shell, or for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Open a UDP socket at the main socket's local address, with a port of the kernel's choice that nothing has used
    /// lately, as [`crate::transmit::Socket::Extra`] of this number, and tell by [`super::Classifier::handle_socket`].
    OpenSocket(u16),
    /// It is not needed any longer.
    CloseSocket(u16),
    /// What is known: once when all but the lifetime is, and once more with it.
    Report(Box<Report>),
    /// There is nothing more to come. A socket that is opened after this is to be closed at once.
    Finished,
}

/// How long an idle mapping lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The longest idle time that one was seen to survive; zero: none of those that were tried.
    pub alive_after: Duration,
    /// The shortest that one was seen not to survive; `None`: it survived all.
    pub dead_after: Option<Duration>,
}

/// What is known of the NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Most of it, as it is told to others.
    pub summary: NatSummary,
    /// The main socket's own address.
    pub local: SocketAddr,
    /// Where it seems to be.
    pub mapped: Option<SocketAddr>,
    /// The server that was asked.
    pub server: Option<SocketAddr>,
    /// How long an idle mapping lives, if that was asked for and could be found out.
    pub lifetime: Option<Lifetime>,
    /// What went wrong, and why something is not known.
    pub notes: Vec<Note>,
}

impl Report {
    /// The papers' type.
    #[must_use]
    pub const fn paper_type(&self) -> PaperType {
        self.summary.paper_type()
    }
}

/// What went wrong in a classification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// There is no server to ask.
    #[error("no STUN server has an address of the family that this host uses")]
    NoServer,
    /// A server did not answer.
    #[error("the STUN server {0} does not answer")]
    Silent(SocketAddr),
    /// A server answered with an error, or without an address.
    #[error("the STUN server {server} refuses ({})", code.map_or("no address in its answer".to_owned(), |c| format!("error {c}")))]
    Refused {
        /// The server.
        server: SocketAddr,
        /// The error's number; `None`: there was no usable mapped address in the answer.
        code: Option<u16>,
    },
    /// A server with one address tells less.
    #[error("the STUN server {0} has no other address: name one that has, or a second server")]
    NoOtherAddress(SocketAddr),
    /// What a server says is its other address does not answer.
    #[error("{other}, which the STUN server {server} says is its other address, does not answer")]
    OtherSilent {
        /// The server.
        server: SocketAddr,
        /// What it says.
        other: SocketAddr,
    },
    /// It did not answer from where it was asked to.
    #[error("the STUN server {0} does not answer from another port or address (CHANGE-REQUEST)")]
    ChangeIgnored(SocketAddr),
    /// There is no second socket.
    #[error("no further UDP socket could be opened: filtering was tested on a port in use, and hairpinning not at all")]
    NoSocket,
    /// The NAT changed a mapping during the tests.
    #[error("the NAT moved the mapping during the tests: it restarted, or gives mappings that do not last")]
    Moved,
    /// The server did not answer when all was done.
    #[error("the STUN server {0} fell silent during the tests")]
    Vanished(SocketAddr),
    /// Something rewrites addresses inside of packets.
    #[error(
        "the NAT rewrites addresses inside of datagrams (a generic application level gateway, RFC 5780 section 3.6)"
    )]
    Rewritten,
    /// The lifetime cannot be measured with this server.
    #[error("the STUN server {0} does not answer to another port (RESPONSE-PORT): the lifetime cannot be measured")]
    NoResponsePort(SocketAddr),
    /// There were no sockets for it, or their mappings had another address than that of the main socket.
    #[error("no mapping could be left idle beside the main one: the lifetime cannot be measured")]
    NotIdle,
}
