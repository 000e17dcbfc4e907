//! The table of hosts: those that are registered, and visitors, who have shaken hands and not registered yet.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use super::{persist::SavedHost, vnis::Vnis};
use crate::{
    bucket::Bucket,
    time::Time,
    trust::{NetworkId, PublicKey, Session},
    wire::{Candidate, Name, NatSummary},
};

/// Sessions of one host that it has not used yet, at the most (docs/wire.md section 3).
const PENDING: usize = 2;

/// Number of a host. Used again when it has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostId(pub(super) u32);

/// What a host says of itself, and what the directory says of it.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) name: Name,
    pub(super) nat: NatSummary,
    pub(super) candidates: Box<[Candidate]>,
    pub(super) vnis: Vnis,
    /// What it wants to join, if that is not what it may.
    pub(super) asked: Option<Vnis>,
    /// VNIs that it was in before: to those that are there, it has gone.
    pub(super) left: Vnis,
    /// Version of the directory that says this.
    pub(super) changed: u64,
    /// Version since which it has these VNIs: what it has read of the directory before is not what it may read now.
    pub(super) vnis_since: u64,
}

/// A session that was pushed out by one from another address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takeover {
    /// When.
    pub(super) at: Time,
    /// Where the one before was.
    pub(super) from: SocketAddr,
    /// Two hosts with one key: until then nobody else gets in.
    pub(super) hold: Option<Time>,
}

/// A host's messages come from an address that it has not shown to be its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    pub(super) addr: SocketAddr,
    /// What was sent there, and comes back if the host is there.
    pub(super) token: u32,
    /// When it was last sent.
    pub(super) sent: Time,
}

/// A session that the host has not used yet.
pub(super) struct Pending {
    pub(super) session: Session,
    /// Where it was when it shook hands, as its cookie has shown.
    pub(super) addr: SocketAddr,
    /// What tells its INIT from others.
    pub(super) ephemeral: [u8; 32],
    /// Sent again if the same INIT comes again.
    pub(super) response: Vec<u8>,
}

/// A host.
pub(super) struct Host {
    pub(super) network: NetworkId,
    pub(super) key: PublicKey,
    /// Where it is, as it has shown.
    pub(super) addr: SocketAddr,
    /// The session that both use.
    pub(super) current: Option<Box<Session>>,
    /// Those that the host has not used yet, the older one first.
    pub(super) pending: Vec<Pending>,
    /// `None`: a visitor.
    pub(super) registration: Option<Box<Registration>>,
    pub(super) takeover: Option<Box<Takeover>>,
    pub(super) check: Option<Box<Check>>,
    /// Where it first came from.
    prefix: Prefix,
    /// Version of the directory that it was told of.
    pub(super) told: u64,
    pub(super) requests: Bucket,
    pub(super) forwards: Bucket,
    pub(super) moves: Bucket,
}

impl Host {
    pub(super) fn visitor(network: NetworkId, key: PublicKey, addr: SocketAddr) -> Host {
        Host {
            network,
            key,
            addr,
            current: None,
            pending: Vec::new(),
            registration: None,
            takeover: None,
            check: None,
            prefix: Prefix::of(addr.ip()),
            told: 0,
            requests: Bucket::default(),
            forwards: Bucket::default(),
            moves: Bucket::default(),
        }
    }

    /// True if both are in a VNI, and registered.
    pub(super) fn shares_vni(&self, other: &Host) -> bool {
        match (&self.registration, &other.registration) {
            (Some(mine), Some(its)) => self.network == other.network && mine.vnis.meet(&its.vnis),
            _ => false,
        }
    }

    /// As it is kept, if it is registered.
    pub(super) fn saved(&self) -> Option<SavedHost> {
        let registration = self.registration.as_ref()?;
        Some(SavedHost {
            network: self.network,
            key: self.key,
            addr: self.addr,
            name: registration.name.clone(),
            nat: registration.nat,
            candidates: registration.candidates.to_vec(),
            vnis: registration.asked.as_ref().unwrap_or(&registration.vnis).iter().collect(),
        })
    }
}

/// All hosts, by number, by key, by the index of a session, and by address.
#[derive(Default)]
pub(super) struct Hosts {
    slots: Vec<Option<Box<Host>>>,
    free: Vec<HostId>,
    by_key: BTreeMap<NetworkId, BTreeMap<PublicKey, HostId>>,
    by_index: BTreeMap<u32, HostId>,
    /// Those with a session that they have not used, by the ephemeral key of its INIT.
    by_ephemeral: BTreeMap<[u8; 32], HostId>,
    /// Where several hosts were last seen at one address, the last of them.
    by_addr: BTreeMap<SocketAddr, HostId>,
    registered: usize,
    /// How many visitors are from each prefix.
    visitors: BTreeMap<Prefix, usize>,
}

/// A source prefix, which is taken for one subscriber: 24 bits of IPv4, 48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix(u64);

impl Prefix {
    pub(super) fn of(ip: IpAddr) -> Prefix {
        match ip {
            IpAddr::V4(ip) => Prefix(u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => Prefix(1 << 63 | (ip.to_bits() >> 80) as u64),
        }
    }
}

impl Hosts {
    pub(super) fn get(&self, id: HostId) -> Option<&Host> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, id: HostId) -> Option<&mut Host> {
        self.slots.get_mut(id.0 as usize)?.as_deref_mut()
    }

    pub(super) fn by_key(&self, network: NetworkId, key: PublicKey) -> Option<HostId> {
        self.by_key.get(&network)?.get(&key).copied()
    }

    pub(super) fn by_index(&self, index: u32) -> Option<HostId> {
        self.by_index.get(&index).copied()
    }

    pub(super) fn by_addr(&self, addr: SocketAddr) -> Option<&Host> {
        self.get(*self.by_addr.get(&addr)?)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn registered(&self) -> usize {
        self.registered
    }

    /// Visitors that came from a prefix.
    pub(super) fn visitors_of(&self, prefix: Prefix) -> usize {
        self.visitors.get(&prefix).copied().unwrap_or_default()
    }

    fn no_visitor_any_more(&mut self, prefix: Prefix) {
        if let Some(count) = self.visitors.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.visitors.remove(&prefix);
            }
        }
    }

    /// Hosts of a network in the order of their keys, behind `after`.
    pub(super) fn of_network(
        &self,
        network: NetworkId,
        after: Option<PublicKey>,
    ) -> impl Iterator<Item = (HostId, &Host)> {
        let start = after.map_or(Unbounded, Excluded);
        let all = self.by_key.get(&network).map(|keys| keys.range((start, Unbounded)));
        all.into_iter().flatten().filter_map(|(_, id)| Some((*id, self.get(*id)?)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (HostId, &Host)> {
        self.by_key.values().flat_map(BTreeMap::values).filter_map(|id| Some((*id, self.get(*id)?)))
    }

    /// Takes a host in; `None` if that would be one too many to number.
    pub(super) fn insert(&mut self, host: Host) -> Option<HostId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                let id = HostId(u32::try_from(self.slots.len()).ok()?);
                self.slots.push(None);
                id
            }
        };
        self.by_key.entry(host.network).or_default().insert(host.key, id);
        self.by_addr.entry(host.addr).or_insert(id);
        match host.registration {
            Some(_) => self.registered += 1,
            None => *self.visitors.entry(host.prefix).or_default() += 1,
        }
        *self.slots.get_mut(id.0 as usize)? = Some(Box::new(host));
        Some(id)
    }

    pub(super) fn remove(&mut self, id: HostId) -> Option<Host> {
        let host = self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.push(id);
        if let Some(keys) = self.by_key.get_mut(&host.network) {
            keys.remove(&host.key);
        }
        self.unlink_addr(host.addr, id);
        if let Some(session) = &host.current {
            self.by_index.remove(&session.local_index());
        }
        host.pending.iter().for_each(|pending| self.unlink(pending));
        match host.registration {
            Some(_) => self.registered -= 1,
            None => self.no_visitor_any_more(host.prefix),
        }
        Some(*host)
    }

    fn unlink_addr(&mut self, addr: SocketAddr, id: HostId) {
        if self.by_addr.get(&addr) == Some(&id) {
            self.by_addr.remove(&addr);
        }
    }

    /// The host is at this address now. Where it was, if that is another one.
    pub(super) fn set_addr(&mut self, id: HostId, addr: SocketAddr) -> Option<SocketAddr> {
        let host = self.get_mut(id)?;
        let before = std::mem::replace(&mut host.addr, addr);
        self.by_addr.insert(addr, id);
        if before == addr {
            return None;
        }
        self.unlink_addr(before, id);
        Some(before)
    }

    /// The host is still where it was. Somebody else may have been there meanwhile, and is no longer.
    pub(super) fn keep_addr(&mut self, id: HostId) {
        if let Some(addr) = self.get(id).map(|host| host.addr) {
            self.by_addr.entry(addr).or_insert(id);
        }
    }

    /// A session that the host has not used yet; two of them at the most.
    pub(super) fn add_pending(&mut self, id: HostId, pending: Pending) {
        let (index, ephemeral) = (pending.session.local_index(), pending.ephemeral);
        let Some(host) = self.get_mut(id) else { return };
        let oldest = (host.pending.len() == PENDING).then(|| host.pending.remove(0));
        host.pending.reserve_exact(1);
        host.pending.push(pending);
        if let Some(oldest) = oldest {
            self.unlink(&oldest);
        }
        self.by_index.insert(index, id);
        self.by_ephemeral.insert(ephemeral, id);
    }

    fn unlink(&mut self, pending: &Pending) {
        self.by_index.remove(&pending.session.local_index());
        self.by_ephemeral.remove(&pending.ephemeral);
    }

    /// What an INIT was answered with that came before, if its session is not in use yet.
    pub(super) fn response(&self, ephemeral: &[u8; 32]) -> Option<&[u8]> {
        let host = self.get(*self.by_ephemeral.get(ephemeral)?)?;
        let pending = host.pending.iter().find(|pending| pending.ephemeral == *ephemeral)?;
        Some(&pending.response)
    }

    /// The host has used a session for the first time. Where it was when it shook hands, and the session before.
    pub(super) fn promote(&mut self, id: HostId, index: u32) -> Option<(SocketAddr, Option<Box<Session>>)> {
        let host = self.get_mut(id)?;
        let place = host.pending.iter().position(|pending| pending.session.local_index() == index)?;
        let Pending { session, addr, ephemeral, .. } = host.pending.remove(place);
        host.pending.shrink_to_fit();
        let before = host.current.replace(Box::new(session));
        self.by_ephemeral.remove(&ephemeral);
        if let Some(before) = &before {
            self.by_index.remove(&before.local_index());
        }
        Some((addr, before))
    }

    /// The session with this index is over.
    pub(super) fn end_session(&mut self, id: HostId, index: u32) {
        let Some(host) = self.get_mut(id) else { return };
        host.current.take_if(|session| session.local_index() == index);
        let is_it = |pending: &mut Pending| pending.session.local_index() == index;
        let ended: Vec<Pending> = host.pending.extract_if(.., is_it).collect();
        ended.iter().for_each(|pending| self.unlink(pending));
        self.by_index.remove(&index);
    }

    /// Forgets sessions that were not used for so long after their handshake.
    pub(super) fn sweep(&mut self, now: Time, patience: Duration) {
        let Hosts { slots, by_index, by_ephemeral, .. } = self;
        for host in slots.iter_mut().flatten().filter(|host| !host.pending.is_empty()) {
            let is_old = |pending: &mut Pending| now.since(pending.session.established()) >= patience;
            for old in host.pending.extract_if(.., is_old) {
                by_index.remove(&old.session.local_index());
                by_ephemeral.remove(&old.ephemeral);
            }
            host.pending.shrink_to_fit();
        }
    }

    /// What a host says of itself; a visitor is registered thereby.
    pub(super) fn register(&mut self, id: HostId, registration: Registration) {
        let Some(host) = self.get_mut(id) else { return };
        let prefix = host.prefix;
        if host.registration.replace(Box::new(registration)).is_none() {
            self.registered += 1;
            self.no_visitor_any_more(prefix);
        }
    }
}
