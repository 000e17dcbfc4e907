//! Programs out of Debian packages that are unpacked under target/ and never installed to the system, where they would start
//! services.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{apt, compiler};
use crate::workspace::Workspace;

/// Programs out of one Debian package.
pub(super) struct Package {
    /// What Debian calls it.
    pub(super) name: &'static str,
    /// Packages of the same source that it cannot do without.
    pub(super) with: &'static [&'static str],
    /// Paths of programs in it.
    pub(super) programs: &'static [&'static str],
}

impl Package {
    /// Unpacks it below `home` unless wrappers of all its programs are in `bin`, and makes those.
    pub(super) fn ensure(&self, workspace: &Workspace, home: &Path, bin: &Path) -> Result<()> {
        if self.programs.iter().all(|program| wrapper_of(bin, program).is_file()) {
            return Ok(());
        }
        self.unpack(workspace, home, bin).with_context(|| format!("getting {}", self.name))
    }

    fn unpack(&self, workspace: &Workspace, home: &Path, bin: &Path) -> Result<()> {
        apt::require_debian(&[self.name])?;
        apt::know(workspace, self.name)?;
        let root = home.join("root");
        // Of what they depend on the libraries will do: services, scripts and interpreters are not needed.
        let mut packages = apt::with_missing_dependencies(self.name)?;
        packages.retain(|name| name.starts_with("lib"));
        packages.extend([self.name].iter().chain(self.with).map(|name| (*name).to_owned()));
        apt::unpack(workspace, self.name, &packages, &home.join("packages"), &root)?;
        let libraries = [root.clone(), root.join("usr")].map(|dir| compiler::library_path_below(&dir)).join(":");
        for program in self.programs {
            let path = root.join(program);
            ensure!(path.is_file(), "Debian's {} has no {program}; its packaging changed", self.name);
            compiler::wrapper(&wrapper_of(bin, program), &path, &libraries)?;
        }
        Ok(())
    }
}

/// Where the script is that starts a program.
fn wrapper_of(bin: &Path, program: &str) -> PathBuf {
    bin.join(Path::new(program).file_name().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{contenders, tools};

    #[test]
    fn wrappers_are_called_as_their_programs() {
        let packages = contenders::PACKAGES.iter().chain([&tools::COTURN]);
        for program in packages.flat_map(|package| package.programs) {
            let wrapper = wrapper_of(Path::new("/b"), program);
            assert!(program.ends_with(&format!("/{}", wrapper.file_name().unwrap().display())));
            assert_eq!(wrapper.parent(), Some(Path::new("/b")));
        }
    }
}
