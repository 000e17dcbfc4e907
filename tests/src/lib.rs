//! The lab (namespaces, links, processes), the demonstration built on it, and helpers of the end-to-end tests.

pub mod kernel;
