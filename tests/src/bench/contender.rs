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

    /// Puts it into the hypervisors. Devices of the kernel go with their namespaces; agents end when what this returns is dropped.
    pub(super) fn install(self, lab: &Lab, wired: &Wired) -> Result<Option<Overlay>> {
        match self {
            Contender::Wavnet => Overlay::start(lab, wired).map(Some),
            Contender::KernelVxlan => kernel::vxlan(wired).map(|()| None),
            Contender::Bridge => kernel::bridge(wired).map(|()| None),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
