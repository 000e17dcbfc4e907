//! Cases that compare us with ourselves, or a part of us with a part of the kernel: no other contender has what is measured.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Case, lookup, queues, read, scale};
use crate::{
    bench::{affinity::Side, case::frames, contender::Contender, rig::Rig, rtt, sender::Sender, setting::Setting},
    lab::{
        Lab,
        programs::abi::{Counter, Vary},
    },
};

/// One of the sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::bench) struct Lane {
    /// What it is, in a few words.
    pub(in crate::bench) name: String,
    /// Its place on the horizontal axis, where the sides are points of a curve.
    pub(in crate::bench) at: Option<u32>,
}

impl Lane {
    pub(super) fn named(name: &str) -> Lane {
        Lane { name: name.to_owned(), at: None }
    }
}

/// Several sides that are measured in turns: ours, then what it is compared with, then more points of a curve.
pub(in crate::bench) trait Duel {
    /// The sides: two or more.
    fn lanes(&self) -> Vec<Lane>;

    /// One run of one side.
    fn run(&mut self, lane: usize, time: Duration) -> Result<f64>;
}

/// Whatever has to be set up for one figure.
type Setup = fn(&Lab) -> Result<Box<dyn Duel>>;

/// The duels of a case; the first one is the case's own figure, others have a variant's name.
pub(in crate::bench) const fn of(case: Case) -> &'static [(Option<&'static str>, Setup)] {
    match case {
        Case::LearnOn => &[(None, |lab| Ok(Box::new(Learning::set_up(lab)?)))],
        Case::Queues2 => &[
            (None, |lab| Ok(Box::new(queues::Queues::decapsulating(lab)?))),
            (Some("forwarding, packet-rate ports"), |lab| Ok(Box::new(queues::Queues::forwarding(lab)?))),
        ],
        Case::ScaleMacs => &[(None, |lab| Ok(Box::new(scale::Scale::macs(lab)?)))],
        Case::ScaleVteps => &[(None, |lab| Ok(Box::new(scale::Scale::vteps(lab)?)))],
        Case::ScaleVnis => &[(None, |lab| Ok(Box::new(scale::Scale::vnis(lab)?)))],
        Case::FdbLookup1k => &[
            (None, |_| Ok(Box::new(lookup::Lookup::among(1_000)?))),
            (Some(CHAINED), |_| Ok(Box::new(lookup::Lookup::chained(1_000)?))),
        ],
        Case::FdbLookup100k => &[
            (None, |_| Ok(Box::new(lookup::Lookup::among(100_000)?))),
            (Some(CHAINED), |_| Ok(Box::new(lookup::Lookup::chained(100_000)?))),
        ],
        Case::FdbRead100k => &[(None, |lab| Ok(Box::new(read::Timed::set_up(lab)?)))],
        Case::ForwardBesideRead => &[(None, |lab| Ok(Box::new(read::Beside::set_up(lab)?)))],
        _ => &[],
    }
}

/// How many sides of a case are measured: two, and with `curves` those between the ends of one.
pub(in crate::bench) const fn sides(case: Case, curves: bool) -> usize {
    if curves && matches!(case, Case::ScaleMacs) { 4 } else { 2 }
}

const CHAINED: &str = "each waits for the last";

/// Decapsulation of frames from many sources, with an agent that learns and one that does not.
struct Learning {
    rigs: [Rig; 2],
}

impl Learning {
    fn set_up(lab: &Lab) -> Result<Learning> {
        let on = Rig::build(lab, Contender::Wavnet, Setting::Plain).context("with learning")?;
        let off = Rig::build(lab, Contender::Wavnet, Setting::NoLearning).context("without learning")?;
        Ok(Learning { rigs: [on, off] })
    }
}

/// Sources behind the wire.
const SOURCES: u32 = 10_000;
/// The lower four octets of the inner source MAC.
const SOURCE_AT: u32 = wavnet_common::datapath::OUTER_LEN as u32 + 6 + 2;

impl Duel for Learning {
    fn lanes(&self) -> Vec<Lane> {
        vec![Lane::named("learning"), Lane::named("no learning")]
    }

    fn run(&mut self, lane: usize, time: Duration) -> Result<f64> {
        let rig = &mut self.rigs[lane];
        let vary = Vary { at: SOURCE_AT, first: 0x1_0000, step: 1, count: SOURCES };
        guarded(rig, |rig| {
            let sender = Sender::start(&rig.at_wire()?, rig.programs.varied_sender(vary)?, Side::Sender)?;
            let rate = frames::rate(time, frames::no_beat, || rig.programs.count(Counter::Sink))?;
            sender.stop()?;
            Ok(rate)
        })
    }
}

/// Measures something after the VMs have met, and fails if frames took another way than the one that is measured.
pub(super) fn guarded(rig: &mut Rig, measure: impl FnOnce(&mut Rig) -> Result<f64>) -> Result<f64> {
    rtt::prime(rig)?;
    let before = rig.detours()?;
    let figure = measure(rig)?;
    if let (Some(before), Some(after)) = (before, rig.detours()?) {
        after.none_since(&before, false)?;
    }
    Ok(figure)
}
