//! Round by round: what disturbs the machine disturbs everybody.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{
    case::Case,
    machine::{Disturbance, Patience, Watch},
    plan::Plan,
    report::human,
};

/// Measures several of a kind in turns, and tells how it goes.
pub(super) struct Turns<'a> {
    plan: &'a Plan,
    patience: Patience,
    /// Whether the machine was not idle the last time.
    restless: bool,
    start: Instant,
    failures: Vec<String>,
}

/// One measurement.
pub(super) struct Run {
    /// One figure for each of the cases, and maybe more.
    pub(super) figures: Vec<f64>,
    pub(super) disturbance: Disturbance,
}

/// One of those that take turns.
pub(super) struct Entrant {
    pub(super) name: String,
    /// How often it is measured.
    pub(super) runs: usize,
}

impl<'a> Turns<'a> {
    pub(super) fn new(plan: &'a Plan) -> Turns<'a> {
        Turns {
            plan,
            patience: Patience::new(plan.patience),
            restless: false,
            start: Instant::now(),
            failures: Vec::new(),
        }
    }

    /// Has each entrant run once a round. Returns the runs of each: none of one that failed, which gets no more turns.
    pub(super) fn take(
        &mut self,
        cases: &[Case],
        entrants: &[Entrant],
        mut run: impl FnMut(usize) -> Result<Vec<f64>>,
    ) -> Vec<Vec<Run>> {
        let mut samples: Vec<Option<Vec<Run>>> = entrants.iter().map(|_| Some(Vec::new())).collect();
        for (round, index) in order(entrants) {
            let Some(runs) = &mut samples[index] else { continue };
            match self.turn(cases, &entrants[index], round, || run(index)) {
                Some(run) => runs.push(run),
                None => samples[index] = None,
            }
        }
        samples.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// The same of entrants that say nothing without the others: none at all if one of them fails.
    pub(super) fn take_all(
        &mut self,
        cases: &[Case],
        entrants: &[Entrant],
        mut run: impl FnMut(usize) -> Result<Vec<f64>>,
    ) -> Option<Vec<Vec<Run>>> {
        let mut samples: Vec<Vec<Run>> = entrants.iter().map(|_| Vec::new()).collect();
        for (round, index) in order(entrants) {
            samples[index].push(self.turn(cases, &entrants[index], round, || run(index))?);
        }
        Some(samples)
    }

    /// What came of something that may fail, after which the others go on. A failure is told at once, and kept.
    pub(super) fn attempt<T>(&mut self, result: Result<T>) -> Option<T> {
        let told = |error: anyhow::Error| {
            let text = format!("{error:#}");
            eprintln!("FAILED: {text}");
            self.failures.push(text);
        };
        result.map_err(told).ok()
    }

    /// What failed, in order.
    pub(super) fn failures(self) -> Vec<String> {
        self.failures
    }

    fn turn(
        &mut self,
        cases: &[Case],
        entrant: &Entrant,
        round: usize,
        run: impl FnOnce() -> Result<Vec<f64>>,
    ) -> Option<Run> {
        let Entrant { name, runs } = entrant;
        let done = self.once(run).with_context(|| {
            let names: Vec<_> = cases.iter().map(|case| case.name()).collect();
            format!("{}, {name}", names.join(" and "))
        });
        let run = self.attempt(done)?;
        let shown: Vec<_> = cases.iter().zip(&run.figures).map(|(c, f)| human(*f, c.unit())).collect();
        let (seconds, shown) = (self.start.elapsed().as_secs(), shown.join(", "));
        eprintln!("{seconds:4} s  {:<24} {:>2}/{runs}  {name:<14} {shown}", cases[0], round + 1);
        Some(run)
    }

    fn once(&mut self, run: impl FnOnce() -> Result<Vec<f64>>) -> Result<Run> {
        let busy = self.patience.wait_idle(self.plan.idle)?;
        if let Some(busy) = busy.filter(|_| !self.restless) {
            let percent = busy * 100.0;
            eprintln!("        the machine does not become idle ({percent:.0} % busy): measuring all the same");
        }
        self.restless = busy.is_some();
        let watch = Watch::start()?;
        let figures = run()?;
        Ok(Run { figures, disturbance: watch.end().context("watching the machine")? })
    }
}

/// Rounds and whose turn it is. Whoever comes first may find a cooler machine: each round begins with another one.
fn order(entrants: &[Entrant]) -> Vec<(usize, usize)> {
    let rounds = entrants.iter().map(|entrant| entrant.runs).max().unwrap_or_default();
    let turns =
        (0..rounds).flat_map(|round| (0..entrants.len()).map(move |turn| (round, (turn + round) % entrants.len())));
    turns.filter(|(round, index)| *round < entrants[*index].runs).collect()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn entrants(runs: &[usize]) -> Vec<Entrant> {
        runs.iter().map(|runs| Entrant { name: format!("{runs} runs"), runs: *runs }).collect()
    }

    fn plan() -> Plan {
        Plan { idle: std::time::Duration::ZERO, ..Plan::QUICK }
    }

    #[test]
    fn each_round_begins_with_another_one_and_some_run_less_often() {
        assert_eq!(order(&entrants(&[2, 2, 1])), [(0, 0), (0, 1), (0, 2), (1, 1), (1, 0)]);
    }

    #[test]
    fn one_that_fails_loses_its_runs_and_the_others_go_on() {
        let (plan, mut calls) = (plan(), [0; 2]);
        let mut turns = Turns::new(&plan);
        let samples = turns.take(&[Case::Encap], &entrants(&[3, 3]), |index| {
            calls[index] += 1;
            if index == 1 && calls[1] == 2 {
                bail!("a key is not known");
            }
            Ok(vec![1.0])
        });
        assert_eq!((samples[0].len(), samples[1].len(), calls), (3, 0, [3, 2]));
        assert_eq!(turns.failures(), ["encap, 3 runs: a key is not known"]);
    }

    #[test]
    fn those_that_are_compared_end_together() {
        let (plan, mut calls) = (plan(), 0);
        let mut turns = Turns::new(&plan);
        let samples = turns.take_all(&[Case::LearnOn], &entrants(&[3, 3]), |_| {
            calls += 1;
            if calls == 2 {
                bail!("nothing arrived");
            }
            Ok(vec![1.0])
        });
        assert!(samples.is_none() && calls == 2);
        assert_eq!(turns.failures().len(), 1);
    }
}
