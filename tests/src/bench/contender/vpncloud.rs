//! vpncloud in switch mode, without encryption: its fastest.

use anyhow::Result;

use super::{
    kernel,
    tools::{start, wait_interface},
};
use crate::{
    bench::rig::{VM_MTU, Wired},
    lab::{host::Host, process::Process},
};

/// What must be there.
pub(super) const PROGRAMS: [&str; 1] = ["vpncloud"];

const TAP: &str = "vc0";
const PORT: u16 = 3210;

pub(super) fn run(wired: &Wired) -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for (side, host) in wired.hosts.iter().enumerate() {
        let peer = wired.hosts[1 - side].addr;
        // It looks for one when it starts, and panics if there is none.
        host.ns.ip(&format!("route add default dev {}", Host::NIC))?;
        let words = format!(
            "-q -t tap -m switch -d {TAP} -l {PORT} -c {peer}:{PORT} -p secret --no-port-forwarding --algorithm plain"
        );
        let mut vpncloud = start(host, "vpncloud", &words)?;
        wait_interface(host, &mut vpncloud, TAP, VM_MTU)?;
        kernel::join(wired, side, TAP)?;
        processes.push(vpncloud);
    }
    Ok(processes)
}
