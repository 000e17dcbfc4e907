//! Carries out a plan. What fails is left out, and the others go on.

use anyhow::{Context, Result, ensure};

use super::{
    case::{Case, duel, frames, program, scrape, tcp},
    contender::Contender,
    entry::Entry,
    estimate,
    machine::Disturbance,
    plan::{Batch, Measurement, Plan},
    report::Report,
    rig::Rig,
    rtt,
    setting::Setting,
    turns::{Entrant, Run, Turns},
};
use crate::lab::Lab;

/// Carries out a plan. What cannot be set up, or does not do what it is measured for, is among the report's failures, and missing in
/// its rows.
pub fn run(lab: &Lab, plan: &Plan) -> Report {
    let mut report = Report::default();
    let contenders = plan.contenders(&mut report.notes);
    report.notes.extend(plan.refusals(&contenders));
    if Case::ALL.iter().any(|case| plan.wants(*case) && case.is_tcp()) {
        report.notes.extend(tcp::note());
    }
    report.notes.iter().for_each(|note| eprintln!("{note}"));
    let (batches, own) = (plan.batches(&contenders), plan.own_cases(&contenders));
    eprintln!("{}", estimate::sentence(plan, &batches, &own));
    let mut turns = Turns::new(plan);
    for batch in batches {
        in_setting(lab, plan, &batch, &mut turns, &mut report);
    }
    for case in own {
        match case {
            Case::ProgramNs => {
                let measured = program::measure(lab, plan.runs, &mut turns).context(case.name());
                for figure in turns.attempt(measured).into_iter().flatten() {
                    report.add_own(case, &figure.variant, &figure.runs, &figure.disturbances);
                }
            }
            Case::Scrape => {
                let net = scrape::set_up(lab).context(case.name());
                let Some(net) = turns.attempt(net) else { continue };
                let ours = [Entrant { name: Contender::Wavnet.to_string(), runs: plan.runs }];
                for runs in turns.take(&[case], &ours, |_| Ok(vec![scrape::measure(&net)?])) {
                    report.add_own(case, scrape::VARIANT, &figures(&runs, 0), &disturbances(&runs));
                }
            }
            _ => duels(lab, plan, case, &mut turns, &mut report),
        }
    }
    report.failures = turns.failures();
    report
}

/// Measures everybody in one setting.
fn in_setting(lab: &Lab, plan: &Plan, batch: &Batch, turns: &mut Turns<'_>, report: &mut Report) {
    let mut rigs = Vec::new();
    for entry in batch.entries() {
        let rig = set_up(lab, entry);
        rigs.extend(turns.attempt(rig.with_context(|| format!("{}: setting up {entry}", batch.names()))));
    }
    for Measurement { cases, who } in &batch.measurements {
        let mut rigs: Vec<_> = rigs.iter_mut().filter(|rig| who.contains(&rig.entry())).collect();
        let entrant = |rig: &&mut Rig| Entrant { name: rig.entry().to_string(), runs: rig.contender.runs(plan) };
        let entrants: Vec<_> = rigs.iter().map(entrant).collect();
        let samples = turns.take(cases, &entrants, |index| measure(rigs[index], plan, cases));
        let of_all = || rigs.iter().map(|rig| rig.entry()).zip(&samples);
        for (i, case) in cases.iter().enumerate().filter(|(_, case)| plan.wants(**case)) {
            report.add(*case, &of_all().map(|(entry, runs)| (entry, figures(runs, i))).collect::<Vec<_>>());
        }
        for (entry, runs) in of_all() {
            if cases[0].has_percentiles() {
                let points = (cases.len()..).map(|i| figures(runs, i));
                report.add_curve(cases[0], entry.contender, "percentile", rtt::PERCENTILES.into_iter().zip(points));
            }
            report.add_disturbance(cases, entry.contender, entry.variant(), &disturbances(runs));
        }
    }
}

fn set_up(lab: &Lab, entry: Entry) -> Result<Rig> {
    let rig = Rig::build(lab, entry.contender, entry.setting)?;
    rtt::prime(&rig)?;
    Ok(rig)
}

/// One run: one figure for each of the cases, and behind them the points of a curve.
fn measure(rig: &mut Rig, plan: &Plan, cases: &[Case]) -> Result<Vec<f64>> {
    rtt::prime(rig)?;
    let before = rig.detours()?;
    let figures = match cases[0] {
        Case::Tcp1 | Case::Tcp1Tap | Case::Tcp1FromTap => vec![tcp::measure(rig, 1, plan.time)?],
        Case::Tcp4 => vec![tcp::measure(rig, 4, plan.time)?],
        Case::Tcp8Receive => vec![tcp::measure(rig, 8, plan.time)?],
        Case::RttP50 => rtt::measure(rig, rtt::Wait::Polling, plan.time)?,
        Case::RttBlockingP50 => rtt::measure(rig, rtt::Wait::Blocking, plan.time)?,
        case => vec![frames::measure(rig, case, plan.time)?],
    };
    if let (Some(before), Some(after)) = (before, rig.detours()?) {
        after.none_since(&before, matches!(rig.wired.setting, Setting::Flood(_)))?;
    }
    ensure!(figures.len() >= cases.len(), "{} figures for {} cases", figures.len(), cases.len());
    Ok(figures)
}

/// Compares us with ourselves, or with a part of the kernel.
fn duels(lab: &Lab, plan: &Plan, case: Case, turns: &mut Turns<'_>, report: &mut Report) {
    for (variant, set_up) in duel::of(case) {
        let Some(mut duel) = turns.attempt(set_up(lab).with_context(|| format!("{case}: setting up"))) else {
            continue;
        };
        let mut lanes = duel.lanes();
        lanes.truncate(duel::sides(case, plan.curves));
        let entrants: Vec<_> = lanes.iter().map(|lane| Entrant { name: lane.name.clone(), runs: plan.runs }).collect();
        let samples = turns.take_all(&[case], &entrants, |lane| Ok(vec![duel.run(lane, plan.time)?]));
        if let Some(samples) = samples {
            let all: Vec<_> = samples.iter().map(|runs| figures(runs, 0)).collect();
            report.add_duel(case, *variant, &lanes, &all);
            let disturbances = disturbances(samples.iter().flatten());
            report.add_disturbance(&[case], Contender::Wavnet, *variant, &disturbances);
        }
    }
}

/// The figures of one case, or of one point of a curve.
fn figures(runs: &[Run], index: usize) -> Vec<f64> {
    runs.iter().filter_map(|run| run.figures.get(index).copied()).collect()
}

fn disturbances<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Vec<Disturbance> {
    runs.into_iter().map(|run| run.disturbance).collect()
}
