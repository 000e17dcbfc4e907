//! CPUs that this process may use, and which of them a thread keeps to.

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Keeps the calling thread on the CPU of this number among those that the process may use; they are counted round and round.
/// Returns the kernel's number of it.
///
/// # Errors
/// What the kernel says.
pub fn pin(number: usize) -> Result<usize> {
    let cpus = usable()?;
    let cpu = cpus[number % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu).context("naming a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to CPU {cpu}"))?;
    Ok(cpu)
}

/// The kernel's numbers of the CPUs that the process (its first thread) may use: one or more.
///
/// # Errors
/// What the kernel says.
pub fn usable() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(std::process::id() as i32)).context("asking for the CPUs")?;
    let cpus: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
    anyhow::ensure!(!cpus.is_empty(), "no CPU to run on");
    Ok(cpus)
}
