//! Which CPU does what: senders on one, receivers on another, as their machines would.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// One side of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Generators, clients.
    Sender,
    /// Sinks, servers.
    Receiver,
}

/// Keeps the calling thread on the first CPU that this process may use (senders) or on the second one (receivers; the first
/// again if it is alone).
pub(super) fn pin(side: Side) -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(std::process::id() as i32)).context("asking for the CPUs")?;
    let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let first = cpus.next().context("no CPU to run on")?;
    let cpu = if side == Side::Sender { first } else { cpus.next().unwrap_or(first) };
    let mut set = CpuSet::new();
    set.set(cpu).context("naming a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to CPU {cpu}"))
}
