//! Prometheus metrics: a [`Snapshot`] of numbers, and their text.

mod snapshot;

pub use snapshot::{PeerSample, PortSample, ProgramSample, Snapshot, VniSample};
