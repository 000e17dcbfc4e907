//! The rendezvous server: who is registered, who is told what, what outlives a restart, and what bad input does.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod abuse;
mod crowds;
mod directory;
mod hosts;
mod meeting;
mod model;
mod relay;
mod restart;
mod versions;
mod world;
