//! What there is to do before the server's threads start.

use std::{collections::HashMap, net::UdpSocket};

use anyhow::{Context, Result};
use wavnet_proto::{
    rendezvous::{Command, Rendezvous, persist::Change},
    transmit::Socket,
};

use super::{relay_table::RelayTable, sockets::Family};

/// What the core wants kept at its start. What it wants relayed is in the table then.
pub(super) fn first_changes(server: &mut Rendezvous, table: &mut dyn RelayTable) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some(command) = server.poll_command() {
        match command {
            Command::Save(change) => changes.push(change),
            Command::SetRelay { key, target } => _ = table.set(key, target),
            Command::DeleteRelay { key } => table.delete(key),
        }
    }
    changes
}

/// A main socket of each family, for the core to send by.
pub(super) fn exits(families: &[Family]) -> Result<HashMap<bool, UdpSocket>> {
    let mains = families.iter().filter_map(|family| {
        let main = family.sockets.iter().find(|bound| bound.which == Socket::Main)?;
        Some((family.main.is_ipv4(), main.socket.try_clone()))
    });
    mains.map(|(family, socket)| Ok((family, socket.context("duplicating a socket")?))).collect()
}
