//! What changes while the mesh runs: its settings, this host's addresses, its NAT; and the end.

use std::net::SocketAddr;

use super::{Context, Mesh, Settings, lend};
use crate::{
    time::Time,
    trust::PublicKey,
    wire::{NatSummary, message::ByeReason},
};

impl Mesh {
    /// Takes other settings. What they no longer allow ends at once; paths that stand and are still wanted are not touched, nor are
    /// sessions with servers that stay.
    pub fn configure(&mut self, now: Time, settings: Settings) {
        let now = self.clock.read(now);
        let other_network = settings.access.network() != self.local.settings.access.network();
        let other_servers = other_network || settings.servers != self.local.settings.servers;
        let unwanted = |key: &PublicKey| other_network || !settings.policy.admits(key);
        let refused: Vec<PublicKey> = self.peers.keys().filter(|key| unwanted(key)).copied().collect();
        for key in refused {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.bye(lend!(self, now), ByeReason::NOT_ALLOWED);
            }
            self.expel(now, key);
        }
        self.settle(now);
        let come = if other_servers { self.replace_links(now, &settings.servers, !other_network) } else { Vec::new() };
        self.local.settings = settings;
        self.local.generation += 1;
        for link in &mut self.links {
            link.pulses.set_idle(self.local.idle(&NatSummary::default()));
            link.touch(lend!(self, now));
        }
        for peer in self.peers.values_mut() {
            let cx = lend!(self, now);
            peer.classify(cx);
            peer.admit(cx);
        }
        // Without a server that stays there is no directory, which says nothing of who is there.
        if come.len() < self.links.len() {
            self.directory_changed(now);
        }
        self.greet_some(now, come);
        self.tell_all(now);
        self.settle(now);
    }

    /// The agent stops: everybody is told. Nothing but draining is to be done after it.
    pub fn close(&mut self, now: Time) {
        let now = self.clock.read(now);
        let keys: Vec<PublicKey> = self.peers.keys().copied().collect();
        for key in keys {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.bye(lend!(self, now), ByeReason::STOPS);
            }
            self.expel(now, key);
        }
        self.settle(now);
        self.leave_servers(now, |_| true);
        self.links.clear();
        self.link_indices.clear();
    }

    /// The host's own addresses, each with the main socket's port. Call it at the start and whenever they change.
    pub fn set_addresses(&mut self, now: Time, hosts: Vec<SocketAddr>) {
        let now = self.clock.read(now);
        if self.local.hosts == hosts {
            return;
        }
        let before = std::mem::replace(&mut self.local.hosts, hosts);
        self.local.generation += 1;
        for link in &mut self.links {
            link.touch(lend!(self, now));
        }
        if before.is_empty() {
            self.greet_some(now, 0..self.links.len());
        }
        let is_elsewhere = before.iter().all(|addr| !self.local.hosts.contains(addr));
        let lost = before.iter().any(|addr| !self.local.hosts.contains(addr));
        let has = |v4: bool| self.local.hosts.iter().any(|addr| addr.is_ipv4() == v4);
        let families = [true, false].map(|v4| (v4, has(v4)));
        for peer in self.peers.values_mut() {
            let cx = lend!(self, now);
            for (v4, _) in families.iter().filter(|(_, there)| !there) {
                peer.drop_family(cx, *v4);
            }
            if lost {
                // What was tried elsewhere says nothing here.
                if is_elsewhere {
                    peer.forget_attempts()
                } else {
                    peer.start_over(now)
                }
                peer.doubt_all(cx);
                peer.tell_moved(cx);
            }
            peer.punch_known(cx);
            peer.consider_search(cx);
        }
        self.tell_all(now);
        self.settle(now);
    }

    /// What is in front of this host, as its classification has it.
    pub fn set_nat(&mut self, now: Time, nat: NatSummary) {
        let now = self.clock.read(now);
        if self.local.nat != nat {
            self.local.nat = nat;
            self.local.generation += 1;
            for link in &mut self.links {
                link.pulses.set_idle(self.local.idle(&NatSummary::default()));
                link.touch(lend!(self, now));
            }
            for peer in self.peers.values_mut() {
                let cx = lend!(self, now);
                peer.classify(cx);
                peer.consider_search(cx);
                peer.seek_servers(cx);
            }
            self.tell_all(now);
            self.settle(now);
        }
    }
}
