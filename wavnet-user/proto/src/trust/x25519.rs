//! X25519 (RFC 7748) on bytes.

use curve25519_dalek::{MontgomeryPoint, traits::IsIdentity as _};

/// The public key of a secret one.
pub(super) fn public(secret: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// What both sides come to. `None` for points of low order, with which it would not depend on the secret (section 6.1).
pub(super) fn shared(secret: &[u8; 32], remote: &[u8; 32]) -> Option<[u8; 32]> {
    let shared = MontgomeryPoint(*remote).mul_clamped(*secret);
    (!shared.is_identity()).then(|| shared.to_bytes())
}
