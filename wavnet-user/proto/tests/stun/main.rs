//! The STUN codec against the vectors of RFC 5769 and against itself, and the server against RFC 5780 and RFC 3489.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod codec;
mod server;
mod vectors;
