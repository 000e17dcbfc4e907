//! Everything that the mesh waits for.

use super::path::WayId;
use crate::trust::PublicKey;

/// A timer of the mesh. Each is set for one thing to do, and does nothing if that is done already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Timer {
    /// HELLO or INIT to a server was not answered: once more, or back to HELLO.
    Greet(usize),
    /// REGISTER or REFRESH is due, or was not answered.
    Register(usize),
    /// SYNC was not answered.
    Sync(usize),
    /// The next CONNECT_PULSE to a server.
    ServerPulse(usize),
    /// CONNECT, and INIT with it, are due (again): the peer is wanted and there is no session with it.
    Connect(PublicKey),
    /// PEER_HELLO or CANDIDATES may not have arrived.
    Tell(PublicKey),
    /// A way is to be probed (again), or to be given up.
    Probe(PublicKey, WayId),
    /// The next CONNECT_PULSE over a path is due, and it is time to look how it is.
    Pulse(PublicKey, WayId),
    /// There is still no direct path: both sides try once more, from the start.
    Punch(PublicKey),
    /// Frames that are held back wait no longer for the marker.
    Switch(PublicKey),
    /// The next burst of a search.
    Search(PublicKey),
    /// The session's keys are to be replaced.
    Rekey(PublicKey),
    /// Nothing has come from the peer for long: forget it if it is still so.
    Forget(PublicKey),
}
