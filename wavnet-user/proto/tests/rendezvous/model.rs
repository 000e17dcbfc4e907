//! A naive server beside the real one: the same random story, and they agree on who is registered, who sees whom, and who is invited.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use wavnet_proto::{
    rendezvous::testing::settings,
    rng::Rng,
    time::Time,
    trust::PublicKey,
    wire::{
        Label, Message,
        message::{ByeReason, HostState},
    },
};

use crate::world::{World, addr, seconds};

const AGENTS: usize = 8;
const VNIS: u64 = 3;
/// What a host is kept for: the lease and the grace.
const KEPT: Duration = Duration::from_secs(130);

/// What the naive server knows of a registered host.
#[derive(Clone, Debug)]
struct Known {
    vnis: BTreeSet<u32>,
    until: Time,
    addr: SocketAddr,
}

#[derive(Default)]
struct Model {
    hosts: BTreeMap<usize, Known>,
    /// Has a session that the server knows.
    sessions: BTreeSet<usize>,
    /// Visitors, until when.
    visitors: BTreeMap<usize, Time>,
    /// Labels that pairs were told of, from the lower to the higher number.
    pairs: BTreeMap<(usize, usize), (Label, Label)>,
    revoked: BTreeSet<usize>,
}

impl Model {
    fn expire(&mut self, now: Time) {
        let gone: Vec<usize> =
            self.hosts.iter().filter(|(_, known)| known.until <= now).map(|(agent, _)| *agent).collect();
        gone.into_iter().for_each(|agent| self.forget(agent));
        let (visitors, sessions) = (&mut self.visitors, &mut self.sessions);
        visitors.retain(|agent, until| {
            let stays = *until > now;
            if !stays {
                sessions.remove(agent);
            }
            stays
        });
    }

    fn forget(&mut self, agent: usize) {
        self.hosts.remove(&agent);
        self.sessions.remove(&agent);
        self.visitors.remove(&agent);
        self.pairs.retain(|(a, b), _| *a != agent && *b != agent);
    }

    fn meet(&self, a: usize, b: usize) -> bool {
        let vnis = |agent| self.hosts.get(&agent).map(|known| &known.vnis);
        a != b && vnis(a).zip(vnis(b)).is_some_and(|(a, b)| !a.is_disjoint(b))
    }
}

struct Story {
    world: World,
    model: Model,
    rng: Rng,
    /// What each agent has read of the directory, and up to which version.
    read: Vec<(u64, BTreeSet<PublicKey>)>,
    addrs: usize,
}

impl Story {
    fn new(seed: u8) -> Story {
        let mut world = World::seeded(settings([1]), seed);
        (0..AGENTS).for_each(|_| _ = world.agent(1));
        let read = vec![(0, BTreeSet::new()); AGENTS];
        Story { world, model: Model::default(), rng: Rng::from_seed([seed; 32]), read, addrs: 1000 }
    }

    fn pick(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    fn step(&mut self) {
        let agent = self.pick(AGENTS as u64) as usize;
        let has_session = self.model.sessions.contains(&agent);
        match self.pick(16) {
            0 | 1 => self.shake_hands(agent),
            2..=4 if has_session => self.register(agent),
            5 if has_session => self.refresh(agent),
            6 if has_session => self.bye(agent),
            7 if has_session => self.roam(agent),
            8 | 9 if self.model.hosts.contains_key(&agent) && has_session => self.meet(agent),
            10 | 11 if self.model.hosts.contains_key(&agent) && has_session => self.sync(agent),
            12 => self.pulse(agent),
            13 => {
                let time = Duration::from_millis(self.pick(40_000));
                self.world.pass(time);
            }
            14 if self.pick(4) == 0 => self.restart(),
            15 if self.pick(3) == 0 => self.revoke(agent),
            _ => {}
        }
        self.model.expire(self.world.now);
        self.check();
    }

    fn shake_hands(&mut self, agent: usize) {
        self.world.connect(agent);
        // Something at once, as docs/wire.md has it. A host that is not allowed is told so.
        let heard = self.world.refresh(agent);
        let is_revoked = self.model.revoked.contains(&agent);
        assert_eq!(heard.is_empty() || matches!(heard[..], [Message::Bye { .. }]), is_revoked, "{heard:?}");
        if is_revoked {
            return;
        }
        self.model.sessions.insert(agent);
        self.touch(agent);
        match self.model.hosts.contains_key(&agent) {
            true => self.refreshed(agent),
            false => _ = self.model.visitors.entry(agent).or_insert(self.world.now + seconds(15)),
        }
    }

    fn touch(&mut self, agent: usize) {
        let addr = self.world.agents[agent].addr;
        if let Some(known) = self.model.hosts.get_mut(&agent) {
            known.addr = addr;
        }
    }

    fn refreshed(&mut self, agent: usize) {
        let until = self.world.now + KEPT;
        self.model.hosts.entry(agent).and_modify(|known| known.until = until);
    }

    fn register(&mut self, agent: usize) {
        let vnis: BTreeSet<u32> = (0..self.pick(VNIS + 1)).map(|_| 1 + self.pick(VNIS) as u32).collect();
        let list: Vec<u32> = vnis.iter().copied().collect();
        let name = self.pick(3).to_string();
        let registered = self.world.register(agent, &name, &list);
        assert!(registered.is_some());
        let known = Known { vnis, until: self.world.now + KEPT, addr: self.world.agents[agent].addr };
        self.model.hosts.insert(agent, known);
        self.model.visitors.remove(&agent);
    }

    fn refresh(&mut self, agent: usize) {
        let is_registered = self.model.hosts.contains_key(&agent);
        let answer = self.world.refresh(agent);
        let is_granted = answer.iter().any(|m| matches!(m, Message::Registered(_)));
        assert_eq!(is_granted, is_registered, "{answer:?}");
        self.touch(agent);
        self.refreshed(agent);
    }

    fn bye(&mut self, agent: usize) {
        self.world.say(agent, &[Message::Bye { reason: ByeReason::STOPS }]);
        self.model.forget(agent);
    }

    fn roam(&mut self, agent: usize) {
        // So rarely that it is followed each time.
        self.world.pass(seconds(1));
        self.model.expire(self.world.now);
        if !self.model.sessions.contains(&agent) {
            return;
        }
        self.addrs += 1;
        self.world.agents[agent].addr = addr(self.addrs);
        self.refresh(agent);
    }

    fn meet(&mut self, agent: usize) {
        let peer = self.pick(AGENTS as u64) as usize;
        let invites = self.world.meet(agent, peer);
        let may = self.model.meet(agent, peer);
        let told = [may, may && self.model.sessions.contains(&peer)];
        assert_eq!(invites.each_ref().map(Option::is_some), told, "{agent} and {peer}");
        let [Some(mine), its] = invites else { return };
        assert_eq!((mine.peer, mine.mapped), (self.world.key(peer), self.model.hosts[&peer].addr));
        assert!(mine.label != Label::ZERO);
        if let Some(its) = its {
            assert_eq!((its.peer, its.mapped), (self.world.key(agent), self.model.hosts[&agent].addr));
            let pair = if agent < peer { (mine.label, its.label) } else { (its.label, mine.label) };
            let known = *self.model.pairs.entry((agent.min(peer), agent.max(peer))).or_insert(pair);
            assert_eq!(known, pair, "a pair keeps its labels");
        }
    }

    fn sync(&mut self, agent: usize) {
        let (mut since, mut known) = self.read[agent].clone();
        if self.world.page(agent, since, None).version == 0 {
            (since, known) = (0, BTreeSet::new());
        }
        if since >> 40 != u64::from(self.world.saved.incarnation) {
            (since, known) = (0, BTreeSet::new());
        }
        let (version, entries) = self.world.sync(agent, since);
        for entry in entries {
            match entry.state {
                HostState::HERE => known.insert(entry.key),
                _ => known.remove(&entry.key),
            };
        }
        let wanted = (0..AGENTS).filter(|peer| self.model.meet(agent, *peer)).map(|peer| self.world.key(peer));
        assert_eq!(known, wanted.collect(), "what {agent} has read since {since:x}");
        self.read[agent] = (version, known);
    }

    fn pulse(&mut self, agent: usize) {
        self.world.agents[agent].frames.clear();
        self.world.agents[agent].unknowns.clear();
        self.world.send(agent, &[1, 2]);
        let heard = (self.world.agents[agent].frames.len(), self.world.agents[agent].unknowns.len());
        assert_eq!(heard, if self.model.sessions.contains(&agent) { (1, 0) } else { (0, 1) });
    }

    fn restart(&mut self) {
        self.world.restart();
        self.model.sessions.clear();
        self.model.visitors.clear();
        let until = self.world.now + KEPT;
        self.model.hosts.values_mut().for_each(|known| known.until = until);
    }

    fn revoke(&mut self, agent: usize) {
        let key = self.world.key(agent);
        let revoked = &mut self.world.settings.networks[0].revoked;
        if self.model.revoked.remove(&agent) {
            revoked.remove(&key);
        } else {
            self.model.revoked.insert(agent);
            revoked.insert(key);
            self.model.forget(agent);
        }
        self.world.server.configure(self.world.now, self.world.settings.clone());
        self.world.drain();
    }

    fn check(&self) {
        let keys = |agents: &mut dyn Iterator<Item = usize>| -> BTreeSet<PublicKey> {
            agents.map(|agent| self.world.key(agent)).collect()
        };
        let registered = keys(&mut self.model.hosts.keys().copied());
        let connected = keys(&mut self.model.hosts.keys().copied().filter(|agent| self.model.sessions.contains(agent)));
        let view: Vec<_> = self.world.server.hosts().collect();
        assert_eq!(view.iter().map(|host| host.key).collect::<BTreeSet<_>>(), registered);
        let those = view.iter().filter(|host| host.connected).map(|host| host.key).collect::<BTreeSet<_>>();
        assert_eq!(those, connected);
        assert_eq!(self.world.saved.hosts.iter().map(|host| host.key).collect::<BTreeSet<_>>(), registered);
        // The map and what is kept say the same of pairs, and where each is.
        assert_eq!(self.world.map.len(), 2 * self.world.saved.relays.len());
        for ((a, b), (of_a, of_b)) in &self.model.pairs {
            let addrs = [a, b].map(|agent| self.model.hosts[agent].addr);
            let entry = self.world.map.iter().find(|(key, _)| key.label == *of_a).unwrap();
            assert_eq!((entry.0.from, entry.1.to, entry.1.label), (addrs[0], addrs[1], *of_b));
        }
    }
}

#[test]
fn a_naive_server_agrees() {
    for seed in 1..=60 {
        // Printed if the test fails.
        println!("seed {seed}");
        let mut story = Story::new(seed);
        (0..250).for_each(|_| story.step());
    }
}
