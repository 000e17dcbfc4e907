//! Prometheus metrics: a [`Snapshot`] of numbers, their text, and the HTTP endpoint. docs/metrics.md lists all of them.

mod http;
mod render;
mod snapshot;

#[cfg(test)]
mod tests;

pub use http::{Endpoint, Source};
pub use render::{CONTENT_TYPE, render};
pub use snapshot::{PeerSample, PortSample, ProgramSample, Snapshot, VniSample};
