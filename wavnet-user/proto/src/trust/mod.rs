//! Who may take part, and how two sides come to keys that only they have: docs/wire.md, section 3.
//!
//! - [`SecretKey`], [`PublicKey`]: a host. [`NetworkKey`]: a network; from it come [`AccessKey`] and [`MemberKey`].
//! - [`Initiation`]: the side that begins a handshake. [`Responder`]: the one that answers. [`CookieJar`]: what the latter wants before it
//!   computes anything.
//! - [`Session`]: what both have then.

mod cookie;
mod handshake;
mod key;
mod mac;
#[cfg(any(feature = "fuzzing", test))]
mod memo;
mod noise;
mod session;
mod text;
mod window;
mod x25519;

pub use cookie::CookieJar;
pub use handshake::{HandshakeError, Initiation, Psk, Request, Responder};
pub use key::{AccessKey, MemberKey, NetworkId, NetworkKey, PublicKey, SecretKey};
pub use session::{OpenError, SealError, Session};
pub use text::{KeyError, KeyKind};
