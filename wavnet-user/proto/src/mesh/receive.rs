//! Datagrams, to whom they belong.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{ANSWER, Context, Mesh, Owner, RELAYED_PULSE, Way, lend, peer::Via};
use crate::{
    bucket::{Bucket, Rate},
    stun,
    time::Time,
    transmit::Socket,
    trust::{Psk, PublicKey, Responder},
    wire::{Cookie, Datagram, Init, Label, Unknown, unknown},
};

/// Why a datagram was dropped (a label of the metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// It is nothing that wavnet says.
    Foreign,
    /// It is for a session that does not exist.
    UnknownSession,
    /// It does not decrypt, or came before.
    Refused,
    /// A pulse from where no path is.
    UnknownPath,
    /// A handshake that does not come by way of a server or of a path.
    Handshake,
}

/// Hints that one is not known here.
const HINTS: Rate = Rate { per_second: 50, burst: 50 };
/// Hints from where no path in service leads that are looked into: each takes a look at all peers.
const HINTED: Rate = Rate { per_second: 200, burst: 400 };
/// Handshakes that are computed for all peers together.
const HANDSHAKES: Rate = Rate { per_second: 500, burst: 2000 };
/// Between two words of somebody who is refused; and how many of them are remembered.
const REFUSED: Duration = Duration::from_secs(60);
const MOST_REFUSED: usize = 256;

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
                Err(_) => self.drop(Dropped::Foreign),
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

    /// Datagrams that were dropped, by reason.
    pub fn dropped(&self) -> impl Iterator<Item = (Dropped, u64)> {
        self.dropped.iter().map(|(reason, n)| (*reason, *n))
    }

    pub(super) fn drop(&mut self, reason: Dropped) {
        *self.dropped.entry(reason).or_default() += 1;
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
                self.drop(Dropped::UnknownPath);
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
            if link.pulsed(now, number) {
                self.seek_lost(now);
            }
        } else {
            self.drop(Dropped::UnknownPath);
        }
    }

    /// A control datagram, to whom it is for.
    pub(super) fn dispatch(&mut self, now: Time, via: Via, from: Option<SocketAddr>, datagram: Datagram<'_>) {
        match datagram {
            Datagram::Cookie(cookie) => {
                if let Some(Owner::Link(i)) = self.owner(cookie.receiver) {
                    self.cookie(now, i, &cookie);
                }
            }
            Datagram::Response(response) => match self.owner(response.receiver) {
                Some(Owner::Link(i)) => {
                    if let Some(link) = self.links.get_mut(i) {
                        let linked = link.response(lend!(self, now), &response);
                        self.own_link(i);
                        if linked {
                            self.peers.values_mut().for_each(|peer| peer.uninvite(i));
                        }
                    }
                }
                Some(Owner::Peer(key)) => {
                    if let Some(peer) = self.peers.get_mut(&key) {
                        peer.response(lend!(self, now), &response);
                        self.settle_owners(key);
                    }
                }
                None => self.drop(Dropped::UnknownSession),
            },
            Datagram::Data(data) => match self.owner(data.receiver) {
                Some(Owner::Link(i)) => {
                    let messages = self.links.get_mut(i).and_then(|l| l.open(now, &data));
                    match messages {
                        Some(messages) => self.hear_server(now, i, messages),
                        None => self.drop(Dropped::Refused),
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
            Datagram::Hello(_) => self.drop(Dropped::Handshake),
            Datagram::Opener => {}
        }
    }

    fn cookie(&mut self, now: Time, i: usize, cookie: &Cookie<'_>) {
        let twin = self.has_twin(now, i, cookie.responder);
        if let Some(link) = self.links.get_mut(i) {
            let cx = lend!(self, now);
            if twin {
                link.stand_by(cx)
            } else {
                link.cookie(cx, cookie)
            }
            self.own_link(i);
        }
    }

    fn owner(&self, index: u32) -> Option<Owner> {
        self.owners.get(&index).copied()
    }

    fn hear_peer(&mut self, now: Time, via: Via, key: PublicKey, data: &crate::wire::Data<'_>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let cx = lend!(self, now);
        let opened = peer.open(cx, data);
        match &opened {
            Some((plaintext, said)) => peer.hear(cx, via, *said, plaintext),
            // Ours may be over where the peer's is not.
            None if peer.has_expired(now) => self.say_unknown(now, via, data),
            None => self.drop(Dropped::Refused),
        }
        if let Via::Way(way) = via
            && opened.is_some()
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
        self.drop(Dropped::UnknownSession);
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
        if responder.check_forwarded_init(init).is_err() {
            return self.drop(Dropped::Refused);
        }
        let may = self.peers.get_mut(&key).is_some_and(|peer| peer.may_request(now, via));
        if !may || !self.limits.handshakes.take(now, HANDSHAKES, 1) {
            return self.drop(Dropped::Handshake);
        }
        let index = self.fresh_index();
        let responder = Responder::new(&self.local.secret, Psk::Member(&self.local.settings.member));
        let Ok(request) = responder.read_forwarded_init(key, init, &mut self.rng) else {
            return self.drop(Dropped::Refused);
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
        let Via::Way(way) = via else { return };
        // Ways in service are found at once, so that strangers' hints take nothing from those that may be true.
        let found = match self.out.ways.get(&way) {
            Some((key, _)) => Some(*key),
            None if !self.limits.hinted.take(now, HINTED, 1) => return,
            None => self.peers.iter().find(|(_, p)| p.paths.by_way(&way).is_some()).map(|(key, _)| *key),
        };
        let Some(peer) = found.and_then(|key| self.peers.get_mut(&key)) else { return };
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
