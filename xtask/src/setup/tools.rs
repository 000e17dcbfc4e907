//! Programs that are not installed to the system: promtool and coturn out of their packages, cargo-deny by cargo.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};

use super::{apt, cargo, unpacked::Package};
use crate::{
    programs::{self, PROMTOOL, STUN},
    workspace::Workspace,
};

/// The STUN server and client that NATs of the lab are classified by. Installed to the system the server would run for everybody.
pub(super) const COTURN: Package =
    Package { name: "coturn", with: &[], programs: &["usr/bin/turnserver", "usr/bin/turnutils_natdiscovery"] };

/// Gets coturn if it is missing.
pub(super) fn coturn(workspace: &Workspace) -> Result<()> {
    if programs::missing(STUN, &workspace.path()).is_empty() {
        return Ok(());
    }
    COTURN.ensure(workspace, &workspace.toolchain().join("coturn"), &workspace.tools_bin())
}

/// Gets promtool if it is missing.
pub(super) fn promtool(workspace: &Workspace) -> Result<()> {
    if programs::find(PROMTOOL.name, &workspace.path()).is_some() {
        return Ok(());
    }
    apt::require_debian(&[PROMTOOL.package])?;
    apt::know(workspace, PROMTOOL.package)?;
    let cache = workspace.toolchain().join("prometheus-packages");
    let root = workspace.toolchain().join("prometheus-root");
    apt::unpack(workspace, PROMTOOL.name, &[PROMTOOL.package.to_owned()], &cache, &root)?;
    let bin = workspace.tools_bin();
    let to = bin.join(PROMTOOL.name);
    fs::create_dir_all(&bin)
        .and_then(|()| fs::rename(root.join("usr/bin").join(PROMTOOL.name), &to))
        .and_then(|()| fs::set_permissions(&to, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", to.display()))?;
    fs::remove_dir_all(&root).with_context(|| format!("cannot remove {}", root.display()))
}

/// Gets cargo-deny if it is missing. Who asks meanwhile waits.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    static GETTING: Mutex<()> = Mutex::new(());
    let _getting = GETTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = programs::find("cargo-deny", &workspace.path()) {
        return Ok(found);
    }
    cargo::install(workspace, "cargo-deny", &workspace.toolchain(), |cargo| {
        // It runs for a second: unoptimised it is compiled in a third of the time.
        cargo.arg("--debug").env("CARGO_PROFILE_DEV_DEBUG", "0")
    })?;
    Ok(workspace.tools_bin().join("cargo-deny"))
}
