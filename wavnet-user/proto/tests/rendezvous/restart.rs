//! The server dies and starts again: the hosts come back, and what stands goes on.

use wavnet_proto::{
    rendezvous::{Done, testing::settings},
    wire::{Message, Unknown},
};

use crate::world::{World, addr, seconds};

#[test]
fn hosts_come_back_by_their_pulse_and_nothing_has_changed() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let invites = world.meet(a, b);
    let (version, _) = world.sync(a, 0);
    let map = world.map.clone();
    world.restart();
    assert_eq!(world.map, map, "relayed frames go on");
    assert_eq!(world.server.view().networks[0].hosts, 2);
    // Its pulse tells a host that it is not known any more.
    world.send(a, &[0x01, 0x02]);
    assert_eq!(world.agents[a].unknowns, [Unknown::Pulse([1, 2])]);
    world.connect(a);
    let registered = world.register(a, "a", &[7]).unwrap();
    assert_ne!(registered.version >> 40, version >> 40, "another incarnation");
    let (again, entries) = world.sync(a, version);
    assert_eq!((entries.len(), again), (1, registered.version), "from the start");
    // It is invited before the other one is back, and both are when it is.
    let [mine, its] = world.meet(a, b);
    assert_eq!((&mine, its), (&invites[0], None));
    world.connect(b);
    world.register(b, "b", &[7]).unwrap();
    assert_eq!(world.meet(a, b), invites);
    assert!(
        world.events.iter().filter(|e| format!("{e:?}").starts_with("Joined")).count() == 2,
        "nobody has joined anew"
    );
}

#[test]
fn who_does_not_come_back_has_gone_with_its_lease() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    world.meet(a, b);
    world.restart();
    world.connect(a);
    world.register(a, "a", &[7]).unwrap();
    assert_eq!(world.sees(a), [world.key(b)]);
    for _ in 0..3 {
        world.pass(seconds(60));
        world.refresh(a);
    }
    assert_eq!(world.sees(a), []);
    assert!(world.map.is_empty() && world.saved.hosts.len() == 1 && world.saved.relays.is_empty());
}

#[test]
fn what_was_kept_is_checked_against_the_configuration() {
    let mut world = World::new(settings([1, 2]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    let c = world.registered(2, "c", &[7]);
    world.meet(a, b);
    world.settings = settings([1]);
    let revoked = world.key(b);
    world.settings.networks[0].revoked.insert(revoked);
    world.restart();
    assert_eq!(world.server.hosts().map(|host| host.key).collect::<Vec<_>>(), [world.key(a)]);
    assert_eq!((world.saved.hosts.len(), world.saved.relays.len(), world.map.len()), (1, 0, 0));
    world.settings = settings([1, 2]);
    world.settings.limits.hosts = 0;
    world.restart();
    assert_eq!(world.saved.hosts.len(), 0, "no room");
    world.settings.limits.hosts = 10;
    world.connect(c);
    assert_eq!(world.server.view().visitors, 1);
}

/// What is kept may be damaged: two of everything, pairs of hosts that are not there, labels of others.
#[test]
fn nonsense_in_what_was_kept_is_dropped() {
    let mut world = World::new(settings([1]));
    let [a, b] = ["a", "b"].map(|name| world.registered(1, name, &[7]));
    world.meet(a, b);
    let mut saved = world.saved.clone();
    saved.hosts.push(saved.hosts[0].clone());
    saved.relays.push(saved.relays[0]);
    let mut wrong = saved.relays[0];
    wrong.hosts = [wrong.hosts[1]; 2];
    saved.relays.push(wrong);
    saved.incarnation = u32::MAX;
    world.saved = saved;
    world.restart();
    assert_eq!((world.server.view().networks[0].hosts, world.server.view().relays), (2, 1));
    assert!((1..1 << 24).contains(&world.saved.incarnation));
}

/// Every step of a registration and of a meeting, with the server restarted before it: in the end it is as if nothing had happened.
#[test]
fn a_restart_at_every_step_is_mended() {
    let steps = 6;
    for restarted in 0..steps {
        let mut world = World::seeded(settings([1]), restarted as u8 + 1);
        let a = world.registered(1, "a", &[7]);
        let b = world.agent(1);
        for step in 0..steps {
            if step == restarted {
                world.restart();
            }
            match step {
                0 => {
                    let hello = world.agents[b].client.hello();
                    world.send(b, &hello);
                }
                1 => persist(&mut world, b, "b"),
                2 => persist(&mut world, a, "a"),
                3 => _ = world.sees_or_returns(a, "a"),
                4 => _ = world.meets_or_returns(a, b),
                _ => {
                    world.agents[a].addr = addr(700);
                    persist(&mut world, a, "a");
                }
            }
        }
        assert_eq!(world.sees_or_returns(a, "a"), 1, "restarted before step {restarted}");
        assert_eq!(world.sees_or_returns(b, "b"), 1, "restarted before step {restarted}");
        assert!(world.meets_or_returns(a, b), "restarted before step {restarted}");
        assert_eq!(world.map.len(), 2);
        assert!(world.map.keys().any(|key| key.from == addr(700)), "restarted before step {restarted}");
    }
}

/// What an agent does: it says what it wants until it is heard, and shakes hands when it is unknown.
fn persist(world: &mut World, agent: usize, name: &str) {
    for _ in 0..100 {
        if world.agents[agent].client.session.is_some() && world.register(agent, name, &[7]).is_some() {
            return;
        }
        world.pass(std::time::Duration::from_millis(500));
        world.connect(agent);
    }
    panic!("{name} is not registered");
}

impl World {
    fn sees_or_returns(&mut self, agent: usize, name: &str) -> usize {
        persist(self, agent, name);
        self.sees(agent).len()
    }

    fn meets_or_returns(&mut self, agent: usize, peer: usize) -> bool {
        persist(self, agent, "a");
        persist(self, peer, "b");
        self.meet(agent, peer).iter().all(Option::is_some)
    }
}

#[test]
fn a_third_of_all_datagrams_may_be_lost() {
    for seed in 1..=10 {
        let mut world = World::seeded(settings([1]), seed);
        world.loss = 3;
        let agents: Vec<_> = (0..10).map(|_| world.agent(1)).collect();
        for agent in &agents {
            persist(&mut world, *agent, "a");
        }
        let mut invited = [false; 2];
        for _ in 0..200 {
            let [mine, its] = world.meet(agents[0], agents[1]);
            invited = [invited[0] || mine.is_some(), invited[1] || its.is_some()];
        }
        assert_eq!(invited, [true; 2], "seed {seed}");
        assert_eq!(world.server.view().networks[0].hosts, 10, "seed {seed}");
        world.loss = 0;
        assert_eq!(world.sees(agents[3]).len(), 9, "seed {seed}");
        assert!(world.done(Done::Register) >= 10);
        let [.., Message::Registered(_)] = world.refresh(agents[9])[..] else { panic!("seed {seed}") };
    }
}
