//! Files with keys, and lists of identities.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Metadata},
    io::{self, Read},
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

use super::{
    exposed::Exposed,
    mesh::Mesh,
    rendezvous::{NetworkFiles, RendezvousConfig},
};

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
    /// Two networks have no key.
    #[error("there are two networks without a key, and nothing tells them apart")]
    TwiceOpen,
    /// A network without a key, and no list of who belongs to it.
    #[error("{} is the access key of networks without a key: everybody has it, so the network needs a list of identities", .0.display())]
    Open(PathBuf),
}

impl KeyFileError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            KeyFileError::Read { .. } => {
                "`wavnet key --help` shows how keys are made; the user that runs wavnet must be able to read them"
            }
            KeyFileError::Key { .. } => "`wavnet key --help` shows which command makes which key",
            KeyFileError::Line { .. } => {
                "a line is a public key (`wavnet key public`), or that and VNIs: KEY 100,200; # begins a comment"
            }
            KeyFileError::Twice(..) => "name each network once",
            KeyFileError::TwiceOpen => "give one of them a key, or make one list of both",
            KeyFileError::Open(_) => "give a list of identities (`allow`)",
        }
    }
}

/// What a key is called in messages.
const SECRET_KEY: &str = "the secret key";
const NETWORK_KEY: &str = "the network key";
const ACCESS_KEY: &str = "the access key";

/// A key, and whether others may use its file.
#[derive(Debug)]
pub struct KeyFile<T> {
    /// The key.
    pub key: T,
    /// Others may.
    pub exposed: Option<Exposed>,
}

fn read(what: &'static str, path: &Path) -> Result<(Zeroizing<String>, Option<Exposed>), KeyFileError> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| {
        // Of the file that was opened: another one may have its name by now.
        let exposed = Exposed::of(what, path, &file.metadata()?);
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(exposed)
    });
    let exposed = read.map_err(|source| KeyFileError::Read { what, path: path.to_owned(), source })?;
    Ok((text, exposed))
}

fn key<T: FromStr<Err = KeyError>>(what: &'static str, path: &Path) -> Result<KeyFile<T>, KeyFileError> {
    let (text, exposed) = read(what, path)?;
    let key = text.parse().map_err(|source| KeyFileError::Key { path: path.to_owned(), source })?;
    Ok(KeyFile { key, exposed })
}

/// A host's secret key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn secret_key(path: &Path) -> Result<KeyFile<SecretKey>, KeyFileError> {
    key(SECRET_KEY, path)
}

/// A network's key.
///
/// # Errors
/// It cannot be read, or is none.
pub fn network_key(path: &Path) -> Result<KeyFile<NetworkKey>, KeyFileError> {
    key(NETWORK_KEY, path)
}

/// A file that can be opened. A pipe is not: that would wait for its writer, and take what is for another reader.
fn readable(path: &Path) -> io::Result<Metadata> {
    let meta = fs::metadata(path)?;
    if meta.is_file() { File::open(path)?.metadata() } else { Ok(meta) }
}

/// Which of a mesh's key files others may use as well, without reading them.
///
/// # Errors
/// One of them cannot be opened.
pub fn exposed_of_mesh(mesh: &Mesh) -> Result<Vec<Exposed>, KeyFileError> {
    let network = mesh.network_key.as_deref().map(|path| (NETWORK_KEY, path));
    let mut all = Vec::new();
    for (what, path) in [(SECRET_KEY, &*mesh.key)].into_iter().chain(network) {
        let file = readable(path).map_err(|source| KeyFileError::Read { what, path: path.to_owned(), source })?;
        all.extend(Exposed::of(what, path, &file));
    }
    Ok(all)
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

/// What the files of a server say.
#[derive(Debug)]
pub struct ServerFiles {
    /// Its secret key.
    pub secret: SecretKey,
    /// The networks that the configuration names, with their lists.
    pub networks: Vec<Network>,
    /// Files that others may use.
    pub exposed: Vec<Exposed>,
}

/// Reads the files that a server's configuration names.
///
/// # Errors
/// A file cannot be read, or has something wrong.
pub fn of_server(config: &RendezvousConfig) -> Result<ServerFiles, KeyFileError> {
    let KeyFile { key: secret, exposed } = secret_key(&config.key)?;
    let mut exposed = Vec::from_iter(exposed);
    let mut seen = BTreeMap::new();
    let mut networks = Vec::new();
    for files in &config.networks {
        let KeyFile { key: network, exposed: of_access } = network(files)?;
        exposed.extend(of_access);
        if let Some(first) = seen.insert(network.id(), &files.access_key) {
            return Err(match (first, &files.access_key) {
                (Some(first), Some(second)) => KeyFileError::Twice(first.clone(), second.clone()),
                _ => KeyFileError::TwiceOpen,
            });
        }
        networks.push(network);
    }
    Ok(ServerFiles { secret, networks, exposed })
}

fn network(files: &NetworkFiles) -> Result<KeyFile<Network>, KeyFileError> {
    let KeyFile { key: access, exposed } = match &files.access_key {
        Some(path) => key::<AccessKey>(ACCESS_KEY, path)?,
        None => KeyFile { key: NetworkKey::open().access(), exposed: None },
    };
    if access.network() == NetworkKey::open().id() && files.allow.is_none() {
        return Err(KeyFileError::Open(files.access_key.clone().unwrap_or_default()));
    }
    let mut network = Network::new(access);
    if let Some(path) = &files.allow {
        network.policy = Policy::Listed(identities(path)?);
    }
    if let Some(path) = &files.revoked {
        network.revoked = revoked(path)?;
    }
    Ok(KeyFile { key: network, exposed })
}

fn list(what: &'static str, path: &Path) -> Result<BTreeMap<PublicKey, Option<BTreeSet<Vni>>>, KeyFileError> {
    parse_list(&read(what, path)?.0, path)
}

/// A list of identities: one in a line, with VNIs behind it if it may not join all. `path` is what errors call it.
///
/// # Errors
/// The first line that is wrong.
pub fn parse_list(text: &str, path: &Path) -> Result<BTreeMap<PublicKey, Option<BTreeSet<Vni>>>, KeyFileError> {
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
    fn a_pipe_is_looked_at_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(readable(&path).is_ok()));
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)), Ok(true), "it waits for a writer");
    }

    #[test]
    fn a_network_without_a_key_needs_a_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open.access");
        std::fs::write(&path, NetworkKey::open().access().to_text().as_bytes()).unwrap();
        let mut files = NetworkFiles { access_key: Some(path), allow: None, revoked: None };
        assert!(matches!(network(&files), Err(KeyFileError::Open(_))));
        let without = NetworkFiles { access_key: None, ..files.clone() };
        assert!(matches!(network(&without), Err(KeyFileError::Open(_))));
        std::fs::write(dir.path().join("allow"), "").unwrap();
        files.allow = Some(dir.path().join("allow"));
        assert!(network(&files).is_ok());
        let without = NetworkFiles { access_key: None, ..files.clone() };
        assert_eq!(network(&without).unwrap().key.id(), NetworkKey::open().id());
        let key = dir.path().join("key");
        std::fs::write(&key, SecretKey::generate(&mut Rng::from_seed([1; 32])).to_text().as_bytes()).unwrap();
        let config = RendezvousConfig { key, networks: vec![files.clone(), files.clone()], ..RendezvousConfig::new() };
        assert!(matches!(of_server(&config), Err(KeyFileError::Twice(..))));
        for networks in [vec![without.clone(), without.clone()], vec![files, without]] {
            let config = RendezvousConfig { networks, ..config.clone() };
            assert!(matches!(of_server(&config), Err(KeyFileError::TwiceOpen)));
        }
    }
}
