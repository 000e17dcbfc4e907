//! What the mesh asks its shell to do, and what it tells.

use std::{collections::BTreeSet, fmt, net::SocketAddr, time::Duration};

use wavnet_common::addr::Vni;
pub use wavnet_common::wire::demux::RELAYED_PULSE;

use super::Dropped;
use crate::{transmit::Socket, trust::PublicKey, wire::Label};

/// Number of a path that frames are taken from, unique among those that there are, and small: its slot in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u16);

/// One way to reach a peer: frames that come by it, and no others, are the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Way {
    /// Our socket.
    pub socket: Socket,
    /// The other end: the peer as its NAT shows it, or a relay.
    pub remote: SocketAddr,
    /// Zero, or the relayed session.
    pub label: Label,
}

impl Way {
    /// True if a relay is in between.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        self.label != Label::ZERO
    }

    /// A pulse as it goes by this way.
    #[must_use]
    pub fn pulse(&self, pulse: [u8; 2]) -> Vec<u8> {
        if !self.is_relayed() {
            return pulse.to_vec();
        }
        let [a, b, c] = self.label.to_bytes();
        vec![RELAYED_PULSE, a, b, c, pulse[0], pulse[1]]
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_relayed() {
            write!(f, "relayed by {} ({})", self.remote, self.label)
        } else {
            write!(f, "{}", self.remote)
        }
    }
}

/// What kind of path frames take (a label of the metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// To an address of the peer's own, which no NAT translates.
    Lan,
    /// Through the NATs.
    Direct,
    /// By way of a rendezvous server.
    Relayed,
}

impl PathKind {
    /// In metrics and on the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PathKind::Lan => "lan",
            PathKind::Direct => "direct",
            PathKind::Relayed => "relayed",
        }
    }
}

/// One thing for the shell to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A peer has shown who it is: it may join these VNIs, which are some of ours.
    Admit {
        /// Who.
        peer: PublicKey,
        /// Where; may be empty.
        vnis: BTreeSet<Vni>,
    },
    /// The peer is gone, or no longer wanted. Its paths are gone before.
    Expel {
        /// Who.
        peer: PublicKey,
    },
    /// The peer has proved that this way leads to it: take frames and pulses from there.
    AddPath {
        /// Number.
        path: PathId,
        /// Whose.
        peer: PublicKey,
        /// Where.
        way: Way,
    },
    /// Take nothing from there any more.
    RemovePath {
        /// Number.
        path: PathId,
    },
    /// Send frames for this peer by this path; `None`: there is none.
    Select {
        /// Who.
        peer: PublicKey,
        /// By which; it was added.
        path: Option<PathId>,
    },
    /// Hold back frames for this peer: those before them are on a slower path than the one that is to be selected. It lasts for half a
    /// second at the most.
    Hold {
        /// Who.
        peer: PublicKey,
    },
    /// Send on what was held back, by the path that is selected now, before anything that comes later. Frames are dropped if there is none.
    Release {
        /// Who.
        peer: PublicKey,
    },
    /// A pulse with this number is about to leave by this path: note when its answer comes.
    Expect {
        /// Path.
        path: PathId,
        /// Number, 15 bits.
        number: u16,
    },
    /// Open a socket, on a port of the shell's choice.
    Open(Socket),
    /// Close it.
    Close(Socket),
}

/// Something that happened, for log, metrics and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server has taken us in.
    Registered {
        /// Which, by its place in the settings.
        server: usize,
        /// Our address as the server sees it.
        mapped: SocketAddr,
    },
    /// A server no longer answers, or refuses us.
    ServerLost {
        /// Which.
        server: usize,
        /// Why.
        why: ServerTrouble,
    },
    /// A peer is connected: its identity is proved. Frames flow from the first [`Event::Path`] on.
    Connected {
        /// Who.
        peer: PublicKey,
        /// Its name, as it says.
        name: String,
    },
    /// Frames for a peer take another path.
    Path {
        /// Who.
        peer: PublicKey,
        /// Which kind; `None`: there is none.
        kind: Option<PathKind>,
        /// Since we first wanted to reach it, or lost the path before.
        after: Duration,
    },
    /// A peer is gone.
    Gone {
        /// Who.
        peer: PublicKey,
    },
    /// Somebody who may not be a peer tried to, or a server says so: told of a few in a minute, and of each once.
    Refused {
        /// Who.
        peer: PublicKey,
    },
    /// Something that came in was dropped, for the first time for this reason. More of it is counted.
    Dropped {
        /// Why.
        reason: Dropped,
    },
}

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerTrouble {
    /// Nothing comes back.
    #[error("it does not answer: check its address, its firewall, and that both have keys of the same network")]
    Silent,
    /// It has another key than it should.
    #[error("its public key is not the one that is configured")]
    WrongKey,
    /// It does not take this identity.
    #[error("it refuses this host: its identity is not on the server's list, or was revoked")]
    Refused,
    /// It has no room for this host.
    #[error("it has no room for another host: raise limits.hosts there")]
    Full,
    /// Another host has registered with this identity.
    #[error("another host has registered with this host's identity: each needs a key of its own")]
    Replaced,
    /// It ends.
    #[error("it is shutting down")]
    Closing,
}
