//! Files with keys, and lists of identities.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use wavnet_common::addr::Vni;
use wavnet_proto::{
    policy::Policy,
    rendezvous::Network,
    trust::{AccessKey, KeyError, NetworkKey, PublicKey, SecretKey},
};
use zeroize::Zeroizing;

use super::rendezvous::{NetworkFiles, RendezvousConfig};

/// No file of keys is larger.
const BYTES_MAX: u64 = 64 << 20;

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has something else.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// A line of a list is wrong.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Two access keys are of one network.
    #[error("{} and {} are access keys of the same network", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
    /// A network without a key, and no list of who belongs to it.
    #[error("{} is the access key of networks without a key: everybody has it, so the network needs a list of identities", .0.display())]
    Open(PathBuf),
}

impl KeyFileError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            KeyFileError::Read { .. } => {
                "`wavnet key --help` shows how keys are made; the server's user must be able to read them"
            }
            KeyFileError::Key { .. } => "`wavnet key --help` shows which command makes which key",
            KeyFileError::Line { .. } => {
                "a line is a public key (`wavnet key public`), or that and VNIs: KEY 100,200; # begins a comment"
            }
            KeyFileError::Twice(..) => "name each network once",
            KeyFileError::Open(_) => "give a list of identities (`allow`)",
        }
    }
}

fn read(what: &'static str, path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| KeyFileError::Read { what, path: path.to_owned(), source })?;
    Ok(text)
}

fn key<T: FromStr<Err = KeyError>>(what: &'static str, path: &Path) -> Result<T, KeyFileError> {
    read(what, path)?.parse().map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
}

/// A host's secret key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn secret_key(path: &Path) -> Result<SecretKey, KeyFileError> {
    key("the secret key", path)
}

/// A network's key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn network_key(path: &Path) -> Result<NetworkKey, KeyFileError> {
    key("the network key", path)
}

/// The identities that may be peers, with the VNIs that each may join; `None`: every one.
///
/// # Errors
/// It cannot be read, or a line is wrong.
pub fn identities(path: &Path) -> Result<BTreeMap<PublicKey, Option<BTreeSet<Vni>>>, KeyFileError> {
    list("the list of identities", path)
}

/// The identities that may not come any more. VNIs behind one say nothing: it is out of all of them.
///
/// # Errors
/// It cannot be read, or a line is wrong.
pub fn revoked(path: &Path) -> Result<BTreeSet<PublicKey>, KeyFileError> {
    Ok(list("the list of revoked identities", path)?.into_keys().collect())
}

/// True if others than the owner may read a file.
pub fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o077 != 0)
}

/// The server's secret key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn server_key(config: &RendezvousConfig) -> Result<SecretKey, KeyFileError> {
    secret_key(&config.key)
}

/// The networks that the configuration names, with their lists.
///
/// # Errors
/// A file cannot be read, or has something wrong.
pub fn networks(config: &RendezvousConfig) -> Result<Vec<Network>, KeyFileError> {
    let mut seen = BTreeMap::new();
    let mut networks = Vec::new();
    for files in &config.networks {
        let network = network(files)?;
        if let Some(first) = seen.insert(network.id(), &files.access_key) {
            return Err(KeyFileError::Twice(first.clone(), files.access_key.clone()));
        }
        networks.push(network);
    }
    Ok(networks)
}

fn network(files: &NetworkFiles) -> Result<Network, KeyFileError> {
    let access: AccessKey = key("the access key", &files.access_key)?;
    if access.network() == NetworkKey::open().id() && files.allow.is_none() {
        return Err(KeyFileError::Open(files.access_key.clone()));
    }
    let mut network = Network::new(access);
    if let Some(path) = &files.allow {
        network.policy = Policy::Listed(identities(path)?);
    }
    if let Some(path) = &files.revoked {
        network.revoked = revoked(path)?;
    }
    Ok(network)
}

/// A list of identities: one in a line, with VNIs behind it if it may not join all.
fn list(what: &'static str, path: &Path) -> Result<BTreeMap<PublicKey, Option<BTreeSet<Vni>>>, KeyFileError> {
    let text = read(what, path)?;
    let mut found = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |message| KeyFileError::Line { path: path.to_owned(), line: number + 1, message };
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        let Some(first) = words.next() else { continue };
        let key: PublicKey = first.parse().map_err(|e: KeyError| wrong(e.to_string()))?;
        let vnis = words.map(|word| word.parse().map_err(|_| wrong(format!("\"{}\" is no VNI", word.escape_debug()))));
        let vnis: BTreeSet<Vni> = vnis.collect::<Result<_, _>>()?;
        if found.insert(key, (!vnis.is_empty()).then_some(vnis)).is_some() {
            return Err(wrong(format!("{first} stands here twice")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavnet_proto::rng::Rng;

    #[test]
    fn lists_are_read_and_their_errors_placed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("allow");
        let [a, b] = [1, 2].map(|n| SecretKey::generate(&mut Rng::from_seed([n; 32])).public());
        std::fs::write(&path, format!("# hosts\n{a} # the first\n\n  {b} 100, 200\n")).unwrap();
        let [hundred, two] = [100, 200].map(|n| Vni::new(n).unwrap());
        assert_eq!(list("a list", &path).unwrap(), [(a, None), (b, Some([hundred, two].into()))].into());
        for (line, say) in
            [(format!("{a}\n{a}\n"), ":2: "), (format!("{a} 0\n"), ":1: \"0\" is no VNI"), ("x\n".into(), ":1: ")]
        {
            std::fs::write(&path, line).unwrap();
            let said = list("a list", &path).unwrap_err();
            assert!(said.to_string().contains(say), "{said}");
        }
        assert!(list("a list", Path::new("/nonexistent")).unwrap_err().to_string().starts_with("cannot read a list"));
    }

    #[test]
    fn a_network_without_a_key_needs_a_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open.access");
        std::fs::write(&path, NetworkKey::open().access().to_text().as_bytes()).unwrap();
        let mut files = NetworkFiles { access_key: path.clone(), allow: None, revoked: None };
        assert!(matches!(network(&files), Err(KeyFileError::Open(_))));
        std::fs::write(dir.path().join("allow"), "").unwrap();
        files.allow = Some(dir.path().join("allow"));
        assert!(network(&files).is_ok());
        let config = RendezvousConfig { networks: vec![files.clone(), files], ..RendezvousConfig::new() };
        assert!(matches!(networks(&config), Err(KeyFileError::Twice(..))));
    }
}
