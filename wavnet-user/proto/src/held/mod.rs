//! Frames that the datapath held back: kept until they may be sent on, sent on in their order, and given up when that would take too long.
//!
//! The kernel's programs address a frame that is to wait to a device of the shell's and count it; the shell reads it there
//! ([`Held::push`]), sends it when it is its turn ([`Held::front`], [`Held::sent`]), and says how many it is done with. In between the
//! programs are told, step by step ([`Held::look`]), that those behind may follow:
//!
//! ```text
//! begin          frames are held back, and kept here
//! may_go         the new path is selected: they are sent on; those that come now are held back still
//! look → Drain   the tables have the new path: frames are held back only behind others that are
//! look → Normal  nothing has been held back for a while
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::time::Time;
use wavnet_common::abi::Hold;

/// Frames are held back no longer than this, if nobody says that they may go: the mesh says so after half of it.
const LONGEST: Duration = Duration::from_secs(1);
/// For the tables to have the new path: they may wait for a neighbour's answer, whom the kernel asks three times, a second each. What comes
/// meanwhile is sent on as it comes.
const MOVE: Duration = Duration::from_secs(4);
/// For frames to be sent on faster than new ones come. A peer's sender is as fast as it likes.
const DRAIN: Duration = Duration::from_millis(500);
/// A frame that a program has counted is in the device by then, or was lost there.
const DEVICE: Duration = Duration::from_millis(5);
/// A program that saw frames held back puts its own frame behind them by then.
const QUIET: Duration = Duration::from_millis(3);
/// Frames that still come after the end are sent on, or given up as those before them were, for so long.
const AFTER: Duration = Duration::from_millis(100);
/// How often it is looked while something is to end.
const TICK: Duration = Duration::from_millis(1);

/// How far a peer has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its frames are kept.
    Kept,
    /// They are sent on, to the new path; the tables do not have it yet.
    Sent,
    /// They are sent on until no more are held back.
    Drained,
    /// Nothing is held back any more.
    Over,
    /// The same, but some were given up: those that were behind them in the device are, too, for newer ones may have been sent by now.
    GivenUp,
}

#[derive(Debug)]
struct Queue {
    stage: Stage,
    /// When the stage ends by itself.
    ends: Time,
    /// Since when nothing is held back.
    quiet: Option<Time>,
    frames: VecDeque<Vec<u8>>,
    /// Frames that we are done with, as [`wavnet_common::abi::HoldRow::release`] counts them.
    done: u64,
    /// Of these, those that were taken for lost. One that comes all the same was not.
    missing: u64,
    /// Of these, those that were given up before they were read: the next ones that come.
    unread: u64,
    /// How many were held back at some moment, to see which of them the device has lost.
    mark: Option<(Time, u64)>,
}

impl Queue {
    fn enter(&mut self, stage: Stage, ends: Time) {
        (self.stage, self.ends, self.quiet) = (stage, ends, None);
    }

    /// Gives up what is here, and what is held back besides; how many frames that is. `held` were held back so far.
    fn give_up(&mut self, held: u64) -> u64 {
        let here = self.frames.len() as u64;
        let elsewhere = held.saturating_sub(self.done + here);
        self.frames.clear();
        self.done += here + elsewhere;
        self.unread += elsewhere;
        self.missing = 0;
        here + elsewhere
    }

    /// Frames that the device has lost: they were counted a while ago, it was read to its end, and they are not here.
    fn lost(&mut self, now: Time, held: u64, emptied: bool) -> u64 {
        let (at, count) = *self.mark.get_or_insert((now, held));
        if !emptied || now.since(at) < DEVICE {
            return 0;
        }
        self.mark = None;
        let lost = (count + self.unread).saturating_sub(self.done + self.frames.len() as u64);
        // Some of them may have been given up before.
        let known = lost.min(self.unread);
        self.unread -= known;
        lost - known
    }
}

/// Frames of all peers, which are named by their slots in the kernel's table.
#[derive(Debug)]
pub struct Held {
    limit: usize,
    bytes: usize,
    queues: BTreeMap<u16, Queue>,
    dropped: u64,
}

impl Held {
    /// None yet, and never more bytes than `limit`.
    #[must_use]
    pub fn new(limit: usize) -> Held {
        Held { limit, bytes: 0, queues: BTreeMap::new(), dropped: 0 }
    }

    /// Frames that were given up: there were too many, the device had no room, or it took too long.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Frames to a peer are about to be held back. `held` is how many were since ever; at first those are given up that nobody sent on.
    pub fn begin(&mut self, now: Time, slot: u16, held: u64) {
        let fresh = || Queue {
            stage: Stage::Over,
            ends: now,
            quiet: None,
            frames: VecDeque::new(),
            done: held,
            missing: 0,
            unread: 0,
            mark: None,
        };
        let queue = self.queues.entry(slot).or_insert_with(fresh);
        if queue.stage == Stage::GivenUp {
            self.dropped += queue.give_up(held);
        }
        queue.enter(Stage::Kept, now + LONGEST);
    }

    /// How many frames to a peer we are done with: what the programs are to be told.
    #[must_use]
    pub fn done(&self, slot: u16) -> Option<u64> {
        self.queues.get(&slot).map(|queue| queue.done)
    }

    /// Frames to a peer may be sent on.
    pub fn may_go(&mut self, now: Time, slot: u16) {
        if let Some(queue) = self.queues.get_mut(&slot).filter(|queue| queue.stage == Stage::Kept) {
            queue.enter(Stage::Sent, now + MOVE);
        }
    }

    /// A frame was read from the device. `false`: it is given up, for there is no room, or nobody to whom it could be sent.
    pub fn push(&mut self, slot: u16, frame: Vec<u8>) -> bool {
        let room = self.limit - self.bytes.min(self.limit);
        match self.queues.get_mut(&slot) {
            Some(queue) if queue.unread > 0 => {
                queue.unread -= 1;
                return false;
            }
            Some(queue) if frame.len() <= room && queue.stage != Stage::GivenUp => {
                if queue.missing > 0 {
                    queue.missing -= 1;
                    queue.done -= 1;
                    self.dropped -= 1;
                }
                self.bytes += frame.len();
                queue.quiet = None;
                queue.frames.push_back(frame);
                return true;
            }
            Some(queue) => queue.done += 1,
            None => {}
        }
        self.dropped += 1;
        false
    }

    /// Peers of whom something is kept or held back.
    pub fn slots(&self) -> impl Iterator<Item = u16> {
        self.queues.keys().copied()
    }

    /// The next frame to a peer, if it may go.
    #[must_use]
    pub fn front(&self, slot: u16) -> Option<&[u8]> {
        let queue = self.queues.get(&slot).filter(|queue| queue.stage != Stage::Kept)?;
        queue.frames.front().map(Vec::as_slice)
    }

    /// That one has been sent.
    pub fn sent(&mut self, slot: u16) {
        self.take_front(slot);
    }

    /// That one cannot be sent: it is lost.
    pub fn not_sent(&mut self, slot: u16) {
        if self.take_front(slot) {
            self.dropped += 1;
        }
    }

    fn take_front(&mut self, slot: u16) -> bool {
        let Some(queue) = self.queues.get_mut(&slot) else { return false };
        let Some(frame) = queue.frames.pop_front() else { return false };
        self.bytes -= frame.len();
        queue.done += 1;
        true
    }

    /// What the programs are to be told about a peer now, if anything. `held`: how many of its frames were held back since ever; `emptied`:
    /// the device was read to its end after that was read; `moved`: the tables have the path that its frames are to take.
    pub fn look(&mut self, now: Time, slot: u16, held: u64, emptied: bool, moved: bool) -> Option<Hold> {
        let queue = self.queues.get_mut(&slot)?;
        let lost = queue.lost(now, held, emptied);
        queue.done += lost;
        queue.missing += lost;
        self.dropped += lost;
        match queue.stage {
            Stage::Kept if now >= queue.ends => queue.enter(Stage::Sent, now + MOVE),
            Stage::Sent if moved || now >= queue.ends => {
                queue.enter(Stage::Drained, now + DRAIN);
                return Some(Hold::Drain);
            }
            Stage::Drained => {
                let ends = now >= queue.ends;
                if queue.done != held {
                    queue.quiet = None;
                }
                if ends && (queue.done < held || !queue.frames.is_empty()) {
                    self.give_up(now, slot, held);
                    return Some(Hold::Normal);
                }
                if !ends && (queue.done != held || now.since(*queue.quiet.get_or_insert(now)) < QUIET) {
                    return None;
                }
                queue.enter(Stage::Over, now + AFTER);
                return Some(Hold::Normal);
            }
            // Frames that are still in the device would find nobody.
            Stage::Over | Stage::GivenUp if now >= queue.ends && emptied && queue.frames.is_empty() => {
                self.queues.remove(&slot);
            }
            Stage::Kept | Stage::Sent | Stage::Over | Stage::GivenUp => {}
        }
        None
    }

    /// A peer is gone: what is kept for it is given up, and what is in the device. `held` as ever.
    pub fn forget(&mut self, now: Time, slot: u16, held: u64) {
        self.give_up(now, slot, held);
    }

    fn give_up(&mut self, now: Time, slot: u16, held: u64) {
        let Some(queue) = self.queues.get_mut(&slot) else { return };
        self.bytes -= queue.frames.iter().map(Vec::len).sum::<usize>();
        self.dropped += queue.give_up(held);
        queue.enter(Stage::GivenUp, now + AFTER);
    }

    /// When [`Held::look`] is to be called, for all peers.
    #[must_use]
    pub fn poll_timeout(&self, now: Time) -> Option<Time> {
        let due = |queue: &Queue| match queue.stage {
            Stage::Kept => queue.ends,
            Stage::Over | Stage::GivenUp if now < queue.ends && queue.frames.is_empty() => queue.ends,
            Stage::Sent | Stage::Drained | Stage::Over | Stage::GivenUp => now + TICK,
        };
        self.queues.values().map(due).min()
    }
}

#[cfg(test)]
mod tests;
