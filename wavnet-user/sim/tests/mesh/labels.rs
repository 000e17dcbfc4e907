//! A peer that lies about labels and about where it is: only a server relays, and nobody is flooded in another one's name.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Direction, Fate, Passing, Place, Seed, SegmentId};

use crate::world::{Site, World, cone};

const DELAY: Duration = Duration::from_millis(10);

/// Two hosts on the internet. All that the first one says to the second as a peer has another label each time, and comes from `forged` if that is said.
fn lies(seed: Seed, forged: Option<SocketAddr>) -> (World, Site, Site, Rc<Cell<u32>>) {
    let mut world = World::new(seed, DELAY);
    let [liar, host] = ["liar", "host"].map(|name| world.add_agent(SegmentId::INTERNET, name, cone()));
    assert!(world.until_paths(liar, host, Duration::from_secs(3), |kind| kind == PathKind::Direct).is_some());
    let (lies, to) = (Rc::new(Cell::new(0u32)), world.net.main_address(host.host));
    let count = Rc::clone(&lies);
    world.net.filter(Place::Link(liar.host.into(), Direction::Up), move |passing: Passing<'_>| {
        let datagram = passing.datagram;
        // DATA.
        if datagram.to == to && datagram.payload.first() == Some(&b'W') && datagram.payload.get(5) == Some(&5) {
            count.set(count.get() + 1);
            datagram.payload[1..4].copy_from_slice(&count.get().to_be_bytes()[1..]);
            datagram.from = forged.unwrap_or(datagram.from);
        }
        Fate::Pass
    });
    (world, liar, host, lies)
}

/// The liar says something to all its peers.
fn say(world: &mut World, liar: Site, n: u32) {
    let addr = world.net.main_address(liar.host);
    let other = SocketAddr::from(([198, 51, 100, (n % 2) as u8], 4789));
    world.net.act(liar.host, |node, now| {
        let agent = node.agent_mut();
        agent.mesh.set_addresses(now, vec![addr, other]);
        agent.settle(now);
    });
}

#[test]
fn labels_of_a_peer_make_no_relayed_ways() {
    Seed::each(4, |seed| {
        let (mut world, liar, host, lies) = lies(seed, None);
        for n in 0..200 {
            say(&mut world, liar, n);
            world.net.run_for(Duration::from_millis(50));
            let peer = world.agent(host).mesh.peer(&liar.key).expect("a peer");
            let server = world.net.main_address(world.servers[0]);
            let wrong = peer.paths.iter().find(|path| path.way.is_relayed() && path.way.remote != server);
            assert!(wrong.is_none(), "{wrong:?}");
        }
        assert!(lies.get() > 100, "{}", lies.get());
        assert_eq!(world.path(host, liar), Some(PathKind::Direct));
    });
}

#[test]
fn who_forges_its_address_has_nobody_flooded_by_labels() {
    Seed::each(4, |seed| {
        let victim = SocketAddr::from(([203, 0, 113, 9], 53));
        let (mut world, liar, _, lies) = lies(seed, Some(victim));
        let tap = world.net.tap(Place::Segment(SegmentId::INTERNET), 1_000_000);
        let start = world.net.now();
        for n in 0..2000 {
            say(&mut world, liar, n);
            world.net.run_for(Duration::from_millis(2));
        }
        let took = world.net.now().since(start).as_secs_f64();
        let came = world.net.captured(tap).filter(|c| c.datagram.to == victim).count();
        assert!(lies.get() > 1000, "{}", lies.get());
        assert!((came as f64) <= 250.0 + 50.0 * took, "{came} in {took} s");
    });
}

/// What a peer says of itself makes others ask servers for it, but not as often as it likes.
#[test]
fn a_peer_that_moves_all_the_time_has_servers_asked_no_more_often_than_they_may_be() {
    Seed::each(4, |seed| {
        let mut world = World::new(seed, DELAY);
        world.relays(false);
        let [liar, host] = ["liar", "host"].map(|name| world.add_agent(SegmentId::INTERNET, name, cone()));
        assert!(world.until_paths(liar, host, Duration::from_secs(3), |kind| kind == PathKind::Direct).is_some());
        let tap = world.net.tap(Place::Link(host.host.into(), Direction::Up), 1_000_000);
        let server = world.net.main_address(world.servers[0]);
        for n in 0..500 {
            say(&mut world, liar, n);
            world.net.run_for(Duration::from_millis(10));
        }
        let asked = world.net.captured(tap).filter(|c| c.datagram.to == server).count();
        assert!(asked < 40, "{asked} in five seconds");
    });
}
