//! Randomness of the system, for the cores' generators.

use std::{fs::File, io::Read as _};

use anyhow::{Context, Result};

/// A seed for a core's generator. Waits until the system has gathered enough after boot.
///
/// # Errors
/// There is no `/dev/random`.
pub fn seed() -> Result<[u8; 32]> {
    let mut seed = [0; 32];
    File::open("/dev/random").and_then(|mut file| file.read_exact(&mut seed)).context("cannot read /dev/random")?;
    Ok(seed)
}
