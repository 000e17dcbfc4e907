//! The checkout that xtask works on, and cargo as it was called.

use std::{
    env,
    ffi::OsString,
    ops::Deref,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use wavnet_ebpf_builder::Layout;

/// [`Layout`] and what needs a running cargo.
#[derive(Debug)]
pub(crate) struct Workspace {
    layout: Layout,
}

impl Deref for Workspace {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        &self.layout
    }
}

impl Workspace {
    pub(crate) fn discover() -> Result<Self> {
        Ok(Self { layout: Layout::discover()? })
    }

    /// The cargo that runs us, on this workspace. What `cargo run` set to describe xtask itself is removed: a changed
    /// `CARGO_PKG_*` makes build scripts run again that a plain `cargo build` then runs once more.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        for (name, _) in env::vars_os() {
            let of_xtask =
                name.to_str().is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|p| name.starts_with(p)));
            if of_xtask {
                command.env_remove(name);
            }
        }
        command.arg(subcommand).current_dir(self.layout.workspace());
        command
    }

    /// `PATH` with the programs that `setup` installed in front.
    pub(crate) fn path(&self) -> OsString {
        let path = env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(self.layout.tools_bin()).chain(env::split_paths(&path));
        // Fails only for a directory with a colon in its name; then the programs of the system must do.
        env::join_paths(dirs).unwrap_or(path)
    }

    /// Where cargo puts the binary `name`.
    pub(crate) fn binary(&self, name: &str, release: bool) -> PathBuf {
        self.layout.target().join(if release { "release" } else { "debug" }).join(name)
    }

    /// The version of a tool as pinned in xtask/Cargo.toml.
    pub(crate) fn pin(&self, tool: &str) -> Result<String> {
        let output = self
            .cargo("metadata")
            .args(["--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start cargo")?;
        ensure!(output.status.success(), "`cargo metadata` failed, see above");
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
        pin_in(&metadata, tool).with_context(|| format!("xtask/Cargo.toml: [package.metadata.tools] lacks {tool}"))
    }
}

fn pin_in(metadata: &Value, tool: &str) -> Option<String> {
    let xtask = metadata["packages"].as_array()?.iter().find(|package| package["name"] == "xtask")?;
    xtask["metadata"]["tools"][tool].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tools_are_pinned() {
        let workspace = Workspace::discover().unwrap();
        for tool in ["bpf-linker", "cargo-deny", "vpncloud"] {
            assert!(workspace.pin(tool).unwrap().starts_with(|c: char| c.is_ascii_digit()), "{tool}");
        }
        assert!(workspace.pin("no-such-tool").is_err());
    }
}
