//! Handshakes and sessions, as hosts, servers and those between them see them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod handshakes;
mod keys;
mod refusals;
mod sessions;
mod tampering;
mod vectors;
mod world;
