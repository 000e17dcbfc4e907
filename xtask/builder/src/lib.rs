//! Finds a compiler and a linker for eBPF and builds `wavnet-ebpf` with them.
//!
//! Used by the build scripts of the host crates ([`emit_for_build_script`]) and by xtask ([`Toolchain::find`],
//! [`build`]). A compiler must be able to make `core` for `bpfel-unknown-none`: either it has it compiled or it has its
//! library source. Everything is built in `target/ebpf`, by one process at a time.
//!
//! No dependencies, because every host build waits for this crate.

mod build_script;
mod cargo;
pub mod compiler;
mod elf;
pub mod environment;
mod error;
mod layout;
pub mod linker;
mod panics;
mod toolchain;
mod version;

pub use build_script::emit_for_build_script;
pub use cargo::{Artifact, Messages, build, command};
pub use error::Error;
pub use layout::Layout;
pub use toolchain::{Toolchain, note};
pub use version::{RustcVersion, Version};

/// The environment variables that choose a compiler and a linker by hand.
#[must_use]
pub fn env_names() -> [&'static str; 2] {
    [compiler::RUSTC_VARIABLE, linker::LINKER_VARIABLE]
}
