//! Handshakes: Noise IK with a pre-shared key, in two datagrams, and two before them that show that the initiator can receive.
//!
//! ```text
//! initiator                                             responder
//! Initiation::start
//!   hello_datagram       ── HELLO ──▶    Responder::answer_hello
//!   handle_cookie       ◀── COOKIE ──
//!                        ── INIT ──▶     Responder::read_init: who is it, what does it say?
//!                                        Request::respond, if it is allowed: a Session, not confirmed yet
//!   handle_response     ◀── RESPONSE ──
//!   a Session            ── DATA ──▶     Session::open: confirmed
//! ```
//!
//! By way of a server it begins with [`Initiation::init_without_cookie`], which [`Responder::read_forwarded_init`] reads.

mod initiator;
mod responder;

#[cfg(test)]
mod tests;

pub use initiator::Initiation;
pub use responder::{Request, Responder};

use super::{AccessKey, KeyError, MemberKey, NetworkId, PublicKey, key::Secret};

/// What both sides of a handshake have, by which they know that they belong to the same network.
#[derive(Clone, Copy, Debug)]
pub enum Psk<'a> {
    /// Agent and server.
    Access(&'a AccessKey),
    /// Two agents.
    Member(&'a MemberKey),
}

impl Psk<'_> {
    /// Of which network it is.
    #[must_use]
    pub const fn network(self) -> NetworkId {
        self.secret().network
    }

    const fn secret(&self) -> &Secret {
        match self {
            Psk::Access(AccessKey(secret)) | Psk::Member(MemberKey(secret)) => secret,
        }
    }
}

/// Why a handshake's datagram was refused, or none was made. Each is a reason of its own for a counter. On an error an
/// [`Initiation`] is as before: the right datagram may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It belongs to another network.
    #[error("it belongs to network {0}")]
    Network(NetworkId),
    /// Its MAC is wrong: the sender does not belong to the network, or somebody changed it on the way.
    #[error("its MAC is wrong: the sender has another network or access key")]
    Mac,
    /// Its cookie is wrong or too old.
    #[error("its cookie is wrong or too old")]
    Cookie,
    /// It belongs to another handshake.
    #[error("it belongs to no handshake that is under way")]
    Index,
    /// The responder is somebody else.
    #[error("{found} answers where {wanted} is expected")]
    Peer {
        /// Who should have answered.
        wanted: PublicKey,
        /// Who did.
        found: PublicKey,
    },
    /// The other side has our own key: two hosts with one key file, or our own datagram came back.
    #[error("the other side has this host's own key: make another key for one of the two")]
    Ourselves,
    /// It does not decrypt: other keys, or somebody changed it on the way.
    #[error("it was not made with the right keys")]
    Forged,
    /// The other side's public key is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A payload is too long.
    #[error("a payload of {len} bytes, and {most} is the most")]
    TooLong {
        /// How long it is.
        len: usize,
        /// How long it may be.
        most: usize,
    },
    /// There is no INIT yet that could be answered, or it has been answered.
    #[error("the handshake is at another point")]
    State,
}

/// Refuses payloads that are too long.
fn check_payload(payload: &[u8], most: usize) -> Result<(), HandshakeError> {
    let len = payload.len();
    if len > most { Err(HandshakeError::TooLong { len, most }) } else { Ok(()) }
}
