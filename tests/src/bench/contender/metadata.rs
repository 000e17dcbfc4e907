//! A vxlan device in collect-metadata mode between two TC programs, without a bridge: the way of Cilium.

use anyhow::Result;

use super::Running;
use crate::{
    bench::rig::{VM_MTU, VNI, Wired},
    lab::programs::Programs,
};

const VXLAN: &str = "vx0";

/// Makes the devices, and attaches the programs, which go with what this returns.
pub(super) fn vxlan(wired: &Wired) -> Result<Vec<Programs>> {
    let install = |side: usize| -> Result<Programs> {
        let (host, remote, port) = (&wired.hosts[side], wired.hosts[1 - side].addr, &wired.vms[side].port);
        host.ns.ip(&format!("link add name {VXLAN} mtu {VM_MTU} type vxlan external dstport 4789 nolearning"))?;
        host.ns.ip(&format!("link set dev {VXLAN} up"))?;
        let mut programs = Programs::load()?;
        programs.tunnel(&host.ns, [port, VXLAN], VNI, remote.to_bits())?;
        Ok(programs)
    };
    Ok(vec![install(0)?, install(1)?])
}

impl Running for Vec<Programs> {}
