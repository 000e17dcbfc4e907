//! What happens in a story: two bytes and more of the input say what, and to whom.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_sim::{Attached, Chance, Datagram, Direction, Order, SegmentId};

use super::{
    Story,
    hosts::{Front, Nat, Site, key},
    model::{FORGED, NOBODY},
};

/// Moves at the most: each needs a router.
const ROUTERS: u32 = 12;

impl Story {
    pub(super) fn step(&mut self, input: &mut impl Iterator<Item = u8>) -> Option<()> {
        let (what, whom) = (input.next()?, input.next()?);
        let count = self.sites.len();
        let (i, j) = (usize::from(whom) % count, usize::from(whom >> 4) % count);
        let s = usize::from(whom >> 4) % self.servers.len();
        let site = self.sites[i];
        match what & 0x0f {
            0 | 1 => self.pass(Duration::from_millis(1 << (whom % 18))),
            2 => self.toggle_cut(site.outside(), self.sites[j].outside()),
            3 => self.toggle_cut(site.outside(), self.servers[s].into()),
            4 => {
                site.front.into_iter().for_each(|front| self.net.reboot(front.router));
                self.seen.forgets(self.net.now());
            }
            5 if self.routers < ROUTERS => self.roam(i, Nat::new(whom >> 4)),
            6 if self.runs(site.host) => drop(self.net.kill(site.host)),
            6 => {
                let node = self.agent(i, site.nat);
                self.net.restart(site.host, node);
                self.seen.starts(i, &site);
            }
            7 if self.runs(self.servers[s]) => drop(self.net.kill(self.servers[s])),
            7 => {
                let node = self.server(s);
                self.net.restart(self.servers[s], node);
            }
            8 if i != j => self.revoke(i, j),
            9 => self.repeat(whom, input.next()?, input.next()?),
            10 => self.traffic(i, j, what & 0x80 != 0),
            11 if self.runs(site.host) => {
                // Until a clock that stepped back is where it was, nothing may wake its host.
                let by = Duration::from_millis(1 << (whom >> 4).min(12));
                if what & 0x80 != 0 {
                    self.net.clock_forward(site.host, by)
                } else {
                    self.net.clock_back(site.host, by)
                }
            }
            12 => {
                let link = self.net.link_mut(site.outside(), Direction::Up);
                link.loss = Chance::percent(u32::from(whom >> 4) * 3);
            }
            13 if self.runs(site.host) => {
                let bytes: Vec<u8> = input.by_ref().take(usize::from(whom >> 3)).collect();
                let (to, from) = (self.net.main_address(site.host), self.net.main_address(self.servers[s]));
                self.net.inject(self.net.segment(site.host), Datagram { from, to, payload: bytes });
            }
            14 => self.forge(i, j, what & 0x80 != 0),
            15 => {
                let link = self.net.link_mut(site.outside(), Direction::Up);
                link.duplication = Chance::percent(u32::from(whom >> 4) * 6);
                let (chance, by) = (link.duplication, Duration::from_millis(30));
                link.order = if what & 0x80 != 0 { Order::HeldBack { chance, by } } else { Order::Kept };
            }
            _ => {}
        }
        Some(())
    }

    /// Time passes, until there has been enough.
    fn pass(&mut self, time: Duration) {
        let end = self.net.now() + time;
        while self.net.now() < end && !self.is_long() {
            let next = self.net.now() + Duration::from_secs(1);
            self.net.run_until(next.min(end));
        }
    }

    fn roam(&mut self, i: usize, nat: Nat) {
        let (segment, front) = self.place(nat);
        let addr = self.net.vacant_v4(segment);
        let host = self.sites[i].host;
        // The cuts of before were of another attachment.
        let old = self.sites[i].outside();
        if old == host.into() {
            for (a, b) in std::mem::take(&mut self.cut) {
                if a == old || b == old {
                    self.net.set_partition(&[a], &[b], false);
                } else {
                    self.cut.insert((a, b));
                }
            }
        }
        self.heal(old);
        self.net.move_host(host, segment, &[addr]);
        let site = Site { host, front, nat };
        self.sites[i] = site;
        self.seen.is_at(i, &site, addr);
        if self.runs(host) {
            self.net.act(host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.set_nat(now, nat.summary());
                agent.settle(now);
            });
        }
    }

    /// Nothing is lost, doubled or held back on this link any more.
    pub(super) fn heal(&mut self, of: Attached) {
        let link = self.net.link_mut(of, Direction::Up);
        (link.loss, link.duplication, link.order) = (Chance::NEVER, Chance::NEVER, Order::Kept);
    }

    fn revoke(&mut self, i: usize, j: usize) {
        self.look();
        if !self.revoked.remove(&(i, j)) {
            self.revoked.insert((i, j));
        }
        let (settings, host) = (self.settings(i), self.sites[i].host);
        if self.runs(host) {
            self.net.act(host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.configure(now, settings);
                agent.settle(now);
            });
        }
    }

    /// Something that was on its way, again or changed, from where it came or from elsewhere. Frames are as VXLAN has them: they prove nothing.
    fn repeat(&mut self, which: u8, place: u8, bits: u8) {
        let seen = self.net.captured(self.tap).rev().nth(usize::from(which & 63)).map(|c| c.datagram.clone());
        let Some(mut datagram) = seen.filter(|d| d.payload.first().is_some_and(|first| first & 8 == 0)) else { return };
        if which & 64 != 0 {
            let [a, b, c] = NOBODY;
            datagram.from = SocketAddr::new(IpAddr::from([a, b, c, bits]), 4789);
        }
        let len = datagram.payload.len();
        if let Some(byte) = datagram.payload.get_mut(usize::from(place) % len.max(1)).filter(|b| **b ^ bits & 8 == 0) {
            *byte ^= bits;
        }
        self.net.inject(SegmentId::INTERNET, datagram);
    }

    /// A frame that says it is one of host `j`, from where no host is: nobody may take it.
    fn forge(&mut self, i: usize, j: usize, nobody: bool) {
        let local = self.net.main_address(self.sites[i].host);
        let outer = |front: Front| self.net.mappings(front.router).find(|m| m.internal == local).map(|m| m.external);
        let Some(to) = self.sites[i].front.map_or(Some(local), outer) else { return };
        let [a, b, c] = NOBODY;
        let from = if nobody { IpAddr::from([a, b, c, 9]) } else { self.net.main_address(self.servers[0]).ip() };
        let number = (j as u64) << 32 | u64::from(FORGED);
        let payload = [&[8, 0, 0, 0, 0, 0, 100, 0], &number.to_be_bytes()[..]].concat();
        self.net.inject(SegmentId::INTERNET, Datagram { from: SocketAddr::new(from, 4788), to, payload });
    }

    fn traffic(&mut self, i: usize, j: usize, busy: bool) {
        let host = self.sites[i].host;
        if i == j || !self.runs(host) {
            return;
        }
        for _ in 0..8 {
            self.net.act(host, |node, now| node.agent_mut().mesh.set_busy(now, &key(j), busy));
            self.send(i, j);
            self.net.run_for(Duration::from_millis(30));
        }
    }
}
