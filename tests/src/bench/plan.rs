//! The order of measurement: round by round, so that what disturbs the machine disturbs everybody.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    case::Case,
    contender::Contender,
    frames,
    overlay::{Detours, Overlay},
    program,
    report::{Report, human},
    rig::Rig,
    rtt, scrape, tcp,
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

/// Cases that one measurement answers together.
const TOGETHER: [&[Case]; 6] =
    [&[Case::SmallFrames], &[Case::Encap], &[Case::Decap], &[Case::Tcp1], &[Case::Tcp4], &[Case::RttP50, Case::RttP99]];

/// Carries out a plan.
///
/// # Errors
/// Something cannot be set up, or a contender does not do what it is measured for: what, and which.
pub fn run(lab: &Lab, plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let start = Instant::now();
    let groups: Vec<_> = TOGETHER.into_iter().filter(|cases| cases.iter().any(|c| plan.wants(*c))).collect();
    let mut rigs = Vec::new();
    if !groups.is_empty() {
        for contender in plan.contenders() {
            let rig = Rig::build(lab, contender).with_context(|| format!("setting up {contender}"))?;
            rtt::prime(&rig)?;
            rigs.push(rig);
        }
    }
    for cases in groups {
        let mut samples = vec![vec![Vec::new(); cases.len()]; rigs.len()];
        for round in 0..plan.runs {
            // Whoever comes first may find a cooler machine: take turns.
            for turn in 0..rigs.len() {
                let index = (turn + round) % rigs.len();
                let (rig, samples) = (&mut rigs[index], &mut samples[index]);
                let figures = measure(rig, plan, cases).with_context(|| format!("{}, {}", cases[0], rig.contender))?;
                let shown: Vec<_> = cases.iter().zip(&figures).map(|(c, f)| human(*f, c.unit())).collect();
                let seconds = start.elapsed().as_secs();
                eprintln!(
                    "{seconds:4} s  {:<12} {:>2}/{}  {:<12} {}",
                    cases[0],
                    round + 1,
                    plan.runs,
                    rig.contender,
                    shown.join(", ")
                );
                samples.iter_mut().zip(figures).for_each(|(runs, figure)| runs.push(figure));
            }
        }
        for (i, case) in cases.iter().enumerate().filter(|(_, case)| plan.wants(**case)) {
            let figures: Vec<_> = rigs.iter().zip(&samples).map(|(rig, s)| (rig.contender, s[i].clone())).collect();
            report.add(*case, &figures);
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

/// One run: one figure for each of the cases.
fn measure(rig: &mut Rig, plan: &Plan, cases: &[Case]) -> Result<Vec<f64>> {
    thread::sleep(plan.idle);
    rtt::prime(rig)?;
    let before = detours(rig)?;
    let figures = match cases[0] {
        Case::Tcp1 => vec![tcp::measure(rig, 1, plan.time)?],
        Case::Tcp4 => vec![tcp::measure(rig, 4, plan.time)?],
        Case::RttP50 => {
            let rtt = rtt::measure(rig, plan.time)?;
            vec![rtt.p50, rtt.p99]
        }
        case => vec![frames::measure(rig, case, plan.time)?],
    };
    if let (Some(before), Some(after)) = (before, detours(rig)?) {
        after.none_since(&before)?;
    }
    Ok(figures)
}

fn detours(rig: &Rig) -> Result<Option<Detours>> {
    rig.overlay.as_ref().map(Overlay::detours).transpose()
}
