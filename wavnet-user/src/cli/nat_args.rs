//! Arguments of `wavnet nat`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueHint};

use crate::{config::value, nat::ServerName};

const HELP: &str = "\
Examples:
  wavnet nat --server rendezvous.example.net        a rendezvous server, or any STUN server
  wavnet nat --server stun.example.net:19302 --json
  wavnet nat --config /etc/wavnet.toml              the agent's servers, from its underlay
  wavnet nat --server rendezvous.example.net --lifetime 2m

Without a port a server is asked at 4789 and 3478: those of rendezvous servers and of STUN.

The types, and the paths that a host has with them:
  open, full-cone, restricted-cone  direct with everybody
  port-restricted-cone              direct; with symmetric ones after a search
  symmetric-firewall                no NAT, but a filter: as port-restricted-cone
  symmetric                         direct with all above, with some after a search;
                                    with other symmetric ones over a relay
  blocked                           no server answers

A server with two addresses and two ports can tell all of it, one with a single address tells
where this host seems to be. It takes 5 to 10 seconds and some tens of small datagrams, needs
no privileges, and disturbs no agent. docs/nat.md explains every line.

Exits with 1 if no server answers.";

/// `wavnet nat`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct NatArgs {
    /// A server to ask: STUN, or rendezvous; repeat for more, the preferred one first
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(super) server: Vec<ServerName>,
    /// Ask the servers of this agent's configuration, from its underlay
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Test from this address and port; 0.0.0.0 and ::, in brackets: the address that the route has
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen)]
    pub(super) listen: Option<SocketAddr>,
    /// Test from this interface
    #[arg(long, value_name = "INTERFACE", value_parser = value::interface, conflicts_with = "listen")]
    pub(super) interface: Option<String>,
    /// Also find out how long an idle mapping lives, up to this (1s to 18h); takes up to twice as long
    #[arg(long, value_name = "LONGEST", num_args = 0..=1, default_missing_value = "5m", value_parser = lifetime)]
    pub(super) lifetime: Option<Duration>,
    /// IPv4 alone
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(super) ipv4: bool,
    /// IPv6 alone
    #[arg(short = '6', long)]
    pub(super) ipv6: bool,
}

/// Where to test from. Port 0 is any.
fn listen(s: &str) -> Result<SocketAddr, String> {
    let at: SocketAddr =
        s.parse().map_err(|_| "write an address and port, as \"192.0.2.7:5000\" or \"0.0.0.0:5000\"".to_owned())?;
    if at.ip().is_unspecified() { Ok(at) } else { value::server_ip(&at.ip().to_string()).map(|_| at) }
}

/// The longest idle time to try.
fn lifetime(s: &str) -> Result<Duration, String> {
    let longest = value::duration(s)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(18 * 3600);
    if allowed.contains(&longest) { Ok(longest) } else { Err("it must be from 1s to 18h".into()) }
}
