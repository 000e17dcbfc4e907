//! Flags of `wavnet agent` for peers that are found by rendezvous servers.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueHint};

use crate::config::{Mesh, ServerAddress, mesh};

/// Peers that are found.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Peers behind NATs, without a file")]
pub(super) struct MeshFlags {
    /// A rendezvous server; repeat for more, the preferred one first
    #[arg(long, value_name = "HOST[:PORT][#KEY]", conflicts_with = "config")]
    pub(super) rendezvous: Vec<ServerAddress>,
    /// This host's secret key, made by `wavnet key generate`
    #[arg(long, value_name = "FILE", default_value = Mesh::KEY, value_hint = ValueHint::FilePath, conflicts_with = "config", requires = "rendezvous")]
    key: PathBuf,
    /// The network's key, made by `wavnet key network`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config", requires = "rendezvous")]
    network_key: Option<PathBuf>,
    /// Identities that may be peers, one in a line [default: whoever has the network's key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config", requires = "rendezvous")]
    allow: Option<PathBuf>,
    /// Identities that may not be peers any more, one in a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config", requires = "rendezvous")]
    revoked: Option<PathBuf>,
    /// Period of keep-alives on idle paths, 1s to 10s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = mesh::pulse, conflicts_with = "config", requires = "rendezvous")]
    pulse: Duration,
    /// Do not search for paths through symmetric NATs, nor foretell their ports
    #[arg(long, conflicts_with = "config", requires = "rendezvous")]
    no_search: bool,
}

impl MeshFlags {
    /// All but the servers.
    pub(super) fn settings(&self) -> Mesh {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        Mesh {
            servers: Vec::new(),
            key: absolute(&self.key),
            network_key: self.network_key.as_ref().map(absolute),
            allow: self.allow.as_ref().map(absolute),
            revoked: self.revoked.as_ref().map(absolute),
            pulse: self.pulse,
            search: !self.no_search,
        }
    }
}
