//! The sessions with one peer: the one in use, the one before it, and one that nobody has used yet.

use std::time::Duration;

use crate::{trust::Session, wire::Data};

/// How often it is looked whether keys are old.
pub(super) const LOOK: Duration = Duration::from_secs(60);
/// After a handshake for new keys that may have failed.
pub(super) const RETRY: Duration = Duration::from_secs(10);

/// The sessions with one peer.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Option<Session>,
    /// Until the peer has used the current one.
    before: Option<Session>,
    /// As responder: until the initiator has used it, INIT may have been an old one.
    offered: Option<Session>,
}

impl Sessions {
    pub(super) fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Session> {
        self.current.as_mut()
    }

    /// One that waits for its first use; another one that waits gives way.
    pub(super) fn offer(&mut self, session: Session, disowned: &mut Vec<u32>) {
        disowned.extend(self.offered.replace(session).map(|s| s.local_index()));
    }

    /// One waits for its first use.
    pub(super) fn waits(&self) -> bool {
        self.offered.is_some()
    }

    /// One that is to be used from now on.
    pub(super) fn replace(&mut self, session: Session, disowned: &mut Vec<u32>) {
        let before = self.current.replace(session);
        disowned.extend(std::mem::replace(&mut self.before, before).map(|s| s.local_index()));
    }

    /// Decrypts by the session that is meant. `Some(Some(first))`: by one that was offered and is in use now; `first`: there was none.
    pub(super) fn open(&mut self, data: &Data<'_>, out: &mut Vec<u8>, disowned: &mut Vec<u32>) -> Option<Option<bool>> {
        let meant = |s: &&mut Session| s.local_index() == data.receiver;
        if let Some(session) = self.offered.as_mut().filter(meant) {
            session.open(data, out).ok()?;
            let first = self.current.is_none();
            if let Some(session) = self.offered.take() {
                self.replace(session, disowned);
            }
            return Some(Some(first));
        }
        if let Some(session) = self.current.as_mut().filter(meant) {
            session.open(data, out).ok()?;
            disowned.extend(self.before.take().map(|s| s.local_index()));
            return Some(None);
        }
        let session = self.before.as_mut().filter(meant)?;
        session.open(data, out).ok().map(|()| None)
    }

    pub(super) fn clear(&mut self, disowned: &mut Vec<u32>) {
        let all = [self.current.take(), self.before.take(), self.offered.take()];
        disowned.extend(all.into_iter().flatten().map(|s| s.local_index()));
    }
}
