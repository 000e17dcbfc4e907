//! Prometheus metrics: a [`Snapshot`] of numbers, their text, and the HTTP endpoint. docs/metrics.md lists all of them.

mod http;
mod mesh;
mod render;
mod snapshot;

#[cfg(test)]
mod tests;

pub use http::{Endpoint, Source};
pub use render::{CONTENT_TYPE, render};
pub(crate) use render::{Families, counter, gauge};
pub use snapshot::{PeerSample, PortSample, ProgramSample, Snapshot, VniSample};

/// Numbers that can be written for Prometheus.
pub trait Rendered: Send + 'static {
    /// Whose they are, in a word.
    const WHO: &'static str;

    /// Their text.
    ///
    /// # Errors
    /// The encoder refuses a family, which none of ours makes it do.
    fn render(&self) -> prometheus::Result<String>;
}

impl Rendered for Snapshot {
    const WHO: &'static str = "agent";

    fn render(&self) -> prometheus::Result<String> {
        render(self)
    }
}
