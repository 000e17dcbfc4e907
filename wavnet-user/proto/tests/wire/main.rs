//! Datagrams and messages: what is written is read again, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod datagrams;
mod limits;
mod messages;
mod strategies;
