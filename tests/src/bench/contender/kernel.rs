//! The kernel's own contenders.

use std::iter;

use anyhow::Result;

use crate::{
    bench::rig::{VM_MTU, VNI, Wired},
    lab::{host::Host, link},
};

const BRIDGE: &str = "br0";
const VXLAN: &str = "vx0";

/// A vxlan device that learns nothing, with the other VM's address entered, and a bridge between it and the port.
pub(super) fn vxlan(wired: &Wired) -> Result<()> {
    for side in 0..2 {
        let (host, other) = (&wired.hosts[side], &wired.hosts[1 - side]);
        let (local, remote, mac) = (host.addr, other.addr, wired.vms[1 - side].mac);
        host.ns.ip(&format!(
            "link add name {VXLAN} mtu {VM_MTU} type vxlan id {VNI} local {local} dstport 4789 noudpcsum nolearning"
        ))?;
        join(wired, side, VXLAN)?;
        let absent = wired.setting.absent_vteps().filter(|_| side == 0);
        for vtep in iter::once(remote).chain(absent) {
            host.ns.bridge(&format!("fdb append 00:00:00:00:00:00 dev {VXLAN} dst {vtep}"))?;
        }
        host.ns.bridge(&format!("fdb append {mac} dev {VXLAN} dst {remote}"))?;
    }
    Ok(())
}

/// The underlay NIC and the port on one bridge.
pub(super) fn bridge(wired: &Wired) -> Result<()> {
    (0..2).try_for_each(|side| join(wired, side, Host::NIC))
}

/// Puts an interface and the port on a bridge.
pub(super) fn join(wired: &Wired, side: usize, uplink: &str) -> Result<()> {
    let ns = &wired.hosts[side].ns;
    link::bridge(ns, BRIDGE, VM_MTU)?;
    for name in [uplink, &wired.vms[side].port] {
        link::enslave(ns, name, BRIDGE)?;
    }
    ns.ip(&format!("link set dev {uplink} up"))?;
    Ok(())
}
