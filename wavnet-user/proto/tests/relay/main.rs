//! The relay's core against a naive model of its tables.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod scenarios;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
};

use proptest::prelude::*;
use wavnet_common::{
    abi::relay::{Leg, LegHop, Rate, RelayAddr, RelayConfig, RelayConfigFlags, RelayLink, RelayLinkFlags},
    addr::{Label, Mac},
};
use wavnet_proto::{
    command::Command,
    fabric::{LinkInfo, RouteInfo, Via, XdpRedirect},
    relay::{Relay, RelayCommand},
    stun::server::Responder,
};

const ROWS: u32 = 6;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 4789);

/// The interface by which STUN is answered.
const STUN: u32 = 4;

fn responder() -> Responder {
    let other = Ipv4Addr::new(203, 0, 113, 10);
    Responder::new(SERVER.into(), Some(4790), Some(other.into())).unwrap()
}

fn host(n: u8) -> SocketAddr {
    SocketAddrV4::new(v4(n), 40_000 + u16::from(n / 4 % 2)).into()
}

fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, n % 4 + 1)
}

/// Now and then one that the program has no use for.
fn any_host(n: u8) -> SocketAddr {
    if n % 16 == 15 { (Ipv6Addr::LOCALHOST, 40_000).into() } else { host(n) }
}

fn side(at: SocketAddr) -> Option<RelayAddr> {
    let SocketAddr::V4(at) = at else { return None };
    Some(RelayAddr { addr: at.ip().octets(), port: at.port() })
}

fn label(n: u8) -> Label {
    Label::of_word(u32::from(n % 8) + 1)
}

fn link(ifindex: u32, kind: Option<&str>, xdp_redirect: Option<XdpRedirect>) -> LinkInfo {
    LinkInfo {
        ifindex,
        name: format!("eth{ifindex}"),
        mtu: 1500,
        mac: Some(Mac([2, 9, 0, 0, 0, ifindex as u8])),
        up: true,
        loopback: false,
        no_arp: false,
        kind: kind.map(str::to_owned),
        xdp_redirect,
        datagram_gso: false,
    }
}

fn via(oif: u32, gateway: Option<u8>) -> Option<RouteInfo> {
    let via = gateway.map_or(Via::OnLink, |n| Via::Gateway(Ipv4Addr::new(203, 0, 113, n)));
    Some(RouteInfo { oif, via, mtu: None, local: false })
}

/// The tables as the shell writes them.
#[derive(Clone, Debug, Default)]
struct Model {
    config: Option<RelayConfig>,
    links: BTreeMap<u16, RelayLink>,
    legs: BTreeMap<u32, (Leg, Option<LegHop>)>,
    rates: BTreeMap<u32, Rate>,
    neighbours: BTreeSet<(u32, Ipv4Addr)>,
}

impl Model {
    fn apply(&mut self, command: &RelayCommand) {
        match command {
            RelayCommand::SetServer(config) => self.config = Some(*config),
            RelayCommand::SetLink { row, link } => {
                if link.ifindex == 0 {
                    assert!(self.links.remove(row).is_some());
                } else {
                    assert_ne!(self.links.insert(*row, *link), Some(*link), "a change that changes nothing");
                }
            }
            RelayCommand::SetLeg { row, leg, rate } => {
                assert!(*row < ROWS);
                let before = self.legs.insert(*row, (*leg, None));
                assert!(before.is_none_or(|(before, _)| before.label == leg.label && before != *leg), "{command:?}");
                assert!(before.is_none() || rate.is_none(), "a bucket is full again: {command:?}");
                if let Some(rate) = rate {
                    self.rates.insert(*row, *rate);
                }
            }
            RelayCommand::FreeLeg { row, label } => {
                assert_eq!(self.legs.remove(row).map(|(leg, _)| leg.label), Some(*label));
                self.rates.remove(row);
            }
            RelayCommand::SetHop { row, hop } => {
                let (_, in_force) = self.legs.get_mut(row).expect("a leg that is there");
                assert_ne!(std::mem::replace(in_force, *hop), *hop, "a change that changes nothing");
            }
            RelayCommand::SetRate { row, rate } => {
                assert!(self.legs.contains_key(row), "{command:?}");
                let before = match rate {
                    Some(rate) => self.rates.insert(*row, *rate),
                    None => self.rates.remove(row),
                };
                assert_ne!(before, *rate, "a change that changes nothing");
            }
            RelayCommand::Ask(Command::ResolveNeighbour { ifindex, addr }) => {
                self.neighbours.insert((*ifindex, *addr));
            }
            RelayCommand::Ask(Command::ForgetNeighbour { ifindex, addr }) => {
                self.neighbours.remove(&(*ifindex, *addr));
            }
            RelayCommand::Ask(Command::QueryRoute { from, .. }) => assert!(from.is_none_or(|a| a == *SERVER.ip())),
            RelayCommand::Ask(other) => panic!("{other:?} is no question"),
        }
        let labels: BTreeSet<Label> = self.legs.values().map(|(leg, _)| leg.label).collect();
        assert_eq!(labels.len(), self.legs.len(), "a label leads to two rows");
        let indices: BTreeSet<u32> = self.links.values().map(|link| link.ifindex).collect();
        assert_eq!(indices.len(), self.links.len(), "two rows of an interface");
        for (_, hop) in self.legs.values() {
            assert!(hop.is_none_or(|hop| self.links.contains_key(&hop.link)), "{hop:?} leads to no link");
        }
    }
}

struct World {
    relay: Relay,
    model: Model,
    /// Sessions, as far as they are in the tables; and what is left to the server.
    wanted: BTreeMap<Label, Leg>,
    left: BTreeMap<Label, SocketAddr>,
    links: BTreeSet<u32>,
    rate: Option<Rate>,
}

impl World {
    fn new() -> World {
        let mut relay = Relay::new(ROWS);
        relay.set_server(Some(SERVER));
        relay.set_stun(Some((STUN, responder())));
        World {
            relay,
            model: Model::default(),
            wanted: BTreeMap::new(),
            left: BTreeMap::new(),
            links: BTreeSet::new(),
            rate: None,
        }
    }

    fn poll(&mut self) -> Option<RelayCommand> {
        let command = self.relay.poll_command()?;
        self.model.apply(&command);
        // There are none on interfaces that are gone.
        self.model.neighbours.retain(|(ifindex, _)| self.links.contains(ifindex));
        Some(command)
    }

    fn commands(&mut self) -> Vec<RelayCommand> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    fn check(&mut self) {
        self.commands();
        let there: BTreeMap<Label, Leg> = self.model.legs.values().map(|(leg, _)| (leg.label, *leg)).collect();
        assert_eq!(there, self.wanted);
        let incomplete = self.model.config.unwrap().flags & RelayConfigFlags::INCOMPLETE != 0;
        assert_eq!(incomplete, !self.left.is_empty());
        let config = self.model.config.unwrap();
        let answers = config.flags & RelayConfigFlags::STUN != 0;
        assert_eq!(answers, self.links.contains(&STUN));
        if answers {
            assert_eq!(self.model.links[&config.stun_link].ifindex, STUN);
            assert_eq!((config.other_v4, config.other_port), ([203, 0, 113, 10], 4790u16.to_be_bytes()));
        }
        for (label, row) in self.relay.rows() {
            assert_eq!(self.model.legs[&row].0.label, label);
            assert_eq!(self.model.rates.get(&row).copied(), self.rate);
        }
        assert!(self.model.links.values().all(|link| self.links.contains(&link.ifindex)));
    }

    fn step(&mut self, step: Step) {
        let relay = &mut self.relay;
        match step {
            Step::Set(a, from, to, b) => {
                let (from, to) = (any_host(from), any_host(to));
                let set = relay.set(label(a), from, to, label(b));
                let room = self.wanted.len() < ROWS as usize || self.wanted.contains_key(&label(a));
                let leg = side(from).zip(side(to)).filter(|_| room);
                assert_eq!(set, leg.is_some());
                self.wanted.remove(&label(a));
                self.left.remove(&label(a));
                match leg {
                    Some((from, to)) => {
                        let leg = Leg { label: label(a), from, to, to_label: label(b) };
                        self.wanted.extend([(label(a), leg)]);
                    }
                    None => self.left.extend([(label(a), from)]),
                }
            }
            Step::Remove(a, from) => {
                relay.remove(label(a), any_host(from));
                self.wanted.retain(|other, leg| *other != label(a) || Some(leg.from) != side(any_host(from)));
                self.left.retain(|other, at| *other != label(a) || *at != any_host(from));
            }
            Step::Link(n, kind, redirect) => {
                let n = 2 + u32::from(n % 3);
                self.links.insert(n);
                relay.link_up(link(n, kind.then_some("veth"), redirect.then_some(XdpRedirect::Everything)));
            }
            Step::Gone(n) => {
                let n = 2 + u32::from(n % 3);
                self.links.remove(&n);
                relay.link_gone(n);
            }
            Step::Route(to, route) => {
                let route = route.and_then(|(oif, gateway)| via(2 + u32::from(oif % 3), gateway.map(|n| n % 2)));
                relay.route(v4(to), route);
            }
            Step::Neighbour(n, to, mac) => {
                let addr = if to < 128 { Ipv4Addr::new(203, 0, 113, to % 2) } else { v4(to) };
                relay.neighbour(2 + u32::from(n % 3), addr, mac.map(|mac| Mac([2, 0, 0, 0, 0, mac])));
            }
            Step::Rate(n) => {
                let rate = Rate { bytes_per_second: n.into(), burst: 1 };
                relay.set_rate((n % 2 == 0).then_some(rate));
                self.rate = (n % 2 == 0).then_some(rate);
            }
            Step::Generic(generic) => relay.set_generic(generic),
            Step::Seek(n) => (0..n).for_each(|_| relay.seek_next_hops()),
            Step::Retry => relay.retry(),
            Step::Poll(n) => (0..n).for_each(|_| drop(self.poll())),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8, u8, u8),
    Remove(u8, u8),
    Link(u8, bool, bool),
    Gone(u8),
    Route(u8, Option<(u8, Option<u8>)>),
    Neighbour(u8, u8, Option<u8>),
    Rate(u8),
    Generic(bool),
    Seek(u8),
    Retry,
    Poll(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<(u8, u8, u8, u8)>().prop_map(|(a, from, to, b)| Step::Set(a, from, to, b)),
        2 => any::<(u8, u8)>().prop_map(|(a, from)| Step::Remove(a, from)),
        2 => any::<(u8, bool, bool)>().prop_map(|(n, kind, redirect)| Step::Link(n, kind, redirect)),
        1 => any::<u8>().prop_map(Step::Gone),
        4 => any::<(u8, Option<(u8, Option<u8>)>)>().prop_map(|(to, route)| Step::Route(to, route)),
        4 => any::<(u8, u8, Option<u8>)>().prop_map(|(n, to, mac)| Step::Neighbour(n, to, mac)),
        1 => (0u8..4).prop_map(Step::Rate),
        1 => any::<bool>().prop_map(Step::Generic),
        1 => (0u8..70).prop_map(Step::Seek),
        1 => Just(Step::Retry),
        2 => (0u8..6).prop_map(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_history_is_safe_and_ends_exact(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check();
        let wanted: Vec<(Label, Leg)> = world.wanted.iter().map(|(label, leg)| (*label, *leg)).collect();
        for (label, leg) in wanted {
            world.relay.remove(label, SocketAddr::from((leg.from.addr, leg.from.port)));
        }
        let left: Vec<(Label, SocketAddr)> = world.left.iter().map(|(label, from)| (*label, *from)).collect();
        left.into_iter().for_each(|(label, from)| world.relay.remove(label, from));
        world.wanted.clear();
        world.left.clear();
        world.check();
        prop_assert!(world.model.neighbours.is_empty(), "nobody is reached any more: {:?}", world.model.neighbours);
    }
}
