//! Port and underlay NIC joined by programs that redirect and do nothing else: what XDP and TC can do at most, without an overlay.

use anyhow::Result;

use crate::{
    bench::rig::Wired,
    lab::{
        host::{Host, Vm},
        link,
        netns::Netns,
        programs::Programs,
    },
};

/// In XDP.
pub(super) fn xdp(wired: &Wired) -> Result<[Programs; 2]> {
    for vm in &wired.vms {
        // XDP loses what the kernel knows about unfinished checksums: nobody behind it would finish them.
        link::offload(&vm.ns, Vm::NIC, "tx off")?;
    }
    both(wired, Programs::redirect_xdp)
}

/// In TC.
pub(super) fn tc(wired: &Wired) -> Result<[Programs; 2]> {
    both(wired, Programs::redirect_tc)
}

type Join = fn(&mut Programs, &Netns, [&str; 2]) -> Result<()>;

fn both(wired: &Wired, join: Join) -> Result<[Programs; 2]> {
    let install = |side: usize| -> Result<Programs> {
        let mut programs = Programs::load()?;
        join(&mut programs, &wired.hosts[side].ns, [&wired.vms[side].port, Host::NIC])?;
        Ok(programs)
    };
    Ok([install(0)?, install(1)?])
}
