//! Noise by the `snow` crate: the pattern, the prologue, and primitives that never ask the system for randomness.

use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

#[cfg(feature = "fuzzing")]
use super::memo as curve;
#[cfg(not(feature = "fuzzing"))]
use super::x25519 as curve;
use super::{HandshakeError, PublicKey, SecretKey, key::Secret};
use crate::{rng::Rng, wire::VERSION};

/// Noise revision 34. IK: the initiator knows whom it calls, and who it is itself is hidden from others. psk2: behind the second message,
/// so that a responder can read who calls before it needs the key of that network.
pub(super) const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";

/// Where the pre-shared key is mixed in, as the pattern says.
const PSK_POSITION: u8 = 2;

/// The first message without its payload: an ephemeral key, a static key with its tag, a tag.
pub(super) const FIRST_LEN: usize = 32 + 48 + 16;

/// The second message without its payload: an ephemeral key, a tag.
pub(super) const SECOND_LEN: usize = 32 + 16;

/// What both sides must have in common before the first message: purpose, version, network and the initiator's index.
pub(super) fn prologue(secret: &Secret, index: u32) -> Vec<u8> {
    [b"wavnet 1", &[VERSION][..], &secret.network.to_bytes(), &index.to_be_bytes()].concat()
}

/// The state of the side that begins.
pub(super) fn initiator(
    local: &SecretKey,
    remote: PublicKey,
    secret: &Secret,
    index: u32,
    seed: &[u8; 32],
) -> Result<HandshakeState, HandshakeError> {
    let prologue = prologue(secret, index);
    let builder = builder(local, secret, &prologue, seed)?;
    Ok(builder.remote_public_key(remote.as_bytes())?.build_initiator()?)
}

/// The state of the side that answers.
pub(super) fn responder(
    local: &SecretKey,
    secret: &Secret,
    index: u32,
    seed: &[u8; 32],
) -> Result<HandshakeState, HandshakeError> {
    let prologue = prologue(secret, index);
    Ok(builder(local, secret, &prologue, seed)?.build_responder()?)
}

fn builder<'a>(
    local: &'a SecretKey,
    secret: &'a Secret,
    prologue: &'a [u8],
    seed: &[u8; 32],
) -> Result<Builder<'a>, Error> {
    let resolver = Box::new(Resolver(Zeroizing::new(*seed)));
    let builder = Builder::with_resolver(PATTERN.parse()?, resolver).local_private_key(local.as_bytes())?;
    builder.psk(PSK_POSITION, &secret.psk)?.prologue(prologue)
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> HandshakeError {
        match error {
            Error::Input | Error::Dh | Error::Decrypt => HandshakeError::Forged,
            _ => HandshakeError::State,
        }
    }
}

/// Hands out primitives: randomness from a seed, Diffie-Hellman as below, all else as `snow` has it.
struct Resolver(Zeroizing<[u8; 32]>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(Rng::from_seed(*self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        let hash = DefaultResolver.resolve_hash(choice);
        #[cfg(feature = "fuzzing")]
        let hash = hash.map(|hash| Box::new(curve::Derives(hash)) as Box<dyn Hash>);
        hash
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// Our generator in the shape that `snow` wants.
struct Seeded(Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.0.fill(buffer);
        Ok(())
    }
}

/// X25519 that erases its secret when dropped.
#[derive(Default)]
struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl X25519 {
    fn set_secret(&mut self, secret: Zeroizing<[u8; 32]>) {
        self.public = curve::public(&secret);
        self.secret = secret;
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, secret: &[u8]) {
        // The builder passes a `SecretKey`.
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
        self.set_secret(bytes);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *bytes)?;
        self.set_secret(bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        *out.first_chunk_mut().ok_or(Error::Dh)? = curve::shared(&self.secret, public).ok_or(Error::Dh)?;
        Ok(())
    }
}
