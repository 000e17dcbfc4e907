//! Commands and flags, as clap reads them.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use wavnet_common::addr::{Mac, Vni};

use super::{
    host_args::{DoctorArgs, DownArgs},
    mesh_args::MeshFlags,
    nat_args::NatArgs,
    server_args::{KEY_HELP, KeyCommand, RendezvousArgs},
};
use crate::{
    api::model::{PortMode, VlanMode},
    config::{Agent, ConfigError, Fdb, HookChoice, LogFormat, LogLevel, PeerFlag, PortFlag, Source, Underlay, value},
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  no agent, or no rendezvous server, is running
  4  refused: invalid configuration or value, or a conflict with what is there";

const EXAMPLES: &str = "\
Examples:
  wavnet agent --config /etc/wavnet.toml        run the agent
  wavnet agent --underlay eth1 --vni 100 --port 'vnet*' --peer 192.0.2.2
  wavnet agent --underlay eth1 --vni 100 --port 'vnet*' --rendezvous rendezvous.example.net \\
               --network-key /etc/wavnet/network.key
  wavnet key network /etc/wavnet/network.key    make keys; `wavnet key --help` shows all of it
  wavnet rendezvous --config /etc/wavnet/rendezvous.toml
  wavnet nat --server rendezvous.example.net    what NAT is in front of this host?
  wavnet status                                 how is it?
  wavnet mesh                                   which peers were found, and by which paths?
  wavnet fdb --vni 100                          who is where?
  wavnet drops                                  what is lost, and why?
  wavnet peers --json | jq '.peers[].state'     for programs";

/// A layer-2 overlay between hypervisors: VXLAN in eBPF.
#[derive(Debug, Parser)]
#[command(name = "wavnet", version, after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

const HEADING: &str = "Options of every command";

/// Flags of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Socket of the agent, or of the rendezvous server [default: agent.sock or rendezvous.sock in the run directory]
    #[arg(long, global = true, help_heading = HEADING, env = "WAVNET_SOCKET", value_hint = ValueHint::FilePath, value_name = "PATH", value_parser = value::socket)]
    pub(super) socket: Option<PathBuf>,
    /// Run directory, where the socket is [default: /run/wavnet, of a rendezvous server /run/wavnet-rendezvous]
    #[arg(long, global = true, help_heading = HEADING, value_hint = ValueHint::DirPath, value_name = "DIR", value_parser = value::run_dir)]
    pub(super) run_dir: Option<PathBuf>,
    /// Print JSON, whose shape docs/api.md describes
    #[arg(long, global = true, help_heading = HEADING)]
    pub(super) json: bool,
    /// Colours in tables; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, help_heading = HEADING, default_value = "auto", value_name = "WHEN")]
    pub(super) color: ColorChoice,
}

impl Global {
    /// A socket or a run directory was named.
    pub(super) fn names_agent(&self) -> bool {
        self.socket.is_some() || self.run_dir.is_some()
    }

    /// The socket to talk to; that of the agent with this configuration, unless one was named.
    ///
    /// # Errors
    /// The configuration cannot be read, or all that is wrong in it.
    pub(super) fn socket_for(&self, config: Option<&Path>) -> Result<PathBuf, ConfigError> {
        match config {
            Some(file) if !self.names_agent() => Ok(Source::File(file.to_owned()).load_alone()?.agent.socket()),
            _ => Ok(self.socket()),
        }
    }

    /// The socket to talk to.
    pub(super) fn socket(&self) -> PathBuf {
        let in_run_dir = |dir: &PathBuf| dir.join(Agent::SOCKET);
        // A flag beats the environment, from where `socket` may come.
        match (&self.run_dir, &self.socket) {
            (_, Some(socket)) if self.run_dir.is_none() => socket.clone(),
            (Some(dir), _) => in_run_dir(dir),
            (None, _) => in_run_dir(&Agent::RUN_DIR.into()),
        }
    }
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent, until SIGINT or SIGTERM; forwarding goes on afterwards, until `wavnet down`
    Agent(Box<AgentArgs>),
    /// Show the agent: version, underlay, how much there is of everything, warnings
    Status {
        /// Of the agent with this configuration
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: Option<PathBuf>,
    },
    /// Show the peers: state, next hop, traffic
    Peers,
    /// Show the rendezvous servers, and the peers that they have led to: paths, round-trip times, NATs
    Mesh,
    /// Show or change the forwarding database: which MAC is where
    Fdb(FdbArgs),
    /// Show the ports: VNI, state, traffic
    Ports,
    /// Add or remove a port at run time
    #[command(subcommand)]
    Port(PortCommand),
    /// Add or remove a peer at run time
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Show how many frames were dropped, and why
    Drops {
        /// Reasons with zero frames, too
        #[arg(long)]
        all: bool,
    },
    /// Let the agent read its configuration again and apply what changed
    Reload,
    /// Check what wavnet needs on this host, and say how to mend it
    #[command(after_help = "Exits with 1 if something that is required fails. Needs root for complete answers.")]
    Doctor(DoctorArgs),
    /// Stop the agent, detach every program, remove every pin
    #[command(
        after_help = "This is the only command that stops forwarding. It may be repeated, and works without an agent, too."
    )]
    Down(DownArgs),
    /// Find out what kind of NAT is in front of this host, and what that means for paths
    Nat(NatArgs),
    /// Run the rendezvous server, by which agents behind NATs find each other; or ask a running one
    Rendezvous(Box<RendezvousArgs>),
    /// Make keys, and show their public parts
    #[command(subcommand, after_help = KEY_HELP)]
    Key(KeyCommand),
    /// Print shell completions
    #[command(after_help = "Example:\n  wavnet completions bash > /etc/bash_completion.d/wavnet")]
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

const AGENT_EXAMPLES: &str = "\
Examples:
  wavnet agent --config /etc/wavnet.toml
  wavnet agent --config /etc/wavnet.toml --check
  wavnet agent --underlay eth1 --vni 100 --port tap0 --port 'vnet*' --peer 192.0.2.2
  wavnet agent --underlay eth1 --vni 100 --port 'vnet*' --rendezvous rendezvous.example.net \\
               --network-key /etc/wavnet/network.key
  wavnet agent --underlay eth1 --vni 100 --vni 200 --port tap0=100 --port tap1=200 \\
               --peer 192.0.2.2 --peer 192.0.2.3=200

docs/wavnet.example.toml explains every key of the file. SIGHUP is the same as `wavnet reload`.";

/// `wavnet agent`.
#[derive(Debug, Args)]
#[command(after_help = AGENT_EXAMPLES)]
#[group(id = "source", required = true, multiple = false, args = ["config", "underlay"])]
pub(super) struct AgentArgs {
    /// Configuration file (TOML)
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Check the configuration and exit
    #[arg(long)]
    pub(super) check: bool,
    /// Without a file: the NIC that reaches the peers
    #[arg(long, value_name = "INTERFACE", value_parser = value::interface)]
    pub(super) underlay: Option<String>,
    #[command(flatten)]
    pub(super) flags: AgentFlags,
    #[command(flatten)]
    pub(super) mesh: MeshFlags,
    /// Least severe level to log; overrides the file
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<LogLevel>,
    /// Form of the log; overrides the file
    #[arg(long, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
}

/// The simple case without a file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a file")]
pub(super) struct AgentFlags {
    /// A VNI; repeat for more
    #[arg(long, value_name = "VNI", conflicts_with = "config")]
    pub(super) vni: Vec<Vni>,
    /// A port, by name or pattern; with several VNIs say which one
    #[arg(long, value_name = "INTERFACE[=VNI]", conflicts_with = "config")]
    pub(super) port: Vec<PortFlag>,
    /// A peer; a member of all VNIs unless some are given
    #[arg(long, value_name = "ADDRESS[=VNI,…]", conflicts_with = "config")]
    pub(super) peer: Vec<PeerFlag>,
    /// Outer address [default: the underlay's first]
    #[arg(long, value_name = "IPV4", value_parser = value::vtep, conflicts_with = "config")]
    pub(super) address: Option<Ipv4Addr>,
    /// UDP port of this VTEP and its peers
    #[arg(long, value_name = "PORT", default_value_t = Underlay::UDP_PORT, conflicts_with = "config",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) udp_port: u16,
    /// Hook on the underlay
    #[arg(long, value_name = "HOOK", default_value = "auto", conflicts_with = "config")]
    pub(super) hook: HookChoice,
    /// Name of this agent [default: the host's]
    #[arg(long, value_name = "NAME", value_parser = value::label, conflicts_with = "config")]
    pub(super) name: Option<String>,
    /// Directory for the pins
    #[arg(long, value_name = "DIR", default_value = Agent::BPFFS, value_parser = value::bpffs, conflicts_with = "config")]
    pub(super) bpffs: PathBuf,
    /// Address of the metrics endpoint, or off
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9810", conflicts_with = "config")]
    pub(super) metrics: ListenFlag,
    /// Measure the programs' run time
    #[arg(long, conflicts_with = "config")]
    pub(super) program_run_time: bool,
    /// Room for so many MACs
    #[arg(long, value_name = "ENTRIES", default_value_t = Fdb::default().entries(), conflicts_with = "config",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(Fdb::ENTRIES_MAX)))]
    pub(super) fdb_entries: u32,
    /// When learned MACs are forgotten, 1s to 8h
    #[arg(long, value_name = "TIME", default_value = "300s", value_parser = value::ageing, conflicts_with = "config")]
    pub(super) ageing: std::time::Duration,
}

/// An address or `off`; a type of its own, for clap makes an `Option` mean "absent".
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenFlag(pub(super) Option<std::net::SocketAddr>);

impl std::str::FromStr for ListenFlag {
    type Err = String;

    fn from_str(s: &str) -> Result<ListenFlag, String> {
        value::listen(s).map(ListenFlag)
    }
}

/// `wavnet fdb`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  wavnet fdb --vni 100 --peer 192.0.2.2
  wavnet fdb --mac 52:54:00:00:00:01 --json
  wavnet fdb --watch
  wavnet fdb add --vni 100 --mac 52:54:00:00:00:01 --port tap0
  wavnet fdb remove --vni 100 --mac 52:54:00:00:00:01"
)]
pub(super) struct FdbArgs {
    #[command(flatten)]
    pub(super) filter: FdbFilterArgs,
    /// Show changes as they happen, until Ctrl-C
    #[arg(long, conflicts_with_all = ["vni", "mac", "port", "peer", "limit"])]
    pub(super) watch: bool,
    #[command(subcommand)]
    pub(super) command: Option<FdbCommand>,
}

#[derive(Debug, Args)]
pub(super) struct FdbFilterArgs {
    /// Only this VNI
    #[arg(long)]
    pub(super) vni: Option<Vni>,
    /// Only this MAC
    #[arg(long)]
    pub(super) mac: Option<Mac>,
    /// Only what is behind this port
    #[arg(long, value_name = "INTERFACE")]
    pub(super) port: Option<String>,
    /// Only what is behind this peer
    #[arg(long, value_name = "ADDRESS")]
    pub(super) peer: Option<Ipv4Addr>,
    /// At most so many entries
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(super) enum FdbCommand {
    /// Show entries (the same as without a command)
    List(FdbFilterArgs),
    /// Enter a static entry: never learned over, never forgotten
    #[command(group = clap::ArgGroup::new("place").required(true).args(["port", "peer"]))]
    Add {
        /// VNI
        #[arg(long)]
        vni: Vni,
        /// MAC of a station
        #[arg(long, value_parser = value::station)]
        mac: Mac,
        /// The port that it is behind
        #[arg(long, value_name = "INTERFACE")]
        port: Option<String>,
        /// The peer that it is behind
        #[arg(long, value_name = "ADDRESS")]
        peer: Option<Ipv4Addr>,
    },
    /// Remove an entry, static or learned
    Remove {
        /// VNI
        #[arg(long)]
        vni: Vni,
        /// MAC
        #[arg(long)]
        mac: Mac,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PortCommand {
    /// Attach an interface to a VNI; kept when the agent restarts
    #[command(
        after_help = "Examples:\n  wavnet port add tap0 --vni 100\n  wavnet port add veth-dns --vni 100 --mode packet-rate"
    )]
    Add {
        /// Interface name
        #[arg(value_parser = value::interface)]
        interface: String,
        /// The VNI, which must be declared
        #[arg(long)]
        vni: Vni,
        /// What happens to frames with a VLAN tag
        #[arg(long, default_value = "pass")]
        vlan: VlanMode,
        /// Which frames it is to be fast for
        #[arg(long, default_value = "auto")]
        mode: PortMode,
    },
    /// Detach a port that was added
    Remove {
        /// Interface name
        #[arg(value_parser = value::interface)]
        interface: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PeerCommand {
    /// Add a peer, or VNIs to one; kept when the agent restarts
    #[command(after_help = "Example:\n  wavnet peer add 192.0.2.2 --vni 100,200")]
    Add {
        /// Outer IPv4 address
        #[arg(value_parser = value::vtep)]
        address: Ipv4Addr,
        /// VNIs that it is a member of
        #[arg(long, required = true, value_delimiter = ',')]
        vni: Vec<Vni>,
        /// Its UDP port [default: the underlay's]
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        udp_port: Option<u16>,
    },
    /// Remove a peer that was added, or some of its VNIs
    Remove {
        /// Outer IPv4 address
        address: Ipv4Addr,
        /// Only these VNIs [default: all, and the peer]
        #[arg(long, value_delimiter = ',')]
        vni: Vec<Vni>,
    },
}
