//! Registration, leases, sessions and addresses.

use wavnet_proto::{
    rendezvous::{Done, Dropped, Event, Leave, testing::settings},
    transmit::Socket,
    wire::{
        Message,
        message::{ByeReason, RefusedCode},
    },
};

use crate::world::{World, addr, seconds};

#[test]
fn a_host_registers_and_learns_where_it_is() {
    let mut wanted = settings([1]);
    wanted.stun = vec!["192.0.2.9:4790".parse().unwrap()];
    let mut world = World::new(wanted);
    let agent = world.agent(1);
    world.connect(agent);
    let registered = world.register(agent, "one", &[7]).unwrap();
    assert_eq!((registered.mapped, registered.lease, registered.relay), (addr(agent), 120, true));
    assert_eq!(registered.stun, ["192.0.2.9:4790".parse().unwrap()]);
    let joined = world.events.iter().any(|e| matches!(e, Event::Joined { name, .. } if name.as_str() == "one"));
    assert!(joined, "{:?}", world.events);
    let view = world.server.view();
    assert_eq!((view.networks[0].hosts, view.networks[0].connected, view.visitors), (1, 1, 0));
    // The same once more changes nothing.
    let (saved, again) = (world.saved.clone(), world.register(agent, "one", &[7]).unwrap());
    assert_eq!((again.version, world.saved == saved), (registered.version, true));
}

/// What comes late says what was so.
#[test]
fn a_registration_that_the_next_one_has_overtaken_changes_nothing() {
    let mut world = World::new(settings([1]));
    let [one, two] = ["one", "two"].map(|name| world.registered(1, name, &[7]));
    let [early, late] = [&[][..], &[7]].map(|vnis| {
        let client = &mut world.agents[two].client;
        let register = client.register("two", vnis, &[]);
        client.say(&[register]).unwrap()
    });
    world.send(two, &late);
    let registered = world.done(Done::Register);
    world.send(two, &early);
    assert_eq!((world.done(Done::Register), world.dropped(Dropped::Replayed)), (registered, 1));
    assert_eq!((world.sees(one), world.sees(two)), (vec![world.key(two)], vec![world.key(one)]));
}

#[test]
fn a_lease_ends_unless_it_is_refreshed() {
    let mut world = World::new(settings([1]));
    let [one, two] = ["one", "two"].map(|name| world.registered(1, name, &[7]));
    for _ in 0..5 {
        world.pass(seconds(60));
        assert!(matches!(world.refresh(one)[..], [.., Message::Registered(_)]));
    }
    assert_eq!(world.sees(one), []);
    let key = world.key(two);
    assert!(world.events.contains(&Event::Left {
        network: world.agents[two].client.network(),
        host: key,
        why: Leave::Expired
    }));
    assert_eq!((world.done(Done::Expired), world.saved.hosts.len()), (1, 1));
    // Its session is over, too.
    let datagram = world.agents[two].client.say(&[Message::Refresh { request: 1 }]).unwrap();
    world.send(two, &datagram);
    assert_eq!((world.agents[two].unknowns.len(), world.dropped(Dropped::Session)), (1, 1));
}

#[test]
fn a_visitor_who_does_not_register_is_forgotten_and_may_ask_for_nothing() {
    let mut world = World::new(settings([1]));
    let agent = world.agent(1);
    world.connect(agent);
    // Only its own DATA shows that it is there.
    assert_eq!(world.server.view().visitors, 1);
    let [Message::Refused(refused)] = world.refresh(agent)[..] else { panic!("REFUSED") };
    assert_eq!(refused.code, RefusedCode::NOT_REGISTERED);
    world.pass(seconds(16));
    assert_eq!((world.server.view().visitors, world.done(Done::Expired)), (0, 0));
}

#[test]
fn who_says_goodbye_is_gone_at_once() {
    let mut world = World::new(settings([1]));
    let [one, two] = ["one", "two"].map(|name| world.registered(1, name, &[7]));
    world.say(two, &[Message::Bye { reason: ByeReason::STOPS }]);
    assert_eq!(world.sees(one), []);
    let last = world.events.last();
    assert!(matches!(last, Some(Event::Left { why: Leave::Bye, .. })), "{last:?}");
}

#[test]
fn there_are_as_many_hosts_as_there_may_be() {
    let mut wanted = settings([1]);
    wanted.limits.hosts = 2;
    let mut world = World::new(wanted);
    let first = world.registered(1, "one", &[7]);
    world.registered(1, "two", &[7]);
    let third = world.agent(1);
    world.connect(third);
    assert_eq!(world.register(third, "three", &[7]), None);
    let refused =
        world.agents[third].messages.iter().any(|m| matches!(m, Message::Refused(r) if r.code == RefusedCode::BUSY));
    assert!(refused || world.done(Done::Refused) == 1);
    assert!(world.events.contains(&Event::Full { hosts: 2 }));
    world.say(first, &[Message::Bye { reason: ByeReason::STOPS }]);
    assert!(world.register(third, "three", &[7]).is_some(), "there is room now");
}

#[test]
fn a_new_session_takes_over_when_it_is_used() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    let old = world.agents[agent].client.session.take().unwrap();
    world.connect(agent);
    let new = world.agents[agent].client.session.replace(old).unwrap();
    // Not used yet: the old one is good.
    assert!(matches!(world.refresh(agent)[..], [Message::Registered(_)]));
    let old = world.agents[agent].client.session.replace(new).unwrap();
    assert!(matches!(world.refresh(agent)[..], [Message::Registered(_)]));
    world.agents[agent].client.session = Some(old);
    assert_eq!(world.refresh(agent), []);
    assert_eq!((world.dropped(Dropped::Session), world.done(Done::Replaced)), (1, 0));
}

#[test]
fn sessions_that_are_not_used_are_forgotten() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    let kept = world.agents[agent].client.session.take().unwrap();
    for _ in 0..3 {
        world.connect(agent);
    }
    let unused = world.agents[agent].client.session.replace(kept).unwrap();
    world.pass(seconds(100));
    assert!(matches!(world.refresh(agent)[..], [.., Message::Registered(_)]));
    world.agents[agent].client.session = Some(unused);
    assert_eq!(world.refresh(agent), []);
}

#[test]
fn an_init_that_comes_twice_leads_to_one_session() {
    let mut world = World::new(settings([1]));
    let agent = world.agent(1);
    let hello = world.agents[agent].client.hello();
    let (now, from) = (world.now, addr(agent));
    world.server.handle_input(now, Socket::Main, from, &hello);
    let cookie = world.server.poll_transmit().unwrap().payload;
    let init = world.agents[agent].client.hear(now, &cookie).replies.remove(0);
    let mut responses = Vec::new();
    for _ in 0..3 {
        world.server.handle_input(now, Socket::Main, from, &init);
        responses.push(world.server.poll_transmit().unwrap().payload);
    }
    assert!(responses.iter().all(|r| *r == responses[0]));
    assert!(world.agents[agent].client.hear(now, &responses[2]).is_connected);
    assert!(world.register(agent, "one", &[7]).is_some());
    // Once the session is in use, it is an old one that somebody sends again.
    world.send_from(from, &init);
    assert_eq!((world.done(Done::Handshake), world.dropped(Dropped::Replayed)), (1, 1));
}

#[test]
fn a_host_is_where_its_last_message_came_from() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    let elsewhere = "[2001:db8::1]:4789".parse().unwrap();
    world.agents[agent].addr = elsewhere;
    let [Message::Registered(ref registered)] = world.refresh(agent)[..] else { panic!("REGISTERED") };
    assert_eq!((registered.mapped, world.saved.hosts[0].addr), (elsewhere, elsewhere));
    assert_eq!(world.done(Done::Moved), 1);
    // What is not from the host does not move it: garbage, or a message that came before.
    let datagram = world.agents[agent].client.say(&[Message::Refresh { request: 9 }]).unwrap();
    world.send(agent, &datagram);
    world.send_from(addr(99), &datagram);
    assert_eq!((world.done(Done::Moved), world.dropped(Dropped::Replayed)), (1, 1));
}

#[test]
fn what_was_overtaken_does_not_move_a_host_back() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    let late: Vec<Vec<u8>> =
        [8, 9].map(|request| world.agents[agent].client.say(&[Message::Refresh { request }]).unwrap()).into();
    let elsewhere = addr(50);
    world.agents[agent].addr = elsewhere;
    world.refresh(agent);
    assert_eq!((world.saved.hosts[0].addr, world.done(Done::Moved)), (elsewhere, 1));
    // Somebody has held these back. They are genuine, and heard; where they come from says nothing any more.
    let heard = world.agents[agent].messages.len();
    for datagram in &late {
        world.send_from(addr(agent), datagram);
    }
    assert_eq!((world.saved.hosts[0].addr, world.done(Done::Moved)), (elsewhere, 1));
    assert_eq!(
        (world.agents[agent].messages.len(), world.dropped(Dropped::Replayed)),
        (heard + 2, 0),
        "answered where it is"
    );
    // The next one does move it.
    world.agents[agent].addr = addr(51);
    world.refresh(agent);
    assert_eq!((world.saved.hosts[0].addr, world.done(Done::Moved)), (addr(51), 2));
}

#[test]
fn who_moves_all_the_time_is_not_followed_all_the_time() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    for n in 0..100 {
        world.agents[agent].addr = addr(1000 + n % 2);
        world.refresh(agent);
    }
    assert!((5..=10).contains(&world.done(Done::Moved)), "{}", world.done(Done::Moved));
    world.pass(seconds(2));
    world.agents[agent].addr = addr(2000);
    world.refresh(agent);
    assert_eq!(world.saved.hosts[0].addr, addr(2000));
}

#[test]
fn pulses_of_those_who_have_a_session_are_answered() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "one", &[7]);
    world.send(agent, &[0x12, 0x34]);
    world.send(agent, &[0x92, 0x34]);
    assert_eq!(world.agents[agent].frames, [[0x92, 0x34]]);
    let stranger = world.agent(1);
    world.send(stranger, &[0x12, 0x34]);
    assert_eq!((world.agents[stranger].frames.len(), world.agents[stranger].unknowns.len()), (0, 1));
    assert_eq!((world.dropped(Dropped::Pulse), world.done(Done::Pulse)), (1, 1));
}

/// Its address was another one's for a while: a NAT that has forgotten everything gave it to a neighbour, which has left.
#[test]
fn who_is_still_where_another_one_was_meanwhile_has_its_pulses_answered() {
    let mut world = World::new(settings([1]));
    let [agent, neighbour] = ["one", "two"].map(|name| world.registered(1, name, &[7]));
    let at = std::mem::replace(&mut world.agents[agent].addr, addr(700));
    world.agents[neighbour].addr = at;
    world.refresh(neighbour);
    assert_eq!(world.done(Done::Moved), 1);
    world.agents[agent].addr = at;
    world.say(neighbour, &[Message::Bye { reason: ByeReason::STOPS }]);
    world.refresh(agent);
    world.send(agent, &[0x12, 0x34]);
    assert_eq!((world.agents[agent].frames.len(), world.dropped(Dropped::Pulse)), (1, 0));
}
