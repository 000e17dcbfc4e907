//! The list of servers changes while the mesh runs: those that stay keep their sessions.

use std::collections::BTreeMap;

use super::{Context, Link, Mesh, Server, Timer, lend};
use crate::{
    time::Time,
    wire::{Message, message::ByeReason},
};

/// The timers of a link.
fn timers(link: usize) -> [Timer; 4] {
    [Timer::Greet(link), Timer::Register(link), Timer::Sync(link), Timer::ServerPulse(link)]
}

impl Mesh {
    /// Takes another list of servers. Links to those of it that are there already stay as they are, in their new places, if `may_stay`; the other
    /// links end, and their servers are told. Which places have new links, for [`Mesh::greet_some`].
    pub(super) fn replace_links(&mut self, now: Time, servers: &[Server], may_stay: bool) -> Vec<usize> {
        let mut places = BTreeMap::new();
        for (new, server) in servers.iter().enumerate().filter(|_| may_stay) {
            let stays = |link: &&Link| link.may_stay(server) && !places.contains_key(&link.index);
            if let Some(old) = self.links.iter().find(stays).map(|link| link.index) {
                places.insert(old, new);
            }
        }
        self.leave_servers(now, |link| !places.contains_key(&link));
        // All of them first: the new place of one may be the old one of another.
        let due: Vec<_> = places.iter().flat_map(|(old, new)| timers(*old).into_iter().zip(timers(*new))).collect();
        let due: Vec<_> = due.into_iter().filter_map(|(old, new)| Some((old, new, self.timers.at(old)?))).collect();
        due.iter().for_each(|(old, ..)| self.timers.stop(*old));
        due.iter().for_each(|(_, new, at)| self.timers.set(*new, *at));
        (0..self.links.len()).for_each(|old| self.disown_link(old));
        for peer in self.peers.values_mut() {
            peer.links_moved(&places);
            peer.forget_relays(lend!(self, now), servers);
        }
        let mapped = std::mem::take(&mut self.local.mapped);
        self.local.mapped = mapped.into_iter().filter_map(|(old, at)| Some((*places.get(&old)?, at))).collect();
        let mut staying: BTreeMap<usize, Link> = std::mem::take(&mut self.links)
            .into_iter()
            .filter_map(|link| Some((*places.get(&link.index)?, link)))
            .collect();
        let mut come = Vec::new();
        for (i, server) in servers.iter().enumerate() {
            self.links.push(match staying.remove(&i) {
                Some(mut link) => {
                    (link.index, link.server) = (i, server.clone());
                    if link.stands_by() {
                        // Maybe for one that has just ended.
                        self.timers.set_no_later(Timer::Greet(i), now);
                    }
                    link
                }
                None => {
                    come.push(i);
                    Link::new(i, server.clone(), self.local.settings.pulse)
                }
            });
        }
        self.link_indices = vec![Vec::new(); self.links.len()];
        (0..self.links.len()).for_each(|i| self.own_link(i));
        come
    }

    /// Ends these links, and tells their servers.
    pub(super) fn leave_servers(&mut self, now: Time, leaves: impl Fn(usize) -> bool) {
        for i in (0..self.links.len()).filter(|i| leaves(*i)) {
            if let Some(link) = self.links.get_mut(i) {
                let cx = lend!(self, now);
                link.send(cx, &[Message::Bye { reason: ByeReason::STOPS }]);
                link.stop(cx);
            }
            self.disown_link(i);
            self.peers.values_mut().for_each(|peer| peer.uninvite(i));
        }
    }

    /// Begins handshakes by these links.
    pub(super) fn greet_some(&mut self, now: Time, links: impl IntoIterator<Item = usize>) {
        for i in links {
            let index = self.fresh_index();
            if let Some(link) = self.links.get_mut(i) {
                link.greet(lend!(self, now), index);
            }
            self.own_link(i);
        }
    }
}

impl Link {
    /// True if it waits for another link to fail, or for nothing.
    fn stands_by(&self) -> bool {
        !self.is_greeting() && self.server_key().is_none() && self.trouble().is_none()
    }

    /// True if this link is one to that server: at the same address, and with the key that it must have.
    fn may_stay(&self, server: &Server) -> bool {
        let proved = || !self.is_greeting() && self.server_key() == server.key;
        self.server.addr == server.addr && (server.key.is_none() || server.key == self.server.key || proved())
    }
}
