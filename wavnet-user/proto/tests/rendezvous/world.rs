//! A server and its clients in one thread and on one clock, with a network that loses what it is told to lose.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use wavnet_proto::{
    rendezvous::{
        Command, Counters, Done, Dropped, Event, RelayKey, RelayTarget, Rendezvous, Settings,
        persist::Saved,
        testing::{Client, Heard, access},
    },
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::{PublicKey, SecretKey},
    wire::{
        Label, Message, Unknown,
        message::{Entry, HostState, Invite, Page, Registered},
    },
};

/// A client, and what it heard.
pub(crate) struct Agent {
    pub(crate) client: Client,
    pub(crate) addr: SocketAddr,
    pub(crate) messages: Vec<Message>,
    /// Payloads that are no control.
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) unknowns: Vec<Unknown>,
    pub(crate) connected: u32,
}

pub(crate) struct World {
    pub(crate) server: Rendezvous,
    pub(crate) settings: Settings,
    pub(crate) now: Time,
    pub(crate) agents: Vec<Agent>,
    pub(crate) saved: Saved,
    pub(crate) map: BTreeMap<RelayKey, RelayTarget>,
    /// Whose each label is in a table that is looked up by them alone, and those that were given up there.
    by_label: BTreeMap<Label, RelayKey>,
    pub(crate) freed: Vec<Label>,
    pub(crate) events: Vec<Event>,
    /// All that the server sent, and to whom.
    pub(crate) sent: Vec<(SocketAddr, usize)>,
    /// One in so many datagrams is lost, each way; 0: none.
    pub(crate) loss: u64,
    pub(crate) rng: Rng,
    starts: u8,
}

pub(crate) fn addr(n: usize) -> SocketAddr {
    let n = n as u32;
    SocketAddr::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n / 50_000).into(), 1024 + (n % 50_000) as u16)
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn secret() -> SecretKey {
    SecretKey::generate(&mut Rng::from_seed([255; 32]))
}

impl World {
    pub(crate) fn new(settings: Settings) -> World {
        World::seeded(settings, 7)
    }

    pub(crate) fn seeded(settings: Settings, seed: u8) -> World {
        let now = Time::ZERO + seconds(1000);
        let server = Rendezvous::new(settings.clone(), secret(), Saved::default(), [seed; 32], now);
        let mut world = World {
            server,
            settings,
            now,
            agents: Vec::new(),
            saved: Saved::default(),
            map: BTreeMap::new(),
            by_label: BTreeMap::new(),
            freed: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            loss: 0,
            rng: Rng::from_seed([seed; 32]),
            starts: 0,
        };
        world.drain();
        world
    }

    /// The server dies, and another one starts from what was kept.
    pub(crate) fn restart(&mut self) {
        self.starts += 1;
        let seed = [100 + self.starts; 32];
        self.map.clear();
        self.server = Rendezvous::new(self.settings.clone(), secret(), self.saved.clone(), seed, self.now);
        self.drain();
    }

    /// An agent of network `network`, not connected yet.
    pub(crate) fn agent(&mut self, network: u8) -> usize {
        let client = Client::new(access(network), self.rng.fork());
        self.agent_with(client)
    }

    pub(crate) fn agent_with(&mut self, client: Client) -> usize {
        let addr = addr(self.agents.len());
        let (messages, frames, unknowns) = (Vec::new(), Vec::new(), Vec::new());
        self.agents.push(Agent { client, addr, messages, frames, unknowns, connected: 0 });
        self.agents.len() - 1
    }

    /// An agent that is registered, with this name.
    pub(crate) fn registered(&mut self, network: u8, name: &str, vnis: &[u32]) -> usize {
        let agent = self.agent(network);
        self.connect(agent);
        self.register(agent, name, vnis).unwrap();
        agent
    }

    pub(crate) fn key(&self, agent: usize) -> PublicKey {
        self.agents[agent].client.key()
    }

    /// Shakes hands, however often it takes.
    pub(crate) fn connect(&mut self, agent: usize) {
        for _ in 0..50 {
            let before = self.agents[agent].connected;
            let hello = self.agents[agent].client.hello();
            self.send(agent, &hello);
            if self.agents[agent].connected > before {
                return;
            }
        }
        panic!("agent {agent} does not get through");
    }

    pub(crate) fn send(&mut self, agent: usize, payload: &[u8]) {
        let from = self.agents[agent].addr;
        self.send_from(from, payload);
    }

    pub(crate) fn send_from(&mut self, from: SocketAddr, payload: &[u8]) {
        if !self.loses() {
            self.server.handle_input(self.now, Socket::Main, from, payload);
        }
        self.drain();
    }

    fn loses(&mut self) -> bool {
        self.loss != 0 && self.rng.below(self.loss) == 0
    }

    /// Says something; what comes back.
    pub(crate) fn say(&mut self, agent: usize, messages: &[Message]) -> Vec<Message> {
        let heard = self.agents[agent].messages.len();
        let datagram = self.agents[agent].client.say(messages).unwrap();
        self.send(agent, &datagram);
        self.agents[agent].messages.split_off(heard)
    }

    pub(crate) fn register(&mut self, agent: usize, name: &str, vnis: &[u32]) -> Option<Registered> {
        let register = self.agents[agent].client.register(name, vnis, &[]);
        self.say(agent, &[register])
            .into_iter()
            .find_map(|m| if let Message::Registered(r) = m { Some(r) } else { None })
    }

    pub(crate) fn refresh(&mut self, agent: usize) -> Vec<Message> {
        let request = self.agents[agent].client.number();
        self.say(agent, &[Message::Refresh { request }])
    }

    pub(crate) fn page(&mut self, agent: usize, since: u64, after: Option<PublicKey>) -> Page {
        let sync = self.agents[agent].client.sync(since, after);
        let mut said = self.say(agent, &[sync]).into_iter();
        said.find_map(|m| if let Message::Page(page) = m { Some(page) } else { None }).unwrap()
    }

    /// All pages; the version that the agent has then, and the entries.
    pub(crate) fn sync(&mut self, agent: usize, since: u64) -> (u64, Vec<Entry>) {
        let (mut entries, mut version): (Vec<Entry>, _) = (Vec::new(), None);
        loop {
            let page = self.page(agent, since, entries.last().map(|entry| entry.key));
            version.get_or_insert(page.version);
            entries.extend(page.entries);
            if !page.more {
                return (version.unwrap(), entries);
            }
        }
    }

    /// Who the agent sees, from the start.
    pub(crate) fn sees(&mut self, agent: usize) -> Vec<PublicKey> {
        let (_, entries) = self.sync(agent, 0);
        assert!(entries.iter().all(|entry| entry.state == HostState::HERE), "none has gone that was never there");
        entries.into_iter().map(|entry| entry.key).collect()
    }

    /// CONNECT; what both were invited to.
    pub(crate) fn meet(&mut self, agent: usize, peer: usize) -> [Option<Invite>; 2] {
        let heard = self.agents[peer].messages.len();
        let key = self.key(peer);
        let connect = self.agents[agent].client.connect(key, &[]);
        let mine = self.say(agent, &[connect]);
        let its = self.agents[peer].messages.split_off(heard);
        [mine, its].map(|said| said.into_iter().find_map(|m| if let Message::Invite(i) = m { Some(i) } else { None }))
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.server.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub(crate) fn dropped(&self, reason: Dropped) -> u64 {
        self.counters().dropped(reason)
    }

    pub(crate) fn done(&self, what: Done) -> u64 {
        self.counters().done(what)
    }

    fn counters(&self) -> Counters {
        self.server.view().counters
    }

    /// Carries out and delivers all that is there, and what is answered to it.
    pub(crate) fn drain(&mut self) {
        loop {
            while let Some(command) = self.server.poll_command() {
                self.carry_out(command);
            }
            self.events.extend(std::iter::from_fn(|| self.server.poll_event()));
            let transmits: VecDeque<_> = std::iter::from_fn(|| self.server.poll_transmit()).collect();
            if transmits.is_empty() {
                return;
            }
            for transmit in transmits {
                self.sent.push((transmit.to, transmit.payload.len()));
                if !self.loses() {
                    self.deliver(transmit.to, &transmit.payload);
                }
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::SetRelay { key, target } => {
                self.map.insert(key, target);
                self.by_label.insert(key.label, key);
            }
            Command::DeleteRelay { key } => {
                self.map.remove(&key);
                if self.by_label.get(&key.label) == Some(&key) {
                    self.by_label.remove(&key.label);
                    self.freed.push(key.label);
                }
            }
            Command::Save(change) => self.saved.apply(change),
        }
    }

    fn deliver(&mut self, to: SocketAddr, payload: &[u8]) {
        let Some(place) = self.agents.iter().position(|agent| agent.addr == to) else { return };
        let agent = &mut self.agents[place];
        let Heard { replies, messages, unknown, is_connected } = agent.client.hear(self.now, payload);
        agent.messages.extend(messages);
        agent.unknowns.extend(unknown);
        agent.connected += u32::from(is_connected);
        if payload.first() != Some(&b'W') {
            agent.frames.push(payload.to_vec());
        }
        for reply in replies {
            if !self.loses() {
                self.server.handle_input(self.now, Socket::Main, to, &reply);
            }
        }
    }
}
