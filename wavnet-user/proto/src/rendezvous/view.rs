//! What the server tells of itself, for `status` and metrics.

use std::net::SocketAddr;

use wavnet_common::addr::Vni;

use super::{Counters, Rendezvous};
use crate::{
    trust::{NetworkId, PublicKey},
    wire::Name,
};

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkView {
    /// Its id.
    pub id: NetworkId,
    /// Registered hosts.
    pub hosts: usize,
    /// Those of them that have a session. After a restart, those that came back.
    pub connected: usize,
    /// Version of its directory.
    pub version: u64,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Number of this start.
    pub incarnation: u32,
    /// Networks, ascending by id.
    pub networks: Vec<NetworkView>,
    /// Hosts that have shaken hands and not registered.
    pub visitors: usize,
    /// Pairs that may talk over the relay.
    pub relays: usize,
    /// Counters.
    pub counters: Counters,
}

/// A registered host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Where.
    pub network: NetworkId,
    /// Who.
    pub key: PublicKey,
    /// Its name, as it says.
    pub name: Name,
    /// Where the server sees it.
    pub addr: SocketAddr,
    /// It has a session.
    pub connected: bool,
    /// Its VNIs, ascending.
    pub vnis: Vec<Vni>,
}

impl Rendezvous {
    /// How it is.
    #[must_use]
    pub fn view(&self) -> View {
        let networks = self.networks.iter().map(|(id, served)| {
            let registered = || self.hosts.of_network(*id, None).filter(|(_, host)| host.registration.is_some());
            NetworkView {
                id: *id,
                hosts: registered().count(),
                connected: registered().filter(|(_, host)| host.current.is_some()).count(),
                version: served.directory.version(),
            }
        });
        View {
            incarnation: self.incarnation,
            networks: networks.collect(),
            visitors: self.hosts.len() - self.hosts.registered(),
            relays: self.relays.len(),
            counters: self.counters.clone(),
        }
    }

    /// The registered hosts, by network and key.
    pub fn hosts(&self) -> impl Iterator<Item = HostView> {
        self.hosts.iter().filter_map(|(_, host)| {
            let registration = host.registration.as_ref()?;
            Some(HostView {
                network: host.network,
                key: host.key,
                name: registration.name.clone(),
                addr: host.addr,
                connected: host.current.is_some(),
                vnis: registration.vnis.iter().collect(),
            })
        })
    }
}
