//! CONNECT and FORWARD: bringing two hosts together.

use super::{
    Done, Dropped, HostId, Rendezvous,
    persist::{Change, SavedRelay},
};
use crate::{
    time::Time,
    wire::{
        HEADER_LEN, Label, MAGIC, Message,
        message::{Connect, Forward, Invite, RefusedCode},
    },
};

impl Rendezvous {
    /// Invites both. Asked again it does so again, which is all the retransmission that there is.
    pub(super) fn connect(&mut self, now: Time, id: HostId, connect: Connect) -> Result<(), Dropped> {
        let Some(peer) = self.peer(id, connect.peer) else {
            return self.refuse_request(id, connect.request, RefusedCode::NO_SUCH_PEER);
        };
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        if let Some(registration) = host.registration.as_mut().filter(|_| !connect.candidates.is_empty()) {
            registration.candidates = connect.candidates.into();
        }
        self.ensure_labels(now, id, peer);
        self.counters.note(Done::Connect);
        self.invite(now, id, peer)?;
        self.invite(now, peer, id)
    }

    /// A registered host that this one may be brought together with.
    fn peer(&self, id: HostId, key: crate::trust::PublicKey) -> Option<HostId> {
        let host = self.hosts.get(id)?;
        let peer = self.hosts.by_key(host.network, key).filter(|peer| *peer != id)?;
        self.hosts.get(peer).filter(|peer| host.shares_vni(peer)).map(|_| peer)
    }

    fn ensure_labels(&mut self, now: Time, id: HostId, peer: HostId) {
        if self.relays.find(now, [id, peer]).is_some() {
            return;
        }
        let labels = if self.has_room_for_pair(now) { self.relays.add(now, [id, peer], &mut self.rng) } else { None };
        let Some(labels) = labels else {
            self.counters.note(Done::RelayFull);
            return;
        };
        self.counters.note(Done::Relay);
        if let Some(relay) = self.saved_relay([id, peer], labels) {
            self.out.save(Change::Relay(relay));
        }
        self.map_relay([id, peer], labels, true);
    }

    /// As it is kept: the one with the smaller key first.
    fn saved_relay(&self, hosts: [HostId; 2], labels: [Label; 2]) -> Option<SavedRelay> {
        let [a, b] = hosts.map(|id| self.hosts.get(id));
        let (a, b) = (a?, b?);
        let [mine, its] = labels;
        let network = a.network;
        Some(if a.key < b.key {
            SavedRelay { network, hosts: [a.key, b.key], labels: [mine, its] }
        } else {
            SavedRelay { network, hosts: [b.key, a.key], labels: [its, mine] }
        })
    }

    /// Tells `id` where `peer` is.
    pub(super) fn invite(&mut self, now: Time, id: HostId, peer: HostId) -> Result<(), Dropped> {
        let relayed = self.relays.find(now, [id, peer]).filter(|_| self.settings.relay);
        let host = self.hosts.get(peer).ok_or(Dropped::Forward)?;
        let registration = host.registration.as_ref().ok_or(Dropped::Forward)?;
        let invite = Invite {
            peer: host.key,
            label: relayed.map_or(Label::ZERO, |[mine, _]| mine),
            flags: 0,
            nat: registration.nat,
            mapped: host.addr,
            candidates: registration.candidates.to_vec(),
        };
        // Who has not come back after a restart is invited when it has, by the other one's next CONNECT.
        if self.hosts.get(id).is_some_and(|host| host.current.is_some()) {
            self.counters.note(Done::Invite);
            self.tell(id, &Message::Invite(invite))?;
        }
        Ok(())
    }

    /// Hands a control datagram on to a peer.
    pub(super) fn forward(&mut self, now: Time, id: HostId, forward: Forward) -> Result<(), Dropped> {
        let rate = self.settings.limits.forwards;
        let host = self.hosts.get_mut(id).ok_or(Dropped::Session)?;
        if !host.forwards.take(now, rate, 1) {
            return Err(Dropped::ForwardLimit);
        }
        let key = host.key;
        let is_control = forward.datagram.len() >= HEADER_LEN && forward.datagram.first() == Some(&MAGIC);
        let peer = self.peer(id, forward.peer).filter(|_| is_control).ok_or(Dropped::Forward)?;
        if self.hosts.get(peer).is_none_or(|peer| peer.current.is_none()) {
            return Err(Dropped::Forward);
        }
        self.tell(peer, &Message::Forwarded(Forward { peer: key, datagram: forward.datagram }))?;
        self.counters.note(Done::Forward);
        Ok(())
    }
}
