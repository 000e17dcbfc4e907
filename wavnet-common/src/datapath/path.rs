//! Who sends from an address and port, or by way of a relay: dynamic peers, of which two may be at one address.

use super::{Tables, outer::Came};
use crate::{
    abi::{About, At, Source},
    reason::Reason,
};

/// A path, and what it says.
pub(super) struct Found {
    /// Index in `PATHS`.
    pub(super) index: u16,
    pub(super) about: About,
}

/// The path that a datagram came by.
///
/// # Errors
/// There is none.
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &T, came: &Came) -> Result<Found, Reason> {
    match find_word(tables, came) {
        NONE => Err(Reason::UnknownPath),
        word => Ok(Found { index: (word >> INDEX_SHIFT) as u16, about: About::from_word(word & ABOUT) }),
    }
}

/// Where the index stands beside what the path says.
const INDEX_SHIFT: u32 = 40;
const ABOUT: u64 = (1 << INDEX_SHIFT) - 1;
const NONE: u64 = 1 << 63;

/// All in one word: of functions that stay such in the kernel, its type information takes no enum. It stays one, so that the way of
/// static peers is as short as it was.
#[inline(never)]
fn find_word<T: Tables>(tables: &T, came: &Came) -> u64 {
    let mut source = Source::Endpoint(came.at).to_word();
    // Twice at the most: a relay's endpoint, and a label there.
    for _ in 0..2 {
        match tables.path_of(source) {
            Some(At::Path(index)) => {
                // The entry may be older than the slot's owner.
                let Some(about) = tables.path(index).and_then(|row| row.of(source)) else { break };
                return (index as u64) << INDEX_SHIFT | about.to_word();
            }
            Some(At::Relay(relay)) => source = Source::Relayed { relay, label: came.label }.to_word(),
            None => break,
        }
    }
    NONE
}
