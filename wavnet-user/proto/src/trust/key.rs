//! Keys: of hosts, of networks, and what comes from a network's key.

use std::{fmt, str::FromStr};

use zeroize::Zeroizing;

use super::{
    mac::{Blake2sKey, derive},
    text::{KeyError, KeyKind, decode, encode},
    x25519,
};
use crate::rng::Rng;

/// A host's secret key (X25519, RFC 7748). Erased when dropped; never printed but by [`SecretKey::to_text`].
#[derive(Clone)]
pub struct SecretKey {
    secret: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl SecretKey {
    /// A new one.
    pub fn generate(rng: &mut Rng) -> SecretKey {
        SecretKey::new(Zeroizing::new(rng.bytes()))
    }

    fn new(secret: Zeroizing<[u8; 32]>) -> SecretKey {
        // Clamped (RFC 7748 section 5), the factor is no multiple of the base point's order: the result is never weak.
        let public = PublicKey(x25519::public(&secret));
        SecretKey { secret, public }
    }

    /// The key that names the host to others.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// For a file: `wavnet-host:` and 44 characters.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        encode(KeyKind::Host, &*self.secret)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.secret
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<SecretKey, KeyError> {
        decode(KeyKind::Host, text).map(SecretKey::new)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// A host's public key (X25519): who it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Refuses what no host can have ([`KeyError::Weak`]): points of low order, and numbers that are not below 2^255 - 19, each of which
    /// would be another host's key written in another way.
    pub fn new(bytes: [u8; 32]) -> Result<PublicKey, KeyError> {
        if is_canonical(&bytes) && !LOW_ORDER.contains(&bytes) { Ok(PublicKey(bytes)) } else { Err(KeyError::Weak) }
    }

    /// The bytes (RFC 7748 section 5: little-endian).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first eight characters, for logs: enough to tell hosts apart, and not to trust one.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

/// Below 2^255 - 19.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = bytes;
    *last < 0x7f || *last == 0x7f && (*first < 0xed || middle.iter().any(|byte| *byte != 0xff))
}

/// The points of Curve25519 and of its twist of order 1, 2, 4 and 8, as numbers below 2^255 - 19.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
];

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&encode(KeyKind::Public, &self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<PublicKey, KeyError> {
        PublicKey::new(*decode(KeyKind::Public, text)?)
    }
}

/// The public name of a network: tells a server which key to check a MAC with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId([u8; 8]);

impl NetworkId {
    /// From the wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> NetworkId {
        NetworkId(bytes)
    }

    /// As it is on the wire.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What all hosts of a network have. Erased when dropped; never printed but by [`NetworkKey::to_text`].
#[derive(Clone)]
pub struct NetworkKey(Zeroizing<[u8; 32]>);

impl NetworkKey {
    /// A new one.
    pub fn generate(rng: &mut Rng) -> NetworkKey {
        NetworkKey(Zeroizing::new(rng.bytes()))
    }

    /// The key of networks that have none, and know their hosts by a list of public keys alone. Everybody has it: MACs and pre-shared keys
    /// prove nothing then, so nobody may be let in who is not on that list.
    #[must_use]
    pub fn open() -> NetworkKey {
        NetworkKey(Zeroizing::new(*b"wavnet 1 network without any key"))
    }

    /// The network's public name.
    #[must_use]
    pub fn id(&self) -> NetworkId {
        let [a, b, c, d, e, f, g, h, ..] = *derive(&self.0, "wavnet 1 id");
        NetworkId([a, b, c, d, e, f, g, h])
    }

    /// What a rendezvous server is given.
    #[must_use]
    pub fn access(&self) -> AccessKey {
        AccessKey(Secret::new(self.id(), derive(&self.0, "wavnet 1 access")))
    }

    /// What hosts prove to each other that they have.
    #[must_use]
    pub fn member(&self) -> MemberKey {
        MemberKey(Secret::new(self.id(), derive(&self.0, "wavnet 1 member")))
    }

    /// For a file: `wavnet-network:` and 44 characters.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        encode(KeyKind::Network, &*self.0)
    }
}

impl FromStr for NetworkKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<NetworkKey, KeyError> {
        decode(KeyKind::Network, text).map(NetworkKey)
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey of {}", self.id())
    }
}

/// A secret of a network and what it is used for: one key for MACs and one for handshakes, so that neither tells of the other.
#[derive(Clone)]
pub(super) struct Secret {
    pub(super) network: NetworkId,
    pub(super) key: Zeroizing<[u8; 32]>,
    pub(super) mac: Blake2sKey,
    pub(super) psk: Zeroizing<[u8; 32]>,
}

impl Secret {
    fn new(network: NetworkId, key: Zeroizing<[u8; 32]>) -> Secret {
        let (mac, psk) = (Blake2sKey::new(derive(&key, "wavnet 1 mac")), derive(&key, "wavnet 1 psk"));
        Secret { network, key, mac, psk }
    }
}

/// Between agents and servers: all that a rendezvous server gets of a network.
#[derive(Clone)]
pub struct AccessKey(pub(super) Secret);

impl AccessKey {
    /// Of which network it is.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.0.network
    }

    /// For a file: `wavnet-access:` and 56 characters, of the network's id and the key.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 40]);
        let (id, key) = bytes.split_at_mut(8);
        id.copy_from_slice(&self.0.network.0);
        key.copy_from_slice(&*self.0.key);
        encode(KeyKind::Access, &*bytes)
    }
}

impl FromStr for AccessKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<AccessKey, KeyError> {
        let bytes = decode::<40>(KeyKind::Access, text)?;
        let malformed = KeyError::Malformed { wanted: KeyKind::Access };
        let (id, key) = bytes.split_first_chunk().ok_or(malformed)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(key).map_err(|_| malformed)?);
        Ok(AccessKey(Secret::new(NetworkId(*id), key)))
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey of {}", self.network())
    }
}

/// Between agents: servers do not have it. Never leaves the agent, so it has no text.
#[derive(Clone)]
pub struct MemberKey(pub(super) Secret);

impl MemberKey {
    /// Of which network it is.
    #[must_use]
    pub const fn network(&self) -> NetworkId {
        self.0.network
    }
}

impl fmt::Debug for MemberKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemberKey of {}", self.network())
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::MontgomeryPoint;

    use super::*;

    #[test]
    fn points_of_low_order_give_the_same_whatever_the_secret() {
        for point in LOW_ORDER {
            assert!(is_canonical(&point));
            assert_eq!(PublicKey::new(point), Err(KeyError::Weak));
            for secret in [[1; 32], [0x55; 32], [0xfe; 32]] {
                assert_eq!(MontgomeryPoint(point).mul_clamped(secret).to_bytes(), [0; 32], "{point:02x?}");
            }
        }
        // The base point is none of them.
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(PublicKey::new(nine).is_ok());
        assert_ne!(MontgomeryPoint(nine).mul_clamped([1; 32]).to_bytes(), [0; 32]);
    }

    /// RFC 7748 section 6.1.
    #[test]
    fn public_keys_come_from_secret_ones() {
        let alice = [
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45, 0xdf, 0x4c,
            0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ];
        let public = SecretKey::new(Zeroizing::new(alice)).public();
        assert_eq!(public.as_bytes()[..4], [0x85, 0x20, 0xf0, 0x09]);
        assert_eq!(public.as_bytes()[28..], [0xaa, 0x9b, 0x4e, 0x6a]);
    }
}
