//! What hosts are told unasked: that the directory has changed, and where a partner is that has moved.
//!
//! Both come at a pace, so that a thousand hosts that join at once, or one that moves with a thousand partners, make no burst: each host is told
//! of changes five times a second at the most, and all together some thousands of times.

use std::time::Duration;

use super::{Done, HostId, Rendezvous, Timer, vnis::Vnis};
use crate::{
    time::Time,
    trust::{NetworkId, PublicKey},
    wire::Message,
};

/// Between two looks for what is used no more.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// Until the first is told of a change: others follow, as a rule.
const COALESCE: Duration = Duration::from_millis(20);
/// Between two CHANGED to one host.
const ROUND: Duration = Duration::from_millis(200);
/// Between two bursts.
const PACE: Duration = Duration::from_millis(5);
/// Datagrams in a burst.
const BURST: usize = 64;
/// Hosts that are looked at for a burst.
const LOOKS: usize = 1024;
/// Between two announcements of one host's addresses to its partners.
const ANNOUNCE: Duration = Duration::from_secs(1);

/// Those concerned by a change are being told, in the order of their keys.
#[derive(Debug)]
pub(super) struct Round {
    vnis: Vnis,
    after: Option<PublicKey>,
}

/// A host that has moved, whose partners are being told, in the order of their numbers.
#[derive(Debug)]
pub(super) struct Moved {
    due: Time,
    told: Option<HostId>,
    /// All are told; until it is due nothing happens.
    rests: bool,
    /// It has moved again meanwhile.
    again: bool,
}

impl Rendezvous {
    /// A network's directory has changed.
    pub(super) fn note_changed(&mut self, now: Time, network: NetworkId) {
        let Some(served) = self.networks.get(&network) else { return };
        if served.round.is_none() && served.directory.has_changed() {
            let at = (now + COALESCE).max(served.round_at + ROUND);
            self.timers.set_no_later(Timer::Changed(network), at);
        }
    }

    /// Tells the next of those concerned.
    pub(super) fn push_changed(&mut self, now: Time, network: NetworkId) {
        let Some(served) = self.networks.get_mut(&network) else { return };
        let mut round = match served.round.take() {
            Some(round) => round,
            None => {
                served.round_at = now;
                Round { vnis: served.directory.take_changed(), after: None }
            }
        };
        let version = served.directory.version();
        let (mut looked, mut told) = (0, Vec::new());
        for (id, host) in self.hosts.of_network(network, round.after).take(LOOKS) {
            if told.len() == BURST {
                break;
            }
            (looked, round.after) = (looked + 1, Some(host.key));
            let concerned = host.registration.as_ref().is_some_and(|r| r.vnis.meet(&round.vnis));
            if concerned && host.told < version && host.current.is_some() {
                told.push(id);
            }
        }
        let is_over = looked < LOOKS && told.len() < BURST;
        if is_over {
            self.timers.stop(Timer::Changed(network));
            self.note_changed(now, network);
        } else {
            served.round = Some(round);
            self.timers.set(Timer::Changed(network), now + PACE);
        }
        for id in told {
            if let Some(host) = self.hosts.get_mut(id) {
                host.told = version;
            }
            // Eleven bytes always fit.
            if self.tell(id, &Message::Changed { version }).is_ok() {
                self.counters.note(Done::Changed);
            }
        }
    }

    /// A host has moved: its partners are to be told.
    pub(super) fn announce(&mut self, now: Time, id: HostId) {
        if self.relays.partners(id).next().is_none() {
            return;
        }
        let first = Moved { due: now, told: None, rests: false, again: false };
        self.moved.entry(id).and_modify(|moved| moved.again = true).or_insert(first);
        self.timers.set_no_later(Timer::Moved, now);
    }

    /// Tells the next partners of those who have moved.
    pub(super) fn push_moved(&mut self, now: Time) {
        let due: Vec<HostId> = self.moved.iter().filter(|(_, moved)| moved.due <= now).map(|(id, _)| *id).collect();
        // Each gets its share of the burst, so that one that keeps moving does not hold up the others.
        let share = (BURST / due.len().max(1)).max(1);
        for id in due.into_iter().take(BURST) {
            self.push_moved_of(now, id, share);
        }
        if let Some(next) = self.moved.values().map(|moved| moved.due).min() {
            self.timers.set(Timer::Moved, next.max(now + PACE));
        }
    }

    fn push_moved_of(&mut self, now: Time, id: HostId, share: usize) {
        let Some(moved) = self.moved.get_mut(&id) else { return };
        if moved.rests {
            if !std::mem::take(&mut moved.again) {
                self.moved.remove(&id);
                return;
            }
            (moved.rests, moved.told) = (false, None);
        }
        let partners: Vec<HostId> = self.relays.partners_after(id, moved.told).take(share).collect();
        match partners.last() {
            Some(last) if partners.len() == share => moved.told = Some(*last),
            _ => (moved.rests, moved.due) = (true, now + ANNOUNCE),
        }
        for peer in partners {
            // One that has just gone needs no invitation.
            let _ = self.invite(now, peer, id);
        }
    }
}
