//! From the configuration and its key files to what the mesh wants.

use anyhow::{Context, Result};
use wavnet_proto::{
    mesh::Settings,
    policy::Policy,
    trust::{NetworkKey, PublicKey, SecretKey},
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

/// What a configuration wants of the mesh; `None`: it has none.
///
/// # Errors
/// A file of keys cannot be read, or has something wrong.
pub(in crate::agent) fn read(config: &Config) -> Result<Option<Settings>> {
    config.mesh.as_ref().map(|mesh| settings(config, mesh)).transpose()
}

/// What the mesh is to be, without servers: it is not known yet where they are.
///
/// # Errors
/// A file of keys cannot be read, or has something wrong.
pub(super) fn settings(config: &Config, mesh: &config::Mesh) -> Result<Settings> {
    let network = match &mesh.network_key {
        Some(path) => key_files::network_key(path).map_err(with_help)?,
        None => NetworkKey::open(),
    };
    let policy = match &mesh.allow {
        Some(path) => Policy::Listed(key_files::identities(path).map_err(with_help)?),
        None => Policy::Network,
    };
    let revoked = mesh.revoked.as_deref().map(key_files::revoked).transpose().map_err(with_help)?;
    let policy = policy.without(revoked.unwrap_or_default());
    Ok(Settings {
        name: name(config)?,
        servers: Vec::new(),
        access: network.access(),
        member: network.member(),
        policy,
        vnis: config.vnis.iter().map(|v| v.vni).collect(),
        pulse: mesh.pulse,
        search: mesh.search,
        peers: config.limits.peers as usize,
    })
}

/// What changes from one to the other, in sentences; `peers` are those that there are.
pub(super) fn differences<'a>(
    old: &Settings,
    new: &Settings,
    peers: impl Iterator<Item = &'a PublicKey>,
) -> Vec<String> {
    let mut all = Vec::new();
    if old.access.network() != new.access.network() {
        all.push("mesh: it is another network".to_owned());
    }
    if old.policy != new.policy {
        let out = peers.filter(|peer| !new.policy.admits(peer)).count();
        all.push(format!("identities: changed, {out} of the peers may not be any more"));
    }
    if (&old.name, old.pulse, old.search) != (&new.name, new.pulse, new.search) {
        all.push("mesh: changed".to_owned());
    }
    all
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
