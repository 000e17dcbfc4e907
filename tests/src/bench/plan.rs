//! The order of measurement: round by round, so that what disturbs the machine disturbs everybody.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{
    case::Case,
    contender::{Contender, Detours, Overlay},
    estimate, frames,
    machine::{Disturbance, Patience, Watch},
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
    /// Who; empty: `usual`.
    pub contenders: Vec<Contender>,
    /// Who is measured unless others are asked for.
    pub usual: &'static [Contender],
    /// Runs of each case and contender.
    pub runs: usize,
    /// Runs, at most, of programs in user space, which are far from the others.
    pub slow_runs: usize,
    /// How long a run measures.
    pub time: Duration,
    /// Idle time before each run, which lets queues drain and CPUs cool; zero: not even an idle machine is waited for.
    pub idle: Duration,
    /// How long to wait for an idle machine, in all.
    pub patience: Duration,
}

impl Plan {
    /// What the published figures come from.
    pub const FULL: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        usual: &Contender::ALL,
        runs: 7,
        slow_runs: 3,
        time: Duration::from_millis(2500),
        idle: Duration::from_secs(1),
        patience: Duration::from_secs(1200),
    };
    /// For a look while developing: two minutes.
    pub const QUICK: Plan = Plan {
        cases: Vec::new(),
        contenders: Vec::new(),
        usual: &Contender::MAIN,
        runs: 3,
        slow_runs: 3,
        time: Duration::from_millis(600),
        idle: Duration::from_millis(500),
        patience: Duration::from_secs(60),
    };

    pub(super) fn wants(&self, case: Case) -> bool {
        self.cases.is_empty() || self.cases.contains(&case)
    }

    /// In the order of [`Contender::ALL`], without those whose programs are missing, which `skipped` then says.
    fn contenders(&self, skipped: &mut Vec<String>) -> Vec<Contender> {
        let asked = if self.contenders.is_empty() { self.usual } else { &self.contenders };
        let there = |contender: &Contender| match contender.missing() {
            None => true,
            Some(why) => {
                skipped.push(format!("skipped: {why}"));
                false
            }
        };
        Contender::ALL.into_iter().filter(|c| asked.contains(c)).filter(there).collect()
    }
}

/// Cases that one measurement answers together.
const TOGETHER: [&[Case]; 7] = [
    &[Case::SmallFrames],
    &[Case::Encap],
    &[Case::Decap],
    &[Case::Tcp1],
    &[Case::Tcp4],
    &[Case::RttP50, Case::RttP99],
    &[Case::RttBlockingP50, Case::RttBlockingP99],
];

/// Carries out a plan.
///
/// # Errors
/// Something cannot be set up, or a contender does not do what it is measured for: what, and which.
pub fn run(lab: &Lab, plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    let contenders = plan.contenders(&mut report.notes);
    let groups = TOGETHER.into_iter().filter(|cases| cases.iter().any(|c| plan.wants(*c)));
    let who = |case: Case| contenders.iter().copied().filter(|c| c.refuses(case).is_none()).collect();
    let work: Vec<(&[Case], Vec<Contender>)> = groups.map(|cases| (cases, who(cases[0]))).collect();
    for (contender, case) in contenders.iter().flat_map(|c| work.iter().map(move |(cases, _)| (c, cases[0]))) {
        report.notes.extend(contender.refuses(case).map(|why| format!("skipped: {case} of {contender}: {why}")));
    }
    report.notes.iter().for_each(|note| eprintln!("{note}"));
    let busy = if work.is_empty() { &[][..] } else { &contenders };
    eprintln!("{}", estimate::sentence(plan, &work, busy));
    let start = Instant::now();
    let mut patience = Patience::new(plan.patience);
    let mut rigs = Vec::new();
    for contender in busy {
        let rig = Rig::build(lab, *contender).with_context(|| format!("setting up {contender}"))?;
        rtt::prime(&rig)?;
        rigs.push(rig);
    }
    for (cases, who) in work {
        let mut rigs: Vec<_> = rigs.iter_mut().filter(|rig| who.contains(&rig.contender)).collect();
        let samples = rounds(&mut rigs, plan, cases, &mut patience, start)?;
        for (i, case) in cases.iter().enumerate().filter(|(_, case)| plan.wants(**case)) {
            let figure = |s: &Vec<Run>| s.iter().map(|run| run.figures[i]).collect();
            let figures: Vec<_> = rigs.iter().zip(&samples).map(|(rig, s)| (rig.contender, figure(s))).collect();
            report.add(*case, &figures);
        }
        for (rig, runs) in rigs.iter().zip(&samples) {
            let disturbances: Vec<_> = runs.iter().map(|run| run.disturbance).collect();
            report.add_disturbance(cases, rig.contender, &disturbances);
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

/// One measurement of one contender.
struct Run {
    /// One for each of its cases.
    figures: Vec<f64>,
    disturbance: Disturbance,
}

/// Measures everybody in turns; the runs of each.
fn rounds(
    rigs: &mut [&mut Rig],
    plan: &Plan,
    cases: &[Case],
    patience: &mut Patience,
    start: Instant,
) -> Result<Vec<Vec<Run>>> {
    let mut samples: Vec<Vec<Run>> = rigs.iter().map(|_| Vec::new()).collect();
    for round in 0..plan.runs {
        // Whoever comes first may find a cooler machine: take turns.
        for turn in 0..rigs.len() {
            let index = (turn + round) % rigs.len();
            let rig = &mut *rigs[index];
            let runs = rig.contender.runs(plan);
            if round >= runs {
                continue;
            }
            if let Some(busy) = patience.wait_idle(plan.idle)? {
                eprintln!(
                    "        the machine does not become idle ({:.0} % busy): measuring all the same",
                    busy * 100.0
                );
            }
            let run = measure(rig, plan, cases).with_context(|| format!("{}, {}", cases[0], rig.contender))?;
            let shown: Vec<_> = cases.iter().zip(&run.figures).map(|(c, f)| human(*f, c.unit())).collect();
            let (seconds, who, shown) = (start.elapsed().as_secs(), rig.contender, shown.join(", "));
            eprintln!("{seconds:4} s  {:<16} {:>2}/{runs}  {who:<14} {shown}", cases[0], round + 1);
            samples[index].push(run);
        }
    }
    Ok(samples)
}

/// One run.
fn measure(rig: &mut Rig, plan: &Plan, cases: &[Case]) -> Result<Run> {
    rtt::prime(rig)?;
    let before = detours(rig)?;
    let watch = Watch::start()?;
    let figures = match cases[0] {
        Case::Tcp1 => vec![tcp::measure(rig, 1, plan.time)?],
        Case::Tcp4 => vec![tcp::measure(rig, 4, plan.time)?],
        Case::RttP50 => round_trips(rig, rtt::Wait::Polling, plan)?,
        Case::RttBlockingP50 => round_trips(rig, rtt::Wait::Blocking, plan)?,
        case => vec![frames::measure(rig, case, plan.time)?],
    };
    let disturbance = watch.end()?;
    if let (Some(before), Some(after)) = (before, detours(rig)?) {
        after.none_since(&before)?;
    }
    ensure!(figures.len() == cases.len(), "{} figures for {} cases", figures.len(), cases.len());
    Ok(Run { figures, disturbance })
}

fn round_trips(rig: &Rig, wait: rtt::Wait, plan: &Plan) -> Result<Vec<f64>> {
    let rtt = rtt::measure(rig, wait, plan.time)?;
    Ok(vec![rtt.p50, rtt.p99])
}

fn detours(rig: &Rig) -> Result<Option<Detours>> {
    rig.overlay().map(Overlay::detours).transpose()
}
