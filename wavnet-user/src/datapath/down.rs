//! `wavnet down`: the one thing that removes what is pinned.

use std::{fs, io::ErrorKind, path::Path};

use super::{
    Error, links,
    neighbours::{self, Neighbour},
    pins::{LINKS_DIR, MAPS_DIR, NEIGHBOURS_DIR, list, lock, remove, require_bpffs},
};

/// What [`down`] removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownReport {
    /// Programs detached.
    pub links: usize,
    /// Maps removed.
    pub maps: usize,
    /// Neighbours that the kernel manages for the agent that was here: to be released by whoever asked.
    pub neighbours: Vec<Neighbour>,
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
    let mut report = DownReport { links: links::detach_all(&path.join(LINKS_DIR))?, ..DownReport::default() };
    for name in list(&path.join(MAPS_DIR))? {
        remove(&path.join(MAPS_DIR).join(name))?;
        report.maps += 1;
    }
    let noted = path.join(NEIGHBOURS_DIR);
    report.neighbours = neighbours::noted(&noted)?;
    report.neighbours.iter().try_for_each(|neighbour| neighbours::forget(&noted, *neighbour))?;
    for dir in [noted, path.join(LINKS_DIR), path.join(MAPS_DIR), path.to_owned()] {
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
