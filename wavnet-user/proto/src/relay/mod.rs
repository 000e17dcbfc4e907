//! What the tables of the kernel's relay must hold, and the commands that get them there.
//!
//! [`Relay`] is told which sessions there are (by a rendezvous server's core), what links there are and how the kernel routes, and
//! answers with [`RelayCommand`]s. Hosts share next hops, each of which is resolved once and kept resolved by the kernel, as for the
//! agent's peers. As long as one is not known, the program leaves what goes there to the server.

mod legs;
mod place;
mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    num::NonZeroU32,
};

use wavnet_common::{
    abi::{
        NextHop,
        relay::{
            Leg, LegHop, Rate, RelayAddr, RelayConfig, RelayConfigFlags, RelayLink, RelayLinkFlags, StunSource, size,
        },
    },
    addr::{Label, Mac},
};

use crate::{
    command::Command,
    fabric::{LinkInfo, RouteInfo, XdpRedirect, links::Links, routes::Routes},
    stun::server::Responder,
    transmit::Socket,
};
use legs::Legs;
pub use place::{NoPlace, Place, Wish};

/// One thing for the shell to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayCommand {
    /// Write `RELAY_CONFIG`.
    SetServer(RelayConfig),
    /// Write a row of `RELAY_LINKS`.
    SetLink {
        /// Which.
        row: u16,
        /// What it becomes.
        link: RelayLink,
    },
    /// Write a row of `LEGS`, and then have its label lead there. Its next hop is not known then.
    SetLeg {
        /// Which.
        row: u32,
        /// What it becomes.
        leg: Leg,
        /// How much may come by it; `None`: as much as before, or if the label is new, as much as likes to.
        rate: Option<Rate>,
    },
    /// Have a label lead nowhere, and free its row.
    FreeLeg {
        /// Which.
        row: u32,
        /// The label.
        label: Label,
    },
    /// Put another next hop of a leg in force; `None`: it is not known.
    SetHop {
        /// Which.
        row: u32,
        /// The next hop.
        hop: Option<LegHop>,
    },
    /// Put another rate of a leg in force; `None`: there is no limit.
    SetRate {
        /// Which.
        row: u32,
        /// How much may come by it.
        rate: Option<Rate>,
    },
    /// Ask the kernel's routing: [`Command::QueryRoute`], [`Command::ResolveNeighbour`] or [`Command::ForgetNeighbour`].
    Ask(Command),
}

/// The state machine. See the [module](self).
#[derive(Clone, Debug)]
pub struct Relay {
    server: Option<SocketAddrV4>,
    /// The interface by which the program answers STUN, and what the server would answer.
    stun: Option<(u32, Responder)>,
    stun_of_source: Option<NonZeroU32>,
    rate: Option<Rate>,
    /// Frames come by generic XDP.
    generic: bool,
    links: Links,
    routes: Routes<u32>,
    legs: Legs,
    /// Rows of links in use, and what was written.
    rows: BTreeMap<u32, (u16, RelayLink)>,
    free_rows: Vec<u16>,
    /// Labels that are left to the server, and who sends by them.
    left: BTreeMap<Label, SocketAddr>,
    config: Option<RelayConfig>,
    out: VecDeque<RelayCommand>,
}

impl Relay {
    /// Without a session, and with room for so many legs, two of which are a session.
    pub fn new(legs: u32) -> Relay {
        Relay {
            server: None,
            stun: None,
            stun_of_source: None,
            rate: None,
            generic: false,
            links: Links::default(),
            routes: Routes::default(),
            legs: Legs::new(legs),
            rows: BTreeMap::new(),
            free_rows: (0..size::RELAY_LINKS as u16).rev().collect(),
            left: BTreeMap::new(),
            config: None,
            out: VecDeque::new(),
        }
    }

    /// Says where the server is reached; `None`: nothing is relayed, nor answered.
    pub fn set_server(&mut self, server: Option<SocketAddrV4>) {
        if self.server == server {
            return;
        }
        self.server = server;
        self.routes.ask_all();
        self.routes.touch_all();
    }

    /// Has the program answer STUN at an interface as this one would where the server is reached; `None`: that is left to the server.
    pub fn set_stun(&mut self, stun: Option<(u32, Responder)>) {
        self.stun = stun;
    }

    /// Says how many answers of STUN a source may have a second, and at once; `None`, as at first: there is no limit.
    pub fn set_stun_of_source(&mut self, per_second: Option<NonZeroU32>) {
        self.stun_of_source = per_second;
    }

    fn config(&mut self) -> RelayConfig {
        let Some(at) = self.server else { return RelayConfig::NONE };
        let mut config =
            RelayConfig { local_v4: at.ip().octets(), udp_port: at.port().to_be_bytes(), ..RelayConfig::NONE };
        if !self.left.is_empty() {
            config.flags |= RelayConfigFlags::INCOMPLETE;
        }
        if let Some((link, other)) = self.stun(at) {
            config.flags |= RelayConfigFlags::STUN;
            config.stun_link = link;
            config.stun_answer_ns = StunSource::answer_ns(self.stun_of_source);
            if let Some(other) = other {
                (config.other_v4, config.other_port) = (other.ip().octets(), other.port().to_be_bytes());
            }
        }
        config
    }

    /// The row of the interface by which STUN is answered, and the other address to name; `None`: it is left to the server.
    fn stun(&mut self, at: SocketAddrV4) -> Option<(u16, Option<SocketAddrV4>)> {
        let (ifindex, responder) = self.stun.as_ref()?;
        let other = match responder.origin(Socket::Other(3)) {
            None => None,
            Some(SocketAddr::V4(other)) => Some(other),
            Some(SocketAddr::V6(_)) => return None,
        };
        let is_there = responder.origin(Socket::Main) == Some(at.into());
        let link = is_there.then_some(*ifindex).and_then(|ifindex| self.link_row(ifindex))?;
        Some((link, other))
    }

    /// Says how much each side of a session may send.
    pub fn set_rate(&mut self, rate: Option<Rate>) {
        if self.rate == rate {
            return;
        }
        self.rate = rate;
        self.out.extend(self.legs.rows().map(|(_, row)| RelayCommand::SetRate { row, rate }));
    }

    /// Says whether frames come by generic XDP, which can send by any interface. At first they do not.
    pub fn set_generic(&mut self, generic: bool) {
        self.generic = generic;
        for (ifindex, (row, before)) in &mut self.rows {
            let Some(link) = self.links.get(*ifindex).map(|link| relay_link(&link.info, generic)) else { continue };
            if link != *before {
                *before = link;
                self.out.push_back(RelayCommand::SetLink { row: *row, link });
            }
        }
    }

    /// Relays what comes by a label from one host to another, with that one's label: instead of what was relayed for the label.
    /// `false`: that is left to the server, for want of room, or because there is no IPv4 between them.
    pub fn set(&mut self, label: Label, from: SocketAddr, to: SocketAddr, to_label: Label) -> bool {
        self.left.remove(&label);
        let entered = self.enter(label, from, to, to_label);
        if !entered {
            self.take_out(label);
            self.left.insert(label, from);
        }
        entered
    }

    fn enter(&mut self, label: Label, from: SocketAddr, to: SocketAddr, to_label: Label) -> bool {
        let (Some(from), Some(to)) = (usable(from), usable(to)) else { return false };
        if label.is_zero() || to_label.is_zero() {
            return false;
        }
        let leg = Leg { label, from, to, to_label };
        let Some((row, before)) = self.legs.set(leg) else { return false };
        if before == Some(leg) {
            return true;
        }
        if let Some(before) = before
            && before.to.addr != leg.to.addr
        {
            self.routes.remove(before.to.addr.into(), row);
        }
        let rate = self.rate.filter(|_| before.is_none());
        self.out.push_back(RelayCommand::SetLeg { row, leg, rate });
        self.routes.add(leg.to.addr.into(), row);
        true
    }

    /// Relays nothing more that comes by a label from a host. Nothing happens if by now it is another one's.
    pub fn remove(&mut self, label: Label, from: SocketAddr) {
        if self.left.get(&label) == Some(&from) {
            self.left.remove(&label);
        }
        if usable(from).is_some_and(|from| self.legs.sender(label) == Some(from)) {
            self.take_out(label);
        }
    }

    /// A leg could not be written: its label is left to the server.
    pub fn not_written(&mut self, label: Label) {
        if let Some(RelayAddr { addr, port }) = self.legs.sender(label) {
            self.left.insert(label, SocketAddr::from((addr, port)));
            self.take_out(label);
        }
    }

    fn take_out(&mut self, label: Label) {
        if let Some((row, leg)) = self.legs.remove(label) {
            self.routes.take_out(leg.to.addr.into(), row);
            self.out.push_back(RelayCommand::FreeLeg { row, label });
        }
    }

    /// An interface is there, or something about it has changed.
    pub fn link_up(&mut self, info: LinkInfo) {
        let ifindex = info.ifindex;
        self.links.put(info);
        if let (Some((row, before)), Some(link)) = (self.rows.get(&ifindex).copied(), self.links.get(ifindex)) {
            let link = relay_link(&link.info, self.generic);
            if link != before {
                self.rows.insert(ifindex, (row, link));
                self.out.push_back(RelayCommand::SetLink { row, link });
            }
        }
        self.routes.link_changed(ifindex, &self.links);
        // The kernel does not announce the routes that it drops or revives with an interface.
        self.routes.ask_all();
    }

    /// An interface is gone.
    pub fn link_gone(&mut self, ifindex: u32) {
        if self.links.remove(ifindex).is_none() {
            return;
        }
        self.routes.link_changed(ifindex, &self.links);
        self.routes.ask_all();
        self.lead_all();
        // Nothing leads there any more.
        if let Some((row, _)) = self.rows.remove(&ifindex) {
            self.out.push_back(RelayCommand::SetLink { row, link: RelayLink::FREE });
            self.free_rows.push(row);
        }
    }

    /// The IPv4 addresses of an interface.
    pub fn addresses(&mut self, ifindex: u32, addresses: Vec<Ipv4Addr>) {
        if let Some(link) = self.links.get_mut(ifindex).filter(|link| link.addresses != addresses) {
            link.addresses = addresses;
            self.routes.ask_all();
        }
    }

    /// The kernel's answer to [`Command::QueryRoute`]; `None`: unreachable.
    pub fn route(&mut self, addr: Ipv4Addr, route: Option<RouteInfo>) {
        self.routes.route(addr, route, &self.links);
    }

    /// The state of a neighbour, as an answer to [`Command::ResolveNeighbour`] or whenever it changes; `None`: not resolved.
    pub fn neighbour(&mut self, ifindex: u32, addr: Ipv4Addr, mac: Option<Mac>) {
        self.routes.neighbour(ifindex, addr, mac);
    }

    /// Seeks next hops whose link address is not known. Call it every second.
    pub fn seek_next_hops(&mut self) {
        self.routes.seek();
    }

    /// Some route or rule has changed: every route is asked for again.
    pub fn routes_changed(&mut self) {
        self.routes.ask_all();
    }

    /// Reads everything anew, in case something went unnoticed.
    pub fn recheck(&mut self) {
        self.routes.recheck();
    }

    /// Asks again for what was unreachable or unresolved. Call it every few seconds.
    pub fn retry(&mut self) {
        self.routes.retry();
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<RelayCommand> {
        if self.out.is_empty() {
            // The link first, if it gets its row only now.
            let config = self.config();
            if self.config != Some(config) {
                self.config = Some(config);
                self.out.push_back(RelayCommand::SetServer(config));
            }
            let mut questions = VecDeque::new();
            self.routes.ask(&mut questions, &self.links, self.server.map(|at| *at.ip()));
            self.lead_all();
            self.routes.forget(&mut questions, &self.links);
            self.out.extend(questions.into_iter().map(RelayCommand::Ask));
        }
        self.out.pop_front()
    }

    fn lead_all(&mut self) {
        for row in self.routes.take_dirty() {
            self.lead(row);
        }
    }

    /// Puts the next hop of a leg in force, if it is another one than before.
    fn lead(&mut self, row: u32) {
        let Some((leg, before)) = self.legs.get(row) else { return };
        let ifindex_of = |hop: LegHop| self.rows.iter().find(|(_, (row, _))| *row == hop.link).map(|(i, _)| *i);
        let now = before.map_or(NextHop::NONE, |hop| NextHop {
            ifindex: ifindex_of(hop).unwrap_or_default(),
            dst_mac: hop.mac.0,
            ..NextHop::NONE
        });
        let local = self.server.map(|at| *at.ip());
        let next = self.routes.next_hop(leg.to.addr.into(), now, &self.links, local);
        let hop = if next.dst_mac == [0; 6] { None } else { self.link_row(next.ifindex) }
            .map(|link| LegHop { link, mac: Mac(next.dst_mac) });
        if hop != before {
            self.legs.set_hop(row, hop);
            self.out.push_back(RelayCommand::SetHop { row, hop });
        }
    }

    /// The row of an interface, which gets one if there is room.
    fn link_row(&mut self, ifindex: u32) -> Option<u16> {
        if let Some((row, _)) = self.rows.get(&ifindex) {
            return Some(*row);
        }
        let link = relay_link(&self.links.get(ifindex)?.info, self.generic);
        let row = self.free_rows.pop()?;
        self.rows.insert(ifindex, (row, link));
        self.out.push_back(RelayCommand::SetLink { row, link });
        Some(row)
    }
}

/// An address that datagrams can be relayed from and to.
fn usable(at: SocketAddr) -> Option<RelayAddr> {
    let SocketAddr::V4(at) = at else { return None };
    let (ip, port) = (at.ip(), at.port());
    let usable = port != 0 && !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast();
    usable.then_some(RelayAddr { addr: ip.octets(), port })
}

fn relay_link(info: &LinkInfo, generic: bool) -> RelayLink {
    // Not known counts as no: what is redirected to an interface that takes nothing vanishes.
    let takes = generic || !matches!(info.xdp_redirect, None | Some(XdpRedirect::Nothing));
    // For those that come back, a veth in the driver's mode wakes its other end only if that has XDP, too, which is in another namespace.
    let turns = generic || info.kind.as_deref() != Some("veth");
    let flag = |yes, flag| if yes { flag } else { 0 };
    RelayLink {
        ifindex: info.ifindex,
        mtu: info.mtu,
        mac: info.mac.map_or([0; 6], |mac| mac.0),
        flags: flag(turns, RelayLinkFlags::XDP_TX) | flag(takes, RelayLinkFlags::XDP_REDIRECT),
    }
}
