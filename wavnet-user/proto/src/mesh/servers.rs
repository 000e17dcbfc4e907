//! What servers say, and what peers it leads to.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::{
    Context, Event, Link, Mesh, Peer, Timer, Way, lend,
    peer::{SILENCE, Via},
};
use crate::{
    time::Time,
    transmit::Socket,
    trust::PublicKey,
    wire::{
        Datagram, Label, Message,
        message::{Forward, Invite},
    },
};

/// Between the first CONNECTs of several peers: servers limit what one host may ask for.
const PACE: Duration = Duration::from_millis(4);

impl Mesh {
    pub(super) fn hear_server(&mut self, now: Time, i: usize, messages: Vec<Message>) {
        for message in messages {
            let Some(link) = self.links.get_mut(i) else { return };
            let cx = lend!(self, now);
            match message {
                Message::Registered(answer) => {
                    let was_up = link.is_up();
                    if link.registered(cx, &answer) {
                        self.mapped(now, i, answer.mapped);
                    }
                    if !was_up {
                        self.reconnect(now, i);
                    }
                }
                Message::Page(page) => {
                    if link.page(cx, page) {
                        self.directory_changed(now);
                    }
                }
                Message::Changed { version } => link.changed(cx, version),
                Message::Invite(invite) => self.invited(now, i, invite),
                Message::Forwarded(forward) => self.forwarded(now, &forward),
                Message::Refused(refused) => link.refused(cx, &refused),
                Message::Bye { reason } => {
                    link.bye(cx, reason);
                    self.own_link(i);
                }
                _ => {}
            }
        }
    }

    /// A server sees us at another address: others must know.
    fn mapped(&mut self, now: Time, i: usize, mapped: SocketAddr) {
        let known = self.local.mapped.values().any(|addr| *addr == mapped);
        self.local.mapped.insert(i, mapped);
        if known {
            return;
        }
        self.local.generation += 1;
        for link in &mut self.links {
            link.touch(lend!(self, now));
        }
        for peer in self.peers.values_mut() {
            peer.tell_anew(lend!(self, now));
        }
    }

    /// Who is in no directory any more, and who is new in one.
    pub(super) fn directory_changed(&mut self, now: Time) {
        let policy = &self.local.settings.policy;
        let listed: BTreeSet<PublicKey> =
            self.links.iter().flat_map(|l| l.directory.keys()).filter(|key| policy.admits(key)).copied().collect();
        let gone: Vec<PublicKey> = self.peers.keys().filter(|key| !listed.contains(*key)).copied().collect();
        for key in gone {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.listed = false;
                self.timers.set_no_later(Timer::Forget(key), now + SILENCE);
            }
        }
        let mut delay = Duration::ZERO;
        for key in listed {
            if let Some(peer) = self.peer_or_new(now, key) {
                peer.listed = true;
                if !peer.is_connected() && self.timers.at(Timer::Connect(key)).is_none() {
                    let peer = self.peers.get_mut(&key);
                    peer.into_iter().for_each(|p| p.want(lend!(self, now), delay));
                    delay += PACE;
                }
            }
        }
    }

    /// The peer, made if there is room for another one and it may be one.
    pub(super) fn peer_or_new(&mut self, now: Time, key: PublicKey) -> Option<&mut Peer> {
        let allowed = key != self.local.key && self.local.settings.policy.admits(&key);
        let room = self.peers.len() < self.local.settings.peers;
        if !allowed || !room && !self.peers.contains_key(&key) {
            return None;
        }
        Some(self.peers.entry(key).or_insert_with(|| Peer::new(key, now)))
    }

    /// The preferred server that has this peer, else any.
    fn link_for(&mut self, key: &PublicKey) -> Option<&mut Link> {
        let up = || self.links.iter().filter(|l| l.is_up());
        let i = up().find(|l| l.directory.contains_key(key)).or_else(|| up().next())?.index;
        self.links.get_mut(i)
    }

    /// [`Timer::Connect`].
    pub(super) fn connect(&mut self, now: Time, key: PublicKey) {
        let index = self.fresh_index();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let messages = peer.connect(lend!(self, now), index);
        self.settle_owners(key);
        let Some(i) = self.link_for(&key).map(|l| l.index) else { return };
        if let Some(link) = self.links.get_mut(i).filter(|_| !messages.is_empty()) {
            link.send(lend!(self, now), &messages);
        }
    }

    /// A server has taken us in (again): peers that we are connected to need its relay, too.
    fn reconnect(&mut self, now: Time, i: usize) {
        let Some(link) = self.links.get_mut(i) else { return };
        let cx = lend!(self, now);
        let messages: Vec<Message> =
            self.peers.values().filter(|p| p.is_connected()).filter_map(|p| p.reconnect(cx)).collect();
        link.send(cx, &messages);
    }

    fn invited(&mut self, now: Time, i: usize, invite: Invite) {
        let Some(link) = self.links.get(i) else { return };
        let (server, relays) = (link.server.addr, link.relays);
        let key = invite.peer;
        let relay = (relays && invite.label != Label::ZERO).then_some(Way {
            socket: Socket::Main,
            remote: server,
            label: invite.label,
        });
        if self.peer_or_new(now, key).is_none() {
            return self.refuse(now, key);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.invited(lend!(self, now), relay, invite);
        }
    }

    fn refuse(&mut self, now: Time, key: PublicKey) {
        if key != self.local.key && self.hints.may_tell(now) {
            self.out.event(Event::Refused { peer: key });
        }
    }

    /// A peer's datagram, as a server says.
    fn forwarded(&mut self, now: Time, forward: &Forward) {
        let Ok((_, datagram)) = Datagram::parse(&forward.datagram) else { return };
        if let Datagram::Init(init) = &datagram {
            if self.peer_or_new(now, forward.peer).is_none() {
                return self.refuse(now, forward.peer);
            }
            return self.handshake(now, Via::Server, forward.peer, init);
        }
        self.dispatch(now, Via::Server, None, datagram);
    }

    pub(super) fn forward(&mut self, now: Time, peer: PublicKey, datagram: Vec<u8>) {
        let Some(i) = self.link_for(&peer).map(|l| l.index) else { return };
        if let Some(link) = self.links.get_mut(i) {
            link.send(lend!(self, now), &[Message::Forward(Forward { peer, datagram })]);
        }
    }

    /// [`Timer::Forget`].
    pub(super) fn forget(&mut self, now: Time, key: PublicKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        if !peer.listed && peer.is_silent(now) {
            return self.expel(now, key);
        }
        self.timers.set(Timer::Forget(key), now + SILENCE);
    }

    /// Ends everything with a peer.
    pub(super) fn expel(&mut self, now: Time, key: PublicKey) {
        if let Some(mut peer) = self.peers.remove(&key) {
            peer.expel(lend!(self, now));
            self.settle_owners(key);
        }
    }
}
