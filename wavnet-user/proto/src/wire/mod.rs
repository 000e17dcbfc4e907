//! What goes over the wire between hosts, and between a host and a rendezvous server: docs/wire.md, sections 2 and 4.
//!
//! - [`Datagram`]: the control datagrams, read; [`opener`] and [`unknown`] are written here, all others by [`crate::trust`].
//! - [`message`]: what DATA and the payloads of handshakes carry.
//!
//! Nothing here is authenticated: a datagram that reads well may still be anybody's.

mod address;
mod build;
mod codec;
mod datagram;
mod header;
pub mod message;

pub use address::{AddressError, Candidate, CandidateKind, MAX_CANDIDATES, check_address};
pub(crate) use address::{put_address, read_address};
pub(crate) use build::{cookie, data_header, hello, init, response};
pub use build::{opener, relabelled, unknown};
pub(crate) use codec::{Reader, Short};
pub use datagram::{Cookie, Data, Datagram, Hello, Init, Response, Tagged, Unknown, WireError};
pub use header::{HEADER_LEN, Header, Kind, MAGIC, VERSION};
pub use message::{Fault, Message, MessageError, Messages, Name, NatSummary, Writer};
pub use wavnet_common::addr::Label;

/// Bytes of the MAC at the end of HELLO, COOKIE and INIT.
pub const MAC_LEN: usize = 16;

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 16;

/// Bytes of the tag at the end of a ciphertext (ChaCha20-Poly1305).
pub const TAG_LEN: usize = 16;

/// Length of HELLO.
pub const HELLO_LEN: usize = 120;

/// Length of COOKIE.
pub const COOKIE_DATAGRAM_LEN: usize = 76;

/// Length of INIT without a payload.
pub const INIT_LEN: usize = 148;

/// Length of RESPONSE without a payload.
pub const RESPONSE_LEN: usize = 64;

/// Length of DATA without a plaintext.
pub const DATA_LEN: usize = 36;

/// The longest payload of INIT and RESPONSE. Either fits into a FORWARD message then.
pub const MAX_PAYLOAD: usize = 1000;

/// The longest plaintext that a [`Writer`] makes: its DATA fits into the smallest packet that IPv6 must carry (RFC 8200 section 5:
/// 1,280 bytes, of which IPv6 and UDP take 48 and DATA 36).
pub const MAX_PLAINTEXT: usize = 1192;

/// The longest plaintext at all: DATA is at most the longest payload of UDP over IPv4.
pub const MAX_DATA_PLAINTEXT: usize = 65_507 - DATA_LEN;

// Nothing amplifies; handshakes fit into FORWARD (type 1, length 2, peer 32); plaintexts into the smallest packets.
const _: () = assert!(COOKIE_DATAGRAM_LEN <= HELLO_LEN && RESPONSE_LEN <= INIT_LEN);
const _: () = assert!(3 + 32 + INIT_LEN + MAX_PAYLOAD <= MAX_PLAINTEXT);
const _: () = assert!(MAX_PLAINTEXT + DATA_LEN + 48 <= 1280);
