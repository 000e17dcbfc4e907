//! An established session: two keys, two counters.

use super::PublicKey;
use crate::{
    time::Time,
    wire::{Data, Label},
};

/// Why nothing was encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The keys have been used as often as they may be: 2^48 times.
    #[error("the session's keys have been used 2^48 times: a new handshake is needed")]
    Exhausted,
    /// The plaintext is longer than a datagram can carry.
    #[error("a plaintext of {0} bytes does not fit into a datagram")]
    TooLong(usize),
}

/// Why a DATA datagram was refused. The session is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It came before.
    #[error("a DATA datagram that came before")]
    Replayed,
    /// It is older than the last 1,024: whether it came before is not known any more.
    #[error("a DATA datagram that is too old to tell whether it came before")]
    TooOld,
    /// It is not for this session, or was not made with its keys, or has been changed.
    #[error("a DATA datagram that was not made with the session's keys")]
    Forged,
}

/// A session with a peer. At most 2 KiB.
pub struct Session {
    local: u32,
}

impl Session {
    /// What the peer calls this session in what it sends.
    #[must_use]
    pub fn local_index(&self) -> u32 {
        self.local
    }

    /// What the peer wants this session called in what it gets.
    #[must_use]
    pub fn remote_index(&self) -> u32 {
        todo!()
    }

    /// Who the peer is.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        todo!()
    }

    /// When the handshake ended on this side.
    #[must_use]
    pub fn established(&self) -> Time {
        todo!()
    }

    /// This side began the handshake, and begins the next one.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        todo!()
    }

    /// Appends a whole DATA datagram with this plaintext (messages, or nothing) to `out`; nothing on an error. The label is not
    /// authenticated: a relay rewrites it.
    pub fn seal(&mut self, label: Label, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let _ = (label, plaintext, out);
        todo!()
    }

    /// Decrypts a DATA datagram into `out`, in place of what was there; it is empty on an error. Each datagram is accepted once.
    pub fn open(&mut self, data: &Data<'_>, out: &mut Vec<u8>) -> Result<(), OpenError> {
        let _ = (data, out);
        todo!()
    }

    /// The other side has used it: a datagram of this session has been opened.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        todo!()
    }

    /// It is time for this side to begin a new handshake: never true for the responder.
    #[must_use]
    pub fn needs_rekey(&self, now: Time) -> bool {
        let _ = now;
        todo!()
    }

    /// It must not be used any more, in neither direction.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        let _ = now;
        todo!()
    }
}
