//! What the operator wants of the server.

use std::{collections::BTreeSet, net::SocketAddr, num::NonZeroU32, time::Duration};

use crate::{
    bucket::Rate,
    policy::Policy,
    trust::{AccessKey, NetworkId, PublicKey},
};

/// A network that the server serves.
#[derive(Clone, Debug)]
pub struct Network {
    /// What tells who belongs to it.
    pub access: AccessKey,
    /// Who of them may come.
    pub policy: Policy,
    /// Who may not, whatever the policy says.
    pub revoked: BTreeSet<PublicKey>,
}

impl Network {
    /// One that takes everybody who has its key.
    #[must_use]
    pub fn new(access: AccessKey) -> Network {
        Network { access, policy: Policy::Network, revoked: BTreeSet::new() }
    }

    /// Its public name.
    #[must_use]
    pub fn id(&self) -> NetworkId {
        self.access.network()
    }

    /// True if this identity may come.
    #[must_use]
    pub fn admits(&self, host: &PublicKey) -> bool {
        self.policy.admits(host) && !self.revoked.contains(host)
    }
}

/// How much of everything there may be. All tables are bounded by these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registered hosts.
    pub hosts: usize,
    /// Pairs of hosts with labels: without them a pair has no relay. One that nothing used for three minutes is given up.
    pub relays: usize,
    /// Handshakes that are answered for all, each about 0.2 ms of a CPU; the network without a key has a quarter of them.
    pub handshakes: Rate,
    /// The same for one source prefix: 24 bits of IPv4, 48 of IPv6.
    pub handshakes_of_prefix: Rate,
    /// Requests of one host.
    pub requests: Rate,
    /// FORWARD messages of one host.
    pub forwards: Rate,
    /// UNKNOWN answers to all.
    pub unknowns: Rate,
    /// Bytes of UDP payload that are relayed for one side of a pair.
    pub relay_bytes: Rate,
    /// Answers to STUN that go to one source a second, and at once, each by the kernel and by the server; `None`: as many as it asks for.
    /// For who answers, which is not this core: see [`crate::stun::Sources`].
    pub stun_of_source: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hosts: 20_000,
            relays: 65_536,
            handshakes: Rate { per_second: 2500, burst: 2500 },
            handshakes_of_prefix: Rate { per_second: 500, burst: 1000 },
            requests: Rate { per_second: 400, burst: 4000 },
            forwards: Rate { per_second: 400, burst: 1000 },
            unknowns: Rate { per_second: 5000, burst: 5000 },
            relay_bytes: Rate { per_second: 125_000_000, burst: 5_000_000 },
            stun_of_source: NonZeroU32::new(1000),
        }
    }
}

/// What the operator wants of the server. [`super::Rendezvous::configure`] takes another one while it runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The networks, each with an id of its own; of two with the same the first counts.
    pub networks: Vec<Network>,
    /// How long a host is known that says nothing.
    pub lease: Duration,
    /// Whether it relays.
    pub relay: bool,
    /// Its other addresses and ports that answer STUN; eight at the most.
    pub stun: Vec<SocketAddr>,
    /// How much of everything there may be.
    pub limits: Limits,
}

impl Settings {
    /// Default lease: agents refresh it when a third is over.
    pub const LEASE: Duration = Duration::from_secs(120);

    /// With everything by default.
    #[must_use]
    pub fn new(networks: Vec<Network>) -> Settings {
        Settings { networks, lease: Settings::LEASE, relay: true, stun: Vec::new(), limits: Limits::default() }
    }
}
