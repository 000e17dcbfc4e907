//! An established session: two keys, two counters.

use std::{fmt, time::Duration};

use snow::{HandshakeState, StatelessTransportState};

use super::{HandshakeError, PublicKey, window::Window};
use crate::{
    time::Time,
    wire::{Data, Label, MAX_DATA_PLAINTEXT, TAG_LEN, data_header},
};

#[cfg(test)]
mod tests;

/// When the initiator begins anew.
const REKEY_AFTER: Duration = Duration::from_secs(45 * 60);

/// When the keys must not be used any more.
const EXPIRES_AFTER: Duration = Duration::from_secs(60 * 60);

/// How many datagrams the keys of a direction may be used for.
const MOST: u64 = 1 << 48;

/// When the initiator begins anew because of the datagrams of either direction.
const MANY: u64 = MOST / 2;

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

/// A session with a peer. At most 2 KiB, all that it points to included.
pub struct Session {
    noise: StatelessTransportState,
    local: u32,
    remote: u32,
    peer: PublicKey,
    established: Time,
    /// Counter of the next datagram to send.
    next: u64,
    /// Counters that came.
    came: Window,
}

impl Session {
    pub(super) fn new(
        noise: HandshakeState,
        (local, remote): (u32, u32),
        peer: PublicKey,
        now: Time,
    ) -> Result<Session, HandshakeError> {
        let noise = noise.into_stateless_transport_mode()?;
        Ok(Session { noise, local, remote, peer, established: now, next: 0, came: Window::default() })
    }

    /// What the peer calls this session in what it sends.
    #[must_use]
    pub const fn local_index(&self) -> u32 {
        self.local
    }

    /// What the peer wants this session called in what it gets.
    #[must_use]
    pub const fn remote_index(&self) -> u32 {
        self.remote
    }

    /// Who the peer is.
    #[must_use]
    pub const fn peer(&self) -> PublicKey {
        self.peer
    }

    /// When the handshake ended on this side.
    #[must_use]
    pub const fn established(&self) -> Time {
        self.established
    }

    /// This side began the handshake, and begins the next one.
    #[must_use]
    pub fn is_initiator(&self) -> bool {
        self.noise.is_initiator()
    }

    /// Appends a whole DATA datagram with this plaintext (messages, or nothing) to `out`; nothing on an error. The label is not
    /// authenticated: a relay rewrites it.
    pub fn seal(&mut self, label: Label, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if plaintext.len() > MAX_DATA_PLAINTEXT {
            return Err(SealError::TooLong(plaintext.len()));
        }
        if self.next >= MOST {
            return Err(SealError::Exhausted);
        }
        let before = out.len();
        out.extend(data_header(label, self.remote, self.next));
        let start = out.len();
        out.resize(start + plaintext.len() + TAG_LEN, 0);
        let written = self.noise.write_message(self.next, plaintext, out.get_mut(start..).unwrap_or_default());
        if written.is_err() {
            // Lengths fit, the keys are there and the counter is small: `snow` has no reason left.
            out.truncate(before);
            return Err(SealError::Exhausted);
        }
        self.next += 1;
        Ok(())
    }

    /// Decrypts a DATA datagram into `out`, in place of what was there; it is empty on an error. Each datagram is accepted once.
    pub fn open(&mut self, data: &Data<'_>, out: &mut Vec<u8>) -> Result<(), OpenError> {
        out.clear();
        if data.receiver != self.local || data.counter >= MOST {
            return Err(OpenError::Forged);
        }
        self.came.check(data.counter)?;
        out.resize(data.ciphertext.len().saturating_sub(TAG_LEN), 0);
        if self.noise.read_message(data.counter, data.ciphertext, out).is_err() {
            out.clear();
            return Err(OpenError::Forged);
        }
        self.came.note(data.counter);
        Ok(())
    }

    /// True if a datagram that was opened is the last one that the other side has sent, as far as is known: none that was sent later has come.
    #[must_use]
    pub const fn is_latest(&self, data: &Data<'_>) -> bool {
        data.counter.saturating_add(1) == self.came.next()
    }

    /// The other side has used it: a datagram of this session has been opened.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.came.next() != 0
    }

    /// It is time for this side to begin a new handshake: never true for the responder.
    #[must_use]
    pub fn needs_rekey(&self, now: Time) -> bool {
        let used = self.next.max(self.came.next());
        self.is_initiator() && (used >= MANY || now.since(self.established) >= REKEY_AFTER)
    }

    /// It must not be used any more, in neither direction.
    #[must_use]
    pub fn is_expired(&self, now: Time) -> bool {
        self.next >= MOST || now.since(self.established) >= EXPIRES_AFTER
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session { local, remote, peer, .. } = self;
        write!(f, "Session {local:08x}/{remote:08x} with {peer:?}")
    }
}
