//! Keyed BLAKE2s (RFC 7693): MACs of datagrams, cookies, and keys that come from keys.

use std::fmt;

use blake2::{
    Blake2sMac, Blake2sMac256,
    digest::{Mac as _, consts::U16},
};
use zeroize::Zeroizing;

use crate::wire::{MAC_LEN, Tagged};

/// A key for keyed BLAKE2s; erased when dropped.
#[derive(Clone)]
pub(super) struct Blake2sKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for Blake2sKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blake2sKey")
    }
}

impl Blake2sKey {
    pub(super) const fn new(key: Zeroizing<[u8; 32]>) -> Blake2sKey {
        Blake2sKey(key)
    }

    fn over(&self, parts: &[&[u8]]) -> Blake2sMac<U16> {
        parts.iter().fold(Blake2sMac::new((&*self.0).into()), |mac, part| mac.chain_update(part))
    }

    /// Keyed BLAKE2s-128 of parts that follow each other.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; MAC_LEN] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether [`Blake2sKey::tag`] is that; in the same time whatever the tag.
    pub(super) fn holds(&self, parts: &[&[u8]], tag: &[u8; MAC_LEN]) -> bool {
        self.over(parts).verify(tag.into()).is_ok()
    }

    /// Appends the MAC of a datagram: of all that stands behind its label.
    pub(super) fn finish(&self, mut datagram: Vec<u8>) -> Vec<u8> {
        let tag = self.tag(&[datagram.get(4..).unwrap_or_default()]);
        datagram.extend(tag);
        datagram
    }

    /// Whether a datagram's MAC is right.
    pub(super) fn covers(&self, tagged: &Tagged<'_>) -> bool {
        self.holds(&[tagged.covered], tagged.mac)
    }
}

/// A key that comes from another one: keyed BLAKE2s-256 of its purpose.
pub(super) fn derive(key: &[u8; 32], purpose: &str) -> Zeroizing<[u8; 32]> {
    let mac = Blake2sMac256::new(key.into()).chain_update(purpose);
    Zeroizing::new(mac.finalize().into_bytes().into())
}
