//! The sessions with one peer: the one in use, the one before it, and those that nobody has used yet.

use std::time::Duration;

use crate::{
    time::Time,
    trust::{OpenError, Session},
    wire::{Data, Label},
};

/// How often it is looked whether keys are old.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// After a handshake for new keys that may have failed.
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// Sessions that wait for their first use.
const OFFERED: usize = 2;

/// The sessions with one peer.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Option<Session>,
    /// Until the peer has used the current one.
    before: Option<Session>,
    /// As responder: until the initiator has used it, INIT may have been an old one.
    offered: Vec<Session>,
}

/// By which session something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Current,
    Before,
    /// It is the one in use from now on. Whether there was one before.
    New {
        first: bool,
    },
}

impl Sessions {
    pub(super) fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    /// One that waits for its first use; of too many the oldest gives way.
    pub(super) fn offer(&mut self, session: Session, disowned: &mut Vec<u32>) {
        if self.offered.len() == OFFERED {
            disowned.push(self.offered.remove(0).local_index());
        }
        self.offered.push(session);
    }

    /// One waits for its first use.
    pub(super) fn waits(&self) -> bool {
        !self.offered.is_empty()
    }

    /// One that is to be used from now on.
    pub(super) fn replace(&mut self, session: Session, disowned: &mut Vec<u32>) {
        let before = self.current.replace(session);
        disowned.extend(std::mem::replace(&mut self.before, before).map(|s| s.local_index()));
        disowned.extend(self.offered.drain(..).map(|s| s.local_index()));
    }

    /// Encrypts by the one in use, unless its time is over.
    pub(super) fn seal(&mut self, now: Time, label: Label, plaintext: &[u8]) -> Option<Vec<u8>> {
        let session = self.current.as_mut().filter(|s| !s.is_expired(now))?;
        let mut datagram = Vec::with_capacity(plaintext.len() + 64);
        session.seal(label, plaintext, &mut datagram).ok().map(|()| datagram)
    }

    /// Decrypts by the session that is meant.
    pub(super) fn open(
        &mut self,
        now: Time,
        data: &Data<'_>,
        out: &mut Vec<u8>,
        disowned: &mut Vec<u32>,
    ) -> Result<By, OpenError> {
        let meant = |s: &Session| s.local_index() == data.receiver && !s.is_expired(now);
        if let Some(place) = self.offered.iter().position(meant) {
            if let Some(session) = self.offered.get_mut(place) {
                session.open(data, out)?;
            }
            let session = self.offered.remove(place);
            let first = self.current.is_none();
            self.replace(session, disowned);
            return Ok(By::New { first });
        }
        if let Some(session) = self.current.as_mut().filter(|s| meant(s)) {
            session.open(data, out)?;
            disowned.extend(self.before.take().map(|s| s.local_index()));
            return Ok(By::Current);
        }
        let session = self.before.as_mut().filter(|s| meant(s)).ok_or(OpenError::Forged)?;
        session.open(data, out).map(|()| By::Before)
    }

    /// Ends those whose time is over. True if none is left to use.
    pub(super) fn expire(&mut self, now: Time, disowned: &mut Vec<u32>) -> bool {
        let over = |s: &mut Session| s.is_expired(now);
        let ended = [self.current.take_if(over), self.before.take_if(over)];
        let is_current = ended.first().is_some_and(Option::is_some);
        disowned.extend(ended.into_iter().flatten().map(|s| s.local_index()));
        let offered = self.offered.extract_if(.., over);
        disowned.extend(offered.map(|s| s.local_index()));
        is_current
    }

    pub(super) fn clear(&mut self, disowned: &mut Vec<u32>) {
        let all = [self.current.take(), self.before.take()].into_iter().flatten();
        disowned.extend(all.chain(self.offered.drain(..)).map(|s| s.local_index()));
    }
}
