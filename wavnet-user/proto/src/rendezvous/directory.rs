//! The directory of a network: which hosts there are, in versions, so that an agent asks only for what has changed.
//!
//! A version is the server's incarnation, 24 bits, and a counter, 40 bits. Each host's entry has the version that changed it last; hosts
//! that have gone keep theirs for a while. A host sees those that share a VNI with it, and of those that did, that they have gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use super::{
    hosts::{Host, Hosts, Registration},
    vnis::Vnis,
};
use crate::{
    time::Time,
    trust::{NetworkId, PublicKey},
    wire::message::{Entry, HostState, Name, Page, Sync},
};

/// How long it is known that a host has gone: several leases.
const REMEMBER: Duration = Duration::from_secs(900);
/// Hosts that have gone, at the most.
const GONE: usize = 10_000;
/// VNIs that a host has left and that are remembered, at the most.
const LEFT: usize = 64;
/// Entries that fit into a page: those without a name.
const ENTRIES: usize = Page::ROOM / 34;
/// Bits of a version that count.
const COUNTER: u32 = 40;

/// A host that has gone.
#[derive(Clone, Debug)]
struct Gone {
    version: u64,
    at: Time,
    vnis: Vnis,
}

/// The directory of a network.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    version: u64,
    /// The version of each entry, and whose it is.
    versions: BTreeMap<u64, PublicKey>,
    gone: BTreeMap<PublicKey, Gone>,
    /// What changed before is not known completely any more.
    floor: u64,
    /// VNIs in which something has changed that those in them were not told of.
    changed: Vnis,
}

impl Directory {
    pub(super) fn new(incarnation: u32) -> Directory {
        let version = u64::from(incarnation) << COUNTER | 1;
        Directory { version, versions: BTreeMap::new(), gone: BTreeMap::new(), floor: 0, changed: Vnis::default() }
    }

    /// The version now.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// A host has registered, as [`Registration`] says, which gets its version; `before` is what it said until now.
    pub(super) fn put(&mut self, key: PublicKey, registration: &mut Registration, before: Option<&Registration>) {
        self.version += 1;
        registration.changed = self.version;
        registration.vnis_since = self.version;
        if let Some(before) = before {
            self.versions.remove(&before.changed);
            registration.left = before.vnis.with(&before.left).without(&registration.vnis).first(LEFT);
            if before.vnis == registration.vnis {
                registration.vnis_since = before.vnis_since;
            }
        }
        if let Some(gone) = self.gone.remove(&key) {
            self.versions.remove(&gone.version);
            registration.left = registration.left.with(&gone.vnis).without(&registration.vnis).first(LEFT);
        }
        self.versions.insert(self.version, key);
        self.changed = self.changed.with(&registration.vnis).with(&registration.left);
    }

    /// A host has gone.
    pub(super) fn remove(&mut self, now: Time, key: PublicKey, registration: &Registration) {
        self.version += 1;
        self.versions.remove(&registration.changed);
        self.versions.insert(self.version, key);
        let vnis = registration.vnis.with(&registration.left);
        self.changed = self.changed.with(&vnis);
        self.gone.insert(key, Gone { version: self.version, at: now, vnis });
        if self.gone.len() > GONE {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.versions.iter().find(|(_, key)| self.gone.contains_key(*key)).map(|(v, key)| (*v, *key));
        if let Some((version, key)) = oldest {
            self.forget(version, key);
        }
    }

    fn forget(&mut self, version: u64, key: PublicKey) {
        self.versions.remove(&version);
        self.gone.remove(&key);
        self.floor = self.floor.max(version);
    }

    /// Forgets hosts that have gone long ago.
    pub(super) fn sweep(&mut self, now: Time) {
        let old = self.gone.iter().filter(|(_, gone)| now.since(gone.at) >= REMEMBER);
        let old: Vec<_> = old.map(|(key, gone)| (gone.version, *key)).collect();
        for (version, key) in old {
            self.forget(version, key);
        }
    }

    /// The VNIs in which something has changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vnis {
        std::mem::take(&mut self.changed)
    }

    /// True if there is something for [`Directory::take_changed`].
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Answers SYNC. A page of version 0 says that what the asker knows is too old to build on.
    pub(super) fn page(&self, network: NetworkId, hosts: &Hosts, asker: &Host, sync: &Sync) -> Page {
        let page = |version, entries, more| Page { request: sync.request, version, more, entries };
        let Some(registration) = &asker.registration else { return page(0, Vec::new(), false) };
        let is_ours = sync.since >> COUNTER == self.version >> COUNTER;
        let since = if is_ours { sync.since } else { 0 };
        if since != 0 && (since < self.floor || since < registration.vnis_since) {
            return page(0, Vec::new(), false);
        }
        let entries = match since {
            0 => {
                let others = hosts.of_network(network, sync.after).filter(|(_, host)| host.key != asker.key);
                others.filter_map(|(_, host)| entry(asker, host)).take(ENTRIES + 1).collect()
            }
            since => self.since(network, hosts, asker, since, sync.after),
        };
        let mut room = Page::ROOM;
        let fits = entries.iter().take_while(|entry| {
            let left = room.checked_sub(entry.len_in_page());
            room = left.unwrap_or(0);
            left.is_some()
        });
        let fits = fits.count();
        let more = fits < entries.len();
        page(self.version, entries.into_iter().take(fits).collect(), more)
    }

    /// What has changed since a version behind a key: the first ones, one more than fit into a page.
    fn since(
        &self,
        network: NetworkId,
        hosts: &Hosts,
        asker: &Host,
        since: u64,
        after: Option<PublicKey>,
    ) -> Vec<Entry> {
        let changed = self.versions.range((Excluded(since), Unbounded)).map(|(_, key)| *key);
        let mut first = BTreeSet::new();
        for key in changed.filter(|key| *key != asker.key && after.is_none_or(|after| *key > after)) {
            if self.entry_of(network, hosts, asker, key).is_some() {
                first.insert(key);
            }
            if first.len() > ENTRIES + 1 {
                first.pop_last();
            }
        }
        first.into_iter().filter_map(|key| self.entry_of(network, hosts, asker, key)).collect()
    }

    fn entry_of(&self, network: NetworkId, hosts: &Hosts, asker: &Host, key: PublicKey) -> Option<Entry> {
        let mine = &asker.registration.as_ref()?.vnis;
        let has_gone =
            |vnis: &Vnis| mine.meet(vnis).then(|| Entry { key, state: HostState::GONE, name: Name::default() });
        if let Some(gone) = self.gone.get(&key) {
            return has_gone(&gone.vnis);
        }
        let host = hosts.get(hosts.by_key(network, key)?)?;
        entry(asker, host).or_else(|| has_gone(&host.registration.as_ref()?.left))
    }
}

/// What a host sees of another one, if it sees it.
fn entry(asker: &Host, host: &Host) -> Option<Entry> {
    let name = &host.registration.as_ref()?.name;
    asker.shares_vni(host).then(|| Entry { key: host.key, state: HostState::HERE, name: name.clone() })
}
