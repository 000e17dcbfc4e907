//! Directories in bpffs for programs that pin there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Lab,
    cleanup::{self, BPFFS, Leftover},
};

/// A directory in bpffs; removed with all that is in it when dropped.
#[derive(Debug)]
pub struct PinDir(PathBuf);

impl Lab {
    /// A new directory in bpffs.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn pin_dir(&self, name: &str) -> Result<PinDir> {
        let path = Path::new(BPFFS).join(format!("{}-{name}", self.id()));
        cleanup::register(Leftover::Pins(path.clone()));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(PinDir(path))
    }
}

impl PinDir {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let pins = Leftover::Pins(self.0.clone());
        pins.remove();
        cleanup::forget(&pins);
    }
}
