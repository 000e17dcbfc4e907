//! Programs of contenders: what `cargo xtask setup --contenders` unpacked, else the system's own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::lab::{Lab, host::Host, poll_until, process::Process, tools};

/// For how long to wait for a program to do what it was started for.
pub(in crate::bench) const SOON: Duration = Duration::from_secs(20);

/// Where set-up puts them.
fn home() -> Option<PathBuf> {
    tools::set_up("contenders")
}

/// Where a program is.
fn find(name: &str) -> Option<PathBuf> {
    home().map(|home| home.join("bin").join(name)).filter(|path| path.is_file()).or_else(|| tools::find(name))
}

/// Where a program is.
///
/// # Errors
/// It is missing.
pub(in crate::bench) fn program(name: &str) -> Result<PathBuf> {
    find(name).with_context(|| format!("`{name}` is missing; `cargo xtask setup --contenders` gets it"))
}

/// Where a file or directory of a package is, by its path below the root directory.
pub(in crate::bench) fn file(path: &str) -> Result<PathBuf> {
    let unpacked = home().map(|home| home.join("root").join(path)).filter(|path| path.exists());
    let found = unpacked.or_else(|| Some(Path::new("/").join(path)).filter(|path| path.exists()));
    found.with_context(|| format!("/{path} is missing; `cargo xtask setup --contenders` gets it"))
}

/// True if all these programs are there.
pub(in crate::bench) fn all_there(names: &[&str]) -> bool {
    names.iter().all(|name| find(name).is_some())
}

/// Starts a program on a hypervisor, with words as one would type them (no quoting).
pub(in crate::bench) fn start(host: &Host, name: &str, words: &str) -> Result<Process> {
    host.ns.spawn(name, program(name)?, &words.split_whitespace().collect::<Vec<_>>())
}

/// Waits until a program has made an interface, and sets that up.
pub(in crate::bench) fn wait_interface(host: &Host, process: &mut Process, name: &str, mtu: u32) -> Result<()> {
    poll_until(&format!("{name} of {}", host.ns.short_name()), SOON, || {
        process.still_running()?;
        host.ns.ifindex(name)
    })?;
    host.ns.ip(&format!("link set dev {name} mtu {mtu} up"))?;
    Ok(())
}

/// A directory of the lab for a program's files; its path without blanks, which the words of a command could not have.
pub(in crate::bench) fn directory(lab: &Lab, host: &Host, name: &str) -> Result<String> {
    let path = lab.path(&format!("{}.{name}", host.ns.short_name()));
    std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    let text = path.display().to_string();
    ensure!(!text.contains(char::is_whitespace), "{text} has a blank in it: set TMPDIR to a directory without");
    Ok(text)
}
