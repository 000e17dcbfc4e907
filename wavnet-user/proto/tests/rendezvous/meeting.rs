//! CONNECT, INVITE and FORWARD.

use wavnet_proto::{
    rendezvous::{
        Done, Dropped, Limits,
        testing::{Client, settings},
    },
    wire::{Candidate, CandidateKind, Label, Message, message::RefusedCode, opener},
};

use crate::world::{World, addr, seconds};

fn refusal(said: &[Message]) -> Option<RefusedCode> {
    said.iter().find_map(|m| if let Message::Refused(refused) = m { Some(refused.code) } else { None })
}

#[test]
fn both_are_invited_and_again_when_asked_again() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let [Some(mine), Some(its)] = world.meet(a, b) else { panic!("two invitations") };
    assert_eq!((mine.peer, mine.mapped, its.peer, its.mapped), (world.key(b), addr(b), world.key(a), addr(a)));
    assert!(mine.label != its.label && mine.label != Label::ZERO && its.label != Label::ZERO);
    assert_eq!(world.meet(a, b), [Some(mine.clone()), Some(its.clone())]);
    assert_eq!(world.meet(b, a), [Some(its), Some(mine)], "from the other side it is the same pair");
    assert_eq!((world.server.view().relays, world.saved.relays.len(), world.map.len()), (1, 1, 2));
}

#[test]
fn an_invitation_says_what_the_other_said_last() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let candidate = |port| Candidate { kind: CandidateKind::Predicted, addr: ([192, 0, 2, 1], port).into() };
    let register = world.agents[b].client.register("b", &[7], &[candidate(1)]);
    world.say(b, &[register]);
    let peer = world.key(b);
    let connect = world.agents[a].client.connect(peer, &[candidate(2), candidate(3)]);
    world.say(a, &[connect]);
    assert_eq!(world.meet(a, b).map(|i| i.unwrap().candidates), [vec![candidate(1)], vec![candidate(2), candidate(3)]]);
}

#[test]
fn nobody_is_invited_to_who_is_not_there_or_not_meant_for_it() {
    let mut world = World::new(settings([1, 2]));
    let a = world.registered(1, "a", &[7]);
    let elsewhere = world.registered(1, "b", &[8]);
    let stranger = world.registered(2, "c", &[7]);
    let visitor = world.agent(1);
    world.connect(visitor);
    for peer in [elsewhere, stranger, visitor, a] {
        let key = world.key(peer);
        let connect = world.agents[a].client.connect(key, &[]);
        let heard = world.agents[peer].messages.len();
        assert_eq!(refusal(&world.say(a, &[connect])), Some(RefusedCode::NO_SUCH_PEER));
        assert_eq!(world.agents[peer].messages.len(), heard, "peer {peer} hears nothing of it");
        world.say(a, &[Client::forward(key, &opener(Label::ZERO, [0; 8]))]);
        assert_eq!(world.agents[peer].messages.len(), heard, "peer {peer} hears nothing of it");
    }
    assert_eq!((world.dropped(Dropped::Forward), world.server.view().relays), (4, 0));
}

#[test]
fn forwarded_datagrams_come_with_the_invitation() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let (heard, key, datagram) = (world.agents[b].messages.len(), world.key(b), opener(Label::ZERO, [5; 8]));
    let connect = world.agents[a].client.connect(key, &[]);
    world.sent.clear();
    world.say(a, &[connect, Client::forward(key, &datagram)]);
    let said = world.agents[b].messages.split_off(heard);
    let [Message::Invite(_), Message::Forwarded(forwarded)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((forwarded.peer, &forwarded.datagram), (world.key(a), &datagram));
    assert_eq!(world.sent.iter().filter(|(to, _)| *to == addr(b)).count(), 1, "in one datagram");
}

#[test]
fn only_control_is_forwarded_and_not_too_much() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let key = world.key(b);
    for nonsense in [&b""[..], b"W", b"not for us"] {
        world.say(a, &[Client::forward(key, nonsense)]);
    }
    assert_eq!((world.dropped(Dropped::Forward), world.done(Done::Forward)), (3, 0));
    for _ in 0..2000 {
        world.say(a, &[Client::forward(key, &opener(Label::ZERO, [1; 8]))]);
    }
    let forwards = Limits::default().forwards;
    assert_eq!(world.done(Done::Forward), forwards.burst - 3);
    world.pass(seconds(1));
    for _ in 0..2000 {
        world.say(a, &[Client::forward(key, &opener(Label::ZERO, [1; 8]))]);
    }
    assert_eq!(world.done(Done::Forward), forwards.burst + forwards.per_second - 3);
}

#[test]
fn requests_have_a_limit() {
    let mut world = World::new(settings([1]));
    let a = world.registered(1, "a", &[7]);
    let burst = Limits::default().requests.burst;
    let answered = (0..burst + 1000).filter(|_| !world.refresh(a).is_empty()).count() as u64;
    // REGISTER was the first.
    assert_eq!(answered, burst - 1);
    assert_eq!(world.dropped(Dropped::RequestLimit), 1001);
}

#[test]
fn partners_of_who_moves_are_told() {
    let mut world = World::new(settings([1]));
    let agents: Vec<_> = (0..200).map(|n| world.registered(1, &n.to_string(), &[7])).collect();
    world.pass(seconds(2));
    let labels: Vec<_> =
        agents[1..150].iter().map(|peer| world.meet(agents[0], *peer)[1].clone().unwrap().label).collect();
    world.agents[agents[0]].addr = addr(5000);
    world.agents.iter_mut().for_each(|agent| agent.messages.clear());
    world.sent.clear();
    world.refresh(agents[0]);
    world.pass(seconds(1));
    for (peer, label) in agents[1..150].iter().zip(labels) {
        let [Message::Invite(invite)] = &world.agents[*peer].messages[..] else { panic!("{peer}") };
        assert_eq!((invite.mapped, invite.label), (addr(5000), label));
    }
    assert!(agents[150..].iter().all(|agent| world.agents[*agent].messages.is_empty()));
    // Moving again is told again, but not more than once a second.
    let before = world.done(Done::Invite);
    for n in 0..8 {
        world.agents[agents[0]].addr = addr(6000 + n);
        world.refresh(agents[0]);
        world.pass(std::time::Duration::from_millis(100));
    }
    world.pass(seconds(3));
    assert!((149..=4 * 149).contains(&(world.done(Done::Invite) - before)), "{}", world.done(Done::Invite) - before);
    let [.., Message::Invite(last)] = &world.agents[agents[1]].messages[..] else { panic!("INVITE") };
    assert_eq!(last.mapped, addr(6007));
}
