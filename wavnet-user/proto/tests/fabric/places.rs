//! The mesh's peers in the fabric: where their frames go while paths come and go, and agents.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use wavnet_common::{
    abi::Endpoint,
    addr::{Label, PeerId, Vni},
};
use wavnet_proto::{
    command::{Command, PeerKey},
    fabric::Via,
    mesh::Way,
    places::{Places, Ports},
    time::Time,
    transmit::Socket,
    trust::PublicKey,
};

use super::{peers::begin_anew, scenarios::*, steps::*, world::*};

const PORTS: Ports = Ports { main: 4789, extra: 20_000 };
const RELAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

fn key() -> PublicKey {
    PublicKey::new([1; 32]).unwrap()
}

fn start() -> Time {
    Time::from_nanos(1 << 40)
}

fn some() -> BTreeSet<Vni> {
    [vni(0)].into()
}

fn direct(socket: Socket, port: u16) -> Way {
    Way { socket, remote: SocketAddr::from((peer(1), port)), label: Label::ZERO }
}

fn relayed() -> Way {
    Way { socket: Socket::Main, remote: SocketAddr::from((RELAY, 3478)), label: Label::new(7).unwrap() }
}

/// Where the kernel sends the peer's frames; `None`: to nobody.
fn sent_to(w: &World) -> Option<Endpoint> {
    let is_there = w.model.vteps().contains(&PeerKey::Dynamic(PeerId([1; 32])));
    is_there.then(|| w.model.endpoint(PeerId([1; 32])))
}

/// All that there is to ask is answered: everybody is on the link.
fn put_in_force(w: &mut World) -> Vec<Command> {
    let mut all = commands(w);
    for addr in [peer(1), RELAY] {
        w.fabric.route(addr, route(Via::OnLink, None));
        w.fabric.neighbour(3, addr, Some(mac(1)));
        all.extend(commands(w));
    }
    all
}

/// A peer that has a direct path from the socket.
fn connected(socket: Socket) -> (World, Places) {
    let (mut w, mut places) = (routed(&[]), Places::default());
    places.admit(start(), &mut w.fabric, Some(PORTS), key(), some()).unwrap();
    assert_eq!(places.get(&key()), None, "nothing is known of where it is");
    places.prove(start(), &mut w.fabric, PORTS, &key(), &direct(socket, 40_000)).unwrap();
    places.select(&mut w.fabric, PORTS, &key(), &direct(socket, 40_000)).unwrap();
    put_in_force(&mut w);
    let endpoint = Endpoint { source_port: Some(PORTS.of(socket)), ..Endpoint::plain(peer(1).octets(), 40_000) };
    assert_eq!(sent_to(&w), Some(endpoint));
    (w, places)
}

#[test]
fn after_a_restart_frames_keep_their_way_until_another_one_is_announced() {
    for socket in [Socket::Main, Socket::Extra(3)] {
        let (mut w, before) = connected(socket);
        let stands = sent_to(&w);
        begin_anew(&mut w);
        let mut places = Places::default();
        places.admit(start(), &mut w.fabric, Some(PORTS), key(), some()).unwrap();
        assert_eq!(w.fabric.unclaimed_peers().count(), 0);
        assert_eq!(places.get(&key()), before.get(&key()), "its socket, too");
        // By the relay it is found first; that it takes frames from there it has not said.
        places.prove(start(), &mut w.fabric, PORTS, &key(), &relayed()).unwrap();
        let done = put_in_force(&mut w);
        let moves = |c: &&Command| matches!(c, Command::SetVtep { .. } | Command::SetMember { .. });
        assert_eq!((done.iter().find(moves), sent_to(&w)), (None, stands));
        places.select(&mut w.fabric, PORTS, &key(), &relayed()).unwrap();
        put_in_force(&mut w);
        assert_eq!(sent_to(&w).map(|at| (at.addr, at.label)), Some((RELAY.octets(), Label::of_word(7))));
        assert!(places.give_up_lost(start() + 2 * Places::LOST, &mut w.fabric).is_empty());
        put_in_force(&mut w);
        assert!(sent_to(&w).is_some(), "it is not lost any more");
    }
}

#[test]
fn who_was_left_and_gets_no_path_is_given_up_and_has_no_vni_that_it_may_not_join() {
    let (mut w, _) = connected(Socket::Main);
    begin_anew(&mut w);
    let mut places = Places::default();
    places.admit(start(), &mut w.fabric, Some(PORTS), key(), BTreeSet::new()).unwrap();
    put_in_force(&mut w);
    assert_eq!(sent_to(&w), None, "the list says so now");
    places.admit(start(), &mut w.fabric, Some(PORTS), key(), some()).unwrap();
    put_in_force(&mut w);
    assert!(sent_to(&w).is_some());
    places.give_up_lost(start() + Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!(sent_to(&w), None);
}

#[test]
fn who_has_no_path_for_ten_seconds_loses_its_vnis_until_it_has_one() {
    let (mut w, mut places) = connected(Socket::Main);
    let lost = start() + Duration::from_secs(60);
    places.lose(lost, &key());
    places.give_up_lost(lost + Places::LOST - Duration::from_millis(1), &mut w.fabric);
    put_in_force(&mut w);
    assert!(sent_to(&w).is_some(), "a moment without a path is no reason");
    places.give_up_lost(lost + Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!((sent_to(&w), w.model.members()), (None, BTreeSet::new()));
    // What it may join says nothing of where it is.
    places.admit(lost, &mut w.fabric, Some(PORTS), key(), some()).unwrap();
    places.follow_ports(&mut w.fabric, PORTS);
    put_in_force(&mut w);
    assert_eq!(sent_to(&w), None);
    places.prove(start(), &mut w.fabric, PORTS, &key(), &direct(Socket::Main, 40_001)).unwrap();
    places.select(&mut w.fabric, PORTS, &key(), &direct(Socket::Main, 40_001)).unwrap();
    put_in_force(&mut w);
    assert_eq!(sent_to(&w).map(|at| at.port), Some(40_001));
    assert_eq!(w.model.members().len(), 1);
    // It has a path again before the time is over.
    places.lose(lost, &key());
    places.select(&mut w.fabric, PORTS, &key(), &relayed()).unwrap();
    places.give_up_lost(lost + 2 * Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert!(sent_to(&w).is_some());
    places.expel(&mut w.fabric, &key());
    put_in_force(&mut w);
    assert_eq!((sent_to(&w), places.keys().count()), (None, 0));
}

#[test]
fn frames_leave_by_the_port_that_there_is_now() {
    for (socket, port) in [(Socket::Main, 5000), (Socket::Extra(3), 20_003)] {
        let (mut w, mut places) = connected(socket);
        assert!(places.follow_ports(&mut w.fabric, Ports { main: 5000, ..PORTS }).is_empty());
        let done = put_in_force(&mut w);
        assert_eq!(sent_to(&w).and_then(|at| at.source_port), Some(port), "{socket:?}: {done:?}");
        assert_eq!(places.get(&key()).and_then(|place| place.endpoint.source_port), Some(port));
    }
}

#[test]
fn a_way_that_is_proved_and_never_taken_is_no_place_for_long() {
    let (mut w, mut places) = (routed(&[]), Places::default());
    places.admit(start(), &mut w.fabric, Some(PORTS), key(), some()).unwrap();
    places.prove(start(), &mut w.fabric, PORTS, &key(), &direct(Socket::Main, 40_000)).unwrap();
    put_in_force(&mut w);
    assert!(sent_to(&w).is_some(), "it may be taken at any moment");
    places.give_up_lost(start() + Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!((sent_to(&w), w.model.members()), (None, BTreeSet::new()));
}

#[test]
fn frames_of_a_peer_are_taken_from_when_it_is_told_so() {
    let (mut w, mut places) = connected(Socket::Main);
    places.lose(start(), &key());
    places.give_up_lost(start() + Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!(w.model.members(), BTreeSet::new());
    // It is told with the probe that follows, and may send at once.
    let back = start() + 2 * Places::LOST;
    places.prove(back, &mut w.fabric, PORTS, &key(), &direct(Socket::Main, 40_001)).unwrap();
    put_in_force(&mut w);
    assert_eq!((sent_to(&w).map(|at| at.port), w.model.members().len()), (Some(40_001), 1));
    // One that was lost a moment ago keeps its VNIs as well.
    let moment = Duration::from_millis(1);
    places.select(&mut w.fabric, PORTS, &key(), &direct(Socket::Main, 40_001)).unwrap();
    places.lose(back, &key());
    places.prove(back + Places::LOST - moment, &mut w.fabric, PORTS, &key(), &relayed()).unwrap();
    places.give_up_lost(back + Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!((sent_to(&w).map(|at| at.port), w.model.members().len()), (Some(40_001), 1));
    places.give_up_lost(back + 2 * Places::LOST, &mut w.fabric);
    put_in_force(&mut w);
    assert_eq!(w.model.members(), BTreeSet::new());
}
