//! Small frames: how many a second get through.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{case::Case, rig::Rig, sender::Sender};
use crate::lab::programs::abi::Counter;

/// Before counting begins.
pub(super) const WARM_UP: Duration = Duration::from_millis(150);

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

/// Frames per second that are counted between two moments while frames are sent without a pause.
fn send(
    rig: &mut Rig,
    (ns, ifindex, frame): (crate::lab::netns::Netns, u32, Vec<u8>),
    at: Counter,
    time: Duration,
) -> Result<f64> {
    let program = rig.programs.sender()?.try_clone()?;
    let sender = Sender::start(ns, program, ifindex, frame)?;
    // Caches, page pools and neighbours warm up.
    thread::sleep(WARM_UP);
    let (before, start) = (rig.programs.count(at)?, Instant::now());
    thread::sleep(time);
    let (after, took) = (rig.programs.count(at)?, start.elapsed());
    sender.stop()?;
    ensure!(after > before, "no frame arrived");
    Ok((after - before) as f64 / took.as_secs_f64())
}
