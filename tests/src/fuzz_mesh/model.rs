//! What must hold of a story, by a model that knows where everybody is and nothing of how hosts find each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use wavnet_proto::{
    mesh::{ENTRIES, PathKind},
    time::Time,
};
use wavnet_sim::{HostId, RouterId};

use super::{
    Story,
    hosts::{Site, key},
};

/// Nobody has an address that begins so (RFC 5737).
pub(super) const NOBODY: [u8; 3] = [203, 0, 113];
/// The number of a frame that no host has sent.
pub(super) const FORGED: u32 = u32::MAX;

/// Until everybody has found whom there is to find, nothing in the way any more: longer than any pause.
const QUIET: Duration = Duration::from_secs(420);
/// Before the first look whether they have, and the longest time between two.
const FIRST_LOOK: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_secs(16);
/// A frame takes no longer, by a relay.
const ARRIVES: Duration = Duration::from_millis(100);
/// Behind a NAT that has forgotten everything, one host gets another one's port. It is for that one until it is asked who it is: a minute, and what
/// asking takes (docs/wire.md, section 1).
const CONFUSED: Duration = Duration::from_secs(62);
/// Datagrams of all hosts in [`LOOK`] while nothing happens, and what a search of two is on top.
const IDLE: u64 = 2000;
const SEARCH: u64 = 2000;
/// Entries of a host in its NAT while nothing is searched.
const FEW_ENTRIES: usize = 100;
/// Paths to one peer that frames are taken from, and that are known.
const TAKEN: usize = 4;
const KNOWN: usize = 40;

/// What the model has seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Frames that were looked at, by host.
    frames: BTreeMap<usize, usize>,
    /// Addresses that each host has ever had, inside and outside.
    been: BTreeMap<usize, BTreeSet<IpAddr>>,
    /// How often a host has begun to run behind a router, each time ready to search.
    behind: BTreeMap<RouterId, usize>,
    /// How often mappings have changed: what is under way from one then makes entries elsewhere once more.
    shifts: usize,
    /// When a NAT has last forgotten everything, and when it was last looked at what came.
    forgot: Option<Time>,
    looked: Time,
}

impl Seen {
    /// A host is somewhere from now on.
    pub(super) fn is_at(&mut self, i: usize, site: &Site, addr: IpAddr) {
        let been = self.been.entry(i).or_default();
        been.insert(addr);
        self.shifts += 1;
        if let Some(front) = site.front {
            been.insert(front.addr);
            *self.behind.entry(front.router).or_default() += 1;
        }
    }

    /// A NAT forgets everything.
    pub(super) fn forgets(&mut self, now: Time) {
        self.forgot = Some(now);
        self.shifts += 1;
    }

    /// What has come since the last look may have been taken for another host's behind the same NAT.
    fn are_confused(&self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|i| self.been.get(&i));
        let met = a.zip(b).is_some_and(|(a, b)| !a.is_disjoint(b));
        met && self.forgot.is_some_and(|at| self.looked <= at + CONFUSED)
    }

    /// A host starts anew, and knows nothing of before.
    pub(super) fn starts(&mut self, i: usize, site: &Site) {
        self.frames.remove(&i);
        if let Some(front) = site.front {
            *self.behind.entry(front.router).or_default() += 1;
        }
    }
}

/// Which paths from one host to another are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    None,
    Only(PathKind),
    /// One, and not by the LAN.
    Some,
    /// No server brings them together. They may have met before, if anything leads there.
    MetBefore {
        by: PathKind,
    },
}

impl Right {
    fn includes(self, path: Option<PathKind>) -> bool {
        match self {
            Right::None => path.is_none(),
            Right::Only(kind) => path == Some(kind),
            Right::Some => matches!(path, Some(PathKind::Direct | PathKind::Relayed)),
            Right::MetBefore { by } => path.is_none_or(|kind| kind == by),
        }
    }
}

impl Story {
    /// At every moment: frames come from whom they seem to, and from nobody who may not be there; and from where their senders are. The agents
    /// check what they are told to do.
    pub(super) fn look(&mut self) {
        for (i, site) in self.sites.iter().enumerate() {
            if !self.runs(site.host) {
                continue;
            }
            let agent = self.net.node(site.host).agent();
            let seen = self.seen.frames.insert(i, agent.frames.len()).unwrap_or_default();
            for frame in agent.frames.iter().skip(seen) {
                let (sender, number) = ((frame.number >> 32) as usize, frame.number as u32);
                assert!(number != FORGED, "host {i} takes a frame from nowhere for one of {}", frame.from);
                let owner = (0..self.sites.len()).find(|j| key(*j) == frame.from);
                let right = owner.is_some_and(|owner| owner == sender || self.seen.are_confused(owner, sender));
                assert!(right, "a frame of host {sender} is taken for one of {owner:?}");
                assert!(!self.revoked.contains(&(i, sender)), "a frame of host {sender}, which may not be there");
            }
            for (_, j) in self.revoked.iter().filter(|(by, _)| *by == i) {
                assert!(!agent.is_admitted(key(*j)), "host {i} has host {j}, which may not be there");
            }
            for (peer, way) in agent.ways() {
                let from_server = self.servers.iter().any(|s| self.net.main_address(*s) == way.remote);
                let peer = (0..self.sites.len()).find(|j| *j != i && key(*j) == peer);
                let been = |j: &usize| self.seen.been.get(j).is_some_and(|been| been.contains(&way.remote.ip()));
                let right =
                    if way.is_relayed() { peer.is_some() && from_server } else { peer.as_ref().is_some_and(been) };
                assert!(right, "host {i} takes frames of host {peer:?} from {way}, where it never was");
            }
            assert!(agent.paths() <= TAKEN * (self.sites.len() - 1), "host {i} has {} paths", agent.paths());
        }
        self.seen.looked = self.net.now();
    }

    /// Everybody finds whom there is to find, and reaches whom it has found.
    pub(super) fn settle(&mut self) {
        let end = self.net.now() + QUIET;
        let mut pause = FIRST_LOOK;
        loop {
            self.net.run_for(pause);
            self.look();
            match self.fault() {
                None => return,
                Some(fault) if self.net.now() >= end => self.fail(&fault),
                Some(_) => pause = (pause * 2).min(LOOK),
            }
        }
    }

    /// Nothing happens any more. `stays`: nor does anything for a while after everybody has found whom there is to find.
    pub(super) fn end(&mut self, stays: bool) {
        for site in self.sites.clone() {
            self.heal(site.outside());
            if self.runs(site.host) {
                let all = 0..self.sites.len();
                self.net.act(site.host, |node, now| {
                    all.for_each(|j| node.agent_mut().mesh.set_busy(now, &key(j), false));
                });
            }
        }
        self.settle();
        if stays {
            let sent = self.net.totals().sent;
            self.net.run_for(LOOK);
            let sent = self.net.totals().sent - sent;
            let searches = if self.search { self.sites.len() as u64 / 2 } else { 0 };
            assert!(sent < IDLE + SEARCH * searches, "{sent} datagrams in {LOOK:?} of nothing");
            self.look();
            if let Some(fault) = self.fault() {
                self.fail(&fault);
            }
        }
        self.check_room();
    }

    /// What is wrong, if anything is.
    fn fault(&mut self) -> Option<String> {
        let count = self.sites.len();
        let running: Vec<usize> = (0..count).filter(|i| self.runs(self.sites[*i].host)).collect();
        let pairs = running.iter().flat_map(|i| (0..count).map(move |j| (*i, j))).filter(|(i, j)| i != j);
        for (i, j) in pairs.clone() {
            let (right, path) = (self.right(i, j), self.path(i, j));
            if !right.includes(path) {
                let [a, b] = [i, j].map(|n| self.sites[n].nat);
                return Some(format!("host {i} ({a:?}) has {path:?} to host {j} ({b:?}), and not {right:?}"));
            }
        }
        let to_running = pairs.filter(|(_, j)| running.contains(j));
        let sent: Vec<_> = to_running.filter_map(|(i, j)| self.send(i, j).map(|number| (i, j, number))).collect();
        self.net.run_for(ARRIVES);
        let came = |(i, j, number): &(usize, usize, u64)| {
            let frames = &self.net.node(self.sites[*j].host).agent().frames;
            frames.iter().rev().any(|frame| (frame.from, frame.number) == (key(*i), *number))
        };
        let lost = sent.iter().find(|sent| !came(sent));
        lost.map(|(i, j, _)| format!("host {i} does not reach host {j} by its path ({:?})", self.path(*i, *j)))
    }

    fn path(&self, i: usize, j: usize) -> Option<PathKind> {
        self.net.node(self.sites[i].host).agent().path_to(key(j))
    }

    /// Who is connected to whom, and how.
    fn right(&self, i: usize, j: usize) -> Right {
        let (a, b) = (self.sites[i], self.sites[j]);
        let allowed = !self.revoked.contains(&(i, j)) && !self.revoked.contains(&(j, i));
        let reaches = |site: Site, server: HostId| !self.is_cut(site.outside(), server.into());
        let is_common = |server: &HostId| self.runs(*server) && reaches(a, *server) && reaches(b, *server);
        let neighbours = a.front.is_some() && a.front == b.front;
        let cut = self.is_cut(a.outside(), b.outside());
        if !self.runs(b.host) || !allowed {
            Right::None
        } else if !self.servers.iter().any(is_common) {
            match (cut, neighbours) {
                (true, _) => Right::None,
                (false, true) => Right::MetBefore { by: PathKind::Lan },
                (false, false) => Right::MetBefore { by: PathKind::Direct },
            }
        } else if neighbours {
            Right::Only(PathKind::Lan)
        } else if cut {
            Right::Only(PathKind::Relayed)
        } else if a.nat.meets(b.nat) {
            Right::Only(PathKind::Direct)
        } else if !self.search && a.nat.never_meets(b.nat) {
            Right::Only(PathKind::Relayed)
        } else {
            Right::Some
        }
    }

    /// What everybody keeps is bounded.
    fn check_room(&self) {
        for (router, hosts) in &self.seen.behind {
            let most = if self.search { ENTRIES.into() } else { FEW_ENTRIES };
            let peak = self.net.router_stats(*router).flows.peak;
            let again = if self.search { self.seen.shifts.saturating_sub(self.sites.len()) * most / 2 } else { 0 };
            assert!(peak <= most * hosts + again, "{peak} entries in {router} for {hosts} hosts");
        }
        let count = self.sites.len();
        for server in self.servers.iter().filter(|server| self.runs(**server)) {
            let view = self.net.node(*server).server().core.view();
            let hosts: usize = view.networks.iter().map(|network| network.hosts).sum();
            assert!(hosts <= count && view.visitors <= count, "{view:?}");
            assert!(view.relays <= count * (count - 1) / 2, "{view:?}");
        }
        for site in self.sites.iter().filter(|site| self.runs(site.host)) {
            let agent = self.net.node(site.host).agent();
            let peers: Vec<_> = agent.mesh.peers().collect();
            assert!(peers.len() < count && peers.iter().all(|peer| peer.paths.len() <= KNOWN), "{peers:?}");
        }
    }

    fn fail(&self, fault: &str) -> ! {
        for site in self.sites.iter().filter(|site| self.runs(site.host)) {
            let agent = self.net.node(site.host).agent();
            eprintln!("{:?}", agent.mesh.servers());
            agent.mesh.peers().for_each(|peer| eprintln!("{} {} {:?}", peer.key, peer.connected, peer.paths));
            eprintln!("{:?}", agent.events);
        }
        panic!("{fault}");
    }
}
