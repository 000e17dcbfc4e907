//! The relay: what carries a label goes to the other side of its pair, with that side's label. And the map of it, for who does it faster.

use std::{net::SocketAddr, time::Duration};

use wavnet_common::wire::demux;

use super::{
    ANSWER, Command, Dropped, HostId, Rendezvous,
    admission::VISIT,
    output::RelayKey,
    persist::Change,
    push::SWEEP,
    relays::{GIVES_WAY, IDLE, NotRelayed, entry},
    timer::Timer,
};
use crate::{
    time::Time,
    wire::{Label, Unknown},
};

/// Between two looks for pairs that may give way: each looks at all of them.
const LOOKS: Duration = Duration::from_secs(1);
/// Of all the pairs that there may be, so many give way at once at the most.
const SHARE: usize = 16;

impl Rendezvous {
    pub(super) fn relay(&mut self, now: Time, from: SocketAddr, label: Label, payload: &[u8]) -> Result<(), Dropped> {
        if !self.settings.relay {
            return Err(Dropped::Label);
        }
        let (bytes, rate) = (payload.len() as u64, self.settings.limits.relay_bytes);
        let key = RelayKey { from, label };
        let target = match self.relays.relay(now, &self.hosts, key, bytes, rate) {
            Ok(target) => target,
            Err(NotRelayed::Limit) => return Err(Dropped::RelayLimit),
            Err(NotRelayed::Label) => {
                // Its sender may have a relayed path whose pair was given up.
                if let [demux::RELAYED_PULSE, _, _, _, first, second] = *payload
                    && first & ANSWER == 0
                {
                    self.answer_unknown(now, from, label, Unknown::Pulse([first, second]));
                }
                return Err(Dropped::Label);
            }
        };
        let mut relayed = payload.to_vec();
        if let Some(field) = relayed.get_mut(1..4) {
            field.copy_from_slice(&target.label.to_bytes());
        }
        self.counters.relay_frames += 1;
        self.counters.relay_bytes += bytes;
        self.out.send(target.to, relayed);
        Ok(())
    }

    /// The shell has relayed something with this label by itself since the last time: the pair is in use.
    pub fn note_relayed(&mut self, now: Time, label: Label) {
        self.relays.note_used(now, label);
    }

    /// Enters both sides of a pair into the map, or takes them out.
    pub(super) fn map_relay(&mut self, hosts: [HostId; 2], labels: [Label; 2], set: bool) {
        let [Some(a), Some(b)] = hosts.map(|id| self.hosts.get(id).map(|host| host.addr)) else { return };
        let [mine, its] = labels;
        for (addrs, labels) in [([a, b], [mine, its]), ([b, a], [its, mine])] {
            let (key, target) = entry(addrs, labels);
            let command = if set { Command::SetRelay { key, target } } else { Command::DeleteRelay { key } };
            if self.settings.relay || !set {
                self.out.commands.push_back(command);
            }
        }
    }

    /// Enters all pairs into the map, or takes them out.
    pub(super) fn map_relays(&mut self, set: bool) {
        let pairs: Vec<_> = self.relays.pairs().collect();
        for (hosts, labels) in pairs {
            self.map_relay(hosts, labels, set);
        }
    }

    /// A host is at another address: so are its entries, and what leads to it.
    pub(super) fn move_relays(&mut self, id: HostId, from: SocketAddr) {
        let partners: Vec<_> = self.relays.partners(id).filter_map(|peer| self.relays.labels([id, peer])).collect();
        for (peer, labels) in partners {
            let [label, _] = labels;
            // First the new entry: a table that holds one for each label keeps it, with what it knows of its bucket.
            self.map_relay([id, peer], labels, true);
            if self.settings.relay {
                self.out.commands.push_back(Command::DeleteRelay { key: RelayKey { from, label } });
            }
        }
    }

    /// A host leaves: its pairs are over.
    pub(super) fn drop_relays(&mut self, id: HostId) {
        let partners: Vec<_> = self.relays.partners(id).collect();
        for peer in partners {
            self.drop_relay([id, peer]);
        }
    }

    fn drop_relay(&mut self, hosts: [HostId; 2]) {
        let Some((_, labels)) = self.relays.labels(hosts) else { return };
        if self.settings.relay {
            self.map_relay(hosts, labels, false);
        }
        self.relays.remove(hosts);
        let [a, b] = hosts.map(|id| self.hosts.get(id));
        if let (Some(a), Some(b)) = (a, b) {
            let keys = if a.key < b.key { [a.key, b.key] } else { [b.key, a.key] };
            self.out.save(Change::ForgetRelay { network: a.network, hosts: keys });
        }
    }

    /// True if there is room for another pair. Those that nothing uses give way to it.
    pub(super) fn has_room_for_pair(&mut self, now: Time) -> bool {
        let most = self.settings.limits.relays;
        if self.relays.len() >= most && now.since(self.looked_for_room) >= LOOKS {
            self.looked_for_room = now;
            let idle = self.relays.idle(now, GIVES_WAY);
            idle.into_iter().take(most.div_ceil(SHARE)).for_each(|hosts| self.drop_relay(hosts));
        }
        self.relays.len() < most
    }

    /// Gives up what is used no more.
    pub(super) fn sweep(&mut self, now: Time) {
        for hosts in self.relays.idle(now, IDLE) {
            self.drop_relay(hosts);
        }
        self.hosts.sweep(now, VISIT);
        for served in self.networks.values_mut() {
            served.directory.sweep(now);
        }
        self.timers.set(Timer::Sweep, now + SWEEP);
    }
}
