//! How long a plan takes.

use std::time::Duration;

use super::{case::Case, contender::Contender, plan::Plan};

/// Putting a contender in place, and taking it away.
const SETTING_UP: Duration = Duration::from_millis(2_000);
/// Around a run: sending until everybody knows everybody, attaching, counting.
const AROUND: Duration = Duration::from_millis(250);

/// The plan in one sentence, before it begins.
pub(super) fn sentence(plan: &Plan, work: &[(&[Case], Vec<Contender>)], contenders: &[Contender]) -> String {
    let time = spoken(duration(plan, work, contenders));
    let figures = work.len() + alone(plan).len();
    let counts = [(figures, "measurement"), (contenders.len(), "contender"), (plan.runs, "run")];
    let counts: Vec<_> = counts.into_iter().filter(|(number, _)| *number > 0).map(counted).collect();
    let mut text = format!("About {time}: {} of each", counts.join(", "));
    if contenders.iter().any(|c| c.runs(plan) != plan.runs) {
        text += &format!(" ({} of programs in user space)", plan.slow_runs.min(plan.runs));
    }
    text + "; longer where the machine is not idle."
}

/// Without waiting for an idle machine.
fn duration(plan: &Plan, work: &[(&[Case], Vec<Contender>)], contenders: &[Contender]) -> Duration {
    let run = |case: Case| plan.idle + AROUND + case_warm_up(case) + plan.time;
    let runs = work.iter().flat_map(|(cases, who)| who.iter().map(|c| run(cases[0]) * c.runs(plan) as u32));
    let alone = alone(plan).into_iter().map(|(fixed, each)| fixed + each * plan.runs as u32);
    SETTING_UP * contenders.len() as u32 + runs.sum::<Duration>() + alone.sum::<Duration>()
}

fn case_warm_up(case: Case) -> Duration {
    match case {
        Case::Tcp1 | Case::Tcp4 => super::tcp::WARM_UP,
        _ => super::frames::WARM_UP,
    }
}

/// The cases that are measured of us alone: what each takes once, and for each run.
fn alone(plan: &Plan) -> Vec<(Duration, Duration)> {
    let takes = [
        (Case::ProgramNs, Duration::from_millis(1_500), Duration::from_millis(600)),
        (Case::Scrape, Duration::from_millis(4_000), Duration::from_millis(20)),
    ];
    takes.into_iter().filter(|(case, ..)| plan.wants(*case)).map(|(_, fixed, each)| (fixed, each)).collect()
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

    #[test]
    fn durations_are_spoken_in_seconds_or_whole_minutes() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(
            [spoken(0), spoken(80), spoken(100), spoken(836)],
            ["1 second", "80 seconds", "2 minutes", "14 minutes"]
        );
    }

    #[test]
    fn more_runs_cases_and_contenders_take_longer() {
        let (all, some) = (Contender::ALL.to_vec(), vec![Contender::Wavnet]);
        let plan = Plan { cases: vec![Case::Tcp1], ..Plan::FULL };
        let one = duration(&plan, &[(&[Case::Tcp1], some.clone())], &some);
        let each = plan.idle + AROUND + super::super::tcp::WARM_UP + plan.time;
        assert_eq!(one, SETTING_UP + each * plan.runs as u32);
        assert!(duration(&plan, &[(&[Case::Tcp1], all.clone())], &all) > one);
        let program = Plan { cases: vec![Case::Tcp1, Case::ProgramNs], ..Plan::FULL };
        assert!(duration(&program, &[(&[Case::Tcp1], some.clone())], &some) > one);
    }

    #[test]
    fn the_sentence_names_time_cases_contenders_and_runs() {
        let plan = Plan { cases: vec![Case::Tcp1], ..Plan::FULL };
        let who = Contender::MAIN.to_vec();
        let text = sentence(&plan, &[(&[Case::Tcp1], who.clone())], &who);
        assert_eq!(
            text,
            "About 95 seconds: 1 measurement, 3 contenders, 7 runs of each; longer where the machine is not idle."
        );
    }
}
