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
        if what & 0x40 != 0 {
            self.change(i, j, what);
            return Some(());
        }
        match what & 0x0f {
            0 | 1 => self.pass(Duration::from_millis(1 << (whom % 18))),
            2 => self.toggle_cut(site.outside(), self.sites[j].outside()),
            3 => self.toggle_cut(site.outside(), self.servers[s].into()),
            4 => {
                let router = |front: Front| front.inner.filter(|_| what & 0x80 != 0).unwrap_or(front.router);
                site.front.map(router).into_iter().for_each(|router| self.net.reboot(router));
                self.seen.forgets(self.net.now());
            }
            5 if self.routers < ROUTERS => self.roam(i, Nat::new(whom >> 4)),
            6 if self.runs(site.host) => drop(self.net.kill(site.host)),
            6 => self.start(i),
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
                    self.net.clock_forward(site.host, by);
                    // What is overdue by then comes before all else.
                    self.net.run_for(Duration::ZERO);
                } else {
                    self.net.clock_back(site.host, by);
                }
            }
            12 => {
                let link = self.net.link_mut(site.outside(), Direction::Up);
                link.loss = Chance::percent(u32::from(whom >> 4) * 3);
            }
            13 if self.runs(site.host) => {
                let bytes: Vec<u8> = input.by_ref().take(usize::from(whom >> 3)).collect();
                let to = self.net.main_address(site.host);
                if let Some(from) = self.address(self.servers[s], to.is_ipv6()) {
                    self.net.inject(self.net.segment(site.host), Datagram { from, to, payload: bytes });
                }
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

    /// What a host has, or lets others have, becomes another one.
    fn change(&mut self, i: usize, j: usize, what: u8) {
        let which = (what >> 4) & 3;
        match what & 0x0f {
            0..4 => {
                self.look();
                self.vnis[i] = which;
                self.configure(i);
            }
            4..8 if i != j => {
                self.look();
                self.limits.insert((i, j), which);
                self.configure(i);
            }
            8..14 => self.vanish(i),
            14.. if self.twin.is_some() => self.part(),
            // Between two hosts it would only cost time.
            14.. if i != j && self.sites.len() > 2 => {
                self.twin = Some((i, j));
                self.exchange(i);
            }
            _ => {}
        }
    }

    /// An address of one family goes, or both are there again.
    fn vanish(&mut self, i: usize) {
        let site = &mut self.sites[i];
        if site.addrs.contains(&None) {
            return;
        }
        site.has = match site.has {
            [true, true] => [false, true],
            [false, true] => [true, false],
            _ => [true, true],
        };
        let site = *site;
        self.net.move_host(site.host, self.net.segment(site.host), &site.current());
        self.seen.is_at(self.id(i), &site);
    }

    /// The one that has another one's key has its own again.
    pub(super) fn part(&mut self) {
        if let Some((i, _)) = self.twin.take() {
            self.exchange(i);
        }
    }

    /// A host starts with another key than before. For a while it is taken for whom it was.
    fn exchange(&mut self, i: usize) {
        self.start(i);
        self.seen.is_at(self.id(i), &self.sites[i]);
        self.seen.forgets(self.net.now());
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
        let (segment, front) = self.place(nat, None);
        let host = self.sites[i].host;
        let addrs = self.addresses(segment, nat, self.sites[i].addrs[1].is_some());
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
        let site = Site { host, front, nat, addrs, has: addrs.map(|addr| addr.is_some()) };
        self.net.move_host(host, segment, &site.current());
        self.sites[i] = site;
        self.seen.is_at(self.id(i), &site);
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
        self.configure(i);
    }

    fn configure(&mut self, i: usize) {
        let site = self.sites[i];
        let (settings, host) = (self.settings(i, site.addrs[1].is_some()), site.host);
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
        if which & 64 != 0 && datagram.to.is_ipv4() {
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
        let Some(local) = self.address(self.sites[i].host, false) else { return };
        let external = |router, of| self.net.mappings(router).find(|m| m.internal == of).map(|m| m.external);
        let outer = |front: Front| {
            let local = front.inner.map_or(Some(local), |inner| external(inner, local))?;
            external(front.router, local)
        };
        let Some(to) = self.sites[i].front.map_or(Some(local), outer) else { return };
        let [a, b, c] = NOBODY;
        let from = if nobody { IpAddr::from([a, b, c, 9]) } else { self.net.main_address(self.servers[0]).ip() };
        let number = (j as u64) << 32 | u64::from(FORGED);
        let payload = [&[8, 0, 0, 0, 0, 0, 100, 0], &number.to_be_bytes()[..]].concat();
        self.net.inject(SegmentId::INTERNET, Datagram { from: SocketAddr::new(from, 4788), to, payload });
    }

    fn traffic(&mut self, i: usize, j: usize, busy: bool) {
        let (host, to) = (self.sites[i].host, self.id(j));
        if to == self.id(i) || !self.runs(host) {
            return;
        }
        for _ in 0..8 {
            self.net.act(host, |node, now| node.agent_mut().mesh.set_busy(now, &key(to), busy));
            self.send(i, to);
            self.net.run_for(Duration::from_millis(30));
        }
    }
}
