//! A program by itself: run on frame after frame, by any thread of the sandbox's namespace.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail};
use wavnet_common::{abi::program, testing::Hook};

use super::{Sandbox, sandbox::context};
use crate::test_run::test_run_to;

/// A program with what it takes to run it.
#[derive(Debug)]
pub struct Runner {
    program: OwnedFd,
    context: Vec<u8>,
    left: Vec<u8>,
}

impl Sandbox {
    /// A program to be run by a thread, also while others run it.
    ///
    /// # Errors
    /// There is no such program, or it is that of XDP on a port.
    pub fn runner(&mut self, hook: Hook) -> Result<Runner> {
        let (name, ifindex) = match hook {
            Hook::UnderlayXdp => (program::UNDERLAY_XDP, None),
            Hook::UnderlayTc => (program::UNDERLAY_TC, Some(self.devices.underlay)),
            Hook::PortXdp(_) => bail!("XDP on a port takes a context for each length of frame"),
            Hook::Port(place) => (program::PORT_TC, Some(self.devices.ports[place])),
        };
        let program = self.datapath.program(name)?.fd()?.as_fd().try_clone_to_owned()?;
        let context = ifindex.map(|ifindex| context(ifindex, 0, (0, 0))).unwrap_or_default();
        Ok(Runner { program, context, left: Vec::new() })
    }
}

impl Runner {
    /// What the program returns, and the frame afterwards.
    ///
    /// # Errors
    /// Those of the kernel: frames that a test run refuses.
    pub fn run(&mut self, frame: &[u8]) -> Result<(u32, &[u8])> {
        let verdict = test_run_to(self.program.as_fd(), frame, &self.context, &mut self.left).context("test run")?;
        Ok((verdict, &self.left))
    }
}
