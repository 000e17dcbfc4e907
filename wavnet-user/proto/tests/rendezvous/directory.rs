//! Who sees whom, versions and pages, and CHANGED.

use std::time::Duration;

use wavnet_proto::{
    rendezvous::{Done, testing::settings},
    wire::{
        Message,
        message::{ByeReason, HostState},
    },
};

use crate::world::{World, seconds};

fn sorted(world: &World, agents: &[usize]) -> Vec<wavnet_proto::trust::PublicKey> {
    let mut keys: Vec<_> = agents.iter().map(|agent| world.key(*agent)).collect();
    keys.sort();
    keys
}

#[test]
fn hosts_see_those_of_their_network_and_vnis() {
    let mut world = World::new(settings([1, 2]));
    let a = world.registered(1, "a", &[7, 8]);
    let b = world.registered(1, "b", &[8, 9]);
    let c = world.registered(1, "c", &[9]);
    let other = world.registered(2, "other", &[7, 8, 9]);
    let none = world.registered(1, "none", &[]);
    for (agent, seen) in [(a, &[b][..]), (b, &[a, c]), (c, &[b]), (other, &[]), (none, &[])] {
        assert_eq!(world.sees(agent), sorted(&world, seen));
    }
}

#[test]
fn what_has_changed_since_a_version_is_told() {
    let mut world = World::new(settings([1]));
    let a = world.registered(1, "a", &[7]);
    let b = world.registered(1, "b", &[7]);
    let (first, _) = world.sync(a, 0);
    assert_eq!(world.sync(a, first), (first, vec![]));
    let c = world.registered(1, "c", &[7]);
    world.registered(1, "elsewhere", &[8]);
    let (second, entries) = world.sync(a, first);
    assert_eq!((entries.len(), entries[0].key, entries[0].name.as_str()), (1, world.key(c), "c"));
    world.register(b, "another name", &[7]);
    world.say(c, &[Message::Bye { reason: ByeReason::STOPS }]);
    let (third, entries) = world.sync(a, second);
    let mut told: Vec<_> = entries.iter().map(|e| (e.key, e.state, e.name.as_str())).collect();
    told.sort_by_key(|(_, state, _)| state.0);
    assert_eq!(told, [(world.key(c), HostState::GONE, ""), (world.key(b), HostState::HERE, "another name")]);
    assert_eq!(world.sync(a, third), (third, vec![]));
    // What is older than the oldest that is remembered cannot be built on.
    world.pass(Duration::from_secs(30));
    for _ in 0..40 {
        world.pass(seconds(60));
        world.refresh(a);
    }
    assert_eq!(world.page(a, second, None).version, 0);
    assert_eq!(world.sees(a), []);
}

#[test]
fn who_leaves_a_vni_has_gone_for_those_in_it() {
    let mut world = World::new(settings([1]));
    let a = world.registered(1, "a", &[7]);
    let b = world.registered(1, "b", &[7, 8]);
    let c = world.registered(1, "c", &[8]);
    let (of_a, _) = world.sync(a, 0);
    let (of_c, _) = world.sync(c, 0);
    world.register(b, "b", &[8]);
    let (_, entries) = world.sync(a, of_a);
    assert_eq!(entries.iter().map(|e| (e.key, e.state)).collect::<Vec<_>>(), [(world.key(b), HostState::GONE)]);
    let (_, entries) = world.sync(c, of_c);
    assert_eq!(entries.iter().map(|e| (e.key, e.state)).collect::<Vec<_>>(), [(world.key(b), HostState::HERE)]);
    // Who sees others than before has to read from the start.
    let (of_b, _) = world.sync(b, 0);
    world.register(b, "b", &[7]);
    assert_eq!(world.page(b, of_b, None).version, 0);
    assert_eq!(world.sees(b), sorted(&world, &[a]));
}

#[test]
fn pages_hold_everybody_once() {
    let mut world = World::new(settings([1]));
    let agents: Vec<_> = (0..150).map(|n| world.registered(1, &"n".repeat(n % 64), &[7])).collect();
    let (version, entries) = world.sync(agents[0], 0);
    let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, sorted(&world, &agents[1..]));
    // And so do pages of what has changed.
    for agent in &agents[1..] {
        world.register(*agent, "changed", &[7]);
    }
    let (_, entries) = world.sync(agents[0], version);
    let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
    assert_eq!(keys, sorted(&world, &agents[1..]));
    assert!(entries.iter().all(|entry| entry.name.as_str() == "changed"));
}

#[test]
fn those_concerned_are_told_of_a_change() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let other = world.registered(1, "other", &[9]);
    world.pass(seconds(1));
    world.agents.iter_mut().for_each(|agent| agent.messages.clear());
    let c = world.registered(1, "c", &[7]);
    world.pass(seconds(1));
    let (version, _) = world.sync(a, 0);
    for (agent, told) in [(a, true), (b, true), (other, false), (c, false)] {
        let changed = Message::Changed { version };
        assert_eq!(world.agents[agent].messages.contains(&changed), told, "{agent}");
    }
    assert!(world.server.poll_timeout().unwrap() > world.now + seconds(10), "nothing is left to be told");
}

#[test]
fn a_thousand_that_join_at_once_make_no_burst() {
    const HOSTS: usize = 1000;
    let mut wanted = settings([1]);
    wanted.limits.handshakes.burst = 10_000;
    wanted.limits.handshakes_of_prefix = wanted.limits.handshakes;
    let mut world = World::new(wanted);
    for n in 0..HOSTS {
        world.registered(1, &n.to_string(), &[7]);
        world.pass(Duration::from_millis(1));
    }
    world.pass(seconds(2));
    let changed = world.done(Done::Changed);
    // A second long, five times a second, those that are there; each hears of the end.
    assert!((HOSTS as u64..=7 * HOSTS as u64).contains(&changed), "{changed} CHANGED");
    let version = world.server.view().networks[0].version;
    for agent in 0..HOSTS - 1 {
        let last = world.agents[agent].messages.iter().rev().find_map(|m| match m {
            Message::Changed { version } => Some(*version),
            Message::Registered(registered) => Some(registered.version),
            _ => None,
        });
        assert_eq!(last, Some(version), "agent {agent}");
    }
}

#[test]
fn bursts_of_changed_are_short() {
    let mut world = World::new(settings([1]));
    let agents: Vec<_> = (0..500).map(|n| world.registered(1, &n.to_string(), &[7])).collect();
    world.pass(seconds(2));
    world.register(agents[0], "news", &[7]);
    let (mut told, end) = (0, world.now + seconds(1));
    while let Some(due) = world.server.poll_timeout().filter(|due| *due <= end) {
        world.sent.clear();
        world.pass(due.since(world.now));
        assert!(world.sent.len() <= 64, "{} at once", world.sent.len());
        told += world.sent.len();
    }
    assert_eq!(told, agents.len() - 1);
}
