//! One way to a peer: whether it leads there, and how well.

use std::{collections::VecDeque, time::Duration};

use super::{
    output::{PathId, PathKind, Way},
    pulse::{Health, Pulses},
};
use crate::{rng::Rng, time::Time, wire::message::Probe};

/// After so many probes without an answer a way leads nowhere.
const TRIES: u8 = 9;
/// Probes whose answers are waited for.
const ASKED: usize = 8;
/// Before the second probe; the pause doubles up to [`LONGEST`].
const FIRST_PAUSE: Duration = Duration::from_millis(60);
const LONGEST: Duration = Duration::from_secs(1);

/// One way to a peer.
#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) way: Way,
    pub(super) kind: PathKind,
    /// The peer has answered a probe of ours from there: it is the peer's.
    pub(super) proven: bool,
    /// Frames from there are taken: the shell was told.
    pub(super) added: bool,
    /// The peer says the same of us: frames that we send there are taken.
    pub(super) taken: bool,
    /// Probes under way.
    asked: VecDeque<(u64, Time)>,
    tries: u8,
    last_try: Option<Time>,
    pub(super) pulses: Pulses,
}

impl Path {
    pub(super) fn new(id: PathId, way: Way, kind: PathKind, idle: Duration) -> Path {
        Path {
            id,
            way,
            kind,
            proven: false,
            added: false,
            taken: false,
            asked: VecDeque::new(),
            tries: 0,
            last_try: None,
            pulses: Pulses::new(idle),
        }
    }

    /// Makes a probe's transaction.
    pub(super) fn probe(&mut self, now: Time, rng: &mut Rng) -> u64 {
        let transaction = rng.u64();
        if self.asked.len() == ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((transaction, now));
        self.tries = self.tries.saturating_add(1);
        self.last_try = Some(now);
        transaction
    }

    /// An opener went out in a probe's stead.
    pub(super) fn opened(&mut self, now: Time) {
        (self.tries, self.last_try) = (self.tries.saturating_add(1), Some(now));
    }

    /// What a probe, or an answer, says of us.
    pub(super) fn flags(&self) -> u8 {
        if self.added { Probe::TAKEN } else { 0 }
    }

    pub(super) fn last_probed(&self) -> Option<Time> {
        self.last_try
    }

    /// The round trip, if this answers a probe of ours.
    pub(super) fn answered(&mut self, now: Time, transaction: u64) -> Option<Duration> {
        let place = self.asked.iter().position(|(t, _)| *t == transaction)?;
        let (_, sent) = self.asked.remove(place)?;
        let sample = now.since(sent);
        self.pulses.seen(Some(sample));
        Some(sample)
    }

    /// When to probe it (again); `None`: there is nothing to find out, or no hope.
    pub(super) fn next_probe(&self, now: Time) -> Option<Time> {
        if self.proven && self.taken || self.tries >= TRIES {
            return None;
        }
        let pause = FIRST_PAUSE * 2u32.pow(u32::from(self.tries.saturating_sub(1)).min(5));
        Some(self.last_try.map_or(now, |at| at + pause.min(LONGEST)))
    }

    /// Starts over: the way may lead there now.
    pub(super) fn retry(&mut self) {
        (self.tries, self.last_try) = (0, None);
    }

    /// It must show anew that it works.
    pub(super) fn doubt(&mut self) {
        (self.proven, self.taken) = (false, false);
        self.retry();
    }

    /// When to look whether to probe it or to give it up.
    pub(super) fn next_look(&self, now: Time) -> Option<Time> {
        let given_up = (!self.proven && self.tries >= TRIES).then(|| self.last_try.map_or(now, |at| at + LONGEST));
        self.next_probe(now).or(given_up)
    }

    /// True if it was probed often enough in vain.
    pub(super) fn is_hopeless(&self, now: Time) -> bool {
        !self.proven && self.tries >= TRIES && self.last_try.is_some_and(|at| now.since(at) >= LONGEST)
    }

    /// True if frames can be sent by it.
    pub(super) fn is_usable(&self, now: Time) -> bool {
        self.proven && self.taken && self.pulses.health(now) != Health::Dead
    }

    fn rtt(&self) -> Duration {
        self.pulses.rtt().map_or(Duration::MAX, |r| r.smoothed)
    }

    /// True if frames should leave `other` for this one: it is direct and the other is not; or it is faster by a fifth and a millisecond.
    pub(super) fn is_better_than(&self, other: &Path) -> bool {
        match (self.way.is_relayed(), other.way.is_relayed()) {
            (false, true) => true,
            (true, false) => false,
            _ => self.rtt().saturating_mul(5) / 4 + Duration::from_millis(1) < other.rtt(),
        }
    }
}

/// The ways to one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    list: Vec<Path>,
    pub(super) selected: Option<PathId>,
}

impl Paths {
    /// Ways of one peer at the most; a search has more, which are no paths before something came by them.
    pub(super) const MOST: usize = 40;

    pub(super) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Path> {
        self.list.iter_mut()
    }

    pub(super) fn get(&self, id: PathId) -> Option<&Path> {
        self.list.iter().find(|p| p.id == id)
    }

    pub(super) fn get_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.list.iter_mut().find(|p| p.id == id)
    }

    pub(super) fn by_way(&self, way: &Way) -> Option<PathId> {
        self.list.iter().find(|p| p.way == *way).map(|p| p.id)
    }

    pub(super) fn has_room(&self) -> bool {
        self.list.len() < Paths::MOST
    }

    pub(super) fn add(&mut self, path: Path) {
        self.list.push(path);
    }

    pub(super) fn remove(&mut self, id: PathId) -> Option<Path> {
        let place = self.list.iter().position(|p| p.id == id)?;
        Some(self.list.remove(place))
    }

    pub(super) fn selected(&self) -> Option<&Path> {
        self.get(self.selected?)
    }

    /// The path that frames should take.
    pub(super) fn choose(&self, now: Time) -> Option<PathId> {
        let usable = || self.list.iter().filter(|p| p.is_usable(now));
        let start = self.selected().filter(|p| p.is_usable(now)).or_else(|| usable().next())?;
        let best = usable().fold(start, |best, path| if path.is_better_than(best) { path } else { best });
        Some(best.id)
    }
}
