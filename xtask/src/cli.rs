//! The command line.

use std::{ffi::OsString, num::NonZero, path::PathBuf, process::ExitCode, thread};

use anyhow::Result;
use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser, value_parser};

use crate::{
    ci, compile, doctor, fuzz, run, setup,
    test::{self, Kernel},
    workspace::Workspace,
};

/// Commands for working on wavnet.
///
/// New here? `cargo xtask run` gets what is missing, builds, and shows an overlay at work. `cargo xtask test` proves it.
/// Everything that is downloaded or built lies under target/; only Debian packages of the lab go to the system.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Get what is missing: eBPF compiler, bpf-linker, the lab's programs.
    ///
    /// Does only what is needed, so it may be run at any time. The compiler comes from Debian packages that are unpacked
    /// under target/toolchain, without root; a rustup nightly with rust-src and a bpf-linker of your own are used
    /// instead if they are there. rustup is never changed. Debian packages of the lab are installed with root or sudo.
    Setup {
        /// Also get what `ci` needs (cargo-deny).
        #[arg(long)]
        ci: bool,
        /// Also get what `bench` compares with: Open vSwitch, n2n, tinc, vpncloud.
        ///
        /// Debian's packages are unpacked under target/toolchain/contenders, vpncloud is compiled there; nothing is installed
        /// to the system, and no service is started.
        #[arg(long)]
        contenders: bool,
    },
    /// Show every requirement, what was found, and how to mend what is missing.
    ///
    /// Exits with 1 if something is missing that a command needs.
    Doctor,
    /// Build the kernel programs and the workspace.
    Build {
        /// Optimised, as operators run it.
        #[arg(long)]
        release: bool,
    },
    /// Show the demonstration; or, with `-- ARGS`, run `wavnet ARGS` with the rights it needs.
    ///
    /// The demonstration makes three hypervisors in network namespaces, two of them with wavnet, each behind a NAT and led to
    /// the other by a rendezvous server, one with only the kernel's vxlan device. It sends DHCP, ping, TCP and HTTP between their
    /// VMs, and then shows NATs, ports, peers with their paths, and counters until Ctrl-C. Only the program itself runs as root (through sudo, if you are not root).
    #[command(after_help = "Examples:\n  cargo xtask run\n  cargo xtask run --once\n  \
        cargo xtask run -- agent --config wavnet.toml\n  cargo xtask run -- status")]
    Run {
        /// Check everything once, print a summary and exit: 0 only if all of it works.
        #[arg(long, conflicts_with = "args")]
        once: bool,
        /// Arguments of wavnet, after `--`.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
    /// Run all tests: unit tests as you, tests of the kernel programs as root.
    ///
    /// Only the kernel test binaries are run through sudo. Without root they are skipped, each by name. The last line is
    /// the sum over everything: `N passed, N failed, N skipped`.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test fdb\n  cargo xtask test --kernel mac_move"
    )]
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
        /// Only tests of the kernel programs.
        #[arg(long)]
        kernel: bool,
    },
    /// Measure our path against the kernel's vxlan, a plain bridge, and what others made for the same job.
    ///
    /// Contenders whose programs are missing are skipped by name; `cargo xtask setup --contenders` gets them.
    Bench(Bench),
    /// Fuzz what the network, the kernel, configuration files and clients feed us.
    ///
    /// Starts from the corpus in fuzz/corpus, which `cargo test` replays. Needs g++ for libFuzzer's runtime.
    #[command(
        after_help = "Targets: underlay, port, relay, event, config, request, control, handshake, rendezvous, stun, nat, mesh, datagrams."
    )]
    Fuzz {
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Processes for each target [default: as many as there are CPUs].
        #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=256))]
        jobs: Option<u16>,
        /// Only these targets.
        targets: Vec<String>,
    },
    /// Everything that must hold before a change is merged.
    ///
    /// Runs every step even if one fails, and counts skipped tests as failures.
    Ci {
        /// Only these steps.
        #[arg(value_name = "STEP", value_parser = PossibleValuesParser::new(ci::names()))]
        steps: Vec<String>,
    },
}

/// What `bench` is told.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Also write the results to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Also draw plots of the results into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
    /// Measure nothing: show the results in this file, which `--json` wrote, and draw their plots.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "quick", "contenders", "cases", "runs", "time"])]
    pub(crate) redraw: Option<PathBuf>,
    /// Fewer and shorter runs, of wavnet, kernel-vxlan and bridge unless others are named: a first look, not to be published.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these contenders, separated by commas, such as wavnet,kernel-vxlan,ovs; a name that is none has all of them listed.
    #[arg(long, value_name = "NAMES")]
    pub(crate) contenders: Option<String>,
    /// How often each case and contender is measured [default: 7].
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1000))]
    pub(crate) runs: Option<u16>,
    /// How long one run measures, milliseconds [default: 2500].
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(100..=60_000))]
    pub(crate) time: Option<u64>,
    /// Only these cases, such as small_frames, encap, tcp_4, rtt_p99 (docs/benchmarks.md has all of them, and a name that is none has
    /// them listed); or one of these alone: `rendezvous`, the rendezvous server's STUN against coturn's, and its memory; `nat`, which path
    /// each pair of NAT types gets, and how soon; `wan`, the overlay through NATs against the bare underlay, over links of several rates and
    /// lengths; `mesh`, 64 hosts behind NATs, each with tunnels to all others.
    pub(crate) cases: Vec<String>,
}

/// Carries out a command.
///
/// # Errors
///
/// What failed and, where known, what to do about it.
pub(crate) fn dispatch(cli: Cli) -> Result<ExitCode> {
    let workspace = Workspace::discover()?;
    match cli.command {
        Command::Setup { ci, contenders } => setup::everything(&workspace, ci, contenders).map(|()| ExitCode::SUCCESS),
        Command::Doctor => Ok(doctor::print(&workspace)),
        Command::Build { release } => compile::workspace(&workspace, release).map(|()| ExitCode::SUCCESS),
        Command::Run { once, args } if args.is_empty() => run::demonstration(&workspace, once),
        Command::Run { args, .. } => run::wavnet(&workspace, &args),
        Command::Test { filter, kernel } => {
            let kernel = if kernel { Kernel::Only } else { Kernel::Also };
            test::command(&workspace, filter.as_deref(), kernel)
        }
        Command::Bench(bench) => run::bench(&workspace, &bench),
        Command::Fuzz { seconds, jobs, targets } => {
            let jobs = jobs.map_or_else(|| thread::available_parallelism().map_or(1, NonZero::get), usize::from);
            fuzz::command(&workspace, seconds, jobs, &targets)
        }
        Command::Ci { steps } => ci::command(&workspace, &steps),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn steps_of_ci_are_known() {
        let cli = Cli::try_parse_from(["xtask", "ci", "fmt", "tests"]).unwrap();
        assert!(matches!(cli.command, Command::Ci { steps } if steps == ["fmt", "tests"]));
        let refused = Cli::try_parse_from(["xtask", "ci", "dance"]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("clippy-ebpf"), "{refused}");
    }

    #[test]
    fn arguments_of_wavnet_come_after_two_dashes() {
        let cli = Cli::try_parse_from(["xtask", "run", "--", "agent", "--config", "a.toml"]).unwrap();
        assert!(matches!(cli.command, Command::Run { once: false, args } if args == ["agent", "--config", "a.toml"]));
        let cli = Cli::try_parse_from(["xtask", "run", "--once"]).unwrap();
        assert!(matches!(cli.command, Command::Run { once: true, args } if args.is_empty()));
        assert!(Cli::try_parse_from(["xtask", "run", "agent"]).is_err());
    }
}
