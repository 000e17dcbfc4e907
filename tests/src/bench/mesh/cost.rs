//! What processes cost while their VMs are silent: CPU, memory, and bytes on the internet.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    meter::Meter,
    report::{Cost, Percentiles},
};
use crate::{lab::netns::Netns, rendezvous::cpu_seconds};

/// A host's process, and the internet's interface that its packets pass.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) pid: u32,
    pub(super) interface: String,
}

/// Watches for a while.
pub(super) fn watch(internet: &Netns, members: &[Member], time: Duration) -> Result<Cost> {
    let interfaces: Vec<_> = members.iter().map(|member| member.interface.clone()).collect();
    let cpu = || members.iter().map(|member| cpu_seconds(member.pid)).collect::<Result<Vec<_>>>();
    let meter = Meter::start(internet, &interfaces)?;
    let (before, cpu_before, start) = (meter.read()?, cpu()?, Instant::now());
    thread::sleep(time);
    let (after, cpu_after, took) = (meter.read()?, cpu()?, start.elapsed().as_secs_f64());
    let percent: Vec<_> = cpu_before.iter().zip(&cpu_after).map(|(a, b)| (b - a) / took * 100.0).collect();
    let pids = || members.iter().map(|member| member.pid);
    let resident = pids().map(|pid| mebibytes(pid, "VmRSS")).collect::<Result<Vec<_>>>()?;
    let private = pids().map(|pid| mebibytes(pid, "RssAnon")).collect::<Result<Vec<_>>>()?;
    let rate = |get: fn(&super::meter::Traffic) -> u64| {
        let rates: Vec<_> = before.iter().zip(&after).map(|(a, b)| (get(b) - get(a)) as f64 / took).collect();
        Percentiles::of(&rates)
    };
    Ok(Cost {
        seconds: took,
        cpu_percent: Percentiles::of(&percent),
        resident_mib: Percentiles::of(&resident),
        private_mib: Percentiles::of(&private),
        sent: rate(|traffic| traffic.sent.bytes),
        received: rate(|traffic| traffic.received.bytes),
        pulses_sent: rate(|traffic| traffic.pulses_sent.bytes),
        pulses_received: rate(|traffic| traffic.pulses_received.bytes),
        pulses_per_second: rate(|traffic| traffic.pulses_sent.packets),
    })
}

/// A line of a process's status, which counts in KiB.
fn mebibytes(pid: u32, key: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    value(&status, key).with_context(|| format!("process {pid} has no {key}"))
}

fn value(status: &str, key: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: f64 = rest.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_line_of_that_name() {
        let status = "VmRSSx:\t 1 kB\nVmRSS:\t  2048 kB\nRssAnon:\t 512 kB\n";
        assert_eq!((value(status, "VmRSS"), value(status, "RssAnon")), (Some(2.0), Some(0.5)));
        assert_eq!(value(status, "VmHWM"), None);
    }
}
