//! Datagrams, to whom they belong.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{ANSWER, Context, Dropped, Event, Mesh, Owner, RELAYED_PULSE, Way, lend, peer::Via};
use crate::{
    bucket::{Bucket, Rate},
    stun,
    time::Time,
    transmit::Socket,
    trust::{Psk, PublicKey, Responder},
    wire::{Cookie, Datagram, Init, Label, Response, Unknown, unknown},
};

/// Hints that one is not known here.
const HINTS: Rate = Rate { per_second: 50, burst: 50 };
/// Hints from where no path in service leads that are looked into: each takes a look at all peers.
const HINTED: Rate = Rate { per_second: 200, burst: 400 };
/// Handshakes that are computed for all peers together.
const HANDSHAKES: Rate = Rate { per_second: 500, burst: 2000 };
/// Between two words of somebody who is refused; and of how many there is word in that time: a server may invent any number.
const REFUSED: Duration = Duration::from_secs(60);
const MOST_REFUSED: usize = 8;

/// Limits what others make us say and compute.
#[derive(Debug, Default)]
pub(super) struct Limits {
    hints: Bucket,
    hinted: Bucket,
    handshakes: Bucket,
    refused: BTreeMap<PublicKey, Time>,
}

impl Limits {
    /// True if it is to be told that this one was refused: once a minute.
    pub(super) fn tells(&mut self, now: Time, key: PublicKey) -> bool {
        self.refused.retain(|_, told| now.since(*told) < REFUSED);
        let news = self.refused.len() < MOST_REFUSED && !self.refused.contains_key(&key);
        if news {
            self.refused.insert(key, now);
        }
        news
    }
}

impl Mesh {
    /// A datagram that came in by one of our sockets.
    pub fn handle_input(&mut self, now: Time, socket: Socket, from: SocketAddr, payload: &[u8]) {
        let now = self.clock.read(now);
        match *payload {
            [a, b] => self.pulse(now, Way { socket, remote: from, label: Label::ZERO }, [a, b]),
            [RELAYED_PULSE, a, b, c, d, e] => {
                let way = self.way(socket, from, Label::from_bytes([a, b, c]));
                self.pulse(now, way, [d, e]);
            }
            _ => match Datagram::parse(payload) {
                Ok((header, datagram)) => {
                    let way = self.way(socket, from, header.label);
                    self.dispatch(now, Via::Way(way), Some(from), datagram);
                }
                Err(_) if self.stun(now, socket, payload) => {}
                Err(error) => self.drop(error.into()),
            },
        }
        self.settle(now);
    }

    /// How a datagram came. A label says something only where a relay is known to be: from anywhere else anybody could make relayed ways of it, as
    /// many as there are labels.
    fn way(&self, socket: Socket, remote: SocketAddr, label: Label) -> Way {
        let way = Way { socket, remote, label };
        let by_relay = || self.links.iter().any(|link| link.server.addr == remote);
        let is_known = || self.out.ways.contains_key(&way) || self.out.left.contains_key(&way);
        if label == Label::ZERO || by_relay() || is_known() { way } else { Way { label: Label::ZERO, ..way } }
    }

    /// How often something that came in was dropped for this reason, since the start.
    #[must_use]
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped.of(reason as usize)
    }

    pub(super) fn drop(&mut self, reason: Dropped) {
        if self.dropped.count(reason as usize) {
            self.out.event(Event::Dropped { reason });
        }
    }

    /// The answer to a question of ours for a mapping. False: it is none.
    fn stun(&mut self, now: Time, socket: Socket, payload: &[u8]) -> bool {
        let (Socket::Extra(_), Ok(message)) = (socket, stun::Message::parse(payload)) else { return false };
        let Some((id, key)) = self.out.question.filter(|(id, _)| *id == message.id) else { return false };
        self.out.question = None;
        let mapped = Some(&message).filter(|m| m.class == stun::Class::Success).and_then(stun::Message::mapped_address);
        if let (Some(mapped), Some(peer)) = (mapped, self.peers.get_mut(&key)) {
            peer.measured(lend!(self, now), id, mapped);
        }
        true
    }

    fn pulse(&mut self, now: Time, way: Way, pulse: [u8; 2]) {
        let number = u16::from_be_bytes(pulse);
        let known = self.out.ways.get(&way).copied();
        if number & ANSWER == 0 {
            if known.is_some() {
                self.out.send(way, way.pulse((number | ANSWER).to_be_bytes()));
            } else {
                self.drop(Dropped::Pulse);
                if self.limits.hints.take(now, HINTS, 1) {
                    self.out.send(way, unknown(way.label, Unknown::Pulse(pulse)));
                }
            }
            return;
        }
        if let Some((key, path)) = known {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.pulsed(lend!(self, now), path, now, number);
            }
        } else if let Some(link) = self.links.iter_mut().find(|l| l.server.addr == way.remote) {
            let i = link.index;
            if link.pulsed(lend!(self, now), number) {
                self.seek_lost(now, i);
            }
        } else {
            self.drop(Dropped::Pulse);
        }
    }

    /// A control datagram, to whom it is for.
    pub(super) fn dispatch(&mut self, now: Time, via: Via, from: Option<SocketAddr>, datagram: Datagram<'_>) {
        match datagram {
            Datagram::Cookie(cookie) => match self.owner(cookie.receiver) {
                Some(Owner::Link(i)) => self.cookie(now, i, &cookie),
                _ => self.drop(Dropped::Session),
            },
            Datagram::Response(response) => match self.owner(response.receiver) {
                Some(Owner::Link(i)) => self.linked(now, i, &response),
                Some(Owner::Peer(key)) => {
                    let Some(peer) = self.peers.get_mut(&key) else { return };
                    match peer.response(lend!(self, now), &response) {
                        Ok(()) => peer.heard(via),
                        Err(error) => self.drop(error.into()),
                    }
                    self.settle_owners(key);
                }
                None => self.drop(Dropped::Session),
            },
            Datagram::Data(data) => match self.owner(data.receiver) {
                Some(Owner::Link(i)) => {
                    let Some(link) = self.links.get_mut(i) else { return };
                    match link.open(now, &data) {
                        Ok((messages, whole)) => {
                            if !whole {
                                self.drop(Dropped::Message);
                            }
                            self.hear_server(now, i, messages);
                        }
                        Err(error) => self.drop(error.into()),
                    }
                }
                Some(Owner::Peer(key)) => self.hear_peer(now, via, key, &data),
                None => self.say_unknown(now, via, &data),
            },
            // For new keys, by a path that stands, or that an earlier agent has left: it needs no cookie.
            Datagram::Init(init) => {
                let owner = if let Via::Way(way) = via { self.owner_of(now, &way) } else { None };
                match owner {
                    Some(key) => self.handshake(now, via, key, &init),
                    None => self.drop(Dropped::Handshake),
                }
            }
            Datagram::Unknown(what) => self.hinted(now, via, from, &what),
            Datagram::Hello(_) => self.drop(Dropped::Unwanted),
            Datagram::Opener => {}
        }
    }

    fn cookie(&mut self, now: Time, i: usize, cookie: &Cookie<'_>) {
        let twin = self.has_twin(now, i, cookie.responder);
        if let Some(link) = self.links.get_mut(i) {
            let cx = lend!(self, now);
            if twin {
                link.stand_by(cx);
            } else if let Err(error) = link.cookie(cx, cookie) {
                self.drop(error.into());
            }
            self.own_link(i);
        }
    }

    /// A server answers a handshake.
    fn linked(&mut self, now: Time, i: usize, response: &Response<'_>) {
        let Some(link) = self.links.get_mut(i) else { return };
        match link.response(lend!(self, now), response) {
            Ok(()) => self.peers.values_mut().for_each(|peer| peer.uninvite(i)),
            Err(error) => self.drop(error.into()),
        }
        self.own_link(i);
    }

    fn owner(&self, index: u32) -> Option<Owner> {
        self.owners.get(&index).copied()
    }

    fn hear_peer(&mut self, now: Time, via: Via, key: PublicKey, data: &crate::wire::Data<'_>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let cx = lend!(self, now);
        let opened = peer.open(cx, data);
        match &opened {
            Ok((plaintext, said)) => {
                peer.heard(via);
                if !peer.hear(cx, via, *said, plaintext) {
                    self.drop(Dropped::Message);
                }
            }
            // Ours may be over where the peer's is not.
            Err(_) if peer.has_expired(now) => self.say_unknown(now, via, data),
            Err(error) => self.drop((*error).into()),
        }
        if let Via::Way(way) = via
            && opened.is_ok()
            && let Some((owner, id)) = self.out.ways.get(&way).copied().filter(|(owner, _)| *owner != key)
            && let Some(owner) = self.peers.get_mut(&owner)
        {
            owner.contested(lend!(self, now), id);
        }
        let left = self.peers.get(&key).is_some_and(|peer| peer.left);
        self.settle_owners(key);
        if left {
            self.expel(now, key);
        }
    }

    fn say_unknown(&mut self, now: Time, via: Via, data: &crate::wire::Data<'_>) {
        self.drop(Dropped::Session);
        if let Via::Way(way) = via
            && self.limits.hints.take(now, HINTS, 1)
        {
            self.out.send(way, unknown(way.label, Unknown::from(data)));
        }
    }

    /// A peer begins a handshake: by way of a server that says who it is, or by a path of its own.
    pub(super) fn handshake(&mut self, now: Time, via: Via, key: PublicKey, init: &Init<'_>) {
        let mac = *init.tagged.mac();
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.requested_again(lend!(self, now), &mac, via)
        {
            return;
        }
        let responder = Responder::new(&self.local.secret, Psk::Member(&self.local.settings.member));
        // A wrong MAC costs little, and anybody can send it: it takes nothing from those that are right.
        if let Err(error) = responder.check_forwarded_init(init) {
            return self.drop(error.into());
        }
        let may = self.peers.get_mut(&key).is_some_and(|peer| peer.may_request(now, via));
        if !may || !self.limits.handshakes.take(now, HANDSHAKES, 1) {
            return self.drop(Dropped::HandshakeLimit);
        }
        let index = self.fresh_index();
        let responder = Responder::new(&self.local.secret, Psk::Member(&self.local.settings.member));
        let request = match responder.read_forwarded_init(key, init, &mut self.rng) {
            Ok(request) => request,
            Err(error) => return self.drop(error.into()),
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.requested(lend!(self, now), request, mac, via, index);
            self.settle_owners(key);
        }
    }

    /// Somebody says that what we sent was not understood. Anybody can say that; so it only makes us look sooner.
    fn hinted(&mut self, now: Time, via: Via, from: Option<SocketAddr>, what: &Unknown) {
        let index = self.fresh_index();
        if let Some(link) = self.links.iter_mut().find(|l| Some(l.server.addr) == from && via_label(via) == Label::ZERO)
        {
            let i = link.index;
            link.unknown(lend!(self, now), what, index);
            return self.own_link(i);
        }
        let Via::Way(way) = via else { return self.drop(Dropped::Hint) };
        // Ways in service are found at once, so that strangers' hints take nothing from those that may be true.
        let found = match self.out.ways.get(&way) {
            Some((key, _)) => Some(*key),
            None if !self.limits.hinted.take(now, HINTED, 1) => None,
            None => self.peers.iter().find(|(_, p)| p.paths.by_way(&way).is_some()).map(|(key, _)| *key),
        };
        let Some(peer) = found.and_then(|key| self.peers.get_mut(&key)) else { return self.drop(Dropped::Hint) };
        match what {
            Unknown::Pulse(pulse) => peer.unknown_there(lend!(self, now), way, u16::from_be_bytes(*pulse)),
            Unknown::Data { receiver, .. } => peer.lost_there(lend!(self, now), *receiver),
        }
    }
}

fn via_label(via: Via) -> Label {
    match via {
        Via::Way(way) => way.label,
        Via::Server(_) => Label::ZERO,
    }
}
