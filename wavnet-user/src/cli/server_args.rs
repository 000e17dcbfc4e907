//! Commands and flags of the rendezvous server and of keys, as clap reads them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Subcommand, ValueHint};

use super::args::ListenFlag;
use crate::config::{LogFormat, LogLevel, RelayXdp, RendezvousConfig, value};

pub(super) const KEY_HELP: &str = "\
From nothing to a network:
  wavnet key network /etc/wavnet/network.key                  once; copy it to every hypervisor, and to nobody else
  wavnet key generate /etc/wavnet/host.key                    on each hypervisor; it never leaves it
  wavnet key access /etc/wavnet/network.key network.access    for the rendezvous server: copy it there
  wavnet key generate /etc/wavnet/rendezvous.key              on the rendezvous server
  wavnet rendezvous --listen 0.0.0.0:4789 --other-port 4790 \\
                    --key /etc/wavnet/rendezvous.key --access-key /etc/wavnet/network.access

Whoever has the network key is in the network. The server has the access key alone: it brings hosts together, and cannot be one.
Files are made with mode 0600, and never over another one.";

const RENDEZVOUS_HELP: &str = "\
Examples:
  wavnet rendezvous --config /etc/wavnet/rendezvous.toml
  wavnet rendezvous --listen 0.0.0.0:4789 --listen '[::]:4789' --other-port 4790 \\
                    --key /etc/wavnet/rendezvous.key --access-key /etc/wavnet/network.access
  wavnet rendezvous status
  wavnet rendezvous reload

docs/rendezvous.md is the guide, docs/wavnet-rendezvous.example.toml explains every key of the file. SIGHUP is the same as `reload`.";

/// `wavnet rendezvous`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = RENDEZVOUS_HELP)]
pub(super) struct RendezvousArgs {
    #[command(subcommand)]
    pub(super) command: Option<RendezvousCommand>,
    /// Configuration file (TOML)
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Check the configuration, keys and lists, and exit
    #[arg(long)]
    pub(super) check: bool,
    #[command(flatten)]
    pub(super) flags: RendezvousFlags,
    /// Least severe level to log; overrides the file
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<LogLevel>,
    /// Form of the log; overrides the file
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
}

/// The common case without a file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a file")]
pub(super) struct RendezvousFlags {
    /// Where to listen; one address of IPv4 and one of IPv6
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = value::server_address, conflicts_with = "config")]
    pub(super) listen: Vec<SocketAddr>,
    /// A second address, for agents to find out what their NAT does; one of each family
    #[arg(long, value_name = "ADDRESS", value_parser = value::server_ip, conflicts_with = "config")]
    pub(super) other_address: Vec<IpAddr>,
    /// A second port for the same
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "config")]
    pub(super) other_port: Option<u16>,
    /// File of this server's secret key
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub(super) key: Option<PathBuf>,
    /// File of a network's access key; repeat for more networks. A network without a key has --allow alone
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub(super) access_key: Vec<PathBuf>,
    /// File of the public keys that may come [default: everybody who has the network's key]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub(super) allow: Option<PathBuf>,
    /// File of the public keys that may not come any more
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "config")]
    pub(super) revoked: Option<PathBuf>,
    /// Directory for what must outlive a restart
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = RendezvousConfig::STATE_DIR, conflicts_with = "config")]
    pub(super) state_dir: PathBuf,
    /// Do not relay between hosts that have no direct path
    #[arg(long, conflicts_with = "config")]
    pub(super) no_relay: bool,
    /// Interface at which the kernel relays; off: the server does it
    #[arg(long, value_name = "auto|off|INTERFACE", value_parser = value::relay_xdp, default_value_t = RelayXdp::Auto, conflicts_with = "config")]
    pub(super) relay_xdp: RelayXdp,
    /// Address of the metrics endpoint, or off
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9811", conflicts_with = "config")]
    pub(super) metrics: ListenFlag,
}

#[derive(Debug, Subcommand)]
pub(super) enum RendezvousCommand {
    /// Show the server: networks and hosts, relay, what it did, warnings
    Status {
        /// Of the server with this configuration
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
    },
    /// Let the server read its configuration, the networks' keys and the lists again
    Reload {
        /// The server with this configuration
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a host's secret key, and print its public key
    Generate {
        /// The file to make
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print the public key of a host's secret key
    Public {
        /// The file with the secret key
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Make a network's key, and print the network's id
    Network {
        /// The file to make
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Make the access key of a network's key, for rendezvous servers
    Access {
        /// The file with the network's key
        #[arg(value_hint = ValueHint::FilePath)]
        network_key: PathBuf,
        /// The file to make
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}
