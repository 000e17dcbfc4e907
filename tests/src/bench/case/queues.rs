//! Two CPUs with a queue each against one: nothing may be written by both for each frame.

use std::time::Duration;

use anyhow::Result;

use super::duel::{Duel, Lane, guarded};
use crate::{
    bench::{
        affinity::Side, case::frames, contender::Contender, rig::Rig, sender::Sender, sender::Stream, setting::Setting,
    },
    lab::{Lab, programs::abi::Counter},
};

/// Generators on one or both CPUs. A generator's frames arrive by the queue of its CPU, and are handled there.
pub(super) struct Queues {
    rig: Rig,
    from: fn(&Rig) -> Result<Stream>,
}

impl Queues {
    /// From the wire's end to a VM.
    pub(super) fn decapsulating(lab: &Lab) -> Result<Queues> {
        Ok(Queues { rig: Rig::build(lab, Contender::Wavnet, Setting::TwoQueues)?, from: Rig::at_wire })
    }

    /// From VM to VM, by ports in packet-rate mode.
    pub(super) fn forwarding(lab: &Lab) -> Result<Queues> {
        Ok(Queues { rig: Rig::build(lab, Contender::Wavnet, Setting::TwoQueuesPacketRate)?, from: Rig::at_vm })
    }
}

impl Duel for Queues {
    fn lanes(&self) -> Vec<Lane> {
        vec![Lane::named("2 queues"), Lane::named("1 queue")]
    }

    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        let sides: &[Side] = if lane == 0 { &[Side::Sender, Side::Receiver] } else { &[Side::Sender] };
        let from = self.from;
        guarded(&mut self.rig, |rig| {
            let stream = from(rig)?;
            let program = rig.programs.sender()?;
            let senders =
                sides.iter().map(|side| Sender::start(&stream, program, *side)).collect::<Result<Vec<_>>>()?;
            let rate = frames::rate(time, frames::no_beat, || rig.programs.count(Counter::Sink))?;
            senders.into_iter().try_for_each(Sender::stop)?;
            Ok(rate)
        })
    }
}
