//! The demonstration: three hypervisors, two tenants, and proof that it works.

mod checks;
mod live;
mod network;
mod summary;
mod tables;
mod view;

use std::{io::IsTerminal, path::PathBuf};

use anyhow::{Result, bail};

use crate::lab::{Lab, Need, binary, missing};
pub use checks::{Check, Outcome, run_checks};
pub use network::{Network, Tenant};

/// Shows wavnet at work: hypervisors behind two different NATs that find each other by a rendezvous server, a third one on the
/// internet, two tenants, virtual machines that get their addresses by DHCP across the overlay.
///
/// Everything is made of network namespaces on this machine, named wav-*, and removed at the end, by Ctrl-C too; nothing else
/// on the machine is touched. Two of the hypervisors run the wavnet agent, the third has only the kernel's vxlan device and a
/// bridge. Both tenants use the same MAC and IP addresses, and never meet.
///
/// First come checks: what NATs are there, that the path between the two is direct, DHCP, ping, TCP and HTTP between all machines
/// of a tenant, and that the tenants are isolated. Then, on a terminal, a live view of NATs, ports, peers with their paths and round
/// trip times, forwarding table, rates and drops, with commands to try in a second terminal.
#[derive(Clone, Debug, Default, clap::Parser)]
#[command(name = "wavnet-demo", version, after_help = AFTER_HELP)]
pub struct Options {
    /// Do the checks, print the summary, and exit: 0 only if all of them hold. This is also what happens without a terminal.
    #[arg(long)]
    pub once: bool,
    /// The wavnet binary to show [default: $WAVNET_BIN, else the one beside this program].
    #[arg(long, value_name = "PATH")]
    pub wavnet: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
Needs root for namespaces and eBPF; `cargo xtask run` builds all of it and elevates only this process.
Needs Debian's iproute2, ethtool, iputils-ping, dnsmasq-base and udhcpc; `cargo xtask setup` installs them.

Exit status: 0 all checks hold (or the live view was left), 1 something failed, 2 wrong usage, 130 interrupted.";

const NEEDS: &[Need] = &[Need::Tool("dnsmasq"), Need::Tool("udhcpc"), Need::Wavnet];

/// Runs the demonstration; true if all checks hold.
///
/// # Errors
/// Something is missing on this machine, or the network cannot be built: what to do about it.
pub fn run(options: &Options) -> Result<bool> {
    if let Some(path) = &options.wavnet {
        binary::choose(path.clone());
    }
    if let Some(reason) = missing(NEEDS) {
        bail!("{reason}");
    }
    let lab = Lab::new()?;
    println!(
        "Building an internet with a rendezvous server, three hypervisors, NATs before two of them, six virtual machines (namespaces {}-*) …",
        lab.id()
    );
    let built = Network::build(&lab);
    let network = match built {
        Ok(network) => network,
        Err(error) => {
            eprintln!("{}", lab.logs());
            return Err(error.context("building the network failed; the logs above say more"));
        }
    };
    let checks = run_checks(&network, |check| println!("{}", summary::line(check)));
    let good = checks.iter().all(Check::holds);
    println!("\n{}", summary::table(&checks));
    if !good {
        eprintln!("{}", lab.logs());
        eprintln!("Not everything works; the logs above say more. `wavnet doctor` looks for what this machine lacks.");
        return Ok(false);
    }
    if options.once || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        println!("All checks hold.");
        return Ok(true);
    }
    live::run(&network)?;
    Ok(true)
}
