//! Flags of the commands about the host: `wavnet doctor` and `wavnet down`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::config::{Agent, value};

/// `wavnet doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Check for this configuration
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Check this underlay
    #[arg(long, value_name = "INTERFACE", value_parser = value::interface, conflicts_with = "config")]
    pub(super) underlay: Option<String>,
    /// Check for pins in this directory
    #[arg(long, value_name = "DIR", default_value = Agent::BPFFS, value_parser = value::bpffs, conflicts_with = "config")]
    pub(super) bpffs: PathBuf,
}

/// `wavnet down`.
#[derive(Debug, Args)]
pub(super) struct DownArgs {
    /// Of the agent with this configuration
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Directory of the pins [default: /sys/fs/bpf/wavnet]
    #[arg(long, value_name = "DIR", value_parser = value::bpffs, conflicts_with = "config")]
    pub(super) bpffs: Option<PathBuf>,
}
