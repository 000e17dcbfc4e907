//! Small frames: how many a second get through.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{
    affinity::{Side, pin},
    case::Case,
    rig::Rig,
};
use crate::lab::programs::abi::Counter;

/// Frames that one test run sends: some tens of milliseconds, so that a run ends in time.
const BURST: u32 = 16_384;

/// Sends small frames for a while; frames per second that arrived.
pub(super) fn measure(rig: &mut Rig, case: Case, time: Duration) -> Result<f64> {
    let (from, at) = match case {
        Case::Encap => (rig.at_vm()?, Counter::Wire),
        Case::Decap => (rig.at_wire()?, Counter::Sink),
        _ => (rig.at_vm()?, Counter::Sink),
    };
    rig.hold_at_wire(at == Counter::Wire)?;
    let counted = send(rig, from, at, time);
    rig.hold_at_wire(false)?;
    counted
}

fn send(
    rig: &mut Rig,
    (ns, ifindex, frame): (crate::lab::netns::Netns, u32, Vec<u8>),
    at: Counter,
    time: Duration,
) -> Result<f64> {
    let programs = &mut rig.programs;
    let (sent, counted, took) = ns.enter(|| {
        pin(Side::Sender)?;
        // Caches, page pools and neighbours warm up.
        programs.send(ifindex, &frame, BURST)?;
        let (before, start) = (programs.count(at)?, Instant::now());
        let mut sent = 0u64;
        while start.elapsed() < time {
            programs.send(ifindex, &frame, BURST)?;
            sent += u64::from(BURST);
        }
        Ok((sent, programs.count(at)? - before, start.elapsed()))
    })?;
    ensure!(counted > 0, "none of {sent} frames arrived");
    // What was queued at the start may arrive on top, rings' worth at the most.
    ensure!(counted <= sent + 8192, "{counted} frames arrived of {sent} sent: somebody duplicates them");
    let rate = counted as f64 / took.as_secs_f64();
    rate.is_finite().then_some(rate).context("the clock stood still")
}
