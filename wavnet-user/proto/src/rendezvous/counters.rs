//! What the server counts: why it dropped something, and what it did.

use crate::counted::{Counts, counted};

counted! {
    /// Why a datagram, or a message in it, was dropped: one counter each.
    Dropped:
    /// It is nothing of ours: no control, no pulse, and no frame with a label.
    Foreign = "foreign",
    /// It came to an address or port that is there for STUN alone.
    Socket = "wrong_socket",
    /// It is of another version of the protocol.
    Version = "version",
    /// It does not have the form that its type has.
    Malformed = "malformed",
    /// It is of a type that a server has no use for.
    Unwanted = "unwanted",
    /// Its network is not served here.
    Network = "unknown_network",
    /// Its MAC is wrong: the sender does not belong to the network.
    Mac = "mac",
    /// Its cookie is wrong or too old.
    Cookie = "cookie",
    /// It does not decrypt.
    Forged = "forged",
    /// It came before, is too old to tell, or was overtaken by what counts now.
    Replayed = "replayed",
    /// There are too many HELLOs of this prefix.
    HelloLimit = "hello_limit",
    /// There are too many handshakes, of all or of this prefix.
    HandshakeLimit = "handshake_limit",
    /// Too many hosts have shaken hands and not registered.
    Visitors = "visitors",
    /// The host may not come: the list of identities does not have it, or it was revoked.
    NotAllowed = "not_allowed",
    /// Another host with the same secret key is here, and was pushed out by this one before.
    Duplicate = "duplicate_identity",
    /// It belongs to no session that there is.
    Session = "unknown_session",
    /// Nobody is known at the address that the pulse came from.
    Pulse = "unknown_pulse",
    /// A message in it is not as it must be.
    Message = "message",
    /// The host asks too often.
    RequestLimit = "request_limit",
    /// The host forwards too much.
    ForwardLimit = "forward_limit",
    /// What it forwards is no handshake's datagram, or cannot go to that peer.
    Forward = "forward",
    /// Its label names no session with the sender's address.
    Label = "unknown_label",
    /// More is to be relayed for one side than may be.
    RelayLimit = "relay_limit",
}

counted! {
    /// What the server did: one counter each.
    Done:
    /// HELLO was answered by COOKIE.
    Hello = "hello",
    /// A handshake was answered.
    Handshake = "handshake",
    /// REGISTER was answered by REGISTERED.
    Register = "register",
    /// REFRESH was answered by REGISTERED.
    Refresh = "refresh",
    /// SYNC was answered by PAGE.
    Sync = "sync",
    /// CONNECT was answered by two INVITEs.
    Connect = "connect",
    /// A request was answered by REFUSED.
    Refused = "refused",
    /// INVITE was sent, for CONNECT or since a partner has moved.
    Invite = "invite",
    /// CHANGED was sent.
    Changed = "changed",
    /// FORWARD was handed on as FORWARDED.
    Forward = "forward",
    /// A pulse was answered.
    Pulse = "pulse",
    /// UNKNOWN was sent.
    Unknown = "unknown",
    /// A lease ended.
    Expired = "expired",
    /// A host was found at another address.
    Moved = "moved",
    /// A session was replaced by one from another address.
    Replaced = "replaced",
    /// A pair got labels.
    Relay = "relay",
    /// A pair could not get labels: there are too many.
    RelayFull = "relay_full",
}

/// All counters. They never go back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    drops: Counts<{ Dropped::ALL.len() }>,
    done: Counts<{ Done::ALL.len() }>,
    /// Datagrams that this core relayed.
    pub relay_frames: u64,
    /// Bytes of UDP payload that this core relayed.
    pub relay_bytes: u64,
}

impl Counters {
    /// How often something was dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.drops.of(reason as usize)
    }

    /// How often this was done.
    #[must_use]
    pub fn done(&self, what: Done) -> u64 {
        self.done.of(what as usize)
    }

    pub(super) fn note(&mut self, what: Done) {
        _ = self.done.count(what as usize);
    }

    /// True if it is the first time.
    pub(super) fn drop(&mut self, reason: Dropped) -> bool {
        self.drops.count(reason as usize)
    }
}
