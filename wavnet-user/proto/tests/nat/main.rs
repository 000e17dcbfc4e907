//! The classifier against a small model of NATs, with the real STUN server behind it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod grid;
mod lies;
mod lifetime;
mod model;
mod summary;
mod trouble;
mod world;
