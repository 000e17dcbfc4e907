//! Where things are: the workspace, its target directory, and what `cargo xtask setup` installs there.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// Paths of one checkout. Everything that is downloaded or built lies under the target directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    workspace: PathBuf,
    target: PathBuf,
}

impl Layout {
    /// Finds the workspace from `CARGO_MANIFEST_DIR` (set by cargo for build scripts and for `cargo run`) or from the
    /// working directory, upwards.
    ///
    /// # Errors
    ///
    /// `NotFound` where no directory above is wavnet's workspace.
    pub fn discover() -> io::Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(manifest) => PathBuf::from(manifest),
            None => env::current_dir()?,
        };
        let workspace =
            start.ancestors().find(|dir| dir.join("xtask/builder/Cargo.toml").is_file()).ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no wavnet workspace above {}: run the command inside the repository", start.display()),
                )
            })?;
        Ok(Self::new(workspace, env::var_os("CARGO_TARGET_DIR").map(PathBuf::from)))
    }

    /// A layout for a workspace and, where it differs from `target`, the target directory.
    #[must_use]
    pub fn new(workspace: &Path, target: Option<PathBuf>) -> Self {
        let target = workspace.join(target.unwrap_or_else(|| "target".into()));
        Self { workspace: workspace.to_owned(), target }
    }

    /// The root of the repository.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// Cargo's target directory of the host crates.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The package with the kernel programs.
    #[must_use]
    pub fn ebpf_package(&self) -> PathBuf {
        self.workspace.join("wavnet-ebpf")
    }

    /// Cargo's target directory of the kernel programs.
    #[must_use]
    pub fn ebpf_target(&self) -> PathBuf {
        self.target.join("ebpf")
    }

    /// What `cargo xtask setup` installs.
    #[must_use]
    pub fn toolchain(&self) -> PathBuf {
        self.target.join("toolchain")
    }

    /// Programs for the lab and for CI that `setup` installs: made to be put in front of `PATH`.
    #[must_use]
    pub fn tools_bin(&self) -> PathBuf {
        self.toolchain().join("bin")
    }

    /// The eBPF compiler that `setup` installs: `rustc`, `clippy-driver` and `bpf-linker`. Never in `PATH`, where this
    /// `rustc` would take the place of the user's.
    #[must_use]
    pub fn compiler_bin(&self) -> PathBuf {
        self.toolchain().join("ebpf/bin")
    }

    /// A file that changes whenever another eBPF toolchain would be chosen, for build scripts to watch.
    #[must_use]
    pub fn stamp(&self) -> PathBuf {
        self.target.join("ebpf-toolchain.stamp")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_target_directory_is_relative_to_the_workspace() {
        let layout = Layout::new(Path::new("/src"), Some("elsewhere".into()));
        assert_eq!(layout.ebpf_target(), Path::new("/src/elsewhere/ebpf"));
        let layout = Layout::new(Path::new("/src"), Some("/cache".into()));
        assert_eq!(layout.target(), Path::new("/cache"));
        assert_eq!(Layout::new(Path::new("/src"), None).stamp(), Path::new("/src/target/ebpf-toolchain.stamp"));
    }

    #[test]
    fn this_workspace_is_found() {
        let layout = Layout::discover().unwrap();
        assert!(layout.workspace().join("Cargo.lock").is_file());
    }
}
