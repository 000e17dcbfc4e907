//! STUN (RFC 8489): what it takes to learn one's mapped address and a NAT's behaviour (RFC 5780), and to answer those who ask.
//!
//! [`Message`] reads a datagram without copying it, [`Builder`] writes one into a buffer of the caller's, and
//! [`server::Responder`] answers Binding requests, as often as [`Sources`] allows. Requests of RFC 3489, which have no magic cookie, are read and
//! answered, too: the classic client is still what Debian has in its package stun-client.
//!
//! Service and client are anonymous. What belongs to authentication (USERNAME, MESSAGE-INTEGRITY and so on) is known, so it
//! is no reason to refuse a request, and is not checked: an answer has no MESSAGE-INTEGRITY, and whoever insists on one
//! drops it. FINGERPRINT is checked wherever it is.

mod attribute;
mod build;
mod fingerprint;
mod message;
pub mod server;
mod sources;

pub use attribute::{Attribute, AttributeType, BadAttribute, TypeList};
pub use build::{Builder, NoRoom};
pub use message::{Attributes, Class, Malformed, Message, RawAttribute, TransactionId};
pub use sources::Sources;

/// The magic cookie, which tells STUN from RFC 3489 and from other protocols (RFC 8489 section 5).
pub const COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();

/// Bytes of the header.
pub const HEADER: usize = 20;

/// The method Binding, the only one there is here.
pub const BINDING: u16 = 1;
