//! What the kernel's tables must hold, and the commands that get them there.
//!
//! [`Fabric`] is a state machine without I/O. It is told what the operator wants ([`Fabric::set_desired`], [`Fabric::add_port`],
//! …), where peers behind NATs are ([`Fabric::set_peer`], [`Fabric::add_path`]), what links there are ([`Fabric::link_up`],
//! [`Fabric::link_gone`]) and how the kernel routes ([`Fabric::route`], [`Fabric::neighbour`]), and answers with [`Command`]s
//! ([`Fabric::poll_command`]). It compares what the tables hold with what they should hold, so what is unchanged produces no
//! command, and it starts from what it finds ([`Adopted`]), so a restarted agent keeps every slot and with it every learned FDB
//! entry.

mod desired;
mod dynamic;
mod error;
mod express;
mod facts;
mod failures;
pub(crate) mod links;
mod plan;
pub(crate) mod routes;
mod runtime;
mod shadowed;
mod slots;
mod tables;
mod target;
mod view;

use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
};

use wavnet_common::{abi::NextHop, addr::Mac, fdb::Place};

pub use desired::{
    Desired, NamePattern, PeerSettings, PortMode, PortRule, StaticPlace, Underlay, UnderlayDevice, VlanMode,
    VniSettings,
};
pub use dynamic::{Control, DynamicView, PathFrom, PeerPath};
pub use error::FabricError;
pub use express::AdaptivePort;
pub use facts::{Adopted, Limits, LinkInfo, RouteInfo, Runtime, RuntimePort, Via, XdpRedirect};
pub use routes::PeerState;
pub use shadowed::Shadowed;
pub use view::{Names, Origin, PeerView, PlaceName, PortState, PortView, StaticView, UnderlayView, VniView};

use self::{
    dynamic::Dynamic,
    failures::Failures,
    links::{Change, Links},
    plan::{Followup, Plan},
    routes::Routes,
    tables::Tables,
    target::{Target, local_address, rule_for},
};
use crate::command::{Command, PeerKey};

/// The state machine. See the [module](self).
#[derive(Clone, Debug)]
pub struct Fabric {
    limits: Limits,
    desired: Desired,
    runtime: Runtime,
    links: Links,
    tables: Tables,
    dynamic: Dynamic,
    routes: Routes<PeerKey>,
    /// Interfaces that went since the last plan.
    reborn: BTreeSet<u32>,
    configured: bool,
    synced: bool,
    /// The tables may have to change.
    dirty: bool,
    /// Peers and memberships as well: with many of them that takes a while, which links that come and go need not wait for.
    peers_dirty: bool,
    failures: Failures,
    out: VecDeque<Command>,
}

impl Fabric {
    /// A fabric that takes over what an earlier agent left. It gives no command before [`Fabric::set_desired`] and
    /// [`Fabric::links_complete`] have been called: until then everything stays as it is.
    pub fn new(limits: Limits, adopted: &Adopted) -> Fabric {
        let tables = Tables::adopt(&limits, adopted);
        let dynamic = Dynamic::adopt(&limits, adopted, &tables);
        let mut routes = Routes::default();
        tables.vteps.iter().for_each(|(peer, slot)| routes.add(slot.endpoint.addr.into(), *peer));
        Fabric {
            limits,
            desired: Desired::default(),
            runtime: Runtime::default(),
            links: Links::default(),
            tables,
            dynamic,
            routes,
            reborn: BTreeSet::new(),
            configured: false,
            synced: false,
            dirty: true,
            peers_dirty: true,
            failures: Failures::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes a configuration. An error leaves everything as it was.
    ///
    /// What was added at run time and is in the configuration now belongs to the configuration ([`Runtime::shadowed`] tells
    /// beforehand what is lost by that). What was added to a VNI that is gone rests until the VNI is there again
    /// ([`Fabric::resting`]).
    pub fn set_desired(&mut self, desired: Desired) -> Result<(), FabricError> {
        desired.check(&self.limits)?;
        let mut runtime = self.runtime.clone();
        runtime.prune(&desired);
        self.check_sizes(&desired, &runtime)?;
        let local = local_address(&self.desired, &self.links);
        (self.desired, self.runtime) = (desired, runtime);
        self.configured = true;
        self.forgive_xdp(None);
        self.touch_peers();
        self.local_may_have_changed(local);
        Ok(())
    }

    /// What is in force.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What was added at run time, for the shell to keep over a restart.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Takes back what [`Fabric::runtime`] gave to an earlier process, as far as the configuration has not got it. Call it
    /// after [`Fabric::set_desired`] and before the first [`Fabric::poll_command`].
    ///
    /// What makes no sense is left out. An error means that configuration and additions together do not fit; nothing is taken
    /// then.
    pub fn restore(&mut self, mut runtime: Runtime) -> Result<(), FabricError> {
        runtime.sanitise();
        runtime.prune(&self.desired);
        self.check_sizes(&self.desired, &runtime)?;
        self.runtime = runtime;
        self.touch_peers();
        Ok(())
    }

    /// An interface is there, or something about it has changed.
    pub fn link_up(&mut self, info: LinkInfo) {
        let ifindex = info.ifindex;
        let local = local_address(&self.desired, &self.links);
        let port = rule_for(&self.desired, &self.runtime, &info.name).is_some();
        let had_xdp = self.had_xdp(ifindex);
        let change = self.links.put(info);
        if had_xdp {
            self.choose_xdp(ifindex, true);
        }
        if change == Change::None {
            return;
        }
        self.dirty = true;
        self.routes.link_changed(ifindex, &self.links);
        // The kernel does not announce the routes that it drops or revives with an interface.
        if change == Change::Carrier && !port && self.synced {
            self.routes.ask_all();
        }
        self.local_may_have_changed(local);
    }

    /// An interface is gone.
    pub fn link_gone(&mut self, ifindex: u32) {
        let local = local_address(&self.desired, &self.links);
        let port = self.tables.port_of(ifindex).is_some();
        let Some(link) = self.links.remove(ifindex) else { return };
        self.reborn.insert(ifindex);
        self.failures.link_gone(ifindex);
        self.dirty = true;
        if !link.addresses.is_empty() {
            self.touch_peers();
        }
        self.routes.link_changed(ifindex, &self.links);
        if !port {
            self.routes.ask_all();
        }
        self.local_may_have_changed(local);
    }

    /// The IPv4 addresses of an interface, primary ones first. Unknown interfaces are ignored.
    pub fn addresses(&mut self, ifindex: u32, addresses: Vec<Ipv4Addr>) {
        let local = local_address(&self.desired, &self.links);
        let Some(link) = self.links.get_mut(ifindex).filter(|l| l.addresses != addresses) else { return };
        link.addresses = addresses;
        // A peer may turn out to be this host, or not to be it any more; and routes are asked for with our address if we have it.
        self.touch_peers();
        if self.desired.underlay.address.is_some() {
            self.routes.ask_all();
        }
        self.local_may_have_changed(local);
    }

    /// Every link and address that there was at the start has been told.
    pub fn links_complete(&mut self) {
        self.synced = true;
    }

    /// The kernel's answer to [`Command::QueryRoute`]; `None`: unreachable.
    pub fn route(&mut self, addr: Ipv4Addr, route: Option<RouteInfo>) {
        self.routes.route(addr, route, &self.links);
    }

    /// The state of a neighbour, as an answer to [`Command::ResolveNeighbour`] or whenever it changes; `None`: not resolved.
    pub fn neighbour(&mut self, ifindex: u32, addr: Ipv4Addr, mac: Option<Mac>) {
        self.routes.neighbour(ifindex, addr, mac);
    }

    /// Seeks next hops whose link address is not known, and other ways than by them. Call it every second.
    pub fn seek_next_hops(&mut self) {
        self.routes.seek();
    }

    /// True if some peer is reached over this neighbour: it is to stay managed.
    pub fn uses_neighbour(&self, ifindex: u32, addr: Ipv4Addr) -> bool {
        self.routes.uses(ifindex, addr)
    }

    /// Some route or rule has changed: every peer's route is asked for again. Until the answers come, nothing changes.
    pub fn routes_changed(&mut self) {
        self.routes.ask_all();
    }

    /// News may have been missed: every route and neighbour is asked for again.
    pub fn recheck(&mut self) {
        self.routes.recheck();
    }

    /// The next thing to do. Carry out each before asking for the next, and report failures.
    pub fn poll_command(&mut self) -> Option<Command> {
        if !self.configured || !self.synced {
            return None;
        }
        if self.out.is_empty() {
            if !self.failures.holds() && std::mem::take(&mut self.dirty) {
                self.plan();
            }
            self.flush();
        }
        self.out.pop_front()
    }

    fn touch_peers(&mut self) {
        (self.dirty, self.peers_dirty) = (true, true);
    }

    fn plan(&mut self) {
        let peers = std::mem::take(&mut self.peers_dirty);
        let target = Target::new(&self.desired, &self.runtime, &self.dynamic, &self.links, peers);
        let plan = Plan {
            tables: &mut self.tables,
            target: &target,
            links: &self.links,
            limits: &self.limits,
            reborn: &self.reborn,
            out: &mut self.out,
            followup: Followup::default(),
        };
        let Followup { peers_new, peers_gone, paths_left, no_room } = plan.run();
        paths_left.into_iter().for_each(|index| self.failures.writes_path(index, true));
        self.reborn.clear();
        let changed: BTreeSet<PeerKey> =
            peers_new.iter().chain(peers_gone.iter().map(|(peer, _)| peer)).copied().collect();
        if !changed.is_empty() {
            self.dynamic.slots_changed(&changed, &self.tables);
        }
        for (peer, endpoint) in peers_gone {
            self.routes.forget_peer(peer, endpoint.addr.into());
        }
        for peer in peers_new {
            if let Some(slot) = self.tables.vteps.get(&peer) {
                self.routes.add(slot.endpoint.addr.into(), peer);
            }
        }
        for link in self.links.iter_mut() {
            link.no_room = no_room.contains(&link.info.ifindex);
        }
    }

    fn flush(&mut self) {
        let local = local_address(&self.desired, &self.links);
        self.routes.ask(&mut self.out, &self.links, local);
        if self.failures.holds() {
            return;
        }
        self.flush_holds();
        for peer in self.routes.take_dirty() {
            self.lead(peer, local);
        }
        self.routes.forget(&mut self.out, &self.links);
        self.flush_peer_paths();
    }

    /// Puts the way to a peer in force, if it is another one than before.
    fn lead(&mut self, peer: PeerKey, local: Option<Ipv4Addr>) {
        let Some(slot) = self.tables.vteps.get_mut(&peer) else { return };
        let wanted = match peer {
            PeerKey::Static(_) => slot.endpoint,
            PeerKey::Dynamic(id) => self.dynamic.peers.get(&id).map_or(slot.endpoint, |peer| peer.endpoint),
        };
        let now = slot.endpoint;
        let near = wanted.addr == now.addr;
        // As long as it is not known how to get to another address, frames go on to the one before.
        let endpoint = if near || self.routes.is_settled(wanted.addr.into()) { wanted } else { now };
        let before = if near || endpoint == now { slot.next_hop } else { NextHop::NONE };
        let next_hop = self.routes.next_hop(endpoint.addr.into(), before, &self.links, local);
        if (endpoint, next_hop) != (now, slot.next_hop) {
            (slot.endpoint, slot.next_hop) = (endpoint, next_hop);
            slot.half ^= 1;
            self.out.push_back(Command::SetNextHop { index: slot.index, endpoint, next_hop });
        }
        if endpoint.addr != now.addr {
            self.routes.remove(now.addr.into(), peer);
        }
    }

    fn local_may_have_changed(&mut self, before: Option<Ipv4Addr>) {
        if local_address(&self.desired, &self.links) != before {
            self.touch_peers();
            self.routes.ask_all();
            self.routes.touch_all();
        }
    }

    /// True if an FDB entry may be where it is: its place is in use and belongs to the VNI. What is not so (an interrupted
    /// change, a frame on its way while a slot was freed) is to be removed.
    pub fn is_sound(&self, vni_index: u16, place: Place) -> bool {
        match place {
            Place::Port(i) => self.tables.ports.get(&i).is_some_and(|s| s.port.vni_index == vni_index),
            Place::Vtep(i) => self.tables.floods.get(&vni_index).is_none_or(|set| set.vteps.contains(&i)),
        }
    }
}
