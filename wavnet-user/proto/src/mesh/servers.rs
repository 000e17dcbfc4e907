//! What servers say, and what peers it leads to.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Context, Dropped, Event, Link, Mesh, Peer, Timer, Way, lend,
    peer::{SILENCE, Via},
};
use crate::{
    time::Time,
    transmit::Socket,
    trust::PublicKey,
    wire::{
        Datagram, Label, Message,
        message::{ByeReason, Forward, Invite},
    },
};

/// Between the first CONNECTs of several peers: servers limit what one host may ask for.
pub(super) const PACE: Duration = Duration::from_millis(4);
/// From the word that a peer has come until it is asked for, unless it asks first.
const SECOND_THOUGHT: Duration = Duration::from_millis(300);

/// Of the servers that have a peer, so many are asked to bring us together: if one fails, another's relay is there.
const SERVERS: usize = 2;
/// A peer that was asked for so often in vain may give way to another one, where there is no room.
const IN_VAIN: u32 = 4;

impl Mesh {
    pub(super) fn hear_server(&mut self, now: Time, i: usize, messages: Vec<Message>) {
        for message in messages {
            let Some(link) = self.links.get_mut(i) else { return };
            let cx = lend!(self, now);
            match message {
                Message::Registered(answer) => {
                    let news = link.registered(cx, &answer);
                    if news.moved {
                        self.mapped(now, i, answer.mapped);
                    }
                    if news.answers_again {
                        self.seek_lost(now, i);
                    }
                }
                Message::Page(page) => {
                    let news = link.page(cx, page);
                    for key in &news.gone {
                        if let Some(peer) = self.peers.get_mut(key) {
                            peer.uninvite(i);
                        }
                    }
                    for key in &news.came {
                        if let Some(peer) = self.peers.get_mut(key) {
                            peer.came(now);
                            self.timers.set_no_later(Timer::Connect(*key), now + SECOND_THOUGHT);
                        }
                    }
                    self.directory_changed(now);
                }
                Message::Changed { version } => link.changed(cx, version),
                Message::Invite(invite) => self.invited(now, i, invite),
                Message::Forwarded(forward) => self.forwarded(now, i, &forward),
                Message::Refused(refused) => link.refused(cx, &refused),
                Message::Check { token } => link.check(cx, token),
                Message::Bye { reason } => {
                    self.dismissed(now, i, reason);
                    return self.own_link(i);
                }
                _ => {}
            }
        }
    }

    /// A server says that it is over. If we have come to it by another link as well, that is why.
    fn dismissed(&mut self, now: Time, i: usize, reason: ByeReason) {
        let key = self.links.get(i).and_then(Link::server_key);
        let has_other = |key| self.links.iter().any(|link| link.index != i && link.has_session_with(key));
        let twin = reason == ByeReason::REPLACED && key.is_some_and(has_other);
        if let Some(link) = self.links.get_mut(i) {
            let cx = lend!(self, now);
            if twin { link.stand_by(cx) } else { link.bye(cx, reason) }
        }
    }

    /// True if another link, which works or comes first, leads to the same server. One by IPv6 does not stand in for one by IPv4: no server would see
    /// then where this host's NAT has it, and those who have IPv4 alone need to know.
    pub(super) fn has_twin(&self, now: Time, i: usize, server: PublicKey) -> bool {
        let is_ipv4 = |i: usize| self.links.get(i).is_some_and(|link| link.server.addr.is_ipv4());
        let leads_there = |link: &&Link| link.index != i && link.server_key() == Some(server);
        let stands_in = |link: &&Link| is_ipv4(link.index) || !is_ipv4(i);
        let mut twins = self.links.iter().filter(leads_there).filter(stands_in);
        twins.any(|link| link.is_sound(now) || link.index < i && link.is_calling())
    }

    /// True if no server answers, and a peer is not to be reached: this host may be cut off, and nothing but an answer tells when that is over.
    pub(super) fn is_cut_off(&self, now: Time) -> bool {
        !self.links.iter().any(|link| link.is_sound(now)) && self.peers.values().any(|peer| peer.is_lost(now))
    }

    /// This server answers again: if no other one did, this host may have been cut off from everybody. Peers that are not to be reached are sought
    /// at once, and not when it is their turn.
    pub(super) fn seek_lost(&mut self, now: Time, server: usize) {
        if self.links.iter().any(|link| link.index != server && link.is_sound(now)) {
            return;
        }
        let mut at = now;
        for peer in self.peers.values_mut().filter(|peer| peer.is_lost(now)) {
            peer.seek_anew(lend!(self, now), at);
            at += PACE;
        }
    }

    /// Who is in no directory any more, who is new in one, and whom a server does not know our ties with.
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
            let links = self.links_for(now, &key);
            if self.peer_or_new(now, key).is_err() {
                continue;
            }
            let idle = self.timers.at(Timer::Connect(key)).is_none();
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.listed = true;
                // That a relayed way is asked for ever more seldom is no reason to wait.
                if (idle || peer.connects() == 0) && peer.needs(&links) {
                    peer.want(lend!(self, now), delay);
                    delay += PACE;
                }
            }
        }
    }

    /// The peer, made if there is room for another one and it may be one; else why not.
    pub(super) fn peer_or_new(&mut self, now: Time, key: PublicKey) -> Result<&mut Peer, Dropped> {
        if key == self.local.key || !self.local.settings.policy.admits(&key) {
            return Err(Dropped::NotAllowed);
        }
        if !self.peers.contains_key(&key) {
            if self.is_full() {
                self.make_room(now);
            }
            if self.is_full() {
                return Err(Dropped::Full);
            }
            self.peers.insert(key, Peer::new(key, now));
            self.timers.set(Timer::Forget(key), now + SILENCE);
        }
        self.peers.get_mut(&key).ok_or(Dropped::Full)
    }

    /// Who never answers gives way: a server that names hosts which do not exist is not to keep out those that do.
    fn make_room(&mut self, now: Time) {
        let in_vain = self.peers.values().filter(|p| !p.is_connected() && p.connects() >= IN_VAIN);
        if let Some(key) = in_vain.max_by_key(|p| p.connects()).map(|p| p.key) {
            self.expel(now, key);
        }
    }

    /// The servers to ask for this peer: those that have it, in the order of the settings; but those that answer come first, and of these the one that
    /// it was last heard by. Another one may be wrong about where it is.
    fn links_for(&self, now: Time, key: &PublicKey) -> Vec<usize> {
        // Who invites us to it has it, too: the word that it has come may have been lost.
        let peer = self.peers.get(key);
        let invites = |i| peer.is_some_and(|peer| peer.is_invited(i));
        let heard = |i| peer.is_some_and(|peer| peer.was_heard_by(i));
        let has = |l: &&Link| l.is_up(now) && (l.directory.contains_key(key) || invites(l.index));
        let mut links: Vec<&Link> = self.links.iter().filter(has).collect();
        links.sort_by_key(|link| (!link.is_sound(now), !heard(link.index)));
        // Of which nothing came give way to the next, however many there are.
        let passed = peer.map_or(0, |peer| peer.servers_passed() / SERVERS * SERVERS);
        let next = passed.checked_rem(links.len()).unwrap_or(0);
        links.rotate_left(next);
        links.into_iter().take(SERVERS).map(|link| link.index).collect()
    }

    /// [`Timer::Connect`].
    pub(super) fn connect(&mut self, now: Time, key: PublicKey) {
        let (index, links) = (self.fresh_index(), self.links_for(now, &key));
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let relays = |i: &usize| self.links.get(*i).is_some_and(|link| link.relays);
        let relays: Vec<usize> = links.iter().copied().filter(relays).collect();
        let asked = peer.connect(lend!(self, now), index, &links, &relays);
        self.settle_owners(key);
        for (i, messages) in asked {
            if let Some(link) = self.links.get_mut(i) {
                link.send(lend!(self, now), &messages);
            }
        }
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
        if let Err(why) = self.peer_or_new(now, key) {
            return self.refuse(now, key, why);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.invited(lend!(self, now), i, relay, invite);
        }
    }

    fn refuse(&mut self, now: Time, key: PublicKey, why: Dropped) {
        self.drop(why);
        if why == Dropped::NotAllowed && key != self.local.key && self.limits.tells(now, key) {
            self.out.event(Event::Refused { peer: key });
        }
    }

    /// A peer's datagram, as a server says.
    fn forwarded(&mut self, now: Time, i: usize, forward: &Forward) {
        let datagram = match Datagram::parse(&forward.datagram) {
            Ok((_, datagram)) => datagram,
            Err(error) => return self.drop(error.into()),
        };
        match &datagram {
            Datagram::Init(init) => match self.peer_or_new(now, forward.peer) {
                Ok(_) => self.handshake(now, Via::Server(i), forward.peer, init),
                Err(why) => self.refuse(now, forward.peer, why),
            },
            _ => self.dispatch(now, Via::Server(i), None, datagram),
        }
    }

    /// By the link that is asked for, or by that of a server that has the peer, or by any.
    pub(super) fn forward(&mut self, now: Time, peer: PublicKey, link: Option<usize>, datagram: Vec<u8>) {
        let up = |i: &usize| self.links.get(*i).is_some_and(|link| link.is_up(now));
        let any = || self.links.iter().find(|link| link.is_up(now)).map(|link| link.index);
        let known = || self.links_for(now, &peer).first().copied();
        let chosen = link.filter(up).or_else(known).or_else(any);
        if let Some(link) = chosen.and_then(|i| self.links.get_mut(i)) {
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
