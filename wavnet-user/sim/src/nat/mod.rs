//! Network address translation in the terms of RFC 4787, and stateful firewalls.
//!
//! A NAT has *mappings*, an outer endpoint for an inner one, and *flows*, one for each endpoint outside that a mapping is used with. A flow
//! has the times of Linux's conntrack; a mapping lives as long as the last of its flows that refreshed it.

mod config;
mod firewall;
mod flows;
mod mappings;
mod ports;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

pub use config::{Behaviour, FirewallConfig, NatConfig, NextPort, Pooling, Ports, Timeouts};
pub use firewall::Firewall;
pub use mappings::{Mapping, Scope};
use wavnet_proto::time::Time;

use crate::{Entries, Reason, Rng};
use flows::{Flows, Way};
use mappings::Mappings;
use ports::Allocator;

/// A NAT and what it remembers.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    /// Its outer addresses.
    pool: Vec<IpAddr>,
    /// Inner addresses that were given one of them.
    pairs: BTreeMap<IpAddr, usize>,
    rng: Rng,
    allocator: Allocator,
    mappings: Mappings,
    flows: Flows,
}

impl Nat {
    /// One that has seen nothing, with these outer addresses.
    #[must_use]
    pub fn new(config: NatConfig, pool: Vec<IpAddr>, rng: Rng) -> Nat {
        Nat {
            allocator: Allocator::new(config.ports.clone()),
            flows: Flows::new(config.timeouts, config.max_flows),
            pairs: BTreeMap::new(),
            mappings: Mappings::default(),
            config,
            pool,
            rng,
        }
    }

    /// Its outer addresses.
    #[must_use]
    pub fn pool(&self) -> &[IpAddr] {
        &self.pool
    }

    /// A datagram from inside: the outer endpoint that it leaves with.
    pub fn outbound(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Reason> {
        self.expire(now);
        if let Some(flow) = self.flows.outbound(internal, remote)
            && let Some(external) = self.flows.external(flow)
        {
            if let Some(expires) = self.flows.touch(flow, Way::Out, now) {
                self.mappings.extend(external, expires);
            }
            return Ok(external);
        }
        if self.flows.is_full() {
            return Err(Reason::TableFull);
        }
        let external = match self.usable(internal, remote) {
            Some(external) => external,
            None => self.map(now, internal, remote)?,
        };
        let expires = self.flows.create(Some(internal), (external, remote), Way::Out, now)?;
        self.mappings.extend(external, expires);
        Ok(external)
    }

    /// A datagram from outside: the inner endpoint that it goes to.
    pub fn inbound(&mut self, now: Time, external: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Reason> {
        self.expire(now);
        if let Some(flow) = self.flows.inbound(external, remote) {
            let expires = self.flows.touch(flow, Way::In, now);
            let internal = self.flows.internal(flow).ok_or(Reason::ForRouter)?;
            if let Some(expires) = expires {
                self.mappings.extend(external, expires);
            }
            return Ok(internal);
        }
        let Some(mapping) = self.mappings.by_external(external) else {
            return Err(self.refuse(now, external, remote, Reason::NoMapping));
        };
        // As long as there is a mapping, its host has sent something.
        let open = self.config.filtering == Behaviour::EndpointIndependent;
        if !open && !self.flows.was_sent(external, remote, self.config.filtering) {
            return Err(self.refuse(now, external, remote, Reason::Filtered));
        }
        let internal = mapping.internal;
        let expires = self.flows.create(Some(internal), (external, remote), Way::In, now)?;
        if self.config.timeouts.inbound_refreshes {
            self.mappings.extend(external, expires);
        }
        Ok(internal)
    }

    /// A datagram from inside to one of the outer addresses: the endpoints that it comes from and goes to.
    pub fn hairpin(
        &mut self,
        now: Time,
        internal: SocketAddr,
        to: SocketAddr,
    ) -> Result<(SocketAddr, SocketAddr), Reason> {
        if !self.config.hairpin {
            return Err(Reason::NoHairpin);
        }
        let from = self.outbound(now, internal, to)?;
        Ok((from, self.inbound(now, to, from)?))
    }

    /// Forgets everything but the counters.
    pub fn reboot(&mut self) {
        self.mappings.clear();
        self.flows.clear();
        self.pairs.clear();
        self.allocator.reset();
    }

    /// Gets other outer addresses, and forgets everything but the counters.
    pub fn renumber(&mut self, pool: Vec<IpAddr>) {
        self.reboot();
        self.pool = pool;
    }

    /// The mappings that are alive, by outer endpoint.
    pub fn mappings(&self, now: Time) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter(now)
    }

    /// How many mappings there are.
    #[must_use]
    pub fn mapping_entries(&self, now: Time) -> Entries {
        self.mappings.entries(now)
    }

    /// How many flows there are, those of the router itself included.
    #[must_use]
    pub fn flow_entries(&self, now: Time) -> Entries {
        self.flows.entries(now)
    }

    fn expire(&mut self, now: Time) {
        self.flows.expire(now);
        while let Some(external) = self.mappings.expire(now) {
            self.flows.forget(external);
        }
    }

    /// The outer endpoint of a mapping that fits, unless the router itself has taken it for that endpoint outside.
    fn usable(&self, internal: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        [Scope::of(self.config.mapping, remote), Scope::Endpoint(remote)]
            .into_iter()
            .filter_map(|scope| self.mappings.by_internal(internal, scope))
            .find(|external| self.flows.inbound(*external, remote).is_none())
    }

    /// Makes a mapping, and returns its outer endpoint.
    fn map(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr) -> Result<SocketAddr, Reason> {
        if self.mappings.len() >= self.config.max_mappings {
            return Err(Reason::TableFull);
        }
        let addr = self.address_for(internal.ip()).ok_or(Reason::NoRoute)?;
        let Nat { allocator, mappings, flows, rng, .. } = self;
        let is_free = |port| {
            let external = SocketAddr::new(addr, port);
            mappings.by_external(external).is_none() && flows.inbound(external, remote).is_none()
        };
        let port = allocator.choose(internal.port(), rng, is_free).ok_or(Reason::NoPort)?;
        let external = SocketAddr::new(addr, port);
        let mut scope = Scope::of(self.config.mapping, remote);
        if self.mappings.by_internal(internal, scope).is_some() {
            // It is there, and cannot be used for this endpoint outside.
            scope = Scope::Endpoint(remote);
            if let Some(old) = self.mappings.by_internal(internal, scope) {
                self.mappings.remove(old);
                self.flows.forget(old);
            }
        }
        self.mappings.insert(Mapping { internal, external, scope, expires: now + self.config.timeouts.unreplied });
        Ok(external)
    }

    fn address_for(&mut self, internal: IpAddr) -> Option<IpAddr> {
        let count = self.pool.len();
        let index = match self.config.pooling {
            Pooling::Paired => {
                let next = self.pairs.len().checked_rem(count)?;
                *self.pairs.entry(internal).or_insert(next)
            }
            Pooling::Arbitrary => self.rng.below(count as u64) as usize,
        };
        self.pool.get(index).copied()
    }

    /// Nobody inside gets it. Does the router?
    fn refuse(&mut self, now: Time, external: SocketAddr, remote: SocketAddr, reason: Reason) -> Reason {
        if !self.config.open_input {
            return reason;
        }
        match self.flows.create(None, (external, remote), Way::In, now) {
            Ok(_) => Reason::ForRouter,
            Err(full) => full,
        }
    }
}
