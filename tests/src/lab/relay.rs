//! The kernel's relay without a server around it, in the test's own process.

use std::net::{SocketAddr, SocketAddrV4};

use anyhow::{Context, Result};
use wavnet_common::{
    abi::relay::{Metered, RelayCount},
    addr::Label,
};
use wavnet_proto::{
    command::{Command, HookWish},
    fabric::XdpRedirect,
    relay::{Relay as Tables, RelayCommand},
};
use wavnet_user::datapath::{Relay, RelayHooks};

use super::{
    core::{UDP_PORT, link_info, resolve, route},
    host::Host,
};

/// A relay on a host's NIC.
pub struct RelayServer {
    /// What is to be in its tables. [`RelayServer::settle`] puts it there.
    pub tables: Tables,
    /// How it is attached.
    pub hooks: RelayHooks,
    relay: Relay,
    host: Host,
}

impl RelayServer {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be loaded or attached.
    pub fn start(host: &Host, wish: HookWish) -> Result<RelayServer> {
        const LEGS: u32 = 64;
        let ifindex = host.ns.ifindex(Host::NIC)?;
        let (relay, hooks) = host.ns.enter(|| {
            let mut relay = Relay::open(LEGS)?;
            let hooks = relay.attach(ifindex, Host::NIC, wish)?;
            Ok((relay, hooks))
        })?;
        let mut tables = Tables::new(LEGS);
        tables.link_up(link_info(&host.ns, Host::NIC, Some("veth"), XdpRedirect::Everything)?);
        tables.addresses(ifindex, vec![host.addr]);
        tables.set_server(Some(SocketAddrV4::new(host.addr, UDP_PORT)));
        let mut server = RelayServer { tables, hooks, relay, host: host.clone() };
        server.settle()?;
        Ok(server)
    }

    /// Carries out what there is to do.
    ///
    /// # Errors
    /// The first command that cannot be carried out.
    pub fn settle(&mut self) -> Result<()> {
        while let Some(command) = self.tables.poll_command() {
            match &command {
                RelayCommand::Ask(Command::QueryRoute { addr, .. }) => {
                    self.tables.route(*addr, Some(route(&self.host.ns, self.host.addr, *addr)?));
                }
                RelayCommand::Ask(Command::ResolveNeighbour { ifindex, addr }) => {
                    self.tables.neighbour(*ifindex, *addr, Some(resolve(&self.host.ns, *addr)?));
                }
                other => self.relay.apply(other).with_context(|| format!("carrying out {other:?}"))?,
            }
        }
        Ok(())
    }

    /// Relays between two hosts, each with a label.
    ///
    /// # Errors
    /// As [`RelayServer::settle`].
    pub fn connect(&mut self, sides: [(SocketAddrV4, Label); 2]) -> Result<()> {
        let [a, b] = sides;
        for ((from, label), (to, to_label)) in [(a, b), (b, a)] {
            self.tables.set(label, SocketAddr::V4(from), SocketAddr::V4(to), to_label);
        }
        self.settle()
    }

    /// What became of datagrams.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn count(&self, what: RelayCount) -> Result<u64> {
        let all = self.relay.counts()?;
        Ok(all.into_iter().find(|(other, _)| *other == what).map_or(0, |(_, n)| n))
    }

    /// What came by a label.
    pub fn metered(&self, label: Label) -> Metered {
        self.tables.row(label).map(|row| self.relay.metered(row)).unwrap_or_default()
    }

    /// Labels that were used since the last call.
    pub fn used(&mut self) -> Vec<Label> {
        self.relay.used(self.tables.rows())
    }
}
