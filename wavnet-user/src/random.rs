//! Randomness of the system, for the cores' generators.

use std::{fs::File, io::Read as _};

use anyhow::{Context, Result};
use wavnet_proto::rng::Rng;
use zeroize::Zeroizing;

/// A seed for a core's generator. Waits until the system has gathered enough after boot.
///
/// # Errors
/// There is no `/dev/random`.
pub fn seed() -> Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    File::open("/dev/random").and_then(|mut file| file.read_exact(&mut *seed)).context("cannot read /dev/random")?;
    Ok(seed)
}

/// A generator with such a seed.
///
/// # Errors
/// As [`seed`].
pub fn generator() -> Result<Rng> {
    Ok(Rng::from_seed(*seed()?))
}
