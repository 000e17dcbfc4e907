//! The programs themselves, for test-runs and for reading their size.

use aya::programs::Program;

use super::{Datapath, Error};

impl Datapath {
    /// A loaded program by its name ([`wavnet_common::abi::program`]).
    ///
    /// # Errors
    /// The object has no such program.
    pub fn program(&self, name: &str) -> Result<&Program, Error> {
        self.ebpf
            .program(name)
            .ok_or_else(|| Error::kernel(format!("finding program {name}"), "the object has no such program"))
    }
}
