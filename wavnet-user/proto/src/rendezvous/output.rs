//! What the server asks its shell to do, and what it tells.

use std::{fmt, net::SocketAddr};

use super::{Dropped, persist::Change};
use crate::{
    trust::{NetworkId, PublicKey},
    wire::{Label, Name},
};

/// What a relay looks up: who sends, and for which session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayKey {
    /// Address and port of the sender.
    pub from: SocketAddr,
    /// The sender's label.
    pub label: Label,
}

/// What it finds: to whom, and with which label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayTarget {
    /// Address and port of the receiver.
    pub to: SocketAddr,
    /// The receiver's label.
    pub label: Label,
}

/// One thing for the shell to do, in the order given, and before anything is sent that was made after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Relay this, instead of what was relayed for the key.
    SetRelay {
        /// What comes.
        key: RelayKey,
        /// What becomes of it.
        target: RelayTarget,
    },
    /// Relay nothing more for the key.
    DeleteRelay {
        /// What comes.
        key: RelayKey,
    },
    /// Keep this for the next start.
    Save(Change),
}

/// Why a host has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leave {
    /// Its lease has ended.
    Expired,
    /// It said so.
    Bye,
    /// It may not be here any more.
    NotAllowed,
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leave::Expired => "its lease has ended",
            Leave::Bye => "it said goodbye",
            Leave::NotAllowed => "it is no longer allowed",
        })
    }
}

/// Something that happened, for log and tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host that was not there has registered.
    Joined {
        /// Where.
        network: NetworkId,
        /// Who.
        host: PublicKey,
        /// Its name, as it says.
        name: Name,
        /// Where it is.
        addr: SocketAddr,
    },
    /// A registered host sends from another address.
    Moved {
        /// Where.
        network: NetworkId,
        /// Who.
        host: PublicKey,
        /// Where it was.
        from: SocketAddr,
        /// Where it is.
        to: SocketAddr,
    },
    /// A host is not registered any more.
    Left {
        /// Where.
        network: NetworkId,
        /// Who.
        host: PublicKey,
        /// Why.
        why: Leave,
    },
    /// A host has one of the network's keys and may not come. Told once a minute.
    Refused {
        /// Where.
        network: NetworkId,
        /// Who.
        host: PublicKey,
        /// Where it is.
        addr: SocketAddr,
    },
    /// Two hosts have the same secret key: they push each other out. Told once a minute.
    Duplicate {
        /// Where.
        network: NetworkId,
        /// Who.
        host: PublicKey,
        /// Where one of them is.
        held: SocketAddr,
        /// Where the other one is: it has to wait until the first one is silent.
        other: SocketAddr,
    },
    /// There is no room for another host. Told once a minute.
    Full {
        /// How many there may be.
        hosts: usize,
    },
    /// Something that came in was dropped, for the first time for this reason. More of it is counted.
    Dropped {
        /// Why.
        reason: Dropped,
    },
}
