//! What the mesh drops, and why.

use crate::{
    counted::counted,
    trust::{HandshakeError, OpenError},
    wire::WireError,
};

counted! {
    /// Why a datagram, or a message in it, was dropped: one counter each.
    Dropped:
    /// It is nothing that wavnet says, or an answer to a question that nobody asks any more.
    Foreign = "foreign",
    /// It is of another version of the protocol.
    Version = "version",
    /// It does not have the form that its type has.
    Malformed = "malformed",
    /// It is of a type that an agent has no use for.
    Unwanted = "unwanted",
    /// A handshake that comes neither by way of a server nor by a peer's path.
    Handshake = "handshake",
    /// There are too many handshakes, of all or of this peer.
    HandshakeLimit = "handshake_limit",
    /// Its sender, or whom a server brings together with this host, may not be a peer.
    NotAllowed = "not_allowed",
    /// There is no room for another peer.
    Full = "full",
    /// Its MAC is wrong: the sender does not belong to the network.
    Mac = "mac",
    /// It does not decrypt.
    Forged = "forged",
    /// It came before, or is too old to tell.
    Replayed = "replayed",
    /// It belongs to no session or handshake that there is.
    Session = "unknown_session",
    /// No path leads to where the pulse came from.
    Pulse = "unknown_pulse",
    /// A hint that concerns nobody here, or more of them than are looked into.
    Hint = "hint",
    /// A message in it is not as it must be.
    Message = "message",
}

impl From<WireError> for Dropped {
    fn from(error: WireError) -> Dropped {
        match error {
            WireError::Foreign => Dropped::Foreign,
            WireError::Version(_) => Dropped::Version,
            _ => Dropped::Malformed,
        }
    }
}

impl From<OpenError> for Dropped {
    fn from(error: OpenError) -> Dropped {
        match error {
            OpenError::Replayed | OpenError::TooOld => Dropped::Replayed,
            OpenError::Forged => Dropped::Forged,
        }
    }
}

impl From<HandshakeError> for Dropped {
    fn from(error: HandshakeError) -> Dropped {
        match error {
            HandshakeError::Network(_) | HandshakeError::Mac => Dropped::Mac,
            HandshakeError::Index | HandshakeError::State => Dropped::Session,
            _ => Dropped::Forged,
        }
    }
}
