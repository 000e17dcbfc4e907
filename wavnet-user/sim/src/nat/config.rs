//! How NATs and firewalls are, in the terms of RFC 4787.

use std::{ops::RangeInclusive, time::Duration};

/// What a mapping or a filter depends on (RFC 4787 sections 4.1 and 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Behaviour {
    /// The inner endpoint alone.
    EndpointIndependent,
    /// That and the address outside.
    AddressDependent,
    /// That and the address and port outside.
    AddressAndPortDependent,
}

impl Behaviour {
    /// All three.
    pub const ALL: [Behaviour; 3] =
        [Behaviour::EndpointIndependent, Behaviour::AddressDependent, Behaviour::AddressAndPortDependent];
}

/// Which port a mapping gets (RFC 4787 section 4.2). No two mappings share one: there is no port overloading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The inner port is kept if it is in the range and free (port preservation).
    pub preserve: bool,
    /// Else.
    pub next: NextPort,
    /// The ports that there are.
    pub range: RangeInclusive<u16>,
}

/// How a port is chosen that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextPort {
    /// The first of the range, then each time so much further, and from the end on from the beginning; what is taken is left out. One counter for all hosts and
    /// addresses, which a reboot sets back.
    Sequential {
        /// How much further; zero is taken for one.
        step: u16,
    },
    /// A free one of the range, all equally likely.
    Random,
}

/// Which of several outer addresses a mapping gets (RFC 4787 section 4.1, IP address pooling).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// All mappings of an inner address get the same, each inner address the next.
    #[default]
    Paired,
    /// Any.
    Arbitrary,
}

/// How long entries live (RFC 4787 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// While a flow has not gone both ways, and after it has until it is `settles` old.
    pub unreplied: Duration,
    /// From then on.
    pub stream: Duration,
    /// How old a flow must be to be given the longer time: what has gone both ways by then, and goes on.
    pub settles: Duration,
    /// Datagrams from outside keep an entry alive, too. Those from inside always do (RFC 4787 REQ-6).
    pub inbound_refreshes: bool,
}

impl Timeouts {
    /// As Linux has them: `nf_conntrack_udp_timeout` and `nf_conntrack_udp_timeout_stream`, the latter for flows older than two seconds.
    pub const LINUX: Timeouts = Timeouts {
        unreplied: Duration::from_secs(30),
        stream: Duration::from_secs(120),
        settles: Duration::from_secs(2),
        inbound_refreshes: true,
    };

    /// The same time whatever came, and only what goes out refreshes it.
    #[must_use]
    pub const fn fixed(timeout: Duration) -> Timeouts {
        Timeouts { unreplied: timeout, stream: timeout, settles: Duration::ZERO, inbound_refreshes: false }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts::LINUX
    }
}

/// A NAT. The default is a port-restricted cone that keeps ports, as Linux masquerades.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// What a mapping depends on.
    pub mapping: Behaviour,
    /// What decides whether a datagram gets in: which endpoints outside the host has sent to by that very mapping. (For mappings that do not depend on the
    /// endpoint outside this is RFC 4787's definition; for the others it is what Linux does.)
    pub filtering: Behaviour,
    /// Which port a mapping gets.
    pub ports: Ports,
    /// Which address.
    pub pooling: Pooling,
    /// A host inside reaches another one's outer address and port, and is seen with its own (RFC 4787 section 6, REQ-9).
    pub hairpin: bool,
    /// How long entries live.
    pub timeouts: Timeouts,
    /// The router has no input filter, as Linux without rules: what nobody inside is to have it takes for itself, and that makes an entry. The endpoint
    /// outside and that port then are taken: what a host sends there later leaves by another port, even from a cone.
    pub open_input: bool,
    /// How many mappings there may be.
    pub max_mappings: usize,
    /// How many flows there may be, as `nf_conntrack_max`.
    pub max_flows: usize,
}

impl NatConfig {
    /// What RFC 3489 calls a full cone.
    #[must_use]
    pub fn full_cone() -> NatConfig {
        NatConfig { filtering: Behaviour::EndpointIndependent, ..NatConfig::default() }
    }

    /// What RFC 3489 calls a restricted cone.
    #[must_use]
    pub fn restricted_cone() -> NatConfig {
        NatConfig { filtering: Behaviour::AddressDependent, ..NatConfig::default() }
    }

    /// What RFC 3489 calls a port-restricted cone.
    #[must_use]
    pub fn port_restricted_cone() -> NatConfig {
        NatConfig::default()
    }

    /// What RFC 3489 calls symmetric, with random ports.
    #[must_use]
    pub fn symmetric() -> NatConfig {
        NatConfig {
            mapping: Behaviour::AddressAndPortDependent,
            ports: Ports { preserve: false, next: NextPort::Random, range: 1024..=65535 },
            ..NatConfig::default()
        }
    }

    /// The same, with ports that count up.
    #[must_use]
    pub fn symmetric_sequential(step: u16) -> NatConfig {
        let ports = Ports { preserve: false, next: NextPort::Sequential { step }, range: 1024..=65535 };
        NatConfig { ports, ..NatConfig::symmetric() }
    }
}

impl Default for NatConfig {
    fn default() -> NatConfig {
        NatConfig {
            mapping: Behaviour::EndpointIndependent,
            filtering: Behaviour::AddressAndPortDependent,
            ports: Ports { preserve: true, next: NextPort::Random, range: 1024..=65535 },
            pooling: Pooling::Paired,
            hairpin: false,
            timeouts: Timeouts::LINUX,
            open_input: false,
            max_mappings: usize::MAX,
            max_flows: usize::MAX,
        }
    }
}

/// A stateful firewall, which translates nothing. The default is as strict as any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConfig {
    /// What decides whether a datagram gets in: which endpoints outside the inner endpoint has sent to.
    pub filtering: Behaviour,
    /// How long entries live.
    pub timeouts: Timeouts,
    /// How many flows there may be.
    pub max_flows: usize,
}

impl Default for FirewallConfig {
    fn default() -> FirewallConfig {
        FirewallConfig {
            filtering: Behaviour::AddressAndPortDependent,
            timeouts: Timeouts::LINUX,
            max_flows: usize::MAX,
        }
    }
}
