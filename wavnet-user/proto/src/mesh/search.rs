//! The search for a way through a symmetric NAT: by guessing the port that it draws next, or by having so many ports on its side
//! and trying so many on the other that two meet (the birthday paradox).
//!
//! The side behind the symmetric NAT (*hard*) opens sockets, each of which gets a port of its own towards the other side's one
//! mapped address. The other side (*easy*) tries ports at random from its one socket. With 480 of 64,512 ports open, 480 tries
//! miss all of them once in 36 times, and there is another attempt. No NAT has more than [`ENTRIES`] entries from it, they come at
//! a pace, and attempts grow rarer: it must never be an attack on somebody's router. (More tries on one side would find more, but a
//! router without an input filter makes an entry for whatever comes, so the easy side's may have both sides' entries.)

use std::time::Duration;

use crate::{rng::Rng, time::Time};

/// Entries that an attempt makes in any NAT's table, at the most.
pub const ENTRIES: u16 = 1024;
/// Numbers of extra sockets that there are.
pub(super) const NUMBERS: u16 = 512;
/// Sockets of the hard side.
pub(super) const SOCKETS: u16 = 480;
/// Ports that the easy side tries. With the hard side's sockets, and what ordinary probes have left, they stay below [`ENTRIES`].
pub(super) const TRIES: u16 = 480;
/// Between two bursts.
pub(super) const PACE: Duration = Duration::from_millis(20);
/// Datagrams in a burst.
const BURST: u16 = 24;
/// How often the hard side sends by each of its sockets: the first may have left before the other side was there.
const ROUNDS: u8 = 3;
/// Between the hard side's rounds.
const ROUND: Duration = Duration::from_secs(1);
/// After the last datagram, until the attempt has failed.
const REST: Duration = Duration::from_secs(1);
/// An attempt that has found something is given up then, at the latest: others wait for their turn.
const LONGEST: Duration = Duration::from_secs(8);
/// Before the next attempt, at first; it doubles each time up to [`BACK_OFF_LONGEST`].
const BACK_OFF: Duration = Duration::from_secs(30);
const BACK_OFF_LONGEST: Duration = Duration::from_secs(30 * 60);
/// Ports below are not drawn.
const LOWEST_PORT: u16 = 1024;

/// Which side of a search we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Behind the symmetric NAT: many sockets, one destination.
    Hard,
    /// One socket, many destinations.
    Easy,
}

/// What to send next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send by these of the sockets, by number; those of the first round are to be opened before.
    Sockets { first: u16, count: u16, open: bool },
    /// Send to these ports of the other side's address.
    Ports(Vec<u16>),
    /// It is over; in vain, if nothing was found.
    Over,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(super) struct Search {
    pub(super) side: Side,
    sent: u16,
    round: u8,
    started: Time,
    /// The easy side's order of ports: a permutation, as a start and a stride.
    start: u32,
    stride: u32,
}

impl Search {
    pub(super) fn new(side: Side, now: Time, rng: &mut Rng) -> Search {
        // Odd, and no multiple of 3 or 7: without a common factor with the number of ports, 2^10 · 3^2 · 7.
        let stride = loop {
            let stride = rng.u32() | 1;
            if !stride.is_multiple_of(3) && !stride.is_multiple_of(7) {
                break stride;
            }
        };
        Search { side, sent: 0, round: 0, started: now, start: rng.u32(), stride }
    }

    /// What is to be sent now, and when to ask again.
    pub(super) fn step(&mut self, now: Time) -> (Step, Time) {
        let most = if self.side == Side::Hard { SOCKETS } else { TRIES };
        if self.sent == most {
            self.round += 1;
            let again = self.side == Side::Hard && self.round < ROUNDS;
            if !again {
                return (Step::Over, now);
            }
            self.sent = 0;
            let due = self.started + ROUND * u32::from(self.round);
            if due > now {
                // Nothing yet: the round begins then.
                return (Step::Sockets { first: 0, count: 0, open: false }, due);
            }
        }
        let count = BURST.min(most - self.sent);
        let first = self.sent;
        self.sent += count;
        let step = match self.side {
            Side::Hard => Step::Sockets { first, count, open: self.round == 0 },
            Side::Easy => Step::Ports((first..first + count).map(|i| self.port(i)).collect()),
        };
        let next = if self.sent == most && (self.side == Side::Easy || self.round + 1 == ROUNDS) { REST } else { PACE };
        (step, now + next)
    }

    /// True if what was found may still take its time to show where it leads, after all was sent.
    pub(super) fn may_wait(&self, now: Time) -> bool {
        now.since(self.started) < LONGEST
    }

    fn port(&self, i: u16) -> u16 {
        let ports = u64::from(u16::MAX - LOWEST_PORT) + 1;
        let place = (u64::from(self.start) + u64::from(i) * u64::from(self.stride)) % ports;
        LOWEST_PORT + place as u16
    }
}

/// How long to wait before the next attempt, after so many in vain.
pub(super) fn back_off(failures: u32) -> Duration {
    BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACK_OFF_LONGEST)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn run(side: Side, seed: u8) -> (Vec<Step>, Duration) {
        let mut rng = Rng::from_seed([seed; 32]);
        let (mut now, mut steps) = (Time::ZERO, Vec::new());
        let mut search = Search::new(side, now, &mut rng);
        loop {
            let (step, next) = search.step(now);
            if step == Step::Over {
                return (steps, now.since(Time::ZERO));
            }
            steps.push(step);
            assert!(next > now, "a pace");
            now = next;
        }
    }

    #[test]
    fn the_easy_side_tries_each_port_once() {
        for seed in 0..20 {
            let (steps, took) = run(Side::Easy, seed);
            let ports: Vec<u16> =
                steps.iter().flat_map(|s| if let Step::Ports(p) = s { p.clone() } else { vec![] }).collect();
            let distinct: BTreeSet<u16> = ports.iter().copied().collect();
            assert_eq!((ports.len(), distinct.len()), (TRIES.into(), TRIES.into()), "seed {seed}");
            assert!(
                distinct.iter().all(|p| *p >= LOWEST_PORT) && took < Duration::from_secs(3),
                "seed {seed}: {took:?}"
            );
        }
    }

    #[test]
    fn the_hard_side_opens_each_socket_once_and_sends_by_it_three_times() {
        let (steps, _) = run(Side::Hard, 1);
        let (mut opened, mut sent) = (BTreeSet::new(), 0);
        for step in steps {
            let Step::Sockets { first, count, open } = step else { panic!("{step:?}") };
            sent += count;
            if open {
                (first..first + count).for_each(|n| assert!(opened.insert(n)));
            }
        }
        assert_eq!((opened.len(), sent), (SOCKETS.into(), SOCKETS * u16::from(ROUNDS)));
    }

    #[test]
    fn both_sides_together_stay_within_what_a_router_can_bear() {
        // Ordinary probes, the server and its other port, and a socket to measure with come on top.
        const { assert!(SOCKETS + TRIES + 60 <= ENTRIES && SOCKETS < NUMBERS) };
        assert_eq!([back_off(1), back_off(2), back_off(40)], [BACK_OFF, BACK_OFF * 2, BACK_OFF_LONGEST]);
    }
}
