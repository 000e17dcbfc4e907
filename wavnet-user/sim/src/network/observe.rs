//! What a scenario can look at.

use super::Network;
use crate::{
    Attached, Direction, HostId, HostStats, LinkStats, Node, RouterId, RouterStats, Totals,
    nat::{Mapping, Nat},
};

impl<N: Node> Network<N> {
    /// What a host sent and received.
    #[must_use]
    pub fn host_stats(&self, host: HostId) -> &HostStats {
        &self.world.hosts[host.index()]
    }

    /// What one direction of a link did.
    #[must_use]
    pub fn link_stats(&self, of: impl Into<Attached>, direction: Direction) -> &LinkStats {
        &self.world.topology.link(of.into(), direction).stats
    }

    /// What a router did, and how full its tables are.
    #[must_use]
    pub fn router_stats(&self, router: RouterId) -> RouterStats {
        self.world.routers[router.index()].stats(self.world.now)
    }

    /// The mappings of a router's NAT, by outer endpoint; none if it does not translate.
    pub fn mappings(&self, router: RouterId) -> impl Iterator<Item = &Mapping> {
        let nat: Option<&Nat> = self.world.routers[router.index()].nat();
        nat.into_iter().flat_map(|nat| nat.mappings(self.world.now))
    }

    /// What happened to all datagrams together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.world.totals()
    }

    /// Keeps a line for each of the last so many datagrams whose way has ended, and for what the scenario did; they are printed when a test fails while the network
    /// is there. Zero, as at first: none, which is faster.
    pub fn keep_trace(&mut self, lines: usize) {
        self.world.trace.keep(lines);
    }

    /// The lines that are kept, oldest first.
    #[must_use]
    pub fn trace(&self) -> String {
        self.world.trace.to_string()
    }

    /// A number made of everything that has happened so far: when, to whom, with which payload. Two runs of one scenario from one seed have the same.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.world.trace.digest()
    }
}
