//! The loaded kernel programs run on packets of a test's choice, beside the same decisions on the host.

mod host;
mod packets;
mod test_run;

use std::{os::fd::AsFd, path::Path};

use anyhow::{Context, Result, ensure};
use aya::{
    maps::MapInfo,
    programs::{ProgramFd, ProgramInfo, loaded_programs},
};
use wavnet_common::abi::{map, program};

pub use host::{HostTables, Run};
pub use packets::{LOCAL, MEMBER, NOT_MEMBER, Packet, any_packet, vm};
pub use test_run::{Output, test_run};

/// The three programs that an open datapath has loaded.
#[derive(Debug)]
pub struct Programs {
    /// `underlay_xdp`.
    pub underlay_xdp: ProgramFd,
    /// `underlay_tc`.
    pub underlay_tc: ProgramFd,
    /// `port_tc`.
    pub port_tc: ProgramFd,
}

impl Programs {
    /// Finds them among all programs of the machine: those that use the map pinned in `pins`.
    ///
    /// # Errors
    /// They are not there.
    pub fn of(pins: &Path) -> Result<Programs> {
        let config = MapInfo::from_pin(pins.join("maps").join(map::CONFIG))
            .or_else(|_| MapInfo::from_pin(pins.join(map::CONFIG)))
            .context("the pinned map CONFIG")?;
        let find = |name: &str| -> Result<ProgramFd> {
            let mine = |info: &ProgramInfo| {
                let uses = info.map_ids().ok().flatten().is_some_and(|ids| ids.contains(&config.id()));
                uses && info.name_as_str() == Some(name)
            };
            let found = loaded_programs().flatten().find(mine).with_context(|| format!("{name} is not loaded"))?;
            Ok(found.fd()?)
        };
        Ok(Programs {
            underlay_xdp: find(program::UNDERLAY_XDP)?,
            underlay_tc: find(program::UNDERLAY_TC)?,
            port_tc: find(program::PORT_TC)?,
        })
    }
}

/// Compares what the kernel made of a packet with what the host made of it.
///
/// # Errors
/// They differ: how.
pub fn same(what: &str, packet: &[u8], host: &Run, kernel: &Output) -> Result<()> {
    let hex = super::lab::raw::hex;
    ensure!(
        host.action == kernel.action,
        "{what}: the host says {} ({:?}), the kernel {}, of {}",
        host.action,
        host.verdict,
        kernel.action,
        hex(packet)
    );
    if let Some(bytes) = &host.bytes {
        ensure!(
            *bytes == kernel.bytes,
            "{what}: of {} the host made {} and the kernel {}",
            hex(packet),
            hex(bytes),
            hex(&kernel.bytes)
        );
    }
    Ok(())
}

/// Runs a loaded program over a packet.
///
/// # Errors
/// See [`test_run`].
pub fn run_kernel(program: &ProgramFd, packet: &[u8]) -> Result<Output> {
    test_run(program.as_fd(), packet)
}
