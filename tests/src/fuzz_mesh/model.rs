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
use wavnet_sim::RouterId;

use super::{
    Story,
    hosts::{Site, key},
};

/// Nobody has an address that begins so (RFC 5737).
pub(super) const NOBODY: [u8; 3] = [203, 0, 113];
/// The number of a frame that no host has sent.
pub(super) const FORGED: u32 = u32::MAX;

/// Until everybody has found whom there is to find, nothing in the way any more: longer than any pause, and a search after it.
const QUIET: Duration = Duration::from_secs(480);
/// Before the first look whether they have, and the longest time between two.
const FIRST_LOOK: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_secs(16);
/// A frame takes no longer, by a relay.
const ARRIVES: Duration = Duration::from_millis(100);
/// Behind a NAT that has forgotten everything, one host gets another one's port (and who has got another key has what was another one's). It is for that one until it is asked who it is: a minute, and what
/// asking takes (docs/wire.md, section 1).
const CONFUSED: Duration = Duration::from_secs(62);
/// Datagrams of all hosts in [`LOOK`] while nothing happens, and what a search of two is on top.
const IDLE: u64 = 1000;
const IDLE_PAIR: u64 = 500;
const SEARCH: u64 = 2000;
/// Until who idles has noticed that a path is dead.
const NOTICED: Duration = Duration::from_secs(15);
/// Until those who ask in vain ask seldom.
const ASKS: Duration = Duration::from_secs(60);
/// A server that the owner of a key cannot reach relays for him to where the twin was, until the lease is over; a renewed one may just have begun.
const TWINS: Duration = Duration::from_secs(150);
/// Entries of a host in its NAT while nothing is searched.
const FEW_ENTRIES: usize = 100;
/// Entries of another host in one's NAT that searches: three predictions of eight ports after each time that it tries all addresses, of which there are
/// four and more within the half minute that a NAT remembers, and these addresses.
const PREDICTED: usize = 150;
/// Paths to one peer that frames are taken from, and that are known.
const TAKEN: usize = 4;
const KNOWN: usize = 40;

/// What the model has seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Frames that were looked at, by host.
    frames: BTreeMap<usize, usize>,
    /// Addresses that whoever had a key has ever had, inside and outside.
    been: BTreeMap<usize, BTreeSet<IpAddr>>,
    /// How often a host has begun to run behind a router, each time ready to search.
    behind: BTreeMap<RouterId, usize>,
    /// How often mappings have changed: what is under way from one then makes entries elsewhere once more.
    shifts: usize,
    /// When a NAT has last forgotten everything, or a host got another key, and when it was last looked at what came.
    forgot: Option<Time>,
    looked: Time,
}

impl Seen {
    /// Whoever has this key is somewhere from now on.
    pub(super) fn is_at(&mut self, id: usize, site: &Site) {
        let been = self.been.entry(id).or_default();
        been.extend(site.current());
        been.extend(site.front.map(|front| front.addr));
        self.shifts += 1;
        self.is_behind(site);
    }

    fn is_behind(&mut self, site: &Site) {
        for router in site.front.into_iter().flat_map(|front| [Some(front.router), front.inner]).flatten() {
            *self.behind.entry(router).or_default() += 1;
        }
    }

    /// A NAT forgets everything, or a host gets another key.
    pub(super) fn forgets(&mut self, now: Time) {
        self.forgot = Some(now);
        self.shifts += 1;
    }

    /// What has come since the last look may have been taken for another one's that is or was there.
    fn are_confused(&self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|i| self.been.get(&i));
        let met = a.zip(b).is_some_and(|(a, b)| !a.is_disjoint(b));
        met && self.forgot.is_some_and(|at| self.looked <= at + CONFUSED)
    }

    /// A host starts anew, and knows nothing of before.
    pub(super) fn starts(&mut self, i: usize, site: &Site) {
        self.frames.remove(&i);
        self.is_behind(site);
    }
}

impl Story {
    /// At every moment: frames come from whom they seem to, and from nobody who may not be there; and from where their senders are. The agents
    /// check what they are told to do.
    pub(super) fn look(&mut self) {
        let ids = 0..self.sites.len();
        for (i, site) in self.sites.iter().enumerate() {
            if !self.runs(site.host) {
                continue;
            }
            let agent = self.net.node(site.host).agent();
            let seen = self.seen.frames.insert(i, agent.frames.len()).unwrap_or_default();
            for frame in agent.frames.iter().skip(seen) {
                let (sender, number) = ((frame.number >> 32) as usize, frame.number as u32);
                assert!(number != FORGED, "host {i} takes a frame from nowhere for one of {}", frame.from);
                let owner = ids.clone().find(|id| key(*id) == frame.from);
                let Some(owner) = owner.filter(|o| *o == sender || self.seen.are_confused(*o, sender)) else {
                    panic!("host {i} takes a frame of host {sender} for one of {owner:?}");
                };
                assert!(self.lets_in(i, owner), "host {i} takes a frame of host {owner}, which may not be there");
            }
            for id in ids.clone() {
                let Some(vnis) = agent.admitted(key(id)) else { continue };
                assert!(!self.revoked.contains(&(i, id)), "host {i} has host {id}, which may not be there");
                assert!(vnis.is_subset(&self.may_join(i, id)), "host {i} has host {id} in {vnis:?}");
            }
            for (peer, way) in agent.ways() {
                let from_server = self.servers.iter().any(|s| self.net.addresses(*s).contains(&way.remote.ip()));
                let peer = ids.clone().find(|id| *id != self.id(i) && key(*id) == peer);
                let been = |id: &usize| self.seen.been.get(id).is_some_and(|been| been.contains(&way.remote.ip()));
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
        let were_twins = self.twin.is_some();
        if were_twins {
            self.part();
            self.settle();
        }
        if stays {
            // Everybody may have had the right path just because nobody had noticed yet that it was dead.
            self.net.run_for(NOTICED);
            self.settle();
            if self.is_full {
                // Who gets no relayed way asks for it ever more seldom.
                self.net.run_for(ASKS);
            }
            if were_twins {
                self.net.run_for(TWINS);
            }
            let sent = self.net.totals().sent;
            self.net.run_for(LOOK);
            let sent = self.net.totals().sent - sent;
            let searches = if self.search { self.sites.len() as u64 / 2 } else { 0 };
            let pairs = (self.sites.len() * (self.sites.len() - 1) / 2) as u64;
            assert!(sent < IDLE + IDLE_PAIR * pairs + SEARCH * searches, "{sent} datagrams in {LOOK:?} of nothing");
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
        let pairs = running.iter().flat_map(|i| (0..count).map(move |id| (*i, id)));
        let pairs: Vec<(usize, usize)> = pairs.filter(|(i, id)| self.id(*i) != *id).collect();
        for (i, id) in pairs.iter().copied() {
            let (right, path) = (self.right(i, id), self.path(i, id));
            if !right.contains(&path) {
                let [a, b] = [i, id].map(|n| self.sites[n].nat);
                return Some(format!("host {i} ({a:?}) has {path:?} to host {id} ({b:?}), and not one of {right:?}"));
            }
        }
        // What is sent to two with one key comes to one of them.
        let certain =
            |(i, id): &(usize, usize)| Some((*i, *id, self.only(*id)?)).filter(|_| self.only(self.id(*i)).is_some());
        let certain: Vec<_> = pairs.iter().filter_map(certain).collect();
        let sent = |(i, id, j)| Some((i, id, j, self.send(i, id)?));
        let sent: Vec<_> = certain.into_iter().filter_map(sent).collect();
        self.net.run_for(ARRIVES);
        let came = |(i, _, j, number): &(usize, usize, usize, u64)| {
            let (from, frames) = (key(self.id(*i)), &self.net.node(self.sites[*j].host).agent().frames);
            frames.iter().rev().any(|frame| (frame.from, frame.number) == (from, *number))
        };
        let wrong = sent.iter().find(|sent| came(sent) != self.takes(sent.2, sent.0));
        wrong.map(|(i, id, j, _)| {
            let (path, takes) = (self.path(*i, *id), self.takes(*j, *i));
            format!("host {i} has {path:?} to host {id}; its frames are to be taken: {takes}, and are not so")
        })
    }

    fn path(&self, i: usize, id: usize) -> Option<PathKind> {
        self.net.node(self.sites[i].host).agent().path_to(key(id))
    }

    /// What everybody keeps is bounded.
    fn check_room(&self) {
        let count = self.sites.len();
        for (router, hosts) in &self.seen.behind {
            let most = if self.search { ENTRIES.into() } else { FEW_ENTRIES };
            let peak = self.net.router_stats(*router).flows.peak;
            let again = if self.search { self.seen.shifts.saturating_sub(self.sites.len()) * most / 2 } else { 0 };
            // A search is between two; others open their ways, and predict ports, meanwhile.
            let others = if self.search { PREDICTED * count.saturating_sub(2) } else { 0 };
            assert!(peak <= most * hosts + again + others, "{peak} entries in {router} for {hosts} hosts");
        }
        for server in self.servers.iter().filter(|server| self.runs(**server)) {
            let view = self.net.node(*server).server().core.view();
            let hosts: usize = view.networks.iter().map(|network| network.hosts).sum();
            assert!(hosts <= count && view.visitors <= count, "{view:?}");
            let pairs = if self.is_full { 1 } else { count * (count - 1) / 2 };
            assert!(view.relays <= pairs, "{view:?}");
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
