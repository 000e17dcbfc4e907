//! Port and underlay NIC, or two ports, joined by programs that redirect and do nothing else: what XDP and TC can do at most, without an overlay.

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
pub(super) fn xdp(wired: &Wired) -> Result<Vec<Programs>> {
    for vm in &wired.vms {
        // XDP loses what the kernel knows about unfinished checksums: nobody behind it would finish them.
        link::offload(&vm.ns, Vm::NIC, "tx off")?;
    }
    both(wired, Programs::redirect_xdp)
}

/// In TC.
pub(super) fn tc(wired: &Wired) -> Result<Vec<Programs>> {
    both(wired, Programs::redirect_tc)
}

type Join = fn(&mut Programs, &Netns, [&str; 2]) -> Result<()>;

fn both(wired: &Wired, join: Join) -> Result<Vec<Programs>> {
    let install = |side: usize| -> Result<Option<Programs>> {
        let mut ends = wired.vms_of(side).map(|(_, vm)| &*vm.port).chain([Host::NIC]);
        let (Some(one), Some(other)) = (ends.next(), ends.next()) else { return Ok(None) };
        let mut programs = Programs::load()?;
        join(&mut programs, &wired.hosts[side].ns, [one, other])?;
        Ok(Some(programs))
    };
    Ok([install(0)?, install(1)?].into_iter().flatten().collect())
}
