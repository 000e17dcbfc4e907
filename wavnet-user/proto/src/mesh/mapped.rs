//! Where servers see this host, and when that is outdated.

use std::net::SocketAddr;

use super::{Context, Mesh, lend};
use crate::{time::Time, wire::Candidate};

/// Where a server sees this host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapped {
    pub(super) addr: SocketAddr,
    /// When it first said so.
    pub(super) since: Time,
}

impl Mesh {
    /// A server sees us at another address: others must know.
    pub(super) fn mapped(&mut self, now: Time, i: usize, addr: SocketAddr) {
        let before = self.local.candidates();
        self.local.mapped.insert(i, Mapped { addr, since: now });
        // Where servers saw us that we have lost, somebody else may be by now.
        let links = &self.links;
        self.local.mapped.retain(|j, _| *j == i || links.get(*j).is_some_and(|link| link.is_up(now)));
        self.unmap(&self.outdated(now));
        if self.say_where(now, &before) {
            for peer in self.peers.values_mut() {
                let cx = lend!(self, now);
                peer.start_over(now);
                peer.tell_moved(cx);
                peer.consider_search(cx);
            }
        }
    }

    /// A server may be gone. Where it saw us nobody is to look for us if we have left that place since.
    pub(super) fn forget_outdated(&mut self, now: Time) {
        let outdated = self.outdated(now);
        if !outdated.is_empty() {
            let before = self.local.candidates();
            self.unmap(&outdated);
            self.say_where(now, &before);
        }
    }

    /// Servers that are gone and have seen this host where it is no longer: another one has said since then that it is elsewhere.
    fn outdated(&self, now: Time) -> Vec<usize> {
        let mapped = &self.local.mapped;
        // Of such a NAT's ports no two servers see the same.
        let has_ports = self.local.nat.mapping.is_dependent();
        let is_elsewhere = |a: SocketAddr, b: SocketAddr| {
            a.is_ipv4() == b.is_ipv4() && (a.ip() != b.ip() || a.port() != b.port() && !has_ports)
        };
        let is_outdated = |i: &usize, seen: &Mapped| {
            let gone = self.links.get(*i).filter(|link| link.is_gone(now));
            gone.is_some_and(|link| {
                let says = |later: &Mapped| later.since > link.registered_at() && is_elsewhere(later.addr, seen.addr);
                mapped.values().any(says)
            })
        };
        mapped.iter().filter(|(i, seen)| is_outdated(i, seen)).map(|(i, _)| *i).collect()
    }

    fn unmap(&mut self, links: &[usize]) {
        self.local.mapped.retain(|i, _| !links.contains(i));
    }

    /// Tells others where this host is to be reached. False if that is as before.
    fn say_where(&mut self, now: Time, before: &[Candidate]) -> bool {
        if self.local.candidates() == before {
            return false;
        }
        self.local.generation += 1;
        for link in &mut self.links {
            link.touch(lend!(self, now));
        }
        self.tell_all(now);
        true
    }
}
