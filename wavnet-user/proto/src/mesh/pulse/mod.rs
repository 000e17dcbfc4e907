//! CONNECT_PULSE over one path: when to send one, and what the answers say of round-trip time, loss and life (docs/wire.md section 1;
//! WAVNet section II.B).

use std::{collections::VecDeque, time::Duration};

use crate::{rng::Rng, time::Time};

/// Bit of the two bytes that says *answer*.
pub const ANSWER: u16 = 1 << 15;

/// Pulses under way that are remembered.
const OUTSTANDING: usize = 32;
/// Of them the kernel remembers so many of a path, by the lowest bits of their numbers.
const PLACES: usize = 4;
/// Between two pulses while frames flow: a path's end is to be noticed within a second.
const BUSY: Duration = Duration::from_millis(75);
/// Between two pulses of an idle path when one was not answered.
const DOUBT: Duration = Duration::from_millis(250);
/// So long the kernel remembers the first pulse that nothing has answered yet, and a path lives without an answer: round trips may grow at once
/// by what a full queue holds.
const REMEMBERED: Duration = Duration::from_millis(600);
/// An answer that took longer is no sign of life any more.
const TOO_LATE: Duration = Duration::from_secs(3);
/// The first guess at a round trip.
const FIRST_RTO: Duration = Duration::from_millis(500);
/// All of them, as a share.
const ALL: u32 = 1 << 16;
/// Pulses that a share of losses is smoothed over: as it is lately, and as it is in the long run.
const SMOOTHING: u32 = 64;
const LONG: u32 = 512;
/// So many unanswered pulses, at the least, make a path dead where no more than this share of them is lost by chance: it happens to a path that
/// lives about once in ten million times.
const DEAD_AFTER: [(u32, u32); 5] = [(ALL / 50, 5), (ALL / 16, 7), (ALL / 7, 8), (ALL / 6, 9), (ALL, 10)];

/// What a path's pulses say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Answers come.
    Good,
    /// The last one did not come in time.
    Doubtful,
    /// None came for too long.
    Dead,
}

/// Round-trip time as RFC 6298 smooths it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtt {
    /// Smoothed.
    pub smoothed: Duration,
    /// Mean deviation.
    pub deviation: Duration,
    /// The least of all.
    pub least: Duration,
}

impl Rtt {
    fn first(sample: Duration) -> Rtt {
        Rtt { smoothed: sample, deviation: sample / 2, least: sample }
    }

    fn add(&mut self, sample: Duration) {
        let error = self.smoothed.abs_diff(sample);
        self.deviation = (self.deviation * 3 + error) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
        self.least = self.least.min(sample);
    }
}

/// The pulses of one path.
#[derive(Clone, Debug)]
pub struct Pulses {
    /// Those under way: number, and when it was sent.
    outstanding: VecDeque<(u16, Time)>,
    /// Those of them that the kernel remembers.
    places: [Option<(u16, Time)>; PLACES],
    /// When the last one left.
    last: Option<Time>,
    rtt: Option<Rtt>,
    /// Pulses sent since, and when the first of them was.
    unanswered: u32,
    asked: Option<Time>,
    sent: u64,
    answered: u64,
    /// Share of pulses that are lost, in 1/65536, smoothed over about 64 of them.
    loss: u32,
    /// The same over about 512.
    lasting: u32,
    busy: bool,
    /// Between two pulses of an idle path.
    idle: Duration,
}

impl Pulses {
    /// Of a path that was just seen to work; `idle`: between two pulses while no frames flow.
    #[must_use]
    pub fn new(idle: Duration) -> Pulses {
        Pulses {
            outstanding: VecDeque::new(),
            places: [None; PLACES],
            last: None,
            rtt: None,
            unanswered: 0,
            asked: None,
            sent: 0,
            answered: 0,
            loss: 0,
            lasting: 0,
            busy: false,
            idle,
        }
    }

    /// Frames flow, or no longer do.
    pub fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// True if frames flow.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// True if there has been no answer yet to something.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.unanswered > 0
    }

    /// Sets how long an idle path may be silent.
    pub fn set_idle(&mut self, idle: Duration) {
        self.idle = idle;
    }

    /// Makes the next pulse: its two bytes. Call it when [`Pulses::next`] says so.
    pub fn send(&mut self, now: Time, rng: &mut Rng) -> [u8; 2] {
        let (place, _) = self.next_place();
        let number = rng.u32() as u16 & !ANSWER & !(PLACES as u16 - 1) | place as u16;
        let full = self.outstanding.len() == OUTSTANDING;
        while self.outstanding.front().is_some_and(|(_, at)| full || now.since(*at) > TOO_LATE) {
            self.outstanding.pop_front();
            self.loss += (ALL - self.loss) / SMOOTHING;
            self.lasting += (ALL - self.lasting) / LONG;
            if full {
                break;
            }
        }
        self.outstanding.push_back((number, now));
        if let Some(place) = self.places.get_mut(place) {
            *place = Some((number, now));
        }
        (self.sent, self.unanswered) = (self.sent + 1, self.unanswered.saturating_add(1));
        self.last = Some(now);
        self.asked.get_or_insert(now);
        number.to_be_bytes()
    }

    /// An answer came at `at`. Its round trip, if it answers a pulse of ours that is under way.
    pub fn answered(&mut self, at: Time, number: u16) -> Option<Duration> {
        // The latest of that number: one that was lost may have had it, too.
        let place = self.outstanding.iter().rposition(|(n, _)| *n == number & !ANSWER)?;
        let (number, sent) = self.outstanding.remove(place)?;
        self.places.iter_mut().for_each(|place| {
            place.take_if(|(n, _)| *n == number);
        });
        let sample = at.since(sent);
        if sample > TOO_LATE {
            return None;
        }
        match &mut self.rtt {
            Some(rtt) => rtt.add(sample),
            None => self.rtt = Some(Rtt::first(sample)),
        }
        let later = self.outstanding.iter().filter(|(_, s)| *s > sent);
        (self.asked, self.unanswered) = (later.clone().map(|(_, s)| *s).min(), later.count() as u32);
        self.answered += 1;
        self.loss -= self.loss.div_ceil(SMOOTHING);
        self.lasting -= self.lasting.div_ceil(LONG);
        Some(sample)
    }

    /// When the last one left.
    #[must_use]
    pub fn last_sent(&self) -> Option<Time> {
        self.last
    }

    /// True if a pulse of this number may still be answered.
    #[must_use]
    pub fn is_under_way(&self, number: u16) -> bool {
        self.outstanding.iter().any(|(n, _)| *n == number & !ANSWER)
    }

    /// The path works: something else than a pulse has shown it, and took so long.
    pub fn seen(&mut self, sample: Option<Duration>) {
        let patience = self.patience();
        (self.asked, self.unanswered) = (None, 0);
        match (&mut self.rtt, sample) {
            (Some(rtt), Some(sample)) if sample <= patience => rtt.add(sample),
            // It has become another path, whose pulses would all be missed by what was known of the one before.
            (rtt, Some(sample)) => *rtt = Some(Rtt::first(sample)),
            (_, None) => {}
        }
    }

    /// How long an answer may take before it is missed.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.rtt.map_or(FIRST_RTO, |r| r.smoothed + (r.deviation * 4).max(Duration::from_millis(20)))
    }

    /// Between two pulses: no more of them are under way than the kernel remembers.
    fn pace(&self) -> Duration {
        let pace = if self.busy { BUSY } else { DOUBT };
        pace.max(self.patience() / PLACES as u32)
    }

    /// Where the kernel is to remember the next pulse, and from when on: in an empty place, else in that of the pulse which is missed for the longest
    /// time. But the first of all stays for longer than it takes to miss one.
    fn next_place(&self) -> (usize, Time) {
        let mut places: [(Option<Time>, usize); PLACES] = Default::default();
        for (n, (to, from)) in places.iter_mut().zip(&self.places).enumerate() {
            *to = (from.map(|(_, at)| at), n);
        }
        places.sort_unstable();
        let [(first, place), (second, other), ..] = places;
        let free = first.map_or(Time::ZERO, |at| at + REMEMBERED.max(self.patience()));
        match second.map(|at| at + self.patience()) {
            Some(missed) if missed < free => (other, missed),
            _ => (place, free),
        }
    }

    /// What is known now.
    #[must_use]
    pub fn health(&self, now: Time) -> Health {
        let patience = self.patience();
        // Since the first pulse that nothing answered: before it there was nothing to answer.
        let Some(silent) = self.asked.map(|at| now.since(at)).filter(|silent| *silent >= patience) else {
            return Health::Good;
        };
        let young = self.outstanding.iter().rev().take_while(|(_, at)| now.since(*at) < patience).count();
        let missed = self.unanswered.saturating_sub(u32::try_from(young).unwrap_or(u32::MAX));
        // A few that arrive in a row do not make a good path of one that loses many.
        let loss = self.loss.max(self.lasting);
        let enough = DEAD_AFTER.iter().find(|(share, _)| loss <= *share).map_or(u32::MAX, |(_, n)| *n);
        if missed >= enough && silent >= REMEMBERED { Health::Dead } else { Health::Doubtful }
    }

    /// When to send the next one.
    #[must_use]
    pub fn next(&self, now: Time) -> Time {
        let Some(last) = self.last else { return now };
        if self.busy || self.health(now) != Health::Good {
            return self.next_place().1.max(last + self.pace());
        }
        // An idle path's pulse is to be missed in time.
        if self.unanswered > 0 && self.idle > DOUBT {
            return (last + self.idle).min((last + self.patience()).max(now));
        }
        last + self.idle
    }

    /// Round-trip time, once there was an answer.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        self.rtt
    }

    /// Share of pulses that were lost lately, 0 to 1.
    #[must_use]
    pub fn loss(&self) -> f64 {
        f64::from(self.loss) / f64::from(ALL)
    }

    /// Pulses sent and answered.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.answered)
    }
}

#[cfg(test)]
mod tests;
