//! The lab (namespaces, links, processes), the demonstration built on it, and helpers of the end-to-end tests.
//!
//! Everything that touches the machine is made inside network namespaces named `wav-<process>t<number>-<name>` and is
//! removed on every way out: when a guard drops, on panic, on Ctrl-C, and (for a process that was killed outright) by the
//! next process that uses the lab.

pub mod bench;
pub mod demo;
pub mod fuzz;
pub mod fuzz_datagrams;
pub mod fuzz_mesh;
pub mod fuzz_nat;
pub mod fuzz_rendezvous;
pub mod kernel;
pub mod lab;
pub mod mesh;
pub mod rendezvous;
mod test_run;
