//! Round by round: what disturbs the machine disturbs everybody.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{case::Case, report::human};

/// Measures several of a kind in turns, and tells how it goes.
pub(super) struct Turns {
    rounds: usize,
    start: Instant,
}

impl Turns {
    pub(super) fn new(rounds: usize) -> Turns {
        Turns { rounds, start: Instant::now() }
    }

    /// Has each of `names` run once a round; a run gives one figure for each case, and may give more. Returns the runs of each
    /// figure of each name.
    pub(super) fn take(
        &self,
        cases: &[Case],
        names: &[&str],
        mut run: impl FnMut(usize) -> Result<Vec<f64>>,
    ) -> Result<Vec<Vec<Vec<f64>>>> {
        let mut samples = vec![Vec::new(); names.len()];
        for round in 0..self.rounds {
            // Whoever comes first may find a cooler machine: take turns.
            for turn in 0..names.len() {
                let index = (turn + round) % names.len();
                let (name, samples) = (names[index], &mut samples[index]);
                let figures = run(index).with_context(|| format!("{}, {name}", cases[0]))?;
                let shown: Vec<_> = cases.iter().zip(&figures).map(|(c, f)| human(*f, c.unit())).collect();
                eprintln!(
                    "{:4} s  {:<12} {:>2}/{}  {name:<12} {}",
                    self.start.elapsed().as_secs(),
                    cases[0],
                    round + 1,
                    self.rounds,
                    shown.join(", ")
                );
                samples.resize(figures.len(), Vec::new());
                samples.iter_mut().zip(figures).for_each(|(runs, figure)| runs.push(figure));
            }
        }
        Ok(samples)
    }
}
