//! Where the server keeps what outlives it. One file for one server; a database that several share can stand behind the same trait.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    panic::UnwindSafe,
    path::{Path, PathBuf},
};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, backends::FileBackend,
};
use wavnet_proto::{
    rendezvous::persist::{Change, Saved, SavedRelay},
    trust::{NetworkId, PublicKey},
    wire::Label,
};

use super::record;

/// Name of the file in the state directory.
pub const FILE: &str = "rendezvous.redb";
/// Number of the format that is written here.
const FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("wavnet rendezvous");
const HOSTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("hosts");
const RELAYS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("relays");

/// Why nothing is kept, or nothing known of what was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the file.
    #[error("{} is in use: another rendezvous server has it", .0.display())]
    InUse(PathBuf),
    /// It is damaged, or something else.
    #[error("{} is damaged, or no state of a rendezvous server: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is of another release.
    #[error("{} has format {found}, and this release knows {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The database has panicked. It is opened anew for the next attempt.
    #[error("the database has panicked: its file may be damaged")]
    Panicked,
    /// It cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Box<redb::Error>,
    },
}

impl StoreError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            StoreError::Directory { .. } => "create it for the server's user, or name another one with --state-dir",
            StoreError::InUse(_) => "stop the other server, or give this one a --state-dir of its own",
            StoreError::Damaged { .. } | StoreError::Format { .. } | StoreError::Panicked => {
                "move the file away and start again: hosts register anew within seconds, direct paths stay, relayed ones are set up anew"
            }
            StoreError::Io { .. } => "see that the disk is there, has room, and that the server's user may write to it",
        }
    }
}

/// What keeps things.
pub trait Store: Send {
    /// All that was kept.
    ///
    /// # Errors
    /// It cannot be read.
    fn load(&mut self) -> Result<Saved, StoreError>;

    /// Keeps all of these or none, and for good.
    ///
    /// # Errors
    /// It cannot be written.
    fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError>;
}

/// A file.
pub struct FileStore {
    /// `None`: it could not be written, and has to be opened anew. A database that has met an error of its file does nothing any more.
    database: Option<Database>,
    path: PathBuf,
}

impl FileStore {
    /// Opens the file in a directory; makes both if they are not there, for nobody but this user: they say who is where.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<FileStore, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let is_new = std::fs::metadata(&path).is_ok_and(|m| m.len() == 0) || !path.exists();
        let database = opened(&path, || {
            let mut file = File::options();
            let file = file.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            Database::builder().create_with_backend(FileBackend::new(file)?)
        })?;
        let mut store = FileStore { database: Some(database), path };
        if is_new {
            store.write(|tables| tables.meta.insert("format", FORMAT).map(drop))?;
        }
        Ok(store)
    }

    fn io(&self, doing: &'static str, source: impl Into<redb::Error>) -> StoreError {
        match source.into() {
            redb::Error::Corrupted(what) => damaged(&self.path, &what),
            redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => {
                damaged(&self.path, "it has other tables")
            }
            source => StoreError::Io { doing, path: self.path.clone(), source: Box::new(source) },
        }
    }

    /// On a database of the test's choice.
    #[cfg(test)]
    pub(super) fn on(database: Database, path: PathBuf) -> FileStore {
        FileStore { database: Some(database), path }
    }

    /// The database. After a failure the file is opened anew; it must be there, for another one would not know how often the server has started.
    fn take(&mut self) -> Result<Database, StoreError> {
        match self.database.take() {
            Some(database) => Ok(database),
            None => opened(&self.path, || Database::open(&self.path)),
        }
    }

    /// Makes all of a change or nothing.
    fn write(&mut self, change: impl FnOnce(&mut Tables<'_>) -> Result<(), StorageError>) -> Result<(), StoreError> {
        let database = self.take()?;
        self.write_to(&database, change)?;
        self.database = Some(database);
        Ok(())
    }

    fn write_to(
        &self,
        database: &Database,
        change: impl FnOnce(&mut Tables<'_>) -> Result<(), StorageError>,
    ) -> Result<(), StoreError> {
        let io = |e: redb::Error| self.io("write", e);
        let transaction = database.begin_write().map_err(|e| io(e.into()))?;
        {
            let mut tables = Tables {
                meta: transaction.open_table(META).map_err(|e| io(e.into()))?,
                hosts: transaction.open_table(HOSTS).map_err(|e| io(e.into()))?,
                relays: transaction.open_table(RELAYS).map_err(|e| io(e.into()))?,
            };
            change(&mut tables).map_err(|e| io(e.into()))?;
        }
        transaction.commit().map_err(|e| io(e.into()))
    }

    fn read(&self, database: &Database) -> Result<Saved, redb::Error> {
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = |key| Ok::<_, redb::Error>(meta.get(key)?.map_or(0, |value| value.value()));
        let format = number("format")?;
        if format != FORMAT {
            return Err(redb::Error::UpgradeRequired(u8::try_from(format).unwrap_or(u8::MAX)));
        }
        let incarnation = u32::try_from(number("incarnation")?).unwrap_or(0);
        let mut saved = Saved { incarnation, ..Saved::default() };
        for entry in transaction.open_table(HOSTS)?.iter()? {
            let (key, value) = entry?;
            // One that cannot be read is one that registers anew.
            saved.hosts.extend(record::read_host(key.value(), value.value()));
        }
        for entry in transaction.open_table(RELAYS)?.iter()? {
            let (key, value) = entry?;
            saved.relays.extend(read_relay(key.value(), value.value()));
        }
        Ok(saved)
    }
}

struct Tables<'a> {
    meta: redb::Table<'a, &'static str, u64>,
    hosts: redb::Table<'a, &'static [u8], &'static [u8]>,
    relays: redb::Table<'a, &'static [u8], &'static [u8]>,
}

/// A damaged file may lead the database into a panic; that must not be how the server says so.
fn opened(
    path: &Path,
    open: impl FnOnce() -> Result<Database, DatabaseError> + UnwindSafe,
) -> Result<Database, StoreError> {
    let database = std::panic::catch_unwind(open).map_err(|_| damaged(path, "it cannot be opened"))?;
    database.map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() != io::ErrorKind::InvalidData => {
            StoreError::Io { doing: "open", path: path.to_owned(), source: Box::new(redb::Error::Io(e)) }
        }
        e => damaged(path, &e.to_string()),
    })
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.to_owned() }
}

impl Store for FileStore {
    fn load(&mut self) -> Result<Saved, StoreError> {
        let database = self.take()?;
        let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.read(&database)));
        self.database = Some(database);
        let read = read.map_err(|_| damaged(&self.path, "it cannot be read"))?;
        read.map_err(|e| match e {
            redb::Error::UpgradeRequired(found) => StoreError::Format { path: self.path.clone(), found: found.into() },
            e => self.io("read", e),
        })
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|tables| {
            for change in changes {
                match change {
                    Change::Incarnation(n) => _ = tables.meta.insert("incarnation", u64::from(*n))?,
                    Change::Host(host) => {
                        let key = host_key(host.network, host.key);
                        _ = tables.hosts.insert(&key[..], &record::write_host(host)[..])?;
                    }
                    Change::ForgetHost { network, key } => _ = tables.hosts.remove(&host_key(*network, *key)[..])?,
                    Change::Relay(SavedRelay { network, hosts, labels }) => {
                        let value = labels.map(Label::to_bytes).concat();
                        _ = tables.relays.insert(&relay_key(*network, *hosts)[..], &value[..])?;
                    }
                    Change::ForgetRelay { network, hosts } => {
                        _ = tables.relays.remove(&relay_key(*network, *hosts)[..])?;
                    }
                }
            }
            Ok(())
        })
    }
}

fn host_key(network: NetworkId, key: PublicKey) -> Vec<u8> {
    [&network.to_bytes()[..], key.as_bytes()].concat()
}

fn relay_key(network: NetworkId, [a, b]: [PublicKey; 2]) -> Vec<u8> {
    [&network.to_bytes()[..], a.as_bytes(), b.as_bytes()].concat()
}

fn read_relay(key: &[u8], value: &[u8]) -> Option<SavedRelay> {
    let (network, keys) = key.split_first_chunk()?;
    let (a, b) = keys.split_first_chunk()?;
    let hosts = [PublicKey::new(*a).ok()?, PublicKey::new(*b.first_chunk()?).ok()?];
    let (mine, its) = value.split_first_chunk()?;
    let labels = [Label::from_bytes(*mine), Label::from_bytes(*its.first_chunk()?)];
    Some(SavedRelay { network: NetworkId::from_bytes(*network), hosts, labels })
}
