//! The order of measurement: round by round, so that what disturbs the machine disturbs everybody.

use std::{thread, time::Duration};

use anyhow::{Context, Result};

use super::{
    case::{Case, duel, frames, program, scrape, tcp},
    contender::Contender,
    report::Report,
    rig::Rig,
    rtt,
    setting::Setting,
    turns::Turns,
};
use crate::lab::Lab;

/// How much to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Cases; empty: all.
    pub cases: Vec<Case>,
    /// Who; empty: everybody.
    pub contenders: Vec<Contender>,
    /// Runs of each case and contender.
    pub runs: usize,
    /// How long a run measures.
    pub time: Duration,
    /// Idle time before each run, which lets queues drain and CPUs cool.
    pub idle: Duration,
}

impl Plan {
    /// What the published figures come from: about seven minutes.
    pub const FULL: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        runs: 5,
        time: Duration::from_millis(2500),
        idle: Duration::from_secs(1),
    };
    /// For a look while developing: about a minute.
    pub const QUICK: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        runs: 3,
        time: Duration::from_millis(600),
        idle: Duration::from_millis(200),
    };

    fn wants(&self, case: Case) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }

    fn contenders(&self) -> Vec<Contender> {
        Contender::ALL.into_iter().filter(|c| self.contenders.is_empty() || self.contenders.contains(c)).collect()
    }
}

/// Cases that one measurement answers together, by setting.
const TOGETHER: [(Setting, &[Case]); 16] = [
    (Setting::Plain, &[Case::SmallFrames]),
    (Setting::Plain, &[Case::Encap]),
    (Setting::Plain, &[Case::Decap]),
    (Setting::Plain, &[Case::Tcp1]),
    (Setting::Plain, &[Case::Tcp4]),
    (Setting::Plain, &[Case::Tcp8Receive]),
    (Setting::Plain, &[Case::RttP50, Case::RttP99]),
    (Setting::PacketRate, &[Case::SmallFramesPacketRate]),
    (Setting::PacketRate, &[Case::EncapPacketRate]),
    (Setting::TapReceiver, &[Case::UdpToTap]),
    (Setting::TapReceiver, &[Case::Tcp1Tap]),
    (Setting::TapSender, &[Case::UdpFromTap]),
    (Setting::TapSender, &[Case::Tcp1FromTap]),
    (Setting::Flood(1), &[Case::Flood1]),
    (Setting::Flood(8), &[Case::Flood8]),
    (Setting::Flood(64), &[Case::Flood64]),
];

/// Carries out a plan.
///
/// # Errors
/// Something cannot be set up, or a contender does not do what it is measured for: what, and which.
pub fn run(lab: &Lab, plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let turns = Turns::new(plan.runs);
    let groups = TOGETHER.into_iter().filter(|(_, cases)| cases.iter().any(|c| plan.wants(*c)));
    let mut there = None;
    for (setting, cases) in groups {
        // Rigs are kept for the next cases that want the same.
        let (_, mut rigs) = match there.take() {
            Some((same, rigs)) if same == setting => (same, rigs),
            old => {
                drop(old);
                (setting, rigs(lab, plan, setting)?)
            }
        };
        let names: Vec<_> = rigs.iter().map(|rig| rig.contender.name()).collect();
        let samples = turns.take(cases, &names, |index| measure(&mut rigs[index], plan, cases))?;
        for (i, case) in cases.iter().enumerate().filter(|(_, case)| plan.wants(**case)) {
            let figures: Vec<_> = rigs.iter().zip(&samples).map(|(rig, s)| (rig.contender, s[i].clone())).collect();
            report.add(*case, &figures);
        }
        if plan.wants(Case::RttP50) && cases.contains(&Case::RttP50) {
            for (rig, samples) in rigs.iter().zip(&samples) {
                let points = rtt::PERCENTILES.into_iter().zip(&samples[cases.len()..]);
                report.add_curve(Case::RttP50, rig.contender, "percentile", points);
            }
        }
        there = Some((setting, rigs));
    }
    drop(there);
    for case in Case::ALL.iter().filter(|case| plan.wants(**case)) {
        for (variant, set_up) in duel::of(*case) {
            let mut duel = set_up(lab).with_context(|| format!("setting up {case}"))?;
            let lanes = duel.lanes();
            let names: Vec<_> = lanes.iter().map(|lane| lane.name.as_str()).collect();
            let samples = turns.take(&[*case], &names, |lane| {
                thread::sleep(plan.idle);
                Ok(vec![duel.run(lane, plan.time)?])
            })?;
            report.add_duel(*case, *variant, &lanes, &samples);
        }
    }
    if plan.wants(Case::ProgramNs) {
        for figure in program::measure(lab, plan.runs).context(Case::ProgramNs.name())? {
            report.add_own(Case::ProgramNs, figure.variant, &figure.runs);
        }
    }
    if plan.wants(Case::Scrape) {
        let runs = scrape::measure(lab, plan.runs).context(Case::Scrape.name())?;
        report.add_own(Case::Scrape, scrape::VARIANT.to_owned(), &runs);
    }
    Ok(report)
}

/// Those who can do what a setting asks for, in place.
fn rigs(lab: &Lab, plan: &Plan, setting: Setting) -> Result<Vec<Rig>> {
    let build = |contender| -> Result<Rig> {
        let rig = Rig::build(lab, contender, setting).with_context(|| format!("setting up {contender}"))?;
        rtt::prime(&rig)?;
        Ok(rig)
    };
    plan.contenders().into_iter().filter(|contender| setting.takes(*contender)).map(build).collect()
}

/// One run: one figure for each of the cases, and behind them the points of a curve.
fn measure(rig: &mut Rig, plan: &Plan, cases: &[Case]) -> Result<Vec<f64>> {
    thread::sleep(plan.idle);
    rtt::prime(rig)?;
    let before = rig.detours()?;
    let figures = match cases[0] {
        Case::Tcp1 | Case::Tcp1Tap | Case::Tcp1FromTap => vec![tcp::measure(rig, 1, plan.time)?],
        Case::Tcp4 => vec![tcp::measure(rig, 4, plan.time)?],
        Case::Tcp8Receive => vec![tcp::measure(rig, 8, plan.time)?],
        Case::RttP50 => {
            let rtt = rtt::measure(rig, plan.time)?;
            [&[rtt.p50, rtt.p99][..], &rtt.percentiles].concat()
        }
        case => vec![frames::measure(rig, case, plan.time)?],
    };
    if let (Some(before), Some(after)) = (before, rig.detours()?) {
        after.none_since(&before, matches!(rig.wired.setting, Setting::Flood(_)))?;
    }
    Ok(figures)
}
