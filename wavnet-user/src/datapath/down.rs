//! `wavnet down`: the one thing that removes what is pinned.

use std::{fs, io::ErrorKind, path::Path};

use super::{
    Error, links,
    pins::{LINKS_DIR, MAPS_DIR, list, lock, remove, require_bpffs},
};

/// What [`down`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownReport {
    /// Programs detached.
    pub links: usize,
    /// Maps removed.
    pub maps: usize,
}

/// Detaches every program and removes every map that is pinned in a directory, and the directory. Nothing there: nothing done.
///
/// # Errors
/// [`Error::Locked`] while an agent is using it.
pub fn down(path: &Path) -> Result<DownReport, Error> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(DownReport::default()),
        Err(e) => return Err(Error::kernel(format!("opening {}", path.display()), e)),
    }
    require_bpffs(path)?;
    let lock = lock(path)?;
    let mut report = DownReport::default();
    for name in list(&path.join(LINKS_DIR))? {
        links::detach(&path.join(LINKS_DIR), &name)?;
        report.links += 1;
    }
    for name in list(&path.join(MAPS_DIR))? {
        remove(&path.join(MAPS_DIR).join(name))?;
        report.maps += 1;
    }
    for dir in [path.join(LINKS_DIR), path.join(MAPS_DIR), path.to_owned()] {
        match fs::remove_dir(&dir) {
            // What somebody made for us in a directory that is not ours stays, empty.
            Err(e) if e.kind() == ErrorKind::PermissionDenied && dir == path => {}
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(Error::kernel(format!("removing {}", dir.display()), e));
            }
            _ => {}
        }
    }
    drop(lock);
    Ok(report)
}
