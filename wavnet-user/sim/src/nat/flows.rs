//! Flows that a NAT or firewall tracks: one for each outer endpoint of ours and endpoint outside, as Linux's conntrack has them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use wavnet_proto::time::Time;

use super::{Behaviour, Timeouts};
use crate::{Entries, Reason};

/// Two endpoints.
type Pair = (SocketAddr, SocketAddr);

/// Before and after all endpoints, as they are ordered.
const LOWEST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
const HIGHEST: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)), u16::MAX);

/// Which way a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Out,
    In,
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// `None`: the router itself has it.
    internal: Option<SocketAddr>,
    external: SocketAddr,
    remote: SocketAddr,
    created: Time,
    expires: Time,
    sent: bool,
    received: bool,
    /// Tells it from those that had its place before.
    number: u64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Flows {
    timeouts: Timeouts,
    most: usize,
    places: Vec<Option<Flow>>,
    free: Vec<u32>,
    /// By inner endpoint, endpoint outside, and number: of two flows between the same ones, the older is used.
    outbound: BTreeMap<(Pair, u64), u32>,
    /// By outer endpoint and endpoint outside.
    inbound: BTreeMap<Pair, u32>,
    /// Each flow once, by when it might expire: one that was refreshed is put back when that time has come.
    expiry: BinaryHeap<Reverse<(Time, u64, u32)>>,
    entries: Entries,
}

impl Flows {
    pub(super) fn new(timeouts: Timeouts, most: usize) -> Flows {
        Flows {
            timeouts,
            most,
            places: Vec::new(),
            free: Vec::new(),
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            expiry: BinaryHeap::new(),
            entries: Entries::default(),
        }
    }

    /// Forgets flows that nothing has refreshed in time.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(&Reverse((at, number, place))) = self.expiry.peek()
            && at <= now
        {
            self.expiry.pop();
            let Some(flow) = self.get(place).filter(|flow| flow.number == number) else { continue };
            if flow.expires <= now {
                self.remove(place);
            } else {
                self.expiry.push(Reverse((flow.expires, number, place)));
            }
        }
    }

    /// The flow by which the inner endpoint sends there.
    pub(super) fn outbound(&self, internal: SocketAddr, remote: SocketAddr) -> Option<u32> {
        let pair = (internal, remote);
        self.outbound.range((pair, 0)..=(pair, u64::MAX)).next().map(|(_, place)| *place)
    }

    /// The flow by which a datagram from there comes in.
    pub(super) fn inbound(&self, external: SocketAddr, remote: SocketAddr) -> Option<u32> {
        self.inbound.get(&(external, remote)).copied()
    }

    pub(super) fn is_full(&self) -> bool {
        self.inbound.len() >= self.most
    }

    /// Its inner endpoint; `None` if the router itself has it.
    pub(super) fn internal(&self, place: u32) -> Option<SocketAddr> {
        self.get(place)?.internal
    }

    pub(super) fn external(&self, place: u32) -> Option<SocketAddr> {
        Some(self.get(place)?.external)
    }

    /// A datagram goes this way. Returns when the flow expires if that refreshes it.
    pub(super) fn touch(&mut self, place: u32, way: Way, now: Time) -> Option<Time> {
        let timeouts = self.timeouts;
        let flow = self.places.get_mut(place as usize)?.as_mut()?;
        match way {
            Way::Out => flow.sent = true,
            Way::In => flow.received = true,
        }
        if way == Way::In && !timeouts.inbound_refreshes {
            return None;
        }
        let settled = flow.sent && flow.received && now.since(flow.created) > timeouts.settles;
        flow.expires = now + if settled { timeouts.stream } else { timeouts.unreplied };
        Some(flow.expires)
    }

    /// Makes one, which must not be there, for a datagram that goes this way. Returns when it expires.
    pub(super) fn create(
        &mut self,
        internal: Option<SocketAddr>,
        (external, remote): Pair,
        way: Way,
        now: Time,
    ) -> Result<Time, Reason> {
        if self.is_full() {
            return Err(Reason::TableFull);
        }
        let expires = now + self.timeouts.unreplied;
        let number = self.entries.created;
        let (sent, received) = (way == Way::Out, way == Way::In);
        let flow = Flow { internal, external, remote, created: now, expires, sent, received, number };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                self.places.len() as u32 - 1
            }
        };
        self.places[place as usize] = Some(flow);
        self.inbound.insert((external, remote), place);
        if let Some(internal) = internal {
            self.outbound.insert(((internal, remote), number), place);
        }
        self.expiry.push(Reverse((expires, number, place)));
        self.entries.added(self.inbound.len());
        Ok(expires)
    }

    /// Whether something was sent by this outer endpoint to what the filter asks for.
    pub(super) fn was_sent(&self, external: SocketAddr, remote: SocketAddr, filtering: Behaviour) -> bool {
        let (first, last) = match filtering {
            Behaviour::EndpointIndependent => (LOWEST, HIGHEST),
            Behaviour::AddressDependent => (SocketAddr::new(remote.ip(), 0), SocketAddr::new(remote.ip(), u16::MAX)),
            Behaviour::AddressAndPortDependent => (remote, remote),
        };
        self.inbound
            .range((external, first)..=(external, last))
            .any(|(_, place)| self.get(*place).is_some_and(|flow| flow.sent))
    }

    /// Forgets all flows of inner endpoints by this outer one. The router keeps its own.
    pub(super) fn forget(&mut self, external: SocketAddr) {
        let all = self.inbound.range((external, LOWEST)..=(external, HIGHEST)).map(|(_, place)| *place);
        let of_hosts: Vec<u32> = all.filter(|place| self.internal(*place).is_some()).collect();
        of_hosts.into_iter().for_each(|place| self.remove(place));
    }

    /// Forgets everything but the counters.
    pub(super) fn clear(&mut self) {
        self.places.clear();
        self.free.clear();
        self.outbound.clear();
        self.inbound.clear();
        self.expiry.clear();
    }

    /// How many there are, were and have been.
    pub(super) fn entries(&self, now: Time) -> Entries {
        let live = self.places.iter().flatten().filter(|flow| flow.expires > now).count();
        Entries { now: live, ..self.entries }
    }

    fn get(&self, place: u32) -> Option<&Flow> {
        self.places.get(place as usize)?.as_ref()
    }

    fn remove(&mut self, place: u32) {
        let Some(flow) = self.places.get_mut(place as usize).and_then(Option::take) else { return };
        self.free.push(place);
        self.inbound.remove(&(flow.external, flow.remote));
        if let Some(internal) = flow.internal {
            self.outbound.remove(&((internal, flow.remote), flow.number));
        }
    }
}
