//! The directory of pins: locking it and checking what is in it.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use aya::maps::{Array, MapData, MapInfo};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use wavnet_common::abi::{self, Meta};

use super::{
    Error, Sizes,
    maps::{Abi, entries},
};

const BPFFS: &str = "/sys/fs/bpf";
pub(super) const MAPS_DIR: &str = "maps";
pub(super) const LINKS_DIR: &str = "links";
pub(super) const NEIGHBOURS_DIR: &str = "neighbours";

/// A locked directory of pins.
pub(super) struct PinDir {
    path: PathBuf,
    _lock: Flock<fs::File>,
}

/// Every map that is pinned.
pub(super) fn map_names() -> impl Iterator<Item = &'static str> {
    abi::MAPS.iter().map(|m| m.name).chain([abi::EVENTS])
}

impl PinDir {
    /// Makes the directory if need be and locks it against other agents.
    pub(super) fn open(path: &Path) -> Result<PinDir, Error> {
        mount_if_missing(path)?;
        let fail = |e| Error::kernel(format!("making {}", path.display()), e);
        for dir in [path.to_owned(), path.join(MAPS_DIR), path.join(LINKS_DIR), path.join(NEIGHBOURS_DIR)] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail)?;
        }
        require_ours(path)?;
        let lock = lock(path)?;
        Ok(PinDir { path: path.to_owned(), _lock: lock })
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.path.join(MAPS_DIR).join(name)
    }

    /// Where links are pinned.
    pub(super) fn links(&self) -> PathBuf {
        self.path.join(LINKS_DIR)
    }

    /// Where a link is pinned.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// Where managed neighbours are noted.
    pub(super) fn neighbours(&self) -> PathBuf {
        self.path.join(NEIGHBOURS_DIR)
    }

    /// Names of the pinned links.
    pub(super) fn link_names(&self) -> Result<Vec<String>, Error> {
        list(&self.links())
    }

    /// Sees whether there are maps to take over, and what they say of themselves. `None`: new ones are to be made (remains of an
    /// agent that died while making them are removed).
    ///
    /// # Errors
    /// [`Error::Incompatible`] if there are maps that this program does not understand.
    pub(super) fn prepare(&self, sizes: &Sizes) -> Result<Option<Meta>, Error> {
        let present = list(&self.path.join(MAPS_DIR))?;
        if present.is_empty() {
            return Ok(None);
        }
        let incompatible = |why: String| Err(Error::Incompatible { path: self.path.clone(), why });
        let Some(meta) = self.meta()? else { return incompatible("META has another layout".to_owned()) };
        match meta.abi_version {
            // The version is written last.
            0 => {
                for name in present {
                    remove(&self.map(&name))?;
                }
                return Ok(None);
            }
            abi::ABI_VERSION => {}
            other => return incompatible(format!("they have ABI version {other}, this is {}", abi::ABI_VERSION)),
        }
        for spec in abi::MAPS {
            let Ok(info) = MapInfo::from_pin(self.map(spec.name)) else {
                return incompatible(format!("{} is missing", spec.name));
            };
            if (info.key_size(), info.value_size()) != (spec.key_size, spec.value_size) {
                return incompatible(format!("{} has another layout", spec.name));
            }
            if let Some((_, wanted)) = entries(sizes).find(|(name, _)| *name == spec.name)
                && info.max_entries() != wanted
            {
                return incompatible(if spec.name == abi::map::FDB {
                    let entries = |buckets: u32| u64::from(buckets) * wavnet_common::fdb::SLOTS as u64;
                    let (have, want) = (entries(info.max_entries()), entries(wanted));
                    format!("the FDB has room for {have} entries, and `fdb.entries` wants {want}")
                } else {
                    let have = info.max_entries();
                    format!("{} has room for {have} entries, and `[limits]` wants {wanted}", spec.name)
                });
            }
        }
        Ok(Some(meta))
    }

    /// `None`: of another layout.
    fn meta(&self) -> Result<Option<Meta>, Error> {
        let path = self.map(abi::map::META);
        let Ok(info) = MapInfo::from_pin(&path) else { return Ok(Some(Meta::UNWRITTEN)) };
        if info.value_size() as usize != size_of::<Meta>() {
            return Ok(None);
        }
        let fail = |e: aya::maps::MapError| Error::kernel(format!("reading {}", path.display()), e);
        let map = aya::maps::Map::Array(MapData::from_pin(&path).map_err(fail)?);
        let meta: Array<_, Abi<Meta>> = Array::try_from(map).map_err(fail)?;
        Ok(Some(meta.get(&0, 0).map_err(fail)?.0))
    }
}

pub(super) fn lock(path: &Path) -> Result<Flock<fs::File>, Error> {
    let file = fs::File::open(path).map_err(|e| Error::kernel(format!("opening {}", path.display()), e))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| match e {
        Errno::EWOULDBLOCK => Error::Locked { path: path.to_owned(), pid: holder(path) },
        e => Error::kernel(format!("locking {}", path.display()), e),
    })
}

/// The process that has the lock.
fn holder(path: &Path) -> Option<u32> {
    let inode = fs::metadata(path).ok()?.ino();
    holder_in(&fs::read_to_string("/proc/locks").ok()?, inode)
}

/// Of lines such as `1: FLOCK  ADVISORY  WRITE 813 00:1f:2047 0 EOF` (proc_locks(5)).
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
        (file.rsplit(':').next()?.parse() == Ok(inode)).then(|| pid.parse().ok())?
    })
}

/// Whoever can write the directory could hand us maps and links of their own.
fn require_ours(path: &Path) -> Result<(), Error> {
    let data = fs::metadata(path).map_err(|e| Error::kernel(format!("opening {}", path.display()), e))?;
    let owner = data.uid() == 0 || data.uid() == nix::unistd::geteuid().as_raw();
    if owner && data.mode() & 0o022 == 0 { Ok(()) } else { Err(Error::NotOurs { path: path.to_owned() }) }
}

/// bpffs is where systemd, tc and bpftool mount it; like them, mount it there if nobody has.
fn mount_if_missing(path: &Path) -> Result<(), Error> {
    if !path.starts_with(BPFFS) || is_bpffs(Path::new(BPFFS)) {
        return require_bpffs(path);
    }
    match mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700")) {
        // Only root may, whatever else an agent may do without.
        Err(Errno::EPERM) => Err(Error::NoBpffs { path: path.to_owned() }),
        done => {
            done.map_err(|e| Error::kernel(format!("mounting a BPF file system at {BPFFS}"), std::io::Error::from(e)))
        }
    }
}

pub(super) fn require_bpffs(path: &Path) -> Result<(), Error> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    if is_bpffs(existing) { Ok(()) } else { Err(Error::NoBpffs { path: path.to_owned() }) }
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |e| Error::kernel(format!("listing {}", dir.display()), e);
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(fail(e)),
        Ok(entries) => entries.map(|e| Ok(e.map_err(fail)?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

/// Removes a pin or a mark; gone already is as good.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::kernel(format!("removing {}", path.display()), e)),
        _ => Ok(()),
    }
}

/// Makes a mark: an empty directory, for bpffs holds no files. There already is as good.
pub(super) fn mark(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::kernel(format!("making {}", path.display()), e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 12 00:1f:2047 0 EOF\n2: FLOCK  ADVISORY  WRITE 813 00:1f:2047 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 00:1f:2047 0 EOF\n3: FLOCK  ADVISORY  WRITE 14 fe:00:7 0 EOF\n";
        assert_eq!(holder_in(locks, 2047), Some(813));
        assert_eq!(holder_in(locks, 7), Some(14));
        assert_eq!(holder_in(locks, 8), None);
        assert_eq!(holder_in("nonsense\n\n: :", 8), None);
    }
}
