//! A CPU whose frames are learned and looked up, and which knows where they may go.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use nix::time::{ClockId, clock_gettime};
use wavnet_common::{
    fdb::{Place, Seen},
    testing::{Rng, stress::Removals},
};

use crate::{
    agent::LIMIT,
    net::{self, FIXED, Net, ROVER, Sent, VTEPS, pick_shared, places},
};

/// What is known of a MAC that nobody else sends from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own {
    pub(crate) n: u16,
    pub(crate) place: Option<Place>,
    /// It may have found no room.
    is_doubtful: bool,
    /// The clock when it was learned, or before that.
    at: Seen,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) own_moved: u64,
    /// Of an own MAC that was away or in doubt.
    pub(crate) own_doubtful: u64,
    pub(crate) shared: u64,
    pub(crate) looked_up: u64,
    /// Own MACs that were entered and then away.
    pub(crate) gone: u64,
    /// Frames from static MACs at other places.
    pub(crate) kept: u64,
    /// Watches of a shared MAC during which nobody removed anything.
    pub(crate) quiet: u64,
}

pub(crate) struct Learner<'a> {
    pub(crate) net: Net,
    pub(crate) removals: &'a Removals,
    rng: Rng,
    own: Vec<Own>,
    counts: Counts,
}

impl<'a> Learner<'a> {
    pub(crate) fn new(net: Net, removals: &'a Removals, cpu: usize, seed: u64) -> Learner<'a> {
        let own = |n| Own { n, place: None, is_doubtful: false, at: Seen(0) };
        let own = net::owned(cpu).map(own).collect();
        Learner { net, removals, rng: Rng::new(seed), own, counts: Counts::default() }
    }

    pub(crate) fn run(mut self, end: &AtomicBool) -> Result<(Vec<Own>, Sent, Counts)> {
        while !end.load(Ordering::Relaxed) {
            match self.rng.below(8) {
                0..3 => self.send_from_own()?,
                3..5 => self.look_up_own()?,
                5 => {
                    let n = pick_shared(&mut self.rng);
                    self.send_from_shared(n)?;
                }
                6 => self.watch()?,
                _ => self.send_from_static()?,
            }
        }
        for i in 0..self.own.len() {
            self.look_up(i)?;
        }
        Ok((self.own, self.net.sent, self.counts))
    }

    fn send_from_own(&mut self) -> Result<()> {
        let (i, place) = (self.rng.below(self.own.len()), self.rng.pick(&places()));
        // The programs read this clock, which is behind the other.
        let at = clock(ClockId::CLOCK_MONOTONIC_COARSE);
        self.net.send_from(self.own[i].n, place, self.rng.below(2) == 0)?;
        let own = &mut self.own[i];
        let was_there = own.place.is_some() && !own.is_doubtful && !own.may_be_gone();
        self.counts.own_doubtful += u64::from(!was_there);
        self.counts.own_moved += u64::from(was_there && own.place != Some(place));
        *own = Own { place: Some(place), is_doubtful: !was_there, at, ..*own };
        Ok(())
    }

    fn look_up_own(&mut self) -> Result<()> {
        let i = self.rng.below(self.own.len());
        self.look_up(i)
    }

    fn look_up(&mut self, i: usize) -> Result<()> {
        let found = self.net.look_up(self.own[i].n)?;
        self.counts.looked_up += 1;
        let own = &mut self.own[i];
        match found {
            None if own.place.is_none() => {}
            None => {
                ensure!(own.is_doubtful || own.may_be_gone(), "a frame to {own:?} was flooded");
                self.counts.gone += u64::from(!own.is_doubtful);
                own.place = None;
            }
            found => {
                ensure!(found == own.place, "a frame to {own:?} went to {found:?}");
                own.is_doubtful = false;
            }
        }
        Ok(())
    }

    fn send_from_shared(&mut self, n: u16) -> Result<()> {
        let place = self.rng.pick(&places());
        self.net.send_from(n, place, self.rng.below(2) == 0)?;
        self.counts.shared += 1;
        Ok(())
    }

    /// Once it is found, frames to it are not flooded while nobody removes anything.
    fn watch(&mut self) -> Result<()> {
        let n = pick_shared(&mut self.rng);
        let Some(quiet) = self.removals.quiet() else { return Ok(()) };
        let mut found = self.net.look_up(n)?;
        for _ in 0..3 {
            self.send_from_shared(n)?;
            let now = self.net.look_up(n)?;
            if self.removals.quiet() != Some(quiet) {
                break;
            }
            ensure!(found.is_none() || now.is_some(), "a frame to {n} was flooded after one to {found:?}");
            self.counts.quiet += 1;
            found = now;
        }
        Ok(())
    }

    fn send_from_static(&mut self) -> Result<()> {
        let at_port = Place::Port(net::PORT);
        let (n, place) = self.rng.pick(&[(FIXED, Place::Vtep(VTEPS.end - 1)), (ROVER, at_port)]);
        self.net.send_from(n, place, self.rng.below(2) == 0)?;
        self.counts.kept += 1;
        let found = self.net.look_up(n)?;
        let holds = if n == FIXED { found == Some(at_port) } else { matches!(found, Some(Place::Vtep(_))) };
        ensure!(holds, "a frame to static MAC {n} went to {found:?}");
        Ok(())
    }
}

impl Own {
    /// Whether the agent may have aged it meanwhile.
    fn may_be_gone(&self) -> bool {
        self.at.age(clock(ClockId::CLOCK_MONOTONIC)) > LIMIT
    }
}

fn clock(id: ClockId) -> Seen {
    let now = clock_gettime(id).expect("a clock of Linux");
    Seen::at(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
