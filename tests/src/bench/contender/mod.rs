//! Who is measured.

mod kernel;
mod metadata;
mod n2n;
mod overlay;
mod ovs;
mod redirect;
mod tinc;
pub(super) mod tools;
mod vpncloud;

use std::{fmt, str::FromStr};

use anyhow::{Result, bail};

use super::{case::Case, plan::Plan, rig::Wired};
use crate::lab::{Lab, host::Host, process::Process};

pub(super) use overlay::{Detours, Overlay};

/// What connects the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Ours.
    Wavnet,
    /// The kernel's vxlan device (static entries, no learning) and a bridge: what ratios refer to.
    KernelVxlan,
    /// A plain bridge, no overlay: what the wire and the VMs' links cost by themselves.
    Bridge,
    /// A collect-metadata vxlan device between TC programs.
    MetadataVxlan,
    /// Redirects in XDP, no overlay: what XDP can do at most.
    XdpRedirect,
    /// Redirects in TC, no overlay: what TC can do at most.
    TcRedirect,
    /// Open vSwitch, datapath in user space.
    Ovs,
    /// n2n.
    N2n,
    /// tinc in switch mode, without cipher.
    Tinc,
    /// vpncloud in switch mode, without encryption.
    Vpncloud,
}

/// A contender at work, until it is dropped.
pub(super) trait Running {
    /// Ours, which can be asked how frames went.
    fn overlay(&self) -> Option<&Overlay> {
        None
    }
}

/// Devices of the kernel go with their namespaces.
impl Running for () {}

impl Running for Vec<Process> {}

impl Contender {
    /// All of them.
    pub const ALL: [Contender; 10] = [
        Contender::Wavnet,
        Contender::KernelVxlan,
        Contender::Bridge,
        Contender::MetadataVxlan,
        Contender::XdpRedirect,
        Contender::TcRedirect,
        Contender::Ovs,
        Contender::N2n,
        Contender::Tinc,
        Contender::Vpncloud,
    ];

    /// Those that goals refer to.
    pub const MAIN: [Contender; 3] = [Contender::Wavnet, Contender::KernelVxlan, Contender::Bridge];

    /// Name in the results and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Contender::Wavnet => "wavnet",
            Contender::KernelVxlan => "kernel-vxlan",
            Contender::Bridge => "bridge",
            Contender::MetadataVxlan => "metadata-vxlan",
            Contender::XdpRedirect => "xdp-redirect",
            Contender::TcRedirect => "tc-redirect",
            Contender::Ovs => "ovs",
            Contender::N2n => "n2n",
            Contender::Tinc => "tinc",
            Contender::Vpncloud => "vpncloud",
        }
    }

    /// For names of namespaces.
    pub(super) const fn letter(self) -> char {
        match self {
            Contender::Wavnet => 'w',
            Contender::KernelVxlan => 'k',
            Contender::Bridge => 'b',
            Contender::MetadataVxlan => 'm',
            Contender::XdpRedirect => 'x',
            Contender::TcRedirect => 't',
            Contender::Ovs => 'o',
            Contender::N2n => 'n',
            Contender::Tinc => 'i',
            Contender::Vpncloud => 'v',
        }
    }

    /// True if its frames on the wire are VXLAN.
    pub(super) const fn encapsulates(self) -> bool {
        matches!(self, Contender::Wavnet | Contender::KernelVxlan | Contender::MetadataVxlan | Contender::Ovs)
    }

    /// How often it is measured.
    pub(super) fn runs(self, plan: &Plan) -> usize {
        if self.is_slow() { plan.runs.min(plan.slow_runs) } else { plan.runs }
    }

    /// True for programs in user space that handle each frame.
    const fn is_slow(self) -> bool {
        !self.programs().is_empty()
    }

    /// Programs that it needs and that the lab has not.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Contender::Ovs => &ovs::PROGRAMS,
            Contender::N2n => &n2n::PROGRAMS,
            Contender::Tinc => &tinc::PROGRAMS,
            Contender::Vpncloud => &vpncloud::PROGRAMS,
            _ => &[],
        }
    }

    /// Why a case makes no sense for it, if it makes none.
    pub(super) const fn refuses(self, case: Case) -> Option<&'static str> {
        let [ours, compared] = [matches!(self, Contender::Wavnet), matches!(self, Contender::KernelVxlan)];
        match case {
            _ if case.is_own() && !ours => Some("of wavnet only"),
            Case::SmallFramesPacketRate | Case::EncapPacketRate if !ours && !compared => {
                Some("only wavnet's ports have this mode, and it is compared with kernel-vxlan")
            }
            Case::Local if matches!(self, Contender::MetadataVxlan) => Some("it joins one port and a tunnel"),
            Case::Flood1 | Case::Flood8 | Case::Flood64 if !ours && !compared => {
                Some("it has no list of VTEPs to flood to")
            }
            Case::UdpToTap | Case::UdpFromTap | Case::Tcp1Tap | Case::Tcp1FromTap if !ours && !compared => match self {
                Contender::Bridge | Contender::MetadataVxlan | Contender::TcRedirect => None,
                Contender::XdpRedirect => Some("nobody would finish the checksums that a VM on a tap leaves to others"),
                _ => Some("with VMs on taps, only what runs in the kernel is compared"),
            },
            Case::Encap | Case::Decap if self.is_slow() && !self.encapsulates() => {
                Some("its frames on the wire are no VXLAN")
            }
            Case::RttP50 | Case::RttP99 if self.is_slow() => Some("sockets that are polled leave its processes no CPU"),
            Case::SmallFrames | Case::Tcp1 | Case::Tcp4 | Case::RttBlockingP50 | Case::RttBlockingP99 => None,
            _ if self.is_slow() => Some("of programs in user space, only what matters for them is measured"),
            _ => None,
        }
    }

    /// If it cannot be measured here: why, and what to do.
    pub(super) fn missing(self) -> Option<String> {
        let missing = !tools::all_there(self.programs());
        missing.then(|| format!("{self} is not installed; `cargo xtask setup --contenders` gets it"))
    }

    /// The interface of a hypervisor that has its address on the underlay.
    pub(super) const fn underlay(self) -> &'static str {
        if matches!(self, Contender::Ovs) { ovs::UNDERLAY } else { Host::NIC }
    }

    /// Puts it into the hypervisors, until what this returns is dropped.
    pub(super) fn install(self, lab: &Lab, wired: &Wired) -> Result<Box<dyn Running>> {
        Ok(match self {
            Contender::Wavnet => Box::new(Overlay::start(lab, wired)?),
            Contender::KernelVxlan => Box::new(kernel::vxlan(wired)?),
            Contender::Bridge => Box::new(kernel::bridge(wired)?),
            Contender::MetadataVxlan => Box::new(metadata::vxlan(wired)?),
            Contender::XdpRedirect => Box::new(redirect::xdp(wired)?),
            Contender::TcRedirect => Box::new(redirect::tc(wired)?),
            Contender::Ovs => Box::new(ovs::run(lab, wired)?),
            Contender::N2n => Box::new(n2n::run(wired)?),
            Contender::Tinc => Box::new(tinc::run(lab, wired)?),
            Contender::Vpncloud => Box::new(vpncloud::run(wired)?),
        })
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contender {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Contender> {
        match Contender::ALL.into_iter().find(|contender| contender.name() == name) {
            Some(contender) => Ok(contender),
            None => bail!("no contender of that name; there are {}", Contender::ALL.map(Contender::name).join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_read_back_and_others_refused_with_the_choice() {
        for contender in Contender::ALL {
            assert_eq!(contender.name().parse::<Contender>().unwrap(), contender);
        }
        let error = "vxlan".parse::<Contender>().unwrap_err().to_string();
        assert!(error.contains("kernel-vxlan, bridge"), "{error}");
    }

    #[test]
    fn namespaces_of_two_contenders_never_meet() {
        let letters: BTreeSet<char> = Contender::ALL.map(Contender::letter).into();
        assert_eq!(letters.len(), Contender::ALL.len());
    }
}
