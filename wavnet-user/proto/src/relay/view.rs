//! What the relay knows, for its shell.

use std::net::Ipv4Addr;

use wavnet_common::{abi::relay::Leg, addr::Label};

use super::{NoPlace, Place, Relay, Wish, place};
use crate::fabric::LinkInfo;

impl Relay {
    /// The row that a label leads to.
    pub fn row(&self, label: Label) -> Option<u32> {
        self.legs.row(label)
    }

    /// Labels and their rows.
    pub fn rows(&self) -> impl Iterator<Item = (Label, u32)> {
        self.legs.rows()
    }

    /// Where the programs should go, by the links that there are. The server listens at `listen`, which may be 0.0.0.0; `outward` is the
    /// interface that leads to the internet, if one does.
    ///
    /// # Errors
    /// Why they cannot go anywhere.
    pub fn place(&self, wish: &Wish, listen: Ipv4Addr, outward: Option<u32>) -> Result<Place, NoPlace> {
        place::choose(&self.links, wish, listen, outward)
    }

    /// The interfaces there are.
    pub fn interfaces(&self) -> impl Iterator<Item = u32> {
        self.links.iter().map(|link| link.info.ifindex)
    }

    /// What is known of an interface.
    pub fn interface(&self, ifindex: u32) -> Option<&LinkInfo> {
        self.links.get(ifindex).map(|link| &link.info)
    }

    /// Next hops that the kernel keeps resolved.
    pub fn neighbours(&self) -> Vec<(u32, Ipv4Addr)> {
        self.routes.hops().collect()
    }

    /// Sides of sessions that are left to the server.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// True if some host is reached over this neighbour: it is to stay managed.
    pub fn uses_neighbour(&self, ifindex: u32, addr: Ipv4Addr) -> bool {
        self.routes.uses(ifindex, addr)
    }

    /// Sides of sessions that are in the tables: rows, and what is there.
    pub fn sides(&self) -> impl Iterator<Item = (u32, Leg)> {
        self.legs.rows().filter_map(|(_, row)| Some((row, self.legs.get(row)?.0)))
    }
}
