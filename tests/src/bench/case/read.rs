//! The agent reads a forwarding table of 100,000 MACs: how long it takes, and what it costs the datapath.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{
    duel::{Duel, Lane},
    frames,
    scale::{MACS, Scale, beat},
};
use crate::{
    bench::{
        affinity::{Side, pin},
        pinned::Pinned,
    },
    lab::Lab,
};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);

/// Reads that are timed, of a table that programs look into at full rate and of one that they leave alone.
pub(super) struct Timed(Scale);

/// Frames that are counted, with an agent that reads without a pause and with one that does not.
pub(super) struct Beside(Scale);

impl Timed {
    pub(super) fn set_up(lab: &Lab) -> Result<Timed> {
        Ok(Timed(Scale::macs(lab)?))
    }
}

impl Beside {
    pub(super) fn set_up(lab: &Lab) -> Result<Beside> {
        Ok(Beside(Scale::macs(lab)?))
    }
}

impl Duel for Timed {
    fn lanes(&self) -> Vec<Lane> {
        vec![Lane::named("forwarding"), Lane::named("idle datapath")]
    }

    /// Nanoseconds of one read, median.
    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        let measure = |sides: &mut [Pinned; 2]| {
            let start = Instant::now();
            let reading = || read_until(sides, |reads| reads >= 10 && start.elapsed() >= time);
            // In a thread of its own, which ends with its choice of CPU.
            let reading = thread::scope(|scope| scope.spawn(reading).join());
            let mut times = reading.map_err(|_| anyhow!("the reader panicked"))??;
            times.sort_by(f64::total_cmp);
            Ok(times[times.len() / 2])
        };
        if lane == 0 { self.0.forwarding(MACS, |sides, _| measure(sides)) } else { measure(self.0.sides()) }
    }
}

impl Duel for Beside {
    fn lanes(&self) -> Vec<Lane> {
        vec![Lane::named("the agent reads"), Lane::named("it does not")]
    }

    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        self.0.forwarding(MACS, |sides, frames| {
            if lane != 0 {
                return frames::rate(time, || beat(sides), frames);
            }
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let reading = scope.spawn(|| read_until(sides, |_| stop.load(Ordering::Relaxed)));
                let rate = frames::rate(time, frames::no_beat, frames);
                stop.store(true, Ordering::Relaxed);
                let reads = reading.join().map_err(|_| anyhow!("the reader panicked"))??;
                ensure!(!reads.is_empty(), "the agent has not read once");
                rate
            })
        })
    }
}

/// Reads the first side's table as the agent does when it is asked for its entries, until so many reads are enough; nanoseconds of
/// each. The first one, which maps pages, does not count. The datapath works on the senders' CPU; the calling thread goes to the
/// other one, for good.
fn read_until(sides: &mut [Pinned; 2], is_enough: impl Fn(usize) -> bool) -> Result<Vec<f64>> {
    pin(Side::Receiver)?;
    let (mut times, mut beaten, mut is_first) = (Vec::new(), Instant::now(), true);
    while !is_enough(times.len()) {
        if beaten.elapsed() >= BEAT {
            beat(sides)?;
            beaten = Instant::now();
        }
        let table = sides[0].datapath()?.fdb();
        let (start, mut entries) = (Instant::now(), Vec::new());
        table.for_each(|entry| entries.push(entry));
        let took = start.elapsed();
        ensure!(entries.len() as u32 >= MACS - MACS / 100, "{} entries were read", entries.len());
        if !std::mem::take(&mut is_first) {
            times.push(took.as_nanos() as f64);
        }
    }
    Ok(times)
}
