//! The mappings of a NAT: inner endpoints, and the outer ones that they have.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, SocketAddr},
};

use wavnet_proto::time::Time;

use super::Behaviour;
use crate::Entries;

/// For which endpoints outside a mapping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All.
    Any,
    /// Those of an address.
    Address(IpAddr),
    /// One.
    Endpoint(SocketAddr),
}

impl Scope {
    /// That of a mapping which is made for a datagram to `remote`.
    pub(super) const fn of(mapping: Behaviour, remote: SocketAddr) -> Scope {
        match mapping {
            Behaviour::EndpointIndependent => Scope::Any,
            Behaviour::AddressDependent => Scope::Address(remote.ip()),
            Behaviour::AddressAndPortDependent => Scope::Endpoint(remote),
        }
    }
}

/// A mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapping {
    /// Inner endpoint.
    pub internal: SocketAddr,
    /// Outer endpoint.
    pub external: SocketAddr,
    /// For which endpoints outside.
    pub scope: Scope,
    /// When it is forgotten, unless it is refreshed.
    pub expires: Time,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    by_external: BTreeMap<SocketAddr, (u64, Mapping)>,
    by_internal: BTreeMap<(SocketAddr, Scope), SocketAddr>,
    /// Each mapping once, by when it might expire; with its number, which tells it from those before with the same outer endpoint.
    expiry: BinaryHeap<Reverse<(Time, u64, SocketAddr)>>,
    entries: Entries,
}

impl Mappings {
    /// Removes one that nothing has refreshed in time, and returns its outer endpoint.
    pub(super) fn expire(&mut self, now: Time) -> Option<SocketAddr> {
        while let Some(&Reverse((at, number, external))) = self.expiry.peek()
            && at <= now
        {
            self.expiry.pop();
            let Some((_, mapping)) = self.by_external.get(&external).filter(|(of, _)| *of == number) else { continue };
            if mapping.expires <= now {
                self.remove(external);
                return Some(external);
            }
            self.expiry.push(Reverse((mapping.expires, number, external)));
        }
        None
    }

    pub(super) fn len(&self) -> usize {
        self.by_external.len()
    }

    pub(super) fn by_external(&self, external: SocketAddr) -> Option<&Mapping> {
        self.by_external.get(&external).map(|(_, mapping)| mapping)
    }

    pub(super) fn by_internal(&self, internal: SocketAddr, scope: Scope) -> Option<SocketAddr> {
        self.by_internal.get(&(internal, scope)).copied()
    }

    pub(super) fn insert(&mut self, mapping: Mapping) {
        let number = self.entries.created;
        self.by_external.insert(mapping.external, (number, mapping));
        self.by_internal.insert((mapping.internal, mapping.scope), mapping.external);
        self.expiry.push(Reverse((mapping.expires, number, mapping.external)));
        self.entries.added(self.by_external.len());
    }

    pub(super) fn extend(&mut self, external: SocketAddr, expires: Time) {
        if let Some((_, mapping)) = self.by_external.get_mut(&external) {
            mapping.expires = mapping.expires.max(expires);
        }
    }

    pub(super) fn remove(&mut self, external: SocketAddr) {
        if let Some((_, mapping)) = self.by_external.remove(&external) {
            self.by_internal.remove(&(mapping.internal, mapping.scope));
        }
    }

    /// Forgets everything but the counters.
    pub(super) fn clear(&mut self) {
        self.by_external.clear();
        self.by_internal.clear();
        self.expiry.clear();
    }

    /// Those that are alive, by outer endpoint.
    pub(super) fn iter(&self, now: Time) -> impl Iterator<Item = &Mapping> {
        self.by_external.values().map(|(_, mapping)| mapping).filter(move |mapping| mapping.expires > now)
    }

    pub(super) fn entries(&self, now: Time) -> Entries {
        Entries { now: self.iter(now).count(), ..self.entries }
    }
}
