//! The agent's configuration: a TOML file or flags in, a validated [`Config`] or every error at once out.

mod diagnostic;
mod exposed;
mod file;
mod fixed;
mod flags;
mod interface;
pub mod key_files;
pub mod mesh;
mod pattern;
mod raw;
mod rendezvous;
mod section;
mod types;
mod validate;
pub mod value;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use diagnostic::{At, ConfigErrors, Diagnostic};
pub use exposed::Exposed;
pub use flags::{Flags, PeerFlag, PortFlag};
pub use key_files::KeyFileError;
pub use mesh::{Mesh, ServerAddress};
pub use pattern::{InterfacePattern, PatternError, check_name};
pub use rendezvous::{NetworkFiles, RelayXdp, RendezvousConfig, RendezvousSource};
pub use types::*;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says something wrong.
    #[error("{0}")]
    Invalid(ConfigErrors),
}

/// Where the configuration comes from; read again on reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A TOML file.
    File(PathBuf),
    /// Flags of the command line: they do not change, so that a reload finds nothing to do.
    Flags(Box<Config>),
}

impl Source {
    /// No configuration is larger; what is, is not one.
    const BYTES_MAX: u64 = 16 << 20;

    /// Reads and checks the configuration, also against the underlay's interface where that exists: to run with it.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.load_with(&interface::mtu)
    }

    /// As [`Source::load`], for an agent that is running: what is no regular file has been read to its end already.
    ///
    /// # Errors
    /// As [`Source::load`].
    pub fn reload(&self) -> Result<Config, ConfigError> {
        if let Source::File(path) = self
            && std::fs::metadata(path).is_ok_and(|m| !m.is_file())
        {
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file, and so cannot be read again");
            return Err(ConfigError::Read { path: path.clone(), source });
        }
        self.load()
    }

    /// Reads and checks the configuration by itself: to find or to clear what an agent with it has made.
    ///
    /// # Errors
    /// The file cannot be read, or all that is wrong in it.
    pub fn load_alone(&self) -> Result<Config, ConfigError> {
        self.load_with(&|_| None)
    }

    fn load_with(&self, mtu_of: &dyn Fn(&str) -> Option<u32>) -> Result<Config, ConfigError> {
        match self {
            Source::Flags(config) => Ok(Config::clone(config)),
            Source::File(path) => {
                let text = Self::read(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                Config::parse_with(&text, &path.display().to_string(), mtu_of).map_err(ConfigError::Invalid)
            }
        }
    }

    pub(super) fn read(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let read = std::fs::File::open(path)?.take(Self::BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > Self::BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file has more than 16 MiB"));
        }
        Ok(text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Flags(_) => f.write_str("command line"),
        }
    }
}

impl Config {
    /// Reads TOML; `name` is what errors call the file. Asks nothing of the running system.
    ///
    /// # Errors
    /// All that is wrong, with lines and columns. Where the syntax is wrong, errors of syntax alone.
    pub fn parse(text: &str, name: &str) -> Result<Config, ConfigErrors> {
        Config::parse_with(text, name, &|_| None)
    }

    /// As [`Config::parse`]; `mtu_of` knows the MTU of interfaces that exist, for where `underlay.mtu` is not given.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse_with(text: &str, name: &str, mtu_of: &dyn Fn(&str) -> Option<u32>) -> Result<Config, ConfigErrors> {
        let mut d = diagnostic::Diagnostics::default();
        let config = file::read(text, &mut d).and_then(|raw| validate::validate(raw, text, mtu_of, &mut d));
        match config {
            Some(config) if d.0.is_empty() => Ok(config),
            _ => Err(ConfigErrors::new(Some(name.to_owned()), text.to_owned(), d.0)),
        }
    }
}
