//! From the configuration and its key files to what the mesh wants.

use anyhow::{Context, Result};
use wavnet_proto::{
    mesh::{Server, Settings},
    policy::Policy,
    trust::{NetworkKey, SecretKey},
    wire::Name,
};

use crate::{
    agent::views::host_name,
    config::{self, Config, key_files},
};

/// This host's secret key.
///
/// # Errors
/// It cannot be read, or is none.
pub(super) fn secret(mesh: &config::Mesh) -> Result<SecretKey> {
    key_files::secret_key(&mesh.key).map_err(with_help)
}

/// What the mesh is to be, with servers as they resolve now.
///
/// # Errors
/// A file of keys cannot be read, or has something wrong.
pub(super) fn settings(config: &Config, mesh: &config::Mesh, servers: Vec<Server>) -> Result<Settings> {
    let network = match &mesh.network_key {
        Some(path) => key_files::network_key(path).map_err(with_help)?,
        None => NetworkKey::open(),
    };
    let policy = match &mesh.allow {
        Some(path) => Policy::Listed(key_files::identities(path).map_err(with_help)?),
        None => Policy::Network,
    };
    Ok(Settings {
        name: name(config)?,
        servers,
        access: network.access(),
        member: network.member(),
        policy,
        vnis: config.vnis.iter().map(|v| v.vni).collect(),
        pulse: mesh.pulse,
        search: mesh.search,
        peers: config.limits.peers as usize,
    })
}

/// The agent's name, as far as others take it.
fn name(config: &Config) -> Result<Name> {
    let mut name = config.agent.name.clone().unwrap_or_else(host_name);
    while name.len() > wavnet_proto::wire::message::MAX_NAME {
        name.pop();
    }
    Name::new(&name).context("the agent's name cannot be told to others: choose another one (agent.name)")
}

fn with_help(e: key_files::KeyFileError) -> anyhow::Error {
    let help = e.help();
    anyhow::Error::from(e).context(help)
}
