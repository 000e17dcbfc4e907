//! A stateful firewall: filters as a NAT does, and translates nothing.

use std::net::SocketAddr;

use wavnet_proto::time::Time;

use super::{FirewallConfig, flows::Flows, flows::Way};
use crate::{Entries, Reason};

/// A firewall and what it remembers.
#[derive(Debug)]
pub struct Firewall {
    config: FirewallConfig,
    flows: Flows,
}

impl Firewall {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(config: FirewallConfig) -> Firewall {
        let flows = Flows::new(config.timeouts, config.max_flows);
        Firewall { config, flows }
    }

    /// A datagram from inside; it gets out unless there is no room for it.
    pub fn outbound(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr) -> Result<(), Reason> {
        self.pass(now, internal, remote, Way::Out)
    }

    /// A datagram from outside.
    pub fn inbound(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr) -> Result<(), Reason> {
        self.pass(now, internal, remote, Way::In)
    }

    fn pass(&mut self, now: Time, internal: SocketAddr, remote: SocketAddr, way: Way) -> Result<(), Reason> {
        self.flows.expire(now);
        if let Some(flow) = self.flows.inbound(internal, remote) {
            self.flows.touch(flow, way, now);
            return Ok(());
        }
        if way == Way::In && !self.flows.was_sent(internal, remote, self.config.filtering) {
            return Err(Reason::Filtered);
        }
        self.flows.create(Some(internal), (internal, remote), way, now).map(|_| ())
    }

    /// Forgets everything but the counters.
    pub fn reboot(&mut self) {
        self.flows.clear();
    }

    /// The flows that it tracks.
    #[must_use]
    pub fn flows(&self, now: Time) -> Entries {
        self.flows.entries(now)
    }
}
