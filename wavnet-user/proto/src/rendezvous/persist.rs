//! What outlives the process: enough that hosts need not notice a restart.
//!
//! Sessions are not kept, for a file with their keys would be a secret; a host is told that its session is unknown, and shakes hands again.
//! Leases begin anew with each start. Who is revoked stands in the configuration.

use std::{collections::BTreeSet, net::SocketAddr};

use wavnet_common::addr::Vni;

use crate::{
    trust::{NetworkId, PublicKey},
    wire::{Candidate, Label, Name, NatSummary},
};

/// A registered host, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedHost {
    /// Where.
    pub network: NetworkId,
    /// Who.
    pub key: PublicKey,
    /// Where it was last.
    pub addr: SocketAddr,
    /// Its name.
    pub name: Name,
    /// Its NAT.
    pub nat: NatSummary,
    /// Where it may be reached.
    pub candidates: Vec<Candidate>,
    /// Its VNIs.
    pub vnis: BTreeSet<Vni>,
}

/// A pair of hosts that may talk over the relay, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedRelay {
    /// Where.
    pub network: NetworkId,
    /// Both, the one with the smaller key first.
    pub hosts: [PublicKey; 2],
    /// The label of each.
    pub labels: [Label; 2],
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Number of the process that kept it, 24 bits; zero if there was none.
    pub incarnation: u32,
    /// Hosts.
    pub hosts: Vec<SavedHost>,
    /// Pairs.
    pub relays: Vec<SavedRelay>,
}

/// What is to be kept from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Number of this process. Must be kept before anything is sent: versions of the directory are told apart by it.
    Incarnation(u32),
    /// A host, in place of what was kept of it.
    Host(Box<SavedHost>),
    /// A host that has gone.
    ForgetHost {
        /// Where.
        network: NetworkId,
        /// Who.
        key: PublicKey,
    },
    /// A pair, in place of what was kept of it.
    Relay(SavedRelay),
    /// A pair that is no more.
    ForgetRelay {
        /// Where.
        network: NetworkId,
        /// Both, the one with the smaller key first.
        hosts: [PublicKey; 2],
    },
}

impl Saved {
    /// Makes a change: what a store does, and what tests take for one.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Incarnation(n) => self.incarnation = n,
            Change::Host(host) => {
                self.hosts.retain(|h| (h.network, h.key) != (host.network, host.key));
                self.hosts.push(*host);
            }
            Change::ForgetHost { network, key } => self.hosts.retain(|h| (h.network, h.key) != (network, key)),
            Change::Relay(relay) => {
                self.relays.retain(|r| (r.network, r.hosts) != (relay.network, relay.hosts));
                self.relays.push(relay);
            }
            Change::ForgetRelay { network, hosts } => self.relays.retain(|r| (r.network, r.hosts) != (network, hosts)),
        }
    }
}
