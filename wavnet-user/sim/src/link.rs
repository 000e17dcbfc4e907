//! Links: one direction each, with delay, jitter, loss, duplication, reordering, a rate and a queue.

use std::time::Duration;

use wavnet_proto::time::Time;

use crate::{Chance, LinkStats, Reason, Rng};

/// How one direction of a link is. It may be changed at any time; what is under way arrives as it would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// False: it carries nothing.
    pub up: bool,
    /// How long each datagram takes, at the least, after it was transmitted.
    pub delay: Duration,
    /// What is added to that.
    pub jitter: Jitter,
    /// Which may overtake others.
    pub order: Order,
    /// How many are lost, after they took their time in the queue.
    pub loss: Chance,
    /// How many arrive twice, each with a jitter of its own.
    pub duplication: Chance,
    /// Without one, any number is transmitted at once.
    pub rate: Option<Rate>,
    /// Longest IP packet, in bytes. Longer ones are dropped: as with DF set, and without a word to the sender.
    pub mtu: Option<u32>,
}

impl LinkConfig {
    /// Carries everything at once.
    pub const IDEAL: LinkConfig = LinkConfig {
        up: true,
        delay: Duration::ZERO,
        jitter: Jitter::None,
        order: Order::Kept,
        loss: Chance::NEVER,
        duplication: Chance::NEVER,
        rate: None,
        mtu: None,
    };

    /// Carries everything, after this time.
    #[must_use]
    pub const fn delayed(delay: Duration) -> LinkConfig {
        LinkConfig { delay, ..LinkConfig::IDEAL }
    }
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig::IDEAL
    }
}

/// How much later than the delay datagrams arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jitter {
    /// Not at all.
    #[default]
    None,
    /// From zero to this, all equally likely.
    Uniform(Duration),
    /// Mostly little and seldom much, as on wide-area paths: a Pareto distribution of shape 2 moved to begin at zero. Half of them
    /// are below 0.41 × `scale`, one in a hundred is above 9 × `scale`. (Shape 2 takes a square root alone, which is the same on all machines.)
    Pareto {
        /// The distribution's scale, and its mean.
        scale: Duration,
        /// What is longer is cut to this.
        longest: Duration,
    },
}

impl Jitter {
    fn draw(self, rng: &mut Rng) -> Duration {
        match self {
            Jitter::None => Duration::ZERO,
            Jitter::Uniform(longest) => rng.within(longest),
            Jitter::Pareto { scale, longest } => {
                let nanos = scale.as_nanos() as f64 * (rng.unit().sqrt().recip() - 1.0);
                Duration::from_nanos(nanos as u64).min(longest)
            }
        }
    }
}

/// Which datagrams overtake others of the same direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// None: one that jitter would put before an earlier one arrives together with that one, and after it.
    #[default]
    Kept,
    /// Those that jitter, or a delay that has become shorter, puts before others.
    AsJitter,
    /// All that come after one that was held back.
    HeldBack {
        /// How many are held back.
        chance: Chance,
        /// For how much longer.
        by: Duration,
    },
}

/// How fast a link transmits, and how much waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Of IP packets. Zero is taken for one.
    pub bits_per_second: u64,
    /// How many bytes may be in the queue and on the way out of it. One datagram always may.
    pub queue: u32,
}

impl Rate {
    /// How long so many bytes take.
    fn time_of(self, bytes: u32) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// One direction of a link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    pub(crate) stats: LinkStats,
    rng: Rng,
    /// When all that was queued is transmitted.
    idle_at: Time,
    /// When the last one arrives that nothing may overtake.
    last: Time,
    /// When the last one arrives that was not there at once.
    waiting_until: Time,
}

/// When what was put on a link arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) at: Time,
    /// It is not there at once, or is behind one that arrives in this very moment.
    pub(crate) waits: bool,
    /// A second time.
    pub(crate) copy: Option<Time>,
}

impl Link {
    pub(crate) fn new(config: LinkConfig, rng: Rng) -> Link {
        Link {
            config,
            stats: LinkStats::default(),
            rng,
            idle_at: Time::ZERO,
            last: Time::ZERO,
            waiting_until: Time::ZERO,
        }
    }

    /// Takes an IP packet of so many bytes.
    pub(crate) fn carry(&mut self, now: Time, bytes: u32) -> Result<Carried, Reason> {
        let result = self.take(now, bytes);
        match &result {
            Ok(carried) => {
                self.stats.carried += 1;
                self.stats.carried_bytes += u64::from(bytes);
                self.stats.duplicated += u64::from(carried.copy.is_some());
            }
            Err(reason) => self.stats.dropped.count(*reason),
        }
        result
    }

    fn take(&mut self, now: Time, bytes: u32) -> Result<Carried, Reason> {
        if !self.config.up {
            return Err(Reason::LinkDown);
        }
        if self.config.mtu.is_some_and(|mtu| bytes > mtu) {
            return Err(Reason::TooBig);
        }
        let transmitted = match self.config.rate {
            Some(rate) => self.transmit(now, bytes, rate)?,
            None => now,
        };
        if self.config.loss.happens(&mut self.rng) {
            return Err(Reason::Lost);
        }
        let at = self.arrival(transmitted);
        let copy = self.config.duplication.happens(&mut self.rng).then(|| self.arrival(transmitted));
        let waits = at > now || self.waiting_until >= now;
        if waits {
            self.waiting_until = self.waiting_until.max(at);
        }
        Ok(Carried { at, waits, copy })
    }

    /// When it has left the queue.
    fn transmit(&mut self, now: Time, bytes: u32, rate: Rate) -> Result<Time, Reason> {
        let backlog = self.idle_at.since(now);
        let own = rate.time_of(bytes);
        if !backlog.is_zero() && backlog.saturating_add(own) > rate.time_of(rate.queue) {
            return Err(Reason::QueueFull);
        }
        self.idle_at = self.idle_at.max(now) + own;
        Ok(self.idle_at)
    }

    fn arrival(&mut self, transmitted: Time) -> Time {
        let at = transmitted + self.config.delay + self.config.jitter.draw(&mut self.rng);
        match self.config.order {
            Order::AsJitter => at,
            Order::HeldBack { chance, by } if chance.happens(&mut self.rng) => at + by,
            Order::Kept | Order::HeldBack { .. } => {
                self.last = self.last.max(at);
                self.last
            }
        }
    }
}
