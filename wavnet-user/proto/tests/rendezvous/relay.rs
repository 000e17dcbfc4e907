//! Frames with labels, and the map for who relays faster.

use wavnet_proto::{
    bucket::Rate,
    rendezvous::{Dropped, RelayKey, RelayTarget, testing::settings},
    wire::{Label, Message, Unknown, message::ByeReason},
};

use crate::world::{World, addr, seconds};

fn labelled(first: u8, label: Label, len: usize) -> Vec<u8> {
    let [a, b, c] = label.to_bytes();
    let mut frame = vec![first, a, b, c];
    frame.resize(len, 9);
    frame
}

fn pair(world: &mut World) -> ([usize; 2], [Label; 2]) {
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let labels = world.meet(a, b).map(|invite| invite.unwrap().label);
    ([a, b], labels)
}

#[test]
fn what_has_the_senders_label_arrives_with_the_receivers() {
    let mut world = World::new(settings([1]));
    let ([a, b], [mine, its]) = pair(&mut world);
    for (first, len) in [(0x08, 8), (0x0c, 1500), (b'P', 6)] {
        world.send(a, &labelled(first, mine, len));
        assert_eq!(world.agents[b].frames.pop().unwrap(), labelled(first, its, len));
        world.send(b, &labelled(first, its, len));
        assert_eq!(world.agents[a].frames.pop().unwrap(), labelled(first, mine, len));
    }
    // Control goes the same way, whatever it is.
    world.sent.clear();
    world.send(a, &labelled(b'W', mine, 40));
    assert_eq!(world.sent, [(addr(b), 40)]);
    let counters = world.server.view().counters;
    assert_eq!((counters.relay_frames, counters.relay_bytes), (7, 3068));
}

#[test]
fn nothing_else_is_relayed() {
    let mut world = World::new(settings([1]));
    let ([a, b], [mine, its]) = pair(&mut world);
    world.sent.clear();
    let third = world.registered(1, "c", &[7]);
    world.sent.clear();
    // Another's label, one that nobody has, from elsewhere, too short, and no label at all.
    world.send(a, &labelled(0x08, its, 20));
    world.send(third, &labelled(0x08, mine, 20));
    world.send_from(addr(77), &labelled(0x08, mine, 20));
    world.send(b, &labelled(0x08, Label::new(1).unwrap(), 20));
    assert_eq!(world.dropped(Dropped::Label), 4);
    world.send(a, &labelled(0x08, mine, 7));
    world.send(a, &labelled(b'P', mine, 7));
    world.send(a, &labelled(0x08, Label::ZERO, 20));
    world.send(a, &labelled(b'P', Label::ZERO, 6));
    assert_eq!(world.dropped(Dropped::Foreign), 4);
    assert_eq!(world.sent, []);
}

#[test]
fn the_map_says_what_is_relayed() {
    let mut world = World::new(settings([1]));
    let ([a, b], [mine, its]) = pair(&mut world);
    let entry = |from, label, to, other| (RelayKey { from, label }, RelayTarget { to, label: other });
    let wanted = |at| [entry(at, mine, addr(b), its), entry(addr(b), its, at, mine)].into();
    assert_eq!(world.map, wanted(addr(a)));
    world.agents[a].addr = addr(50);
    world.refresh(a);
    assert_eq!(world.map, wanted(addr(50)));
    assert_eq!(world.freed, [], "a table of labels keeps what it has for each, such as its bucket");
    world.say(b, &[Message::Bye { reason: ByeReason::STOPS }]);
    assert!(world.map.is_empty() && world.saved.relays.is_empty() && world.server.view().relays == 0);
    assert_eq!(world.freed.len(), 2);
}

#[test]
fn a_server_may_be_told_not_to_relay() {
    let mut world = World::new(settings([1]));
    let ([a, b], labels) = pair(&mut world);
    let mut wanted = world.settings.clone();
    wanted.relay = false;
    world.server.configure(world.now, wanted.clone());
    world.drain();
    assert!(world.map.is_empty());
    assert_eq!(world.meet(a, b).map(|i| i.unwrap().label), [Label::ZERO; 2]);
    let c = world.registered(1, "c", &[7]);
    world.meet(a, c);
    world.agents[a].addr = addr(50);
    world.refresh(a);
    assert!(world.map.is_empty());
    world.send(a, &labelled(0x08, labels[0], 20));
    assert_eq!(world.dropped(Dropped::Label), 1);
    wanted.relay = true;
    world.server.configure(world.now, wanted);
    world.drain();
    assert_eq!(world.map.len(), 4);
    assert_eq!(world.meet(a, b).map(|i| i.unwrap().label), labels);
}

#[test]
fn each_side_may_send_so_much() {
    let mut wanted = settings([1]);
    wanted.limits.relay_bytes = Rate { per_second: 10_000, burst: 20_000 };
    let mut world = World::new(wanted);
    let ([a, b], [mine, its]) = pair(&mut world);
    for _ in 0..100 {
        world.send(a, &labelled(0x08, mine, 1000));
    }
    world.send(b, &labelled(0x08, its, 1000));
    assert_eq!((world.agents[b].frames.len(), world.agents[a].frames.len()), (20, 1));
    assert_eq!(world.dropped(Dropped::RelayLimit), 80);
    world.pass(seconds(1));
    for _ in 0..100 {
        world.send(a, &labelled(0x08, mine, 1000));
    }
    assert_eq!(world.agents[b].frames.len(), 30);
}

#[test]
fn pairs_that_nothing_uses_are_given_up() {
    let mut world = World::new(settings([1]));
    let ([a, b], [mine, _]) = pair(&mut world);
    let c = world.registered(1, "c", &[7]);
    let seen = world.meet(a, c)[0].clone().unwrap().label;
    for _ in 0..20 {
        world.pass(seconds(60));
        for agent in [a, b, c] {
            world.refresh(agent);
        }
        world.send(a, &labelled(0x08, mine, 20));
        if world.now.since(wavnet_proto::time::Time::ZERO) < seconds(1500) {
            let now = world.now;
            world.server.note_relayed(now, seen);
            assert_eq!(world.server.view().relays, 2);
        }
    }
    assert_eq!((world.server.view().relays, world.map.len(), world.saved.relays.len()), (1, 2, 1));
    assert!(!world.map.keys().any(|key| key.label == seen));
}

#[test]
fn there_are_as_many_pairs_as_there_may_be() {
    let mut wanted = settings([1]);
    wanted.limits.relays = 1;
    let mut world = World::new(wanted);
    let ([a, b], labels) = pair(&mut world);
    let c = world.registered(1, "c", &[7]);
    assert_eq!(world.meet(a, c).map(|i| i.unwrap().label), [Label::ZERO; 2], "invited all the same");
    assert_eq!(world.meet(a, b).map(|i| i.unwrap().label), labels);
}

#[test]
fn pairs_that_nothing_uses_give_way_where_there_is_no_room() {
    let mut wanted = settings([1]);
    wanted.limits.relays = 2;
    let mut world = World::new(wanted);
    let ([a, b], [mine, _]) = pair(&mut world);
    let c = world.registered(1, "c", &[7]);
    let old = world.meet(a, c)[0].clone().unwrap().label;
    world.pass(seconds(50));
    world.send(a, &labelled(b'P', mine, 6));
    assert_eq!(world.meet(b, c).map(|i| i.unwrap().label), [Label::ZERO; 2], "all were used a moment ago");
    world.pass(seconds(11));
    assert!(world.meet(b, c).iter().flatten().all(|invite| invite.label != Label::ZERO));
    assert_eq!((world.server.view().relays, world.map.len(), world.saved.relays.len()), (2, 4, 2));
    assert!(world.map.keys().any(|key| key.label == mine) && !world.map.keys().any(|key| key.label == old));
    // Who still believes in it is told by its pulses, and by nothing else.
    for first in [0x08, b'W'] {
        world.send(a, &labelled(first, old, 20));
    }
    world.send(a, &[&labelled(b'P', old, 4)[..], &[0x92, 7]].concat());
    assert_eq!(world.agents[a].unknowns, []);
    world.send(a, &[&labelled(b'P', old, 4)[..], &[0x12, 7]].concat());
    assert_eq!(world.agents[a].unknowns, [Unknown::Pulse([0x12, 7])]);
}
