//! More of what comes before a session than a server takes.

use wavnet_proto::{
    policy::Policy,
    rendezvous::{
        Done, Dropped, Network,
        testing::{Client, access, settings},
    },
    trust::{AccessKey, NetworkKey},
};

use crate::world::{World, addr, seconds};

#[test]
fn handshakes_have_limits() {
    let mut wanted = settings([1]);
    wanted.limits.handshakes.burst = 60;
    wanted.limits.handshakes_of_prefix = wanted.limits.handshakes;
    wanted.limits.handshakes_of_prefix.burst = 20;
    let mut world = World::new(wanted);
    let handshakes = |world: &mut World, from: usize| {
        for n in 0..50 {
            let agent = world.agent(1);
            world.agents[agent].addr = addr(from + n);
            let hello = world.agents[agent].client.hello();
            world.send(agent, &hello);
        }
        world.done(Done::Handshake)
    };
    // Addresses are 50,000 to an IP address here, and 256 IP addresses to a prefix.
    assert_eq!(handshakes(&mut world, 0), 20);
    assert_eq!(handshakes(&mut world, 50_000 * 256), 40);
    assert_eq!(handshakes(&mut world, 50_000 * 512), 60);
    assert_eq!(handshakes(&mut world, 50_000 * 768), 60, "all together");
    // A prefix may say HELLO twice as often as it may shake hands.
    assert_eq!((world.dropped(Dropped::HandshakeLimit), world.dropped(Dropped::HelloLimit)), (100, 40));
}

/// It is answered by less than it is long. But who has seen one can have the answers sent to anybody.
#[test]
fn a_hello_that_is_sent_again_and_again_is_answered_to_a_prefix_only_so_often() {
    let mut wanted = settings([1]);
    wanted.limits.handshakes_of_prefix.burst = 20;
    wanted.limits.handshakes_of_prefix.per_second = 5;
    let mut world = World::new(wanted);
    let agent = world.agent(1);
    let hello = world.agents[agent].client.hello();
    let answers = |world: &mut World, from: usize, count: usize| {
        world.sent.clear();
        (0..count).for_each(|n| world.send_from(addr(from + n), &hello));
        world.sent.len()
    };
    assert_eq!(answers(&mut world, 50_000, 1000), 40);
    assert_eq!(answers(&mut world, 50_000 * 256, 10), 10, "another prefix");
    world.pass(seconds(1));
    assert_eq!(answers(&mut world, 50_000, 1000), 10, "a second later");
    assert_eq!(world.dropped(Dropped::HelloLimit), 1950);
    assert_eq!(world.server.view().visitors, 0);
    // Whom the server knows is not kept out by those who say that they are its neighbours.
    world.pass(seconds(10));
    let known = world.registered(1, "known", &[7]);
    assert_eq!(answers(&mut world, 100, 1000), 39, "its own HELLO is counted");
    assert_eq!(answers(&mut world, known, 1), 1);
}

/// Anybody can be a host of it, as far as the handshake.
#[test]
fn the_network_without_a_key_leaves_others_their_handshakes() {
    let mut wanted = settings([1]);
    let mut open = Network::new(NetworkKey::open().access());
    open.policy = Policy::Listed(Default::default());
    wanted.networks.push(open);
    wanted.limits.handshakes.burst = 80;
    let mut world = World::new(wanted);
    let handshakes = |world: &mut World, access: AccessKey, count: usize| {
        let before = world.done(Done::Handshake);
        for _ in 0..count {
            let client = Client::new(access.clone(), world.rng.fork());
            let agent = world.agent_with(client);
            let hello = world.agents[agent].client.hello();
            world.send(agent, &hello);
        }
        world.done(Done::Handshake) - before
    };
    assert_eq!(handshakes(&mut world, NetworkKey::open().access(), 100), 20);
    assert_eq!(handshakes(&mut world, access(1), 100), 60);
}

#[test]
fn visitors_do_not_fill_the_memory() {
    let mut wanted = settings([1]);
    wanted.limits.hosts = 80;
    let mut world = World::new(wanted);
    // Whoever has registered is no visitor.
    world.registered(1, "a", &[7]);
    let visit = |world: &mut World, count: usize, from: usize| {
        for n in 0..count {
            let agent = world.agent(1);
            world.agents[agent].addr = addr(from + n);
            let hello = world.agents[agent].client.hello();
            world.send(agent, &hello);
        }
        (world.server.view().visitors, world.dropped(Dropped::Visitors))
    };
    // 256 and an eighth of 80, of which a prefix may have a quarter.
    assert_eq!(visit(&mut world, 300, 1), (66, 234));
    assert_eq!(visit(&mut world, 100, 50_000 * 512), (132, 268));
    assert_eq!(visit(&mut world, 100, 50_000 * 1024), (198, 302));
    assert_eq!(visit(&mut world, 100, 50_000 * 2048), (264, 336));
    assert_eq!(visit(&mut world, 100, 50_000 * 4096), (266, 434), "that is all there may be");
    world.pass(seconds(20));
    assert_eq!(world.server.view().visitors, 0);
    assert_eq!(visit(&mut world, 100, 1000).0, 66, "and it begins anew");
}
