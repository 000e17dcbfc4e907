//! The datapath on the host, for tests, fuzzing and benches: tables in collections, packets in buffers, and one table of
//! fixtures {name, frame, expected verdict, expected bytes} for the host's code and the kernel's.
//!
//! Everything is deterministic: clocks are set by hand, and what is random comes from a seed.

mod endpoint_fixtures;
mod exec;
mod express_fixtures;
mod fixture;
mod fixtures;
pub mod frames;
mod packet;
mod path_fixtures;
mod port_fixtures;
mod random;
pub mod relay;
mod rules;
pub mod stress;
mod tables;
mod tcp_fixtures;
pub mod world;

pub use exec::{Hook, Outcome, Stimulus, run};
pub use fixture::Fixture;
pub use fixtures::fixtures;
pub use packet::TestPacket;
pub use random::{Generator, Rng};
pub use tables::{Tally, TestFdb, TestTables};
pub use world::{Devices, World};
