//! Pairs of hosts that may talk over the relay: two labels each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Bound::{Excluded, Included},
    time::Duration,
};

use super::{
    hosts::{HostId, Hosts},
    output::{RelayKey, RelayTarget},
};
use crate::{
    bucket::{Bucket, Rate},
    rng::Rng,
    time::Time,
    wire::Label,
};

/// A pair that nothing has used for so long is given up. Hosts whose frames take a relayed path send pulses over it every few seconds, those
/// that only want it to be ready once a minute, and those that have no traffic forget it, a little earlier.
pub(super) const IDLE: Duration = Duration::from_secs(180);
/// One that nothing has used for so long gives way to another pair where there is no room. What the shell relays by itself it tells each half
/// minute.
pub(super) const GIVES_WAY: Duration = Duration::from_secs(60);
/// Draws of a label: one in 128 is taken at the most.
const DRAWS: usize = 16;

/// One side of a pair, found by its label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) host: HostId,
    pub(super) peer: HostId,
    pub(super) peer_label: Label,
    bytes: Bucket,
    used: Time,
}

/// Why something is not relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotRelayed {
    /// The label is none of the sender's.
    Label,
    /// It is too much.
    Limit,
}

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Relays {
    /// A host's label for a peer.
    by_pair: BTreeMap<(HostId, HostId), Label>,
    sides: BTreeMap<Label, Side>,
}

impl Relays {
    /// Pairs that there are.
    pub(super) fn len(&self) -> usize {
        self.sides.len() / 2
    }

    /// The labels of a pair, one for each in this order, if it has some; it is in use now.
    pub(super) fn find(&mut self, now: Time, hosts: [HostId; 2]) -> Option<[Label; 2]> {
        let [a, b] = hosts;
        let label = *self.by_pair.get(&(a, b))?;
        let side = self.sides.get_mut(&label)?;
        side.used = now;
        Some([label, side.peer_label])
    }

    /// Gives a pair labels, if some are free.
    pub(super) fn add(&mut self, now: Time, hosts: [HostId; 2], rng: &mut Rng) -> Option<[Label; 2]> {
        let first = self.draw(rng, Label::ZERO)?;
        let labels = [first, self.draw(rng, first)?];
        self.restore(now, hosts, labels).then_some(labels)
    }

    fn draw(&self, rng: &mut Rng, other: Label) -> Option<Label> {
        let mut drawn = (0..DRAWS).filter_map(|_| Label::new(rng.u32() >> 8));
        drawn.find(|label| *label != Label::ZERO && *label != other && !self.sides.contains_key(label))
    }

    /// Gives a pair the labels that it had. False if they are others', or it has some.
    pub(super) fn restore(&mut self, now: Time, hosts: [HostId; 2], labels: [Label; 2]) -> bool {
        let ([a, b], [for_a, for_b]) = (hosts, labels);
        let is_free = |label| label != Label::ZERO && !self.sides.contains_key(&label);
        if a == b || for_a == for_b || !is_free(for_a) || !is_free(for_b) || self.by_pair.contains_key(&(a, b)) {
            return false;
        }
        for (host, label, peer, peer_label) in [(a, for_a, b, for_b), (b, for_b, a, for_a)] {
            self.by_pair.insert((host, peer), label);
            self.sides.insert(label, Side { host, peer, peer_label, bytes: Bucket::default(), used: now });
        }
        true
    }

    /// Takes a pair's labels back. False if it has none.
    pub(super) fn remove(&mut self, [a, b]: [HostId; 2]) -> bool {
        let labels = [self.by_pair.remove(&(a, b)), self.by_pair.remove(&(b, a))];
        labels.into_iter().flatten().filter(|label| self.sides.remove(label).is_some()).count() > 0
    }

    /// A pair's labels, and who the second one is, for whom it is at hand with the first.
    pub(super) fn labels(&self, [a, b]: [HostId; 2]) -> Option<(HostId, [Label; 2])> {
        let label = *self.by_pair.get(&(a, b))?;
        Some((b, [label, self.sides.get(&label)?.peer_label]))
    }

    /// Those that a host has labels with, ascending.
    pub(super) fn partners(&self, host: HostId) -> impl Iterator<Item = HostId> {
        self.partners_after(host, None)
    }

    /// As [`Relays::partners`], behind one of them.
    pub(super) fn partners_after(&self, host: HostId, after: Option<HostId>) -> impl Iterator<Item = HostId> {
        let start = after.map_or(Included((host, HostId(0))), |after| Excluded((host, after)));
        self.by_pair.range((start, Included((host, HostId(u32::MAX))))).map(|((_, peer), _)| *peer)
    }

    /// Each pair once, and its labels.
    pub(super) fn pairs(&self) -> impl Iterator<Item = ([HostId; 2], [Label; 2])> {
        let once = self.by_pair.iter().filter(|((a, b), _)| a < b);
        once.filter_map(|((a, b), label)| Some(([*a, *b], [*label, self.sides.get(label)?.peer_label])))
    }

    /// Pairs that nothing has used for so long, the longest unused first.
    pub(super) fn idle(&self, now: Time, for_long: Duration) -> Vec<[HostId; 2]> {
        let used = |label: &Label| self.sides.get(label).map_or(Time::ZERO, |side| side.used);
        let last = self.pairs().map(|(hosts, labels)| (labels.iter().map(used).max().unwrap_or_default(), hosts));
        let mut idle: Vec<_> = last.filter(|(used, _)| now.since(*used) >= for_long).collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, hosts)| hosts).collect()
    }

    /// Where so many bytes with a label go, if the sender may send them.
    pub(super) fn relay(
        &mut self,
        now: Time,
        hosts: &Hosts,
        key: RelayKey,
        bytes: u64,
        rate: Rate,
    ) -> Result<RelayTarget, NotRelayed> {
        let side = self.sides.get_mut(&key.label).ok_or(NotRelayed::Label)?;
        let addr = |id| hosts.get(id).map(|host| host.addr);
        let to = match (addr(side.host), addr(side.peer)) {
            (Some(from), Some(to)) if from == key.from => to,
            _ => return Err(NotRelayed::Label),
        };
        if !side.bytes.take(now, rate, bytes) {
            return Err(NotRelayed::Limit);
        }
        side.used = now;
        Ok(RelayTarget { to, label: side.peer_label })
    }

    /// The shell has relayed something with this label by itself.
    pub(super) fn note_used(&mut self, now: Time, label: Label) {
        if let Some(side) = self.sides.get_mut(&label) {
            side.used = now;
        }
    }
}

/// What the relay looks up for the first of a pair, and finds.
pub(super) fn entry(addrs: [SocketAddr; 2], labels: [Label; 2]) -> (RelayKey, RelayTarget) {
    let ([from, to], [mine, its]) = (addrs, labels);
    (RelayKey { from, label: mine }, RelayTarget { to, label: its })
}
