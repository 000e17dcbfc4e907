//! A NAT, as RFC 4787 takes it apart.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use wavnet_proto::{
    nat::{Filtering, Mapping},
    time::Time,
};

/// A generator that is good enough for a test.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

/// Which port a new mapping gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alloc {
    /// The inner one; if that is taken, one that is drawn.
    Preserve,
    /// So much above the last one, from 20000 on.
    Sequential(i16),
    Random,
}

#[derive(Clone, Debug)]
struct Entry {
    inside: SocketAddr,
    /// The destination, as far as the mapping depends on it.
    depends_on: Option<(IpAddr, u16)>,
    outside: SocketAddr,
    sent_to: Vec<SocketAddr>,
    used: Time,
}

#[derive(Clone, Debug)]
pub(crate) struct Nat {
    /// Its outer addresses; mappings take turns.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) mapping: Mapping,
    pub(crate) filtering: Filtering,
    pub(crate) alloc: Alloc,
    /// `Some(true)`: with the inner address as the source, by half.
    pub(crate) hairpin: Option<bool>,
    pub(crate) timeout: Duration,
    next: u16,
    dice: Dice,
    entries: Vec<Entry>,
}

impl Nat {
    pub(crate) fn new(ip: &str, mapping: Mapping, filtering: Filtering, alloc: Alloc, seed: u64) -> Nat {
        let timeout = Duration::from_secs(120);
        let (ips, dice) = (vec![ip.parse().unwrap()], Dice(seed));
        Nat { ips, mapping, filtering, alloc, hairpin: None, timeout, next: 20000, dice, entries: Vec::new() }
    }

    /// All mappings are gone, and what comes next is not what it was.
    pub(crate) fn reboot(&mut self) {
        self.entries.clear();
        self.next += 777;
        if self.alloc == Alloc::Preserve {
            self.alloc = Alloc::Random;
        }
    }

    /// One host's port has no mapping any more.
    pub(crate) fn forget(&mut self, inside: SocketAddr) {
        self.entries.retain(|e| e.inside != inside);
    }

    fn key(kind: Mapping, to: SocketAddr) -> Option<(IpAddr, u16)> {
        match kind {
            Mapping::AddressDependent => Some((to.ip(), 0)),
            Mapping::AddressAndPortDependent => Some((to.ip(), to.port())),
            _ => None,
        }
    }

    fn port(&mut self, inside: u16) -> u16 {
        let taken = |port| self.entries.iter().any(|e| e.outside.port() == port);
        match self.alloc {
            Alloc::Preserve if !taken(inside) => inside,
            Alloc::Preserve | Alloc::Random => loop {
                let port = 1024 + self.dice.below(64_000) as u16;
                if !taken(port) {
                    return port;
                }
            },
            Alloc::Sequential(step) => {
                let port = self.next;
                self.next = port.wrapping_add_signed(step);
                port
            }
        }
    }

    /// Something leaves: where it seems to come from.
    pub(crate) fn outbound(&mut self, now: Time, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        let timeout = self.timeout;
        self.entries.retain(|e| now.since(e.used) < timeout);
        let depends_on = Nat::key(self.mapping, to);
        let found = self.entries.iter().position(|e| e.inside == inside && e.depends_on == depends_on);
        let place = found.unwrap_or_else(|| {
            let port = self.port(inside.port());
            let ip = self.ips[self.entries.len() % self.ips.len()];
            let outside = SocketAddr::new(ip, port);
            self.entries.push(Entry { inside, depends_on, outside, sent_to: Vec::new(), used: now });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[place];
        entry.used = now;
        entry.sent_to.push(to);
        entry.outside
    }

    /// Something comes: who it is for.
    pub(crate) fn inbound(&mut self, now: Time, from: SocketAddr, outside: SocketAddr) -> Option<SocketAddr> {
        let entry = self.entries.iter().find(|e| e.outside == outside && now.since(e.used) < self.timeout)?;
        let allowed = entry.sent_to.iter().any(|to| match self.filtering {
            Filtering::AddressDependent => to.ip() == from.ip(),
            Filtering::AddressAndPortDependent => *to == from,
            _ => true,
        });
        allowed.then_some(entry.inside)
    }
}
