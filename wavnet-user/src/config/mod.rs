//! The agent's configuration: a TOML file or flags in, a validated [`Config`] or every error at once out.

mod pattern;
mod types;

use std::path::PathBuf;

pub use pattern::{InterfacePattern, PatternError, check_name};
pub use types::*;

/// Where the configuration comes from; read again on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    File(PathBuf),
    /// Flags of the command line: does not change, so that a reload finds nothing to do.
    Flags(Box<Config>),
}
