//! The real programs in the real kernel, without traffic: loaded into a directory of their own, run on single frames by
//! `BPF_PROG_TEST_RUN` in a network namespace of their own, and compared with the same code on the host.

mod capture;
mod program;
mod relay;
mod runner;
mod sandbox;
mod world;

pub use capture::{Capture, Frames};
pub use program::{Size, size_of};
pub use relay::RelaySandbox;
pub use runner::Runner;
pub use sandbox::{KernelOutcome, PinPath, SIZES, Sandbox, is_testable, require};
pub use world::install;
