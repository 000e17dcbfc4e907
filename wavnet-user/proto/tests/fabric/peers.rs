//! Dynamic peers: stories with a name.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

use wavnet_common::{
    abi::{Arrival, ConfigFlags, Endpoint, ExtraPorts, Hold, LocalPort, size},
    addr::{Label, PeerId},
};
use wavnet_proto::{
    command::{Command, PeerKey},
    fabric::{
        Adopted, Control, Desired, Fabric, FabricError, Limits, LinkInfo, PathFrom, PeerPath, PeerState, Via,
        VniSettings,
    },
};

use super::{scenarios::*, steps::*, world::*};

const PORT: u16 = 4789;
const RELAY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 3), 3478);

pub(crate) fn direct(n: u8, port: u16) -> Endpoint {
    Endpoint { source_port: Some(PORT), ..Endpoint::plain(peer(n).octets(), port) }
}

pub(crate) fn relayed(label: u32) -> Endpoint {
    let label = Label::of_word(label);
    Endpoint { source_port: Some(PORT), label, ..Endpoint::plain(RELAY.ip().octets(), RELAY.port()) }
}

pub(crate) fn path(from: PathFrom, n: u8) -> PeerPath {
    PeerPath { from, peer: Some(id(n)) }
}

pub(crate) fn by_relay(label: u32) -> PathFrom {
    PathFrom::Relayed { relay: Arrival::new(RELAY, LocalPort::MAIN), label: Label::of_word(label) }
}

pub(crate) fn straight(n: u8, port: u16) -> PathFrom {
    PathFrom::Direct(arrival(n, port))
}

fn arrival(n: u8, port: u16) -> Arrival {
    Arrival::new(SocketAddrV4::new(peer(n), port), LocalPort::MAIN)
}

/// eth0 as underlay, and a dynamic peer at [`RELAY`], which is reached.
pub(crate) fn by_a_relay() -> World {
    let mut w = routed(&[]);
    w.fabric.set_peer(id(0), BTreeSet::from([vni(0)]), relayed(7)).unwrap();
    commands(&mut w);
    w.fabric.route(*RELAY.ip(), route(Via::OnLink, None));
    w.fabric.neighbour(3, *RELAY.ip(), Some(mac(1)));
    commands(&mut w);
    assert_eq!(w.model.endpoint(id(0)), relayed(7));
    w
}

fn in_force(w: &World) -> (Endpoint, bool) {
    let vtep = w.model.vtep(PeerKey::Dynamic(id(0)));
    (vtep.endpoint(), vtep.next_hop().dst_mac != [0; 6])
}

#[test]
fn a_peer_moves_when_it_is_known_how_to_get_there_and_by_one_command() {
    let mut w = by_a_relay();
    w.fabric.peer_endpoint(id(0), direct(0, 40_000)).unwrap();
    let asked = commands(&mut w);
    assert!(matches!(&asked[..], [Command::QueryRoute { addr, .. }] if *addr == peer(0)), "{asked:?}");
    w.fabric.route(peer(0), route(Via::Gateway(peer(1)), None));
    let asked = commands(&mut w);
    assert!(matches!(&asked[..], [Command::ResolveNeighbour { addr, .. }] if *addr == peer(1)), "{asked:?}");
    let view = w.fabric.dynamic_peer(id(0)).unwrap();
    assert_eq!((view.endpoint, view.in_force), (direct(0, 40_000), Some(relayed(7))));
    assert_eq!((view.state, view.next_hop), (PeerState::Up, Some(*RELAY.ip())), "that of what is in force");
    w.fabric.neighbour(3, peer(1), Some(mac(2)));
    let moved = commands(&mut w);
    assert!(
        matches!(&moved[..], [
            Command::SetNextHop { endpoint, next_hop, .. },
            Command::ForgetNeighbour { addr, .. },
        ] if *endpoint == direct(0, 40_000) && next_hop.dst_mac == mac(2).0 && addr == RELAY.ip()),
        "{moved:?}"
    );
    // Another port of the same NAT: the way there is the same.
    w.fabric.peer_endpoint(id(0), direct(0, 40_001)).unwrap();
    let moved = commands(&mut w);
    assert!(
        matches!(&moved[..], [Command::SetNextHop { endpoint, .. }] if *endpoint == direct(0, 40_001)),
        "{moved:?}"
    );
    assert_eq!(in_force(&w), (direct(0, 40_001), true));
}

#[test]
fn who_changes_its_mind_leaves_nothing_behind() {
    let mut w = by_a_relay();
    for n in [0, 1, 3] {
        w.fabric.peer_endpoint(id(0), direct(n, 40_000)).unwrap();
        commands(&mut w);
    }
    w.fabric.peer_endpoint(id(0), relayed(8)).unwrap();
    commands(&mut w);
    assert_eq!(in_force(&w), (relayed(8), true));
    w.fabric.routes_changed();
    let asked = commands(&mut w);
    assert!(matches!(&asked[..], [Command::QueryRoute { addr, .. }] if addr == RELAY.ip()), "{asked:?}");
}

#[test]
fn where_no_next_hop_answers_the_kernel_shall_find_the_way() {
    let mut w = by_a_relay();
    w.fabric.peer_endpoint(id(0), direct(0, 40_000)).unwrap();
    commands(&mut w);
    w.fabric.route(peer(0), None);
    commands(&mut w);
    assert_eq!(in_force(&w), (relayed(7), true), "no route: it stays where it is reached");
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.neighbour(3, peer(0), None);
    commands(&mut w);
    assert_eq!(in_force(&w), (direct(0, 40_000), false));
}

#[test]
fn peers_share_a_relay_its_route_and_its_neighbour() {
    let mut w = by_a_relay();
    w.fabric.set_peer(id(1), BTreeSet::from([vni(0)]), relayed(9)).unwrap();
    let added = commands(&mut w);
    assert!(!added.iter().any(|c| matches!(c, Command::QueryRoute { .. } | Command::ResolveNeighbour { .. })));
    assert_eq!(w.model.endpoint(id(1)), relayed(9));
    assert!(w.fabric.remove_dynamic_peer(id(0)) && !w.fabric.remove_dynamic_peer(id(0)));
    let removed = commands(&mut w);
    assert!(!removed.iter().any(|c| matches!(c, Command::ForgetNeighbour { .. })), "{removed:?}");
    assert!(w.fabric.uses_neighbour(3, *RELAY.ip()));
    w.fabric.neighbour(3, *RELAY.ip(), Some(mac(5)));
    assert!(matches!(&commands(&mut w)[..], [Command::SetNextHop { .. }]));
    w.fabric.remove_dynamic_peer(id(1));
    commands(&mut w);
    assert!(!w.fabric.uses_neighbour(3, *RELAY.ip()));
}

#[test]
fn paths_are_found_by_where_datagrams_come_from() {
    let mut w = by_a_relay();
    w.fabric.set_peer(id(1), BTreeSet::from([vni(0)]), direct(0, 40_001)).unwrap();
    // One NAT, two ports.
    let a = w.fabric.add_path(path(straight(0, 40_000), 0)).unwrap();
    let b = w.fabric.add_path(path(straight(0, 40_001), 1)).unwrap();
    let r = w.fabric.add_path(path(by_relay(7), 0)).unwrap();
    let server = w.fabric.add_path(PeerPath { peer: None, ..path(by_relay(0), 0) }).unwrap();
    // The first one's port at the NAT again, as it sends to other ports of ours: two places, and one is not its own.
    let extra = |n| Arrival { to: LocalPort::extra(n).unwrap(), ..arrival(0, 40_000) };
    let c = w.fabric.add_path(path(PathFrom::Direct(extra(0)), 0)).unwrap();
    let d = w.fabric.add_path(path(PathFrom::Direct(extra(511)), 1)).unwrap();
    commands(&mut w);
    let key = |n| Some(PeerKey::Dynamic(id(n)));
    let found = |w: &World, from: PathFrom, label| {
        let (PathFrom::Direct(at) | PathFrom::Relayed { relay: at, .. }) = from;
        w.model.found(at, Label::of_word(label))
    };
    assert_eq!(found(&w, straight(0, 40_000), 0), Some((a, key(0))));
    assert_eq!(found(&w, straight(0, 40_001), 3), Some((b, key(1))), "labels are for relays");
    assert_eq!(found(&w, by_relay(7), 7), Some((r, key(0))));
    assert_eq!(found(&w, by_relay(7), 8), None);
    assert_eq!(found(&w, by_relay(0), 0), Some((server, None)));
    assert_eq!((w.model.found(extra(0), Label::ZERO), w.model.found(extra(1), Label::ZERO)), (Some((c, key(0))), None));
    assert_eq!(w.model.found(extra(511), Label::ZERO), Some((d, key(1))));
    // What one has at one of our ports may go without the others.
    w.fabric.remove_path(c);
    w.fabric.remove_path(d);
    commands(&mut w);
    assert_eq!((w.model.found(extra(0), Label::ZERO), found(&w, straight(0, 40_000), 0)), (None, Some((a, key(0)))));
    let taken = |path: PeerPath| FabricError::PathTaken(path.from.addr());
    for refused in [
        path(straight(0, 40_000), 1),
        path(PathFrom::Direct(Arrival::new(RELAY, LocalPort::MAIN)), 1),
        path(by_relay(7), 1),
    ] {
        assert_eq!(w.fabric.add_path(refused), Err(taken(refused)));
    }
    assert_eq!(w.fabric.add_path(path(straight(2, 0), 0)), Err(FabricError::BadUdpPort));
    // With its peer go its paths, those of others stay.
    w.fabric.remove_dynamic_peer(id(0));
    let gone = commands(&mut w);
    let place = |wanted: fn(&Command) -> bool| gone.iter().position(wanted).unwrap();
    let path_first = place(|c| matches!(c, Command::SetPath { .. })) < place(|c| matches!(c, Command::SetVtep { .. }));
    assert!(path_first, "nothing leads to a slot that is free: {gone:?}");
    assert_eq!((found(&w, straight(0, 40_000), 0), found(&w, by_relay(7), 7)), (None, None));
    assert_eq!(found(&w, straight(0, 40_001), 0), Some((b, key(1))));
    w.fabric.remove_path(server);
    commands(&mut w);
    assert_eq!(w.model.path_counts(), (1, 0), "nor is there a relay any more");
}

#[test]
fn a_static_peer_shares_its_address_as_long_as_a_path_has_it() {
    let mut w = routed(&[0]);
    w.fabric.set_peer(id(0), BTreeSet::from([vni(0)]), direct(0, 40_000)).unwrap();
    commands(&mut w);
    assert_eq!(w.model.sharing(), BTreeSet::new());
    let slot = w.fabric.add_path(path(straight(0, 40_000), 0)).unwrap();
    let added = commands(&mut w);
    assert!(matches!(&added[..], [Command::SetMember { .. }, Command::SetPath { .. }]), "{added:?}");
    assert_eq!(w.model.sharing(), BTreeSet::from([PeerKey::Static(peer(0))]));
    w.fabric.remove_path(slot);
    commands(&mut w);
    assert_eq!(w.model.sharing(), BTreeSet::new());
}

#[test]
fn what_is_open_is_told_and_what_is_not_there_costs_nothing() {
    let mut w = routed(&[0]);
    let flags = |w: &World| w.model.config().flags;
    assert_eq!(flags(&w), 0);
    let control = Control { open: true, extra_ports: ExtraPorts::new(6000, 16), hold_ifindex: 9 };
    w.fabric.set_control(control);
    commands(&mut w);
    let config = w.model.config();
    assert_eq!((config.flags, config.extra_ports, config.hold_ifindex), (ConfigFlags::CONTROL, control.extra_ports, 9));
    w.fabric.set_control(control);
    assert_eq!(commands(&mut w), []);
    let server = w.fabric.add_path(PeerPath { peer: None, ..path(by_relay(0), 0) }).unwrap();
    commands(&mut w);
    assert!(w.model.config().has(ConfigFlags::DYNAMIC | ConfigFlags::XDP_TX), "pulses of a server are answered");
    let nic = w.links[&3].clone();
    w.put(LinkInfo { kind: Some("veth".into()), ..nic.clone() });
    commands(&mut w);
    assert!(!w.model.config().has(ConfigFlags::XDP_TX), "a veth does not wake its other end");
    w.put(nic);
    w.fabric.remove_path(server);
    commands(&mut w);
    assert_eq!(flags(&w), ConfigFlags::CONTROL);
}

#[test]
fn frames_are_held_back_before_anything_else_changes() {
    let mut w = by_a_relay();
    w.fabric.peer_endpoint(id(0), direct(0, 40_000)).unwrap();
    w.fabric.route(peer(0), route(Via::OnLink, None));
    w.fabric.neighbour(3, peer(0), Some(mac(2)));
    commands(&mut w);
    w.fabric.peer_endpoint(id(0), relayed(7)).unwrap();
    commands(&mut w);
    w.fabric.route(*RELAY.ip(), route(Via::OnLink, None));
    w.fabric.hold_peer(PeerKey::Dynamic(id(0)), Hold::Hold);
    w.fabric.neighbour(3, *RELAY.ip(), Some(mac(1)));
    let held = commands(&mut w);
    let order = [
        held.iter().position(|c| matches!(c, Command::SetHold { hold: Hold::Hold, .. })),
        held.iter().position(|c| matches!(c, Command::SetNextHop { .. })),
    ];
    assert!(order[0].is_some() && order[0] < order[1], "{held:?}");
    w.fabric.hold_peer(PeerKey::Dynamic(id(0)), Hold::Drain);
    assert!(matches!(&commands(&mut w)[..], [Command::SetHold { hold: Hold::Drain, .. }]));
    assert_eq!(w.fabric.dynamic_peer(id(0)).unwrap().hold, Hold::Drain);
    w.fabric.remove_dynamic_peer(id(0));
    commands(&mut w);
    w.fabric.set_peer(id(0), BTreeSet::from([vni(0)]), relayed(7)).unwrap();
    commands(&mut w);
    assert_eq!(w.model.hold(PeerKey::Dynamic(id(0))), Hold::Normal, "it went with the peer");
    // And with its slot, when there is no VNI for a moment.
    w.fabric.hold_peer(PeerKey::Dynamic(id(0)), Hold::Hold);
    assert!(matches!(&commands(&mut w)[..], [Command::SetHold { hold: Hold::Hold, .. }]));
    for vnis in [BTreeSet::new(), BTreeSet::from([vni(0)])] {
        w.fabric.set_peer(id(0), vnis, relayed(7)).unwrap();
        commands(&mut w);
    }
    assert_eq!(w.model.hold(PeerKey::Dynamic(id(0))), Hold::Normal, "nobody would send on what was held back");
}

/// An agent that starts on what the one before has left: what it does at once.
pub(crate) fn begin_anew(w: &mut World) -> Vec<Command> {
    let desired = w.fabric.desired().clone();
    w.fabric = Fabric::new(LIMITS, &w.model.adopt());
    w.fabric.set_desired(desired).unwrap();
    for (ifindex, link) in w.links.clone() {
        w.fabric.link_up(link);
        w.fabric.addresses(ifindex, w.addresses[&ifindex].clone());
    }
    w.fabric.links_complete();
    commands(w)
}

#[test]
fn a_new_agent_finds_peers_and_paths_and_claims_them_without_a_write() {
    let mut w = by_a_relay();
    let slot = w.fabric.add_path(path(by_relay(7), 0)).unwrap();
    let other = w.fabric.add_path(path(straight(0, 40_000), 0)).unwrap();
    w.fabric.hold_peer(PeerKey::Dynamic(id(0)), Hold::Hold);
    commands(&mut w);
    let started = begin_anew(&mut w);
    let tables =
        |c: &&Command| matches!(c, Command::SetPath { .. } | Command::SetVtep { .. } | Command::SetNextHop { .. });
    assert_eq!(started.iter().find(tables), None);
    assert_eq!(w.model.hold(PeerKey::Dynamic(id(0))), Hold::Normal, "what was held back is not sent on by anybody");
    assert_eq!(w.fabric.unclaimed_peers().collect::<Vec<_>>(), [id(0)]);
    assert_eq!(w.fabric.paths().map(|(index, path)| (index, path.from)).collect::<Vec<_>>(), {
        let mut both = [(slot, by_relay(7)), (other, straight(0, 40_000))];
        both.sort_unstable();
        both
    });
    w.fabric.set_peer(id(0), BTreeSet::from([vni(0)]), relayed(7)).unwrap();
    assert_eq!(w.fabric.add_path(path(by_relay(7), 0)), Ok(slot));
    assert_eq!((commands(&mut w), w.fabric.unclaimed_peers().count()), (Vec::new(), 0));
    // The other path is not asked for any more: whoever has that place now may prove it.
    w.fabric.set_peer(id(1), BTreeSet::from([vni(0)]), direct(0, 40_000)).unwrap();
    assert_eq!(w.fabric.add_path(path(straight(0, 40_000), 1)), Ok(other));
    assert_eq!(w.fabric.forget_unclaimed(), []);
    commands(&mut w);
    assert_eq!(w.model.found(arrival(0, 40_000), Label::ZERO), Some((other, Some(PeerKey::Dynamic(id(1))))));
}

#[test]
fn what_nobody_asks_for_of_an_earlier_agents_is_given_up_peers_and_paths() {
    let mut w = by_a_relay();
    w.fabric.set_peer(id(1), BTreeSet::from([vni(0)]), relayed(9)).unwrap();
    let kept = w.fabric.add_path(path(by_relay(7), 0)).unwrap();
    w.fabric.add_path(path(straight(0, 40_000), 0)).unwrap();
    w.fabric.add_path(path(by_relay(9), 1)).unwrap();
    w.fabric.add_path(PeerPath { peer: None, ..path(by_relay(0), 0) }).unwrap();
    let open = Control { open: true, extra_ports: ExtraPorts::new(6000, 16), hold_ifindex: 9 };
    w.fabric.set_control(open);
    commands(&mut w);
    let desired = w.fabric.desired().clone();
    w.fabric = Fabric::new(LIMITS, &w.model.adopt());
    w.fabric.set_desired(desired).unwrap();
    w.fabric.links_complete();
    commands(&mut w);
    let config = w.model.config();
    assert_eq!((config.flags & ConfigFlags::CONTROL, config.extra_ports), (ConfigFlags::CONTROL, open.extra_ports));
    w.fabric.set_peer(id(0), BTreeSet::from([vni(0)]), relayed(7)).unwrap();
    w.fabric.add_path(path(by_relay(7), 0)).unwrap();
    assert_eq!(w.fabric.forget_unclaimed(), [id(1)]);
    w.fabric.set_control(Control::default());
    commands(&mut w);
    assert_eq!(w.fabric.paths().map(|(index, _)| index).collect::<Vec<_>>(), [kept]);
    assert_eq!((w.model.path_counts(), w.model.config().extra_ports), ((1, 1), ExtraPorts::NONE));
    assert_eq!(w.fabric.forget_unclaimed(), []);
}

#[test]
fn there_is_an_end_to_room_and_it_is_told() {
    let mut w = routed(&[]);
    let all = BTreeSet::from([vni(0)]);
    for n in 0..3 {
        w.fabric.set_peer(id(n), all.clone(), relayed(n.into())).unwrap();
    }
    assert!(matches!(w.fabric.set_peer(id(3), all, relayed(3)), Err(FabricError::FloodFull { .. })));
    let nowhere = FabricError::NoSuchDynamicPeer(id(3));
    assert_eq!(w.fabric.peer_endpoint(id(3), relayed(3)), Err(nowhere));
    assert!(w.fabric.peer_endpoint(id(0), Endpoint { port: 0, ..relayed(3) }).is_err());
    for n in 0..size::RELAYS as u16 {
        let relay = arrival(0, 1000 + n);
        let from = PathFrom::Relayed { relay, label: Label::of_word(1) };
        let added = w.fabric.add_path(path(from, 0));
        assert_eq!(added.is_ok(), usize::from(n) < LIMITS.paths(), "{added:?}");
    }
}

/// A thousand peers at once: what is written grows with them, not with their square.
#[test]
fn a_thousand_peers_come_and_move() {
    let mut f = Fabric::new(Limits { vteps: 1024, members: 2048, ..Limits::default() }, &Adopted::default());
    let vnis = [vni(0), vni(1)].map(|vni| (vni, VniSettings::default())).into();
    f.set_desired(Desired { vnis, ..Desired::default() }).unwrap();
    f.links_complete();
    let key = |n: u16| PeerId([n.to_be_bytes(); 16].concat().try_into().unwrap());
    while f.poll_command().is_some() {}
    for n in 0..1000 {
        f.set_peer(key(n), BTreeSet::from([vni((n % 2) as u8)]), relayed(u32::from(n) + 1)).unwrap();
    }
    let added: Vec<_> = std::iter::from_fn(|| f.poll_command()).collect();
    let count = |wanted: fn(&Command) -> bool| added.iter().filter(|c| wanted(c)).count();
    assert_eq!(count(|c| matches!(c, Command::SetVtep { .. })), 1000);
    assert_eq!(count(|c| matches!(c, Command::SetMember { .. })), 1000);
    assert_eq!(count(|c| matches!(c, Command::SetFlood { .. })), 2);
    assert_eq!(count(|c| matches!(c, Command::QueryRoute { .. })), 1);
    for n in 0..1000 {
        f.peer_endpoint(key(n), relayed(u32::from(n) + 2000)).unwrap();
    }
    let moved: Vec<_> = std::iter::from_fn(|| f.poll_command()).collect();
    assert!(moved.len() == 1000 && moved.iter().all(|c| matches!(c, Command::SetNextHop { .. })));
}
