//! How long a plan takes.

use std::{collections::BTreeSet, time::Duration};

use super::{
    case::{Case, duel, frames, tcp},
    plan::{Batch, Measurement, Plan},
};

/// Putting a contender in place, and taking it away.
const SETTING_UP: Duration = Duration::from_millis(1_000);
/// Around a run: sending until everybody knows everybody, attaching, counting.
const AROUND: Duration = Duration::from_millis(250);

/// The plan in one sentence, before it begins.
pub(super) fn sentence(plan: &Plan, batches: &[Batch], own: &[Case]) -> String {
    let time = spoken(duration(plan, batches, own));
    let measurements = || batches.iter().flat_map(|batch| &batch.measurements);
    let who: BTreeSet<_> = measurements().flat_map(|m| &m.who).map(|entry| entry.contender.name()).collect();
    let counts = [(measurements().count() + own.len(), "measurement"), (who.len(), "contender"), (plan.runs, "run")];
    let counts: Vec<_> = counts.into_iter().filter(|(number, _)| *number > 0).map(counted).collect();
    let mut text = format!("About {time}: {} of each", counts.join(", "));
    if measurements().flat_map(|m| &m.who).any(|entry| entry.contender.runs(plan) != plan.runs) {
        text += &format!(" ({} of programs in user space)", plan.slow_runs.min(plan.runs));
    }
    text + "; longer where the machine is not idle."
}

/// Without waiting for an idle machine.
fn duration(plan: &Plan, batches: &[Batch], own: &[Case]) -> Duration {
    let in_turns = batches.iter().map(|batch| {
        let of = |m: &Measurement| {
            m.who.iter().map(|entry| run(plan, m.cases[0]) * entry.contender.runs(plan) as u32).sum::<Duration>()
        };
        SETTING_UP * batch.entries().len() as u32 + batch.measurements.iter().map(of).sum::<Duration>()
    });
    in_turns.sum::<Duration>() + own.iter().map(|case| alone(plan, *case)).sum::<Duration>()
}

/// One run of one contender, or of one side of a comparison.
fn run(plan: &Plan, case: Case) -> Duration {
    let warm_up = if case.is_tcp() { tcp::WARM_UP } else { frames::WARM_UP };
    plan.idle + AROUND + warm_up + plan.time
}

/// A case that is measured of us alone.
fn alone(plan: &Plan, case: Case) -> Duration {
    let runs = plan.runs as u32;
    match case {
        Case::ProgramNs => Duration::from_millis(1_500) + (plan.idle + Duration::from_millis(200)) * 3 * runs,
        Case::Scrape => Duration::from_millis(4_000) + (plan.idle + Duration::from_millis(20)) * runs,
        _ => {
            let sides = duel::sides(case, plan.curves) as u32;
            (SETTING_UP + run(plan, case) * sides * runs) * duel::of(case).len() as u32
        }
    }
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..100 => counted((seconds.max(1) as usize, "second")),
        seconds => counted((((seconds + 30) / 60) as usize, "minute")),
    }
}

fn counted((number, what): (usize, &str)) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::contender::Contender;

    #[test]
    fn durations_are_spoken_in_seconds_or_whole_minutes() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(
            [spoken(0), spoken(80), spoken(100), spoken(836)],
            ["1 second", "80 seconds", "2 minutes", "14 minutes"]
        );
    }

    fn estimated(plan: &Plan, contenders: &[Contender]) -> Duration {
        duration(plan, &plan.batches(contenders), &plan.own_cases(contenders))
    }

    #[test]
    fn more_runs_cases_and_contenders_take_longer() {
        let some = [Contender::Wavnet];
        let plan = Plan { cases: vec![Case::Tcp1], ..Plan::FULL };
        let one = estimated(&plan, &some);
        let each = plan.idle + AROUND + tcp::WARM_UP + plan.time;
        // With default ports, and with packet-rate ones.
        assert_eq!(one, (SETTING_UP + each * plan.runs as u32) * 2);
        assert!(estimated(&plan, &Contender::ALL) > one);
        for more in [Case::ProgramNs, Case::LearnOn, Case::UdpToTap] {
            assert!(estimated(&Plan { cases: vec![Case::Tcp1, more], ..Plan::FULL }, &some) > one, "{more}");
        }
    }

    #[test]
    fn a_quick_look_ends_within_five_minutes() {
        let time = estimated(&Plan::QUICK, &Contender::MAIN);
        assert!(time <= Duration::from_secs(270) && time + Plan::QUICK.patience < Duration::from_secs(300), "{time:?}");
    }

    #[test]
    fn the_sentence_names_time_cases_contenders_and_runs() {
        let plan = Plan { cases: vec![Case::Tcp1], ..Plan::FULL };
        let text = sentence(&plan, &plan.batches(&Contender::MAIN), &[]);
        assert_eq!(
            text,
            "About 2 minutes: 1 measurement, 3 contenders, 7 runs of each; longer where the machine is not idle."
        );
    }
}
