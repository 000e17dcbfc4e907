//! One direction of a WAN link as arithmetic: when does a frame that comes now get out, if at all. Reads no clock.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use wavnet_common::testing::Rng;

use super::impairment::{Impairment, Jitter, unit};

const NANOS: u64 = 1_000_000_000;

/// Why a frame does not get out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// By chance, on its way.
    Lost,
    /// The queue before the rate was full.
    QueueFull,
}

/// Frames on their way. Times are since any beginning, the same for all calls.
#[derive(Debug)]
pub struct Line<T> {
    impairment: Impairment,
    // Two, so that jitter does not change which frames are lost.
    losses: Rng,
    jitters: Rng,
    /// When the last bit of what was accepted so far leaves the queue.
    free: Duration,
    /// When the last frame gets out that nothing may overtake.
    last: Duration,
    number: u64,
    frames: BinaryHeap<Reverse<Frame<T>>>,
}

#[derive(Debug)]
struct Frame<T> {
    out: Duration,
    number: u64,
    item: T,
}

impl<T> Line<T> {
    /// An empty one. The same seed loses the same frames, by their number among those that the queue takes.
    pub fn new(impairment: Impairment, seed: u64) -> Line<T> {
        Line {
            impairment,
            losses: Rng::new(seed),
            jitters: Rng::new(!seed),
            free: Duration::ZERO,
            last: Duration::ZERO,
            number: 0,
            frames: BinaryHeap::new(),
        }
    }

    /// From now on. What is on its way stays as it was sent, and a queue takes what it took so far.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Frames on their way.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// True if none is on its way.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// A frame of so many bytes that comes at a time.
    ///
    /// # Errors
    /// It will not get out: why, and the frame.
    pub fn offer(&mut self, at: Duration, bytes: usize, item: T) -> Result<(), (Dropped, T)> {
        let Impairment { delay, jitter, overtaking, loss, shaper } = self.impairment;
        let mut sent = at;
        if let Some(shaper) = shaper {
            let bytes = bytes as u64;
            let start = self.free.max(at);
            let waiting = bytes_in(start - at, shaper.rate);
            // An empty queue takes any frame, or none would ever pass.
            if waiting > 0 && waiting.saturating_add(bytes) > shaper.queue {
                return Err((Dropped::QueueFull, item));
            }
            sent = start + time_of(bytes, shaper.rate);
            self.free = sent;
        }
        // One draw for each frame, whatever the share: a change of it does not change which numbers are drawn.
        if unit(&mut self.losses) < loss {
            return Err((Dropped::Lost, item));
        }
        let mut out = sent + delay;
        if jitter != Jitter::None {
            out += jitter.draw(&mut self.jitters);
        }
        if !overtaking {
            out = out.max(self.last);
            self.last = out;
        }
        self.frames.push(Reverse(Frame { out, number: self.number, item }));
        self.number += 1;
        Ok(())
    }

    /// When the next frame gets out.
    pub fn next_out(&self) -> Option<Duration> {
        self.frames.peek().map(|Reverse(frame)| frame.out)
    }

    /// The next frame that is out by now; of those that get out at the same time, the one that came first.
    pub fn take(&mut self, now: Duration) -> Option<T> {
        if self.next_out()? > now {
            return None;
        }
        self.frames.pop().map(|Reverse(frame)| frame.item)
    }
}

/// How long so many bytes take.
fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * u128::from(NANOS) / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// How many bytes pass in a time, rounded up.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    let bits = time.as_nanos().saturating_mul(u128::from(rate));
    u64::try_from(bits.div_ceil(8 * u128::from(NANOS))).unwrap_or(u64::MAX)
}

impl<T> PartialEq for Frame<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Frame<T> {}

impl<T> PartialOrd for Frame<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Frame<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.out, self.number).cmp(&(other.out, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Everything that gets out, with its time.
    fn drain(line: &mut Line<usize>) -> Vec<(Duration, usize)> {
        std::iter::from_fn(|| {
            let out = line.next_out()?;
            assert!(out.is_zero() || line.take(out - Duration::from_nanos(1)).is_none(), "none gets out early");
            Some((out, line.take(out)?))
        })
        .collect()
    }

    #[test]
    fn without_impairment_everything_gets_out_at_once_and_in_order() {
        let mut line = Line::new(Impairment::default(), 1);
        for n in 0..1000 {
            line.offer(5 * MS, 100, n).unwrap();
        }
        assert_eq!(line.len(), 1000);
        assert!(drain(&mut line).into_iter().eq((0..1000).map(|n| (5 * MS, n))));
        assert!(line.is_empty() && line.next_out().is_none());
    }

    #[test]
    fn a_rate_spaces_frames_and_a_delay_comes_after_it() {
        // 1,000 bytes take a millisecond.
        let mut line = Line::new(Impairment::delayed(10 * MS).rate(8_000_000), 1);
        for n in 0..3 {
            line.offer(MS, 1000, n).unwrap();
        }
        line.offer(20 * MS, 500, 3).unwrap();
        let want = [(12 * MS, 0), (13 * MS, 1), (14 * MS, 2), (30 * MS + MS / 2, 3)];
        assert_eq!(drain(&mut line), want);
    }

    #[test]
    fn a_full_queue_drops_what_comes_until_there_is_room_again() {
        let mut line = Line::new(Impairment::default().rate(8_000_000).queue(3000), 1);
        let outcome: Vec<bool> = (0..5).map(|n| line.offer(Duration::ZERO, 1000, n).is_ok()).collect();
        assert_eq!(outcome, [true, true, true, false, false]);
        assert_eq!(line.offer(MS - Duration::from_nanos(1), 1000, 5), Err((Dropped::QueueFull, 5)));
        line.offer(MS, 1000, 6).unwrap();
        assert_eq!(drain(&mut line).iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 1, 2, 6]);
    }

    #[test]
    fn an_empty_queue_takes_a_frame_longer_than_itself() {
        let mut line = Line::new(Impairment::default().rate(8_000_000).queue(10), 1);
        line.offer(Duration::ZERO, 1000, 0).unwrap();
        assert_eq!(line.offer(Duration::ZERO, 1000, 1), Err((Dropped::QueueFull, 1)));
        line.offer(MS, 1000, 2).unwrap();
    }

    #[test]
    fn a_seed_loses_the_same_frames_whatever_the_jitter() {
        let lost = |seed, jitter| {
            let mut line = Line::new(Impairment::default().loss(0.05).jitter(jitter), seed);
            let lost = |n: &usize| line.offer(Duration::ZERO, 100, *n) == Err((Dropped::Lost, *n));
            (0..100_000).filter(lost).collect::<Vec<_>>()
        };
        let first = lost(7, Jitter::None);
        assert_eq!(first, lost(7, Jitter::Uniform(MS)));
        assert_ne!(first, lost(8, Jitter::None));
        // Five standard deviations.
        assert!((4655..=5345).contains(&first.len()), "{}", first.len());
        let mut all = Line::new(Impairment::default().loss(1.0), 1);
        assert!((0..1000).all(|n| all.offer(Duration::ZERO, 1, n).is_err()));
    }

    #[test]
    fn what_is_lost_has_used_the_link() {
        let mut line = Line::new(Impairment::default().rate(8_000_000).loss(1.0), 1);
        assert_eq!(line.offer(Duration::ZERO, 1000, 0), Err((Dropped::Lost, 0)));
        line.set(Impairment::default().rate(8_000_000));
        line.offer(Duration::ZERO, 1000, 1).unwrap();
        assert_eq!(drain(&mut line), [(2 * MS, 1)]);
    }

    #[test]
    fn jitter_keeps_the_order_unless_overtaking_is_allowed() {
        let order = |impairment: Impairment| {
            let mut line = Line::new(impairment.jitter(Jitter::Uniform(10 * MS)), 3);
            for n in 0..1000 {
                line.offer(MS * n as u32, 100, n).unwrap();
            }
            let out = drain(&mut line);
            assert!(out.iter().all(|(out, n)| *out >= MS * *n as u32 + 5 * MS), "none is early");
            out.windows(2).all(|pair| pair[0].1 < pair[1].1)
        };
        assert!(order(Impairment::delayed(5 * MS)));
        assert!(!order(Impairment::delayed(5 * MS).overtaking()));
    }

    #[test]
    fn a_change_is_for_what_comes_after_it() {
        let mut line = Line::new(Impairment::delayed(100 * MS), 1);
        line.offer(Duration::ZERO, 100, 0).unwrap();
        line.set(Impairment::delayed(MS));
        line.offer(Duration::ZERO, 100, 1).unwrap();
        line.set(Impairment::delayed(MS).overtaking());
        line.offer(Duration::ZERO, 100, 2).unwrap();
        assert_eq!(drain(&mut line), [(MS, 2), (100 * MS, 0), (100 * MS, 1)]);
    }
}
