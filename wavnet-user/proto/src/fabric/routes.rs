//! How to reach each peer: route, next hop, link address.
//!
//! Peer → the address that its frames are sent to: its own, that of its NAT, or of a relay → route (asked for, asked again when routes
//! change) → next hop: the gateway, or the address itself → its link address, which the kernel resolves and keeps fresh for us →
//! [`NextHop`]. Peers share addresses and next hops; each is asked for once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use wavnet_common::{
    abi::{HopFlags, NextHop},
    addr::Mac,
};

use super::{RouteInfo, Via, XdpRedirect, links::Links};
use crate::command::Command;

/// Outer IPv4, UDP and VXLAN headers. The inner Ethernet header counts as part of the inner frame.
const OUTER: u32 = 20 + 8 + 8;

/// After how many seconds what was in force is given up.
const PATIENCE: u8 = 60;
/// For how many of them the route is asked for, too, each time.
const HASTE: u8 = 5;

/// An interface and an address on its link.
type Hop = (u32, Ipv4Addr);

/// What is known of something that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact<T> {
    /// The answer is not there yet.
    Asked,
    /// The answer.
    Known(Option<T>),
}

/// An address that frames are sent to.
#[derive(Clone, Debug)]
struct Destination<K> {
    route: Fact<RouteInfo>,
    hop: Option<Hop>,
    /// For how many seconds no next hop has answered, be it the same or another.
    vain: u8,
    users: BTreeSet<K>,
}

impl<K> Destination<K> {
    const ASKED: Destination<K> = Destination { route: Fact::Asked, hop: None, vain: 0, users: BTreeSet::new() };
}

#[derive(Clone, Debug)]
struct Neighbour {
    /// Destinations.
    users: BTreeSet<Ipv4Addr>,
    mac: Fact<Mac>,
}

impl Neighbour {
    const fn is_known(&self) -> bool {
        matches!(self.mac, Fact::Known(Some(_)))
    }
}

/// Whether frames reach a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// The address is this host's own: a configuration that all hosts share lists each of them. Nothing is sent.
    ThisHost,
    /// The route has been asked for.
    Resolving,
    /// There is no route, or we have no address to send from.
    NoRoute,
    /// There is a route, but the next hop's link address is not known. For a minute frames go on to the one that was in force; where none
    /// was, and after that minute, through the kernel's own lookup.
    Unresolved,
    /// Frames always go through the kernel's own lookup: a point-to-point interface, or a router without IPv4 address.
    Kernel,
    /// Route and link address of the next hop are known.
    Up,
}

/// Route and next hop of every peer, or of whatever else frames are sent to.
#[derive(Clone, Debug)]
pub(crate) struct Routes<K> {
    destinations: BTreeMap<Ipv4Addr, Destination<K>>,
    neighbours: BTreeMap<Hop, Neighbour>,
    /// Peers whose [`NextHop`] may have changed.
    dirty: BTreeSet<K>,
    /// Destinations whose route is to be asked for.
    ask: BTreeSet<Ipv4Addr>,
    resolve: BTreeSet<Hop>,
    forget: BTreeSet<Hop>,
}

impl<K: Ord + Copy> Default for Routes<K> {
    fn default() -> Routes<K> {
        Routes {
            destinations: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            dirty: BTreeSet::new(),
            ask: BTreeSet::new(),
            resolve: BTreeSet::new(),
            forget: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Routes<K> {
    /// A peer's frames are, or will be, sent to an address.
    pub(crate) fn add(&mut self, addr: Ipv4Addr, peer: K) {
        let destination = self.destinations.entry(addr).or_insert_with(|| {
            self.ask.insert(addr);
            Destination::ASKED
        });
        destination.users.insert(peer);
        self.dirty.insert(peer);
    }

    /// They are not any more.
    pub(crate) fn remove(&mut self, addr: Ipv4Addr, peer: K) {
        let Some(destination) = self.destinations.get_mut(&addr) else { return };
        destination.users.remove(&peer);
        if destination.users.is_empty() {
            self.set_hop(addr, None);
            self.destinations.remove(&addr);
            self.ask.remove(&addr);
        }
    }

    /// A peer is gone, whose frames were sent to this address and none besides. No other destination is looked at.
    pub(crate) fn take_out(&mut self, addr: Ipv4Addr, peer: K) {
        self.remove(addr, peer);
        self.dirty.remove(&peer);
    }

    /// A peer is gone, whose frames were sent to an address, and may have been about to be sent to another.
    pub(crate) fn forget_peer(&mut self, peer: K, addr: Ipv4Addr) {
        self.remove(addr, peer);
        let others = self.destinations.iter().filter(|(_, destination)| destination.users.contains(&peer));
        let others: Vec<Ipv4Addr> = others.map(|(addr, _)| *addr).collect();
        others.into_iter().for_each(|addr| self.remove(addr, peer));
        self.dirty.remove(&peer);
    }

    /// Takes the kernel's answer; `None`: unreachable.
    pub(crate) fn route(&mut self, addr: Ipv4Addr, route: Option<RouteInfo>, links: &Links) {
        if let Some(destination) = self.destinations.get_mut(&addr) {
            destination.route = Fact::Known(route);
            self.update(addr, links);
        }
    }

    /// Takes the state of a neighbour; `None`: not resolved (any more).
    pub(crate) fn neighbour(&mut self, ifindex: u32, addr: Ipv4Addr, mac: Option<Mac>) {
        let hop = (ifindex, addr);
        if let Some(n) = self.neighbours.get_mut(&hop) {
            if mac.is_none() && n.is_known() {
                self.resolve.insert(hop);
                // The kernel may choose another router for want of this one, and tells nobody.
                self.ask.extend(&n.users);
            }
            n.mac = Fact::Known(mac);
            let users = n.users.iter().filter_map(|addr| self.destinations.get(addr));
            self.dirty.extend(users.flat_map(|destination| &destination.users));
        }
    }

    /// Seeks next hops that are not resolved: them, and other routes. Call it every second.
    pub(crate) fn seek(&mut self) {
        for (addr, path) in &mut self.destinations {
            let Some((hop, n)) = path.hop.and_then(|hop| Some((hop, self.neighbours.get(&hop)?))) else { continue };
            if n.is_known() {
                path.vain = 0;
            } else if path.vain < PATIENCE {
                path.vain += 1;
                self.resolve.insert(hop);
                if path.vain <= HASTE {
                    self.ask.insert(*addr);
                }
                if path.vain == PATIENCE {
                    self.dirty.extend(&path.users);
                }
            }
        }
    }

    /// True if some peer is reached over this neighbour.
    pub(crate) fn uses(&self, ifindex: u32, addr: Ipv4Addr) -> bool {
        self.neighbours.contains_key(&(ifindex, addr))
    }

    /// Asks for every route anew. What is known stays in force until the answers come.
    pub(crate) fn ask_all(&mut self) {
        self.ask.extend(self.destinations.keys());
    }

    /// Asks for every route and link address anew.
    pub(crate) fn recheck(&mut self) {
        self.ask_all();
        self.resolve.extend(self.neighbours.keys());
    }

    /// The next hops that are in use.
    pub(crate) fn hops(&self) -> impl Iterator<Item = (u32, Ipv4Addr)> {
        self.neighbours.keys().copied()
    }

    /// Asks again for what was unreachable or unresolved.
    pub(crate) fn retry(&mut self) {
        let lost = self.destinations.iter().filter(|(_, p)| !matches!(p.route, Fact::Known(Some(_))));
        self.ask.extend(lost.map(|(a, _)| *a));
        for (hop, n) in self.neighbours.iter().filter(|(_, n)| !n.is_known()) {
            self.resolve.insert(*hop);
            self.ask.extend(&n.users);
        }
    }

    /// Something about the interface has changed, or it came or went.
    pub(crate) fn link_changed(&mut self, ifindex: u32, links: &Links) {
        let uses = |p: &Destination<K>| matches!(p.route, Fact::Known(Some(r)) if r.oif == ifindex);
        let users: Vec<_> = self.destinations.iter().filter(|(_, p)| uses(p)).map(|(a, _)| *a).collect();
        for addr in users {
            self.update(addr, links);
        }
    }

    /// Computes every next hop anew: our own address has changed.
    pub(crate) fn touch_all(&mut self) {
        self.dirty.extend(self.destinations.values().flat_map(|destination| &destination.users));
    }

    /// Finds a destination's hop from its route and links.
    fn update(&mut self, addr: Ipv4Addr, links: &Links) {
        let Some(path) = self.destinations.get(&addr) else { return };
        let hop = match path.route {
            Fact::Known(Some(r)) if !r.local => {
                links.get(r.oif).filter(|l| !l.info.loopback && !l.info.no_arp).and(match r.via {
                    Via::OnLink => Some((r.oif, addr)),
                    Via::Gateway(g) => Some((r.oif, g)),
                    Via::Other => None,
                })
            }
            _ => None,
        };
        self.dirty.extend(&path.users);
        self.set_hop(addr, hop);
    }

    fn set_hop(&mut self, addr: Ipv4Addr, hop: Option<Hop>) {
        let Some(path) = self.destinations.get_mut(&addr) else { return };
        let old = std::mem::replace(&mut path.hop, hop);
        if old == hop {
            return;
        }
        if let Some(hop) = hop {
            let n = self.neighbours.entry(hop).or_insert_with(|| {
                self.forget.remove(&hop);
                self.resolve.insert(hop);
                Neighbour { users: BTreeSet::new(), mac: Fact::Asked }
            });
            n.users.insert(addr);
        }
        if let Some(old) = old
            && let Some(n) = self.neighbours.get_mut(&old)
        {
            n.users.remove(&addr);
            if n.users.is_empty() {
                self.neighbours.remove(&old);
                self.resolve.remove(&old);
                self.forget.insert(old);
            }
        }
    }

    /// Queues what there is to ask.
    pub(crate) fn ask(&mut self, out: &mut VecDeque<Command>, links: &Links, local: Option<Ipv4Addr>) {
        // The kernel finds no route for a source that is not ours (yet).
        let from = local.filter(|l| links.has_address(*l));
        // First, as the kernel chooses routes by what neighbours it knows to be there, and to be sought.
        let resolve = std::mem::take(&mut self.resolve).into_iter();
        out.extend(resolve.map(|(ifindex, addr)| Command::ResolveNeighbour { ifindex, addr }));
        let ask = std::mem::take(&mut self.ask).into_iter();
        out.extend(ask.map(|addr| Command::QueryRoute { addr, from }));
    }

    /// The peers to be looked at.
    pub(crate) fn take_dirty(&mut self) -> BTreeSet<K> {
        std::mem::take(&mut self.dirty)
    }

    /// Queues what there is to forget. First what is in force must be another.
    pub(crate) fn forget(&mut self, out: &mut VecDeque<Command>, links: &Links) {
        // The kernel forgets the neighbours of an interface that is gone by itself.
        let forget = std::mem::take(&mut self.forget).into_iter().filter(|(i, _)| links.get(*i).is_some());
        out.extend(forget.map(|(ifindex, addr)| Command::ForgetNeighbour { ifindex, addr }));
    }

    /// True if it is known how to get to an address, or that nobody answers who should know.
    pub(crate) fn is_settled(&self, addr: Ipv4Addr) -> bool {
        let Some(path) = self.destinations.get(&addr) else { return false };
        let answered = |n: &Neighbour| matches!(n.mac, Fact::Known(_));
        matches!(path.route, Fact::Known(Some(_)))
            && path.hop.is_none_or(|hop| self.neighbours.get(&hop).is_some_and(answered))
    }

    /// The next hop to put in force where `now` is in force.
    pub(crate) fn next_hop(&self, addr: Ipv4Addr, now: NextHop, links: &Links, local: Option<Ipv4Addr>) -> NextHop {
        let Some(path) = self.destinations.get(&addr) else { return NextHop::NONE };
        let route = match path.route {
            // After a restart the next hop of the agent before stays in force until the kernel has answered.
            Fact::Asked => return now,
            Fact::Known(None) => return NextHop::NONE,
            Fact::Known(Some(r)) => r,
        };
        let (Some(link), Some(local)) = (links.get(route.oif), local) else { return NextHop::NONE };
        if route.local || link.info.loopback {
            return NextHop::NONE;
        }
        let dst = match path.hop.and_then(|h| self.neighbours.get(&h)) {
            Some(Neighbour { mac: Fact::Known(Some(mac)), .. }) => mac.0,
            // Who does not answer ARP may forward all the same, and so may the router before; and frames that the kernel itself would send
            // could overtake those that XDP has sent.
            Some(_) if now.ifindex == route.oif && path.vain < PATIENCE => now.dst_mac,
            _ => [0; 6],
        };
        let mtu = route.mtu.filter(|&m| m > 0).map_or(link.info.mtu, |m| m.min(link.info.mtu));
        NextHop {
            ifindex: route.oif,
            max_inner: mtu.saturating_sub(OUTER),
            dst_mac: dst,
            src_mac: link.info.mac.map_or([0; 6], |m| m.0),
            src_v4: local.octets(),
            flags: if matches!(link.info.xdp_redirect, None | Some(XdpRedirect::Nothing)) { 0 } else { HopFlags::XDP },
        }
    }

    /// State, next router and interface of a peer, for views.
    pub(crate) fn state(
        &self,
        addr: Ipv4Addr,
        links: &Links,
        local: Option<Ipv4Addr>,
    ) -> (PeerState, Option<Ipv4Addr>, Option<RouteInfo>) {
        let Some(path) = self.destinations.get(&addr) else { return (PeerState::ThisHost, None, None) };
        let route = match path.route {
            Fact::Asked => return (PeerState::Resolving, None, None),
            Fact::Known(None) => return (PeerState::NoRoute, None, None),
            Fact::Known(Some(r)) => r,
        };
        let via = match route.via {
            Via::OnLink => Some(addr),
            Via::Gateway(g) => Some(g),
            Via::Other => None,
        };
        let state = match (links.get(route.oif), path.hop.and_then(|h| self.neighbours.get(&h))) {
            (None, _) => PeerState::NoRoute,
            (Some(l), _) if route.local || l.info.loopback => PeerState::ThisHost,
            // As for the next hop: whoever has no address sends nothing.
            _ if local.is_none() => PeerState::NoRoute,
            (Some(_), None) => PeerState::Kernel,
            (Some(_), Some(n)) if n.is_known() => PeerState::Up,
            (Some(_), Some(_)) => PeerState::Unresolved,
        };
        (state, via, Some(route))
    }
}

#[cfg(test)]
mod tests;
