//! Bad input: no MAC, no cookie, too much, again, from elsewhere, by whom it must not be.

use std::collections::BTreeMap;

use wavnet_proto::{
    policy::Policy,
    rendezvous::{
        Done, Dropped, Event,
        testing::{Client, access, settings},
    },
    rng::Rng,
    transmit::Socket,
    wire::{Message, message::ByeReason},
};

use crate::world::{World, addr, seconds};

fn said_bye(world: &World, agent: usize) -> Option<ByeReason> {
    let messages = world.agents[agent].messages.iter();
    messages.rev().find_map(|m| if let Message::Bye { reason } = m { Some(*reason) } else { None })
}

#[test]
fn who_has_no_key_gets_no_answer() {
    let mut world = World::new(settings([1]));
    let mut stranger = Client::new(access(2), Rng::from_seed([9; 32]));
    world.send_from(addr(5), &stranger.hello());
    assert_eq!((world.dropped(Dropped::Network), world.sent.len()), (1, 0));
    let agent = world.agent(1);
    let hello = world.agents[agent].client.hello();
    for place in 4..hello.len() {
        let mut changed = hello.clone();
        changed[place] ^= 1;
        world.send_from(addr(5), &changed);
    }
    for len in 0..hello.len() {
        world.send_from(addr(5), &hello[..len]);
    }
    assert!(world.sent.iter().all(|(_, len)| *len <= 10), "at most UNKNOWN for what looks like a pulse");
    assert!(world.dropped(Dropped::Mac) > 90 && world.done(Done::Hello) == 0);
    assert_eq!(world.server.view().visitors, 0);
}

#[test]
fn an_init_without_a_right_cookie_costs_nothing_and_gets_nothing() {
    let mut world = World::new(settings([1]));
    let agent = world.agent(1);
    let hello = world.agents[agent].client.hello();
    world.server.handle_input(world.now, Socket::Main, addr(agent), &hello);
    let cookie = world.server.poll_transmit().unwrap().payload;
    let init = world.agents[agent].client.hear(world.now, &cookie).replies.remove(0);
    // From another address it is somebody else's cookie; ten thousand of them leave room for others.
    for n in 0..10_000 {
        world.send_from(addr(100 + n), &init);
    }
    assert_eq!((world.dropped(Dropped::Cookie), world.sent.len()), (10_000, 0));
    world.send(agent, &init);
    assert_eq!(world.agents[agent].connected, 1);
    // Four minutes later it is too old.
    world.pass(seconds(300));
    world.send(agent, &init);
    assert_eq!(world.dropped(Dropped::Cookie), 10_001);
}

#[test]
fn unknown_senders_are_told_so_and_not_too_often() {
    let mut wanted = settings([1]);
    wanted.limits.unknowns.burst = 10;
    wanted.limits.unknowns.per_second = 1;
    let mut world = World::new(wanted);
    let agent = world.registered(1, "a", &[7]);
    let mut datagram = world.agents[agent].client.say(&[Message::Refresh { request: 1 }]).unwrap();
    datagram[8] ^= 1;
    world.sent.clear();
    for n in 0..100 {
        world.send_from(addr(10 + n), &datagram);
        world.send_from(addr(10 + n), &[1, 2]);
    }
    assert_eq!(world.sent.len(), 10);
    // DATA is at least 36 bytes long; a pulse of 2 is a frame of 60 on the wire, and so is UNKNOWN of 10.
    assert!(world.sent.iter().all(|(_, len)| [24, 10].contains(len)));
}

#[test]
fn what_a_server_has_no_use_for_is_dropped() {
    let mut world = World::new(settings([1]));
    let header = |version, kind| [b'W', 0, 0, 0, version, kind, 0, 0];
    world.send_from(addr(1), &header(2, 1));
    world.send_from(addr(1), &header(1, 99));
    world.send_from(addr(1), &[&header(1, 7)[..], &[1, 2]].concat());
    world.send_from(addr(1), &[&header(1, 6)[..], &[1; 8]].concat());
    world.server.handle_input(world.now, Socket::Other(1), addr(1), &header(1, 6));
    let dropped = [Dropped::Version, Dropped::Malformed, Dropped::Unwanted, Dropped::Socket].map(|r| world.dropped(r));
    assert_eq!((dropped, world.sent.len()), ([1; 4], 0));
}

#[test]
fn damaged_and_repeated_data_changes_nothing() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "a", &[7]);
    let datagram = world.agents[agent].client.say(&[Message::Bye { reason: ByeReason::STOPS }]).unwrap();
    for place in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[place] ^= 0x80;
        world.send_from(addr(3), &changed);
    }
    assert_eq!((world.server.view().networks[0].hosts, world.done(Done::Moved)), (1, 0));
    let refresh = world.agents[agent].client.say(&[Message::Refresh { request: 1 }]).unwrap();
    (0..5).for_each(|_| world.send(agent, &refresh));
    assert_eq!((world.done(Done::Refresh), world.dropped(Dropped::Replayed)), (1, 4));
}

#[test]
fn a_message_that_is_none_spoils_only_what_follows() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "a", &[7]);
    let session = world.agents[agent].client.session.as_mut().unwrap();
    let mut datagram = Vec::new();
    // REFRESH, an unknown type, REFRESH, BYE that is too long, REFRESH.
    let plaintext =
        [&[3, 0, 4, 0, 0, 0, 1, 200, 0, 1, 9, 3, 0, 4, 0, 0, 0, 2, 12, 0, 2, 1, 1][..], &[3, 0, 4, 0, 0, 0, 3]];
    session.seal(wavnet_proto::wire::Label::ZERO, &plaintext.concat(), &mut datagram).unwrap();
    world.send(agent, &datagram);
    assert_eq!((world.done(Done::Refresh), world.dropped(Dropped::Message)), (2, 1));
    assert_eq!(world.server.view().networks[0].hosts, 1);
}

#[test]
fn two_hosts_with_one_key_are_told_apart_and_do_not_fight_for_ever() {
    let mut world = World::new(settings([1]));
    let one = world.agent(1);
    let two = world.agent(1);
    world.agents[two].client.secret = world.agents[one].client.secret.clone();
    let mut told = 0;
    for round in 0..20 {
        for agent in [one, two] {
            let hello = world.agents[agent].client.hello();
            world.send(agent, &hello);
            world.register(agent, "twin", &[7]);
            world.pass(seconds(1));
        }
        if round == 0 {
            assert_eq!(said_bye(&world, one), Some(ByeReason::REPLACED));
        }
        told = world.events.iter().filter(|e| matches!(e, Event::Duplicate { .. })).count();
    }
    assert_eq!(told, 1, "within a minute");
    assert!(world.done(Done::Replaced) <= 3, "{} take-overs in 40 s", world.done(Done::Replaced));
    assert!(world.dropped(Dropped::Duplicate) > 10);
    assert_eq!(world.server.view().networks[0].hosts, 1);
}

#[test]
fn a_host_that_restarts_elsewhere_is_no_duplicate() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "a", &[7]);
    for n in 0..5 {
        world.agents[agent].addr = addr(500 + n);
        world.connect(agent);
        world.register(agent, "a", &[7]).unwrap();
    }
    assert!(!world.events.iter().any(|e| matches!(e, Event::Duplicate { .. })));
}

#[test]
fn a_list_of_identities_keeps_others_out() {
    let mut world = World::new(settings([1]));
    let a = world.registered(1, "a", &[7, 8]);
    let b = world.registered(1, "b", &[7]);
    let c = world.registered(1, "c", &[7]);
    let only = [7].map(|n| wavnet_common::addr::Vni::new(n).unwrap());
    let mut wanted = world.settings.clone();
    let listed = BTreeMap::from([(world.key(a), Some(only.into())), (world.key(b), None)]);
    wanted.networks[0].policy = Policy::Listed(listed);
    world.server.configure(world.now, wanted.clone());
    world.drain();
    assert_eq!(said_bye(&world, c), Some(ByeReason::NOT_ALLOWED));
    assert_eq!(
        world.server.hosts().map(|host| host.vnis.len()).collect::<Vec<_>>(),
        [1, 1],
        "and to what they may join"
    );
    assert!(world.saved.hosts.iter().all(|host| host.key != world.key(c)));
    // It comes again, and is told the same, but the log only once.
    world.settings = wanted.clone();
    for _ in 0..3 {
        world.agents[c].messages.clear();
        world.connect(c);
        assert_eq!(world.register(c, "c", &[7]), None);
        assert_eq!(world.agents[c].messages, [], "register() takes what is said");
    }
    assert_eq!(world.dropped(Dropped::NotAllowed), 3);
    assert_eq!(world.events.iter().filter(|e| matches!(e, Event::Refused { .. })).count(), 1);
    // Whom the list has again, with all that it asked for.
    wanted.networks[0].policy = Policy::Network;
    world.server.configure(world.now, wanted);
    world.drain();
    let of_a = world.server.hosts().find(|host| host.name.as_str() == "a").unwrap();
    assert_eq!(of_a.vnis.len(), 2);
    assert!(world.register(c, "c", &[7]).is_none());
    world.connect(c);
    assert!(world.register(c, "c", &[7]).is_some());
}

#[test]
fn who_is_revoked_while_it_talks_is_out_at_once() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    world.meet(a, b);
    let mut wanted = world.settings.clone();
    wanted.networks[0].revoked.insert(world.key(b));
    world.server.configure(world.now, wanted);
    world.drain();
    assert_eq!(said_bye(&world, b), Some(ByeReason::NOT_ALLOWED));
    assert!(world.map.is_empty() && world.saved.relays.is_empty());
    assert_eq!(world.sees(a), []);
    assert_eq!(world.refresh(b), []);
}

#[test]
fn a_network_that_is_served_no_more_is_forgotten() {
    let mut world = World::new(settings([1, 2]));
    let a = world.registered(1, "a", &[7]);
    let b = world.registered(2, "b", &[7]);
    world.server.configure(world.now, settings([2]));
    world.drain();
    assert_eq!(said_bye(&world, a), Some(ByeReason::NOT_ALLOWED));
    assert!(matches!(world.refresh(b)[..], [Message::Registered(_)]));
    assert_eq!((world.saved.hosts.len(), world.server.view().networks.len()), (1, 1));
    let hello = world.agents[a].client.hello();
    world.send(a, &hello);
    assert_eq!(world.dropped(Dropped::Network), 1);
    world.pass(seconds(5));
}

#[test]
fn a_clock_that_jumps_does_no_harm() {
    let mut world = World::new(settings([1]));
    let a = world.registered(1, "a", &[7]);
    let late = world.now;
    world.now = wavnet_proto::time::Time::ZERO;
    assert!(matches!(world.refresh(a)[..], [Message::Registered(_)]));
    world.now = late + seconds(10_000_000);
    assert_eq!(world.refresh(a), [], "its session is too old");
    world.server.handle_timeout(world.now);
    world.drain();
    world.connect(a);
    assert!(world.register(a, "a", &[7]).is_some());
}

/// A member of the network has a victim's address for its own.
#[test]
fn a_host_that_forges_its_address_makes_no_amplifier() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let label = world.meet(a, b)[1].clone().unwrap().label;
    (0..60).for_each(|n| _ = world.registered(1, &n.to_string(), &[7]));
    let (victim, key) = (addr(9999), world.key(b));
    world.sent.clear();
    let mut came = 0;
    for n in 0..300 {
        let client = &mut world.agents[a].client;
        let message = match n % 6 {
            0 => client.sync(0, None),
            1 => client.connect(key, &[]),
            2 => client.register("a", &[7], &[]),
            3 => Message::Refresh { request: n },
            4 => Message::Checked { token: n },
            _ => Client::forward(key, &[b'W'; 100]),
        };
        let datagram = client.say(&[message]).unwrap();
        came += datagram.len();
        world.send_from(victim, &datagram);
        world.pass(std::time::Duration::from_millis(20));
    }
    world.send(b, &[&[0x08][..], &label.to_bytes(), &[0; 1000]].concat());
    let to = |at| world.sent.iter().filter(move |(to, _)| *to == at).map(|(_, len)| *len);
    assert!(to(victim).sum::<usize>() <= came / 2, "{} of {came}", to(victim).sum::<usize>());
    assert!(to(victim).all(|len| len <= 43), "nothing is longer than the shortest request");
    assert!(to(addr(a)).any(|len| len == 1004), "it is looked for where it was");
    assert_eq!((world.done(Done::Moved), world.server.hosts().any(|host| host.addr == victim)), (0, false));
    // A message of nothing is too short for an answer.
    world.sent.clear();
    world.pass(seconds(1));
    let empty = {
        let mut datagram = Vec::new();
        let session = world.agents[a].client.session.as_mut().unwrap();
        session.seal(wavnet_proto::wire::Label::ZERO, &[], &mut datagram).unwrap();
        datagram
    };
    world.send_from(victim, &empty);
    assert_eq!(world.sent, []);
}

#[test]
fn a_host_that_moves_is_followed_when_it_has_heard_from_there() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "a", &[7]);
    let refresh = world.agents[agent].client.say(&[Message::Refresh { request: 9 }]).unwrap();
    let (old, new) = (addr(agent), addr(500));
    world.sent.clear();
    world.server.handle_input(world.now, Socket::Main, new, &refresh);
    let sent: Vec<_> = std::iter::from_fn(|| world.server.poll_transmit()).map(|t| (t.to, t.payload)).collect();
    let [(first, check), (second, _)] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((*first, check.len() <= refresh.len(), *second), (new, true, old));
    let reply = world.agents[agent].client.hear(world.now, check).replies.remove(0);
    // From elsewhere it shows nothing, and here only once.
    let mut moved = |from, payload: &[u8]| {
        world.send_from(from, payload);
        (world.done(Done::Moved), world.server.hosts().next().unwrap().addr)
    };
    assert_eq!(moved(addr(501), &reply[..40]), (0, old));
    assert_eq!(moved(new, &reply), (1, new));
    assert_eq!(moved(old, &reply), (1, new));
}

#[test]
fn a_host_that_forges_many_addresses_is_asked_for_none_of_them_too_often() {
    let mut world = World::new(settings([1]));
    let agent = world.registered(1, "a", &[7]);
    world.sent.clear();
    for n in 0..1000 {
        let refresh = world.agents[agent].client.say(&[Message::Refresh { request: n }]).unwrap();
        world.send_from(addr(9000 + n as usize % 2), &refresh);
        world.pass(std::time::Duration::from_millis(1));
    }
    let asked = world.sent.iter().filter(|(to, _)| *to != addr(agent)).count();
    assert!((10..=21).contains(&asked), "{asked} in a second");
}
