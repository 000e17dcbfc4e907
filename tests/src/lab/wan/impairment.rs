//! What a WAN does to frames on their way: delay, jitter, loss, a rate and the queue before it.

use std::time::Duration;

use anyhow::{Result, ensure};
use wavnet_common::testing::Rng;

/// How long a queue takes to empty unless something else is asked for: what home routers have, roughly.
const QUEUE_TIME: Duration = Duration::from_millis(100);
/// No queue is shorter, in bytes: some frames find room at any rate.
const SHORTEST_QUEUE: u64 = 32 << 10;
/// No wait is longer: so that a time never overflows.
const LONGEST: Duration = Duration::from_secs(3600);

/// One direction of a WAN link, in the order in which a frame meets it: queue, rate, loss, delay with jitter. The default does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How long every frame is on its way.
    pub delay: Duration,
    /// How much longer, by chance.
    pub jitter: Jitter,
    /// True if jitter (or a delay that becomes shorter) lets frames overtake others. Else the order is kept, as by a queue.
    pub overtaking: bool,
    /// Share of frames that are lost on their way, from 0 to 1.
    pub loss: f64,
    /// The link's rate, if it has one.
    pub shaper: Option<Shaper>,
}

/// A rate, and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shaper {
    /// Bits per second, of frames from their destination address to their payload's end, without checksum and gap.
    pub rate: u64,
    /// Bytes that wait for their turn at most; a frame that finds them waiting is dropped.
    pub queue: u64,
}

/// Additional delay by chance, never below zero: a frame is never early.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Jitter {
    /// None.
    #[default]
    None,
    /// Anything up to this, all equally likely.
    Uniform(Duration),
    /// A bell curve (the sum of twelve uniform numbers), cut off at zero.
    Normal {
        /// Its middle.
        mean: Duration,
        /// Its standard deviation.
        deviation: Duration,
    },
    /// Mostly little and sometimes very much (a Pareto distribution of the second kind, which begins at zero).
    Pareto {
        /// Its scale: with a shape of 3, half of the frames have less than a quarter of it.
        scale: Duration,
        /// Its shape: the smaller, the heavier the tail. The mean is scale / (shape − 1), where shape is above 1.
        shape: f64,
        /// No more than this.
        most: Duration,
    },
}

impl Impairment {
    /// Delays every frame.
    pub fn delayed(delay: Duration) -> Impairment {
        Impairment { delay, ..Impairment::default() }
    }

    /// The same with jitter.
    #[must_use]
    pub fn jitter(self, jitter: Jitter) -> Impairment {
        Impairment { jitter, ..self }
    }

    /// The same, and frames may overtake others.
    #[must_use]
    pub fn overtaking(self) -> Impairment {
        Impairment { overtaking: true, ..self }
    }

    /// The same with a share of frames lost, from 0 to 1.
    #[must_use]
    pub fn loss(self, loss: f64) -> Impairment {
        Impairment { loss, ..self }
    }

    /// The same with a rate in bits per second, and a queue that takes 100 ms to empty.
    #[must_use]
    pub fn rate(self, rate: u64) -> Impairment {
        let queue = (u128::from(rate) * QUEUE_TIME.as_micros() / 8_000_000) as u64;
        Impairment { shaper: Some(Shaper { rate, queue: queue.max(SHORTEST_QUEUE) }), ..self }
    }

    /// The same with another queue before the rate, in bytes; without a rate there is none.
    #[must_use]
    pub fn queue(self, queue: u64) -> Impairment {
        Impairment { shaper: self.shaper.map(|shaper| Shaper { queue, ..shaper }), ..self }
    }

    /// Says what makes no sense.
    ///
    /// # Errors
    /// A share that is none, a rate of zero, a time of hours.
    pub fn check(&self) -> Result<()> {
        ensure!((0.0..=1.0).contains(&self.loss), "a share of {} frames cannot be lost", self.loss);
        ensure!(self.shaper.is_none_or(|s| s.rate > 0), "a rate of zero: to cut a link, lose all of its frames");
        let longest = match self.jitter {
            Jitter::None => Duration::ZERO,
            Jitter::Uniform(most) => most,
            Jitter::Normal { mean, deviation } => mean.max(deviation),
            Jitter::Pareto { scale, shape, most } => {
                ensure!(shape.is_finite() && shape > 0.0, "a Pareto distribution of shape {shape}");
                scale.max(most)
            }
        };
        ensure!(longest.max(self.delay) <= LONGEST, "a delay of more than {LONGEST:?}");
        Ok(())
    }
}

impl Jitter {
    /// Draws a delay.
    pub(super) fn draw(&self, rng: &mut Rng) -> Duration {
        match *self {
            Jitter::None => Duration::ZERO,
            Jitter::Uniform(most) => most.mul_f64(unit(rng)),
            Jitter::Normal { mean, deviation } => {
                let bell = (0..12).map(|_| unit(rng)).sum::<f64>() - 6.0;
                let seconds = mean.as_secs_f64() + bell * deviation.as_secs_f64();
                Duration::from_secs_f64(seconds.max(0.0))
            }
            Jitter::Pareto { scale, shape, most } => {
                let tail = (1.0 - unit(rng)).powf(-1.0 / shape) - 1.0;
                let seconds = (scale.as_secs_f64() * tail).min(most.as_secs_f64());
                Duration::from_secs_f64(seconds.max(0.0))
            }
        }
    }
}

/// A number from 0 to just below 1.
pub(super) fn unit(rng: &mut Rng) -> f64 {
    // As many bits as a number of this kind holds.
    (rng.bits() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn draws(jitter: Jitter) -> Vec<f64> {
        let mut rng = Rng::new(1);
        let mut all: Vec<f64> = (0..100_000).map(|_| jitter.draw(&mut rng).as_secs_f64() * 1000.0).collect();
        all.sort_by(f64::total_cmp);
        all
    }

    fn mean(all: &[f64]) -> f64 {
        all.iter().sum::<f64>() / all.len() as f64
    }

    #[test]
    fn uniform_jitter_is_spread_evenly() {
        let all = draws(Jitter::Uniform(10 * MS));
        assert!(all[0] >= 0.0 && all[all.len() - 1] < 10.0);
        assert!((mean(&all) - 5.0).abs() < 0.05, "{}", mean(&all));
        assert!((all[25_000] - 2.5).abs() < 0.1, "{}", all[25_000]);
    }

    #[test]
    fn normal_jitter_has_its_mean_and_deviation_and_is_never_early() {
        let all = draws(Jitter::Normal { mean: 10 * MS, deviation: 2 * MS });
        let m = mean(&all);
        let deviation = (all.iter().map(|x| (x - m).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        assert!((m - 10.0).abs() < 0.05 && (deviation - 2.0).abs() < 0.05, "{m} {deviation}");
        let cut = draws(Jitter::Normal { mean: MS, deviation: 5 * MS });
        assert!(cut[0] == 0.0 && cut[99_999] > 10.0);
    }

    #[test]
    fn pareto_jitter_has_its_quantiles_and_its_bound() {
        let all = draws(Jitter::Pareto { scale: 10 * MS, shape: 3.0, most: 500 * MS });
        // (1 − q)^(−1/3) − 1, in tens of milliseconds.
        assert!((all[50_000] - 2.599).abs() < 0.1, "{}", all[50_000]);
        assert!((all[99_000] - 36.42).abs() < 2.0, "{}", all[99_000]);
        let cut = draws(Jitter::Pareto { scale: 10 * MS, shape: 3.0, most: 20 * MS });
        assert_eq!(cut[99_999], 20.0);
    }

    #[test]
    fn a_queue_lasts_for_a_tenth_of_a_second_unless_told() {
        let shaper = Impairment::default().rate(100_000_000).shaper.unwrap();
        assert_eq!(shaper, Shaper { rate: 100_000_000, queue: 1_250_000 });
        assert_eq!(Impairment::default().rate(1000).shaper.unwrap().queue, SHORTEST_QUEUE);
        assert_eq!(Impairment::default().rate(1000).queue(7).shaper.unwrap().queue, 7);
        assert_eq!(Impairment::default().queue(7), Impairment::default());
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |impairment: Impairment| impairment.check().unwrap_err().to_string();
        assert!(refused(Impairment::default().loss(1.1)).contains("1.1"));
        assert!(refused(Impairment::default().loss(f64::NAN)).contains("NaN"));
        assert!(refused(Impairment::default().rate(0)).contains("rate of zero"));
        assert!(refused(Impairment::delayed(Duration::MAX)).contains("delay"));
        let pareto = Jitter::Pareto { scale: MS, shape: 0.0, most: MS };
        assert!(refused(Impairment::default().jitter(pareto)).contains("shape 0"));
        Impairment::delayed(MS).loss(0.05).rate(1).check().unwrap();
    }
}
