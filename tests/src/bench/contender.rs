//! Who is measured.

use std::fmt;

use anyhow::Result;

use super::{kernel, overlay::Overlay, rig::Wired};
use crate::lab::Lab;

/// What connects the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Ours.
    Wavnet,
    /// The kernel's vxlan device (static entries, no learning) and a bridge: what ratios refer to.
    KernelVxlan,
    /// A plain bridge, no overlay: what the wire and the VMs' links cost by themselves.
    Bridge,
}

impl Contender {
    /// All of them.
    pub const ALL: [Contender; 3] = [Contender::Wavnet, Contender::KernelVxlan, Contender::Bridge];

    /// Name in the results.
    pub const fn name(self) -> &'static str {
        match self {
            Contender::Wavnet => "wavnet",
            Contender::KernelVxlan => "kernel-vxlan",
            Contender::Bridge => "bridge",
        }
    }

    /// For names of namespaces.
    pub(super) const fn letter(self) -> char {
        match self {
            Contender::Wavnet => 'w',
            Contender::KernelVxlan => 'k',
            Contender::Bridge => 'b',
        }
    }

    /// True if its frames on the wire are VXLAN.
    pub(super) const fn encapsulates(self) -> bool {
        !matches!(self, Contender::Bridge)
    }

    /// Puts it into the hypervisors.
    pub(super) fn install(self, lab: &Lab, wired: &Wired) -> Result<Installed> {
        match self {
            Contender::Wavnet => Ok(Installed::Wavnet(Overlay::start(lab, wired)?)),
            Contender::KernelVxlan => kernel::vxlan(wired).map(|()| Installed::Kernel),
            Contender::Bridge => kernel::bridge(wired).map(|()| Installed::Kernel),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What holds a contender in place, and can tell whether it did what it is measured for.
pub(super) enum Installed {
    /// Agents, which end when this is dropped.
    Wavnet(Overlay),
    /// Devices, which go with their namespaces.
    Kernel,
}
