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
    config::{
        self, Config, Exposed,
        key_files::{self, KeyFile},
    },
};

/// What a configuration and its files of keys want of the mesh.
pub(crate) struct Wanted {
    /// This host's secret key.
    pub(super) secret: SecretKey,
    /// What the mesh is to be, without servers: it is not known yet where they are.
    pub(super) settings: Settings,
    /// Files that others may use.
    pub(super) exposed: Vec<Exposed>,
}

/// Reads the files of keys that a configuration names; `None`: it has no mesh.
///
/// # Errors
/// One of them cannot be read, or has something wrong; or this host has no name that can be told to others.
pub(crate) fn read(config: &Config) -> Result<Option<Wanted>> {
    config.mesh.as_ref().map(|mesh| wanted(config, mesh)).transpose()
}

fn wanted(config: &Config, mesh: &config::Mesh) -> Result<Wanted> {
    let KeyFile { key: secret, exposed } = key_files::secret_key(&mesh.key)?;
    let mut exposed = Vec::from_iter(exposed);
    let network = match &mesh.network_key {
        Some(path) => {
            let network = key_files::network_key(path)?;
            exposed.extend(network.exposed);
            network.key
        }
        None => NetworkKey::open(),
    };
    let policy = match &mesh.allow {
        Some(path) => Policy::Listed(key_files::identities(path)?),
        None => Policy::Network,
    };
    let revoked = mesh.revoked.as_deref().map(key_files::revoked).transpose()?;
    let policy = policy.without(revoked.unwrap_or_default());
    let settings = Settings {
        name: name(config)?,
        servers: Vec::new(),
        access: network.access(),
        member: network.member(),
        policy,
        vnis: config.vnis.iter().map(|v| v.vni).collect(),
        pulse: mesh.pulse,
        search: mesh.search,
        peers: config.limits.peers as usize,
    };
    Ok(Wanted { secret, settings, exposed })
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
