//! Tools that cargo compiles.

use std::{fs, io, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{process::run_long, workspace::Workspace};

/// Compiles a tool of the version that is pinned, with these arguments, and puts it under `root`. Several may be compiled at the same time.
///
/// # Errors
///
/// It cannot be compiled; the message ends with what cargo said.
pub(super) fn install(
    workspace: &Workspace,
    tool: &str,
    root: &Path,
    with: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<()> {
    let version = workspace.pin(tool)?;
    let build = workspace.toolchain().join(format!("build-{tool}"));
    let mut cargo = workspace.cargo("install");
    cargo.args([tool, "--locked", "--version", &format!("^{version}"), "--root"]).arg(root);
    cargo.env_remove("RUSTFLAGS").env("CARGO_TARGET_DIR", &build);
    run_long(workspace, &format!("{tool}: compile"), with(&mut cargo))
        .with_context(|| format!("{tool} {version} cannot be compiled"))?;
    match fs::remove_dir_all(&build) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", build.display()))
        }
        _ => Ok(()),
    }
}
