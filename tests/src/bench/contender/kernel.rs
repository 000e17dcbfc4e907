//! The kernel's own contenders.

use std::iter;

use anyhow::Result;

use crate::{
    bench::rig::{VM_MTU, VNI, Wired},
    lab::{host::Host, link},
};

const BRIDGE: &str = "br0";
const VXLAN: &str = "vx0";

/// A vxlan device that learns nothing, with the address of a VM behind it entered, and a bridge between it and the ports.
pub(super) fn vxlan(wired: &Wired) -> Result<()> {
    for side in 0..2 {
        let (host, other) = (&wired.hosts[side], &wired.hosts[1 - side]);
        let (local, remote) = (host.addr, other.addr);
        host.ns.ip(&format!(
            "link add name {VXLAN} mtu {VM_MTU} type vxlan id {VNI} local {local} dstport 4789 noudpcsum nolearning"
        ))?;
        join(wired, side, VXLAN)?;
        let absent = wired.setting.absent_vteps().filter(|_| side == 0);
        for vtep in iter::once(remote).chain(absent) {
            host.ns.bridge(&format!("fdb append 00:00:00:00:00:00 dev {VXLAN} dst {vtep}"))?;
        }
        for (_, vm) in wired.vms_of(1 - side) {
            host.ns.bridge(&format!("fdb append {} dev {VXLAN} dst {remote}", vm.mac))?;
        }
    }
    Ok(())
}

/// The underlay NIC and the ports on one bridge.
pub(super) fn bridge(wired: &Wired) -> Result<()> {
    (0..2).try_for_each(|side| join(wired, side, Host::NIC))
}

/// Puts an interface and the ports on a bridge.
pub(super) fn join(wired: &Wired, side: usize, uplink: &str) -> Result<()> {
    let ns = &wired.hosts[side].ns;
    link::bridge(ns, BRIDGE, VM_MTU)?;
    for name in iter::once(uplink).chain(wired.vms_of(side).map(|(_, vm)| &*vm.port)) {
        link::enslave(ns, name, BRIDGE)?;
    }
    ns.ip(&format!("link set dev {uplink} up"))?;
    Ok(())
}
