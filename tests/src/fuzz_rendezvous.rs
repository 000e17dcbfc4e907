//! What the fuzz target `rendezvous` does with its input: a story of some clients, strangers and time, told to a server.
//!
//! Each step is a byte that says what happens and a byte that says to whom; some take more. Whatever it is, the server does not panic, sends a
//! stranger no more than it got from it, and what it says of itself fits what it wants kept and relayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use wavnet_proto::{
    rendezvous::{
        Command, RelayKey, RelayTarget, Rendezvous, Settings,
        persist::Saved,
        testing::{Client, access, settings},
    },
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::SecretKey,
    wire::{Label, Message, message::ByeReason},
};

const CLIENTS: usize = 4;
/// Longest story: a handshake costs a quarter of a millisecond.
const STEPS: usize = 200;
/// UNKNOWN of a pulse: on the wire both fill an Ethernet frame of the smallest length.
const PULSE: usize = 10;

struct Story {
    server: Rendezvous,
    settings: Settings,
    now: Time,
    clients: Vec<Client>,
    addrs: Vec<SocketAddr>,
    saved: Saved,
    map: BTreeMap<RelayKey, RelayTarget>,
    /// What was sent to the server, to be sent again.
    past: Vec<Vec<u8>>,
    starts: u8,
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4789))
}

fn start(settings: &Settings, saved: Saved, number: u8, now: Time) -> Rendezvous {
    let secret = SecretKey::generate(&mut Rng::from_seed([255; 32]));
    Rendezvous::new(settings.clone(), secret, saved, [number; 32], now)
}

/// Tells a story; see the module.
pub fn rendezvous(data: &[u8]) {
    let mut wanted = settings([1, 2]);
    wanted.limits.hosts = 3;
    wanted.limits.relays = 2;
    let now = Time::ZERO + Duration::from_secs(100);
    let mut rng = Rng::from_seed([1; 32]);
    let clients = (0..CLIENTS).map(|n| Client::new(access(if n == 3 { 2 } else { 1 }), rng.fork())).collect();
    let mut story = Story {
        server: start(&wanted, Saved::default(), 0, now),
        settings: wanted,
        now,
        clients,
        addrs: (0..CLIENTS as u8).map(addr).collect(),
        saved: Saved::default(),
        map: BTreeMap::new(),
        past: Vec::new(),
        starts: 0,
    };
    story.drain();
    let mut input = data.iter().copied();
    for _ in 0..STEPS {
        if story.step(&mut input).is_none() {
            break;
        }
        story.check();
    }
}

impl Story {
    fn step(&mut self, input: &mut impl Iterator<Item = u8>) -> Option<()> {
        let (what, whom) = (input.next()?, input.next()?);
        let client = usize::from(whom) % CLIENTS;
        match what % 12 {
            0 => {
                let len = usize::from(input.next()?);
                let payload: Vec<u8> = input.by_ref().take(len).collect();
                self.stranger(whom, &payload);
            }
            1 => {
                let hello = self.clients.get_mut(client)?.hello();
                self.send(client, hello);
            }
            2 | 3 => {
                let message = self.message(client, input.next()?)?;
                self.say(client, &[message]);
            }
            4 => {
                // Two messages in one datagram.
                let messages = [self.message(client, input.next()?)?, self.message(client, input.next()?)?];
                self.say(client, &messages);
            }
            5 => {
                // What came before, changed or not, from anywhere.
                let (which, place, bits) = (usize::from(input.next()?), usize::from(input.next()?), input.next()?);
                let mut payload = self.past.get(which.checked_rem(self.past.len())?)?.clone();
                let len = payload.len();
                if let Some(byte) = payload.get_mut(place.checked_rem(len)?) {
                    *byte ^= bits;
                }
                self.stranger(whom, &payload);
            }
            6 => {
                // Any plaintext under a session's keys.
                let len = usize::from(input.next()?);
                let plaintext: Vec<u8> = input.by_ref().take(len).collect();
                let mut datagram = Vec::new();
                let session = self.clients.get_mut(client)?.session.as_mut();
                if session.is_some_and(|session| session.seal(Label::ZERO, &plaintext, &mut datagram).is_ok()) {
                    self.send(client, datagram);
                }
            }
            7 => self.pass(Duration::from_millis(1 << (whom % 18))),
            8 => {
                self.starts = self.starts.wrapping_add(1);
                self.map.clear();
                self.server = start(&self.settings, self.saved.clone(), self.starts, self.now);
                self.drain();
            }
            9 => {
                let key = self.clients.get(client)?.key();
                let revoked = &mut self.settings.networks.first_mut()?.revoked;
                if !revoked.remove(&key) {
                    revoked.insert(key);
                }
                self.server.configure(self.now, self.settings.clone());
                self.drain();
            }
            10 => *self.addrs.get_mut(client)? = addr(whom % 16),
            _ => {
                // A frame with a label that somebody has, or nobody.
                let key = self.map.keys().nth(usize::from(whom) % self.map.len().max(1)).copied();
                let (from, label) = key.map_or((addr(whom), Label::ZERO), |key| (key.from, key.label));
                let [a, b, c] = label.to_bytes();
                self.input(from, &[8, a, b, c, 0, 0, 1, 0, whom]);
            }
        }
        Some(())
    }

    fn message(&mut self, client: usize, which: u8) -> Option<Message> {
        let peer = self.clients.get(usize::from(which >> 4) % CLIENTS)?.key();
        let client = self.clients.get_mut(client)?;
        let vnis = [[1, 2], [2, 3], [1, 3], [5, 6]];
        Some(match which % 7 {
            0 | 1 => client.register("name", vnis.get(usize::from(which >> 4) % 4)?, &[]),
            2 => Message::Refresh { request: client.number() },
            3 => client.sync(u64::from(which >> 4) << 36, (which & 8 != 0).then_some(peer)),
            4 => client.connect(peer, &[]),
            5 => Client::forward(peer, b"Wxxxxxxxxxxx"),
            _ => Message::Bye { reason: ByeReason::STOPS },
        })
    }

    fn say(&mut self, client: usize, messages: &[Message]) {
        if let Some(datagram) = self.clients.get_mut(client).and_then(|client| client.say(messages)) {
            self.send(client, datagram);
        }
    }

    fn send(&mut self, client: usize, payload: Vec<u8>) {
        if let Some(from) = self.addrs.get(client).copied() {
            self.past.push(payload.clone());
            self.input(from, &payload);
        }
    }

    /// From where no client is: at most as much comes back.
    fn stranger(&mut self, whom: u8, payload: &[u8]) {
        let from = addr(100 + whom % 16);
        let to_it = self.input(from, payload);
        assert!(!self.server.hosts().any(|host| host.addr == from), "it has never answered");
        // What is said of a pulse is longer than it, but not on the wire.
        let most = if matches!(payload, [_, _] | [b'P', _, _, _, _, _]) { PULSE } else { payload.len() };
        assert!(to_it <= most, "{to_it} bytes for {}", payload.len());
    }

    /// Bytes that went back.
    fn input(&mut self, from: SocketAddr, payload: &[u8]) -> usize {
        self.server.handle_input(self.now, Socket::Main, from, payload);
        self.drain().get(&from).copied().unwrap_or(0)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
        self.drain();
        assert!(self.server.poll_timeout().is_some_and(|next| next > self.now), "what was due is done");
    }

    /// Carries out and delivers what there is; bytes that the first of it took, by receiver.
    fn drain(&mut self) -> BTreeMap<SocketAddr, usize> {
        let mut bytes: BTreeMap<SocketAddr, usize> = BTreeMap::new();
        let mut is_first = true;
        loop {
            while let Some(command) = self.server.poll_command() {
                match command {
                    Command::SetRelay { key, target } => _ = self.map.insert(key, target),
                    Command::DeleteRelay { key } => {
                        assert!(self.map.remove(&key).is_some(), "what is deleted was there")
                    }
                    Command::Save(change) => self.saved.apply(change),
                }
            }
            while self.server.poll_event().is_some() {}
            let transmits: Vec<_> = std::iter::from_fn(|| self.server.poll_transmit()).collect();
            if transmits.is_empty() {
                return bytes;
            }
            for transmit in transmits {
                if is_first {
                    *bytes.entry(transmit.to).or_default() += transmit.payload.len();
                }
                let Some(place) = self.addrs.iter().position(|addr| *addr == transmit.to) else { continue };
                let Some(client) = self.clients.get_mut(place) else { continue };
                let heard = client.hear(self.now, &transmit.payload);
                for reply in heard.replies {
                    self.past.push(reply.clone());
                    self.server.handle_input(self.now, Socket::Main, transmit.to, &reply);
                }
            }
            is_first = false;
        }
    }

    fn check(&self) {
        let hosts: BTreeSet<_> = self.server.hosts().map(|host| (host.network, host.key)).collect();
        let kept: BTreeSet<_> = self.saved.hosts.iter().map(|host| (host.network, host.key)).collect();
        assert_eq!(hosts, kept, "who is registered is kept");
        let view = self.server.view();
        assert!(hosts.len() <= self.settings.limits.hosts && view.relays <= self.settings.limits.relays);
        assert_eq!(
            (view.relays, 2 * view.relays),
            (self.saved.relays.len(), self.map.len()),
            "pairs are kept and relayed"
        );
        let ends: BTreeSet<_> = self.server.hosts().map(|host| host.addr).collect();
        assert!(self.map.iter().all(|(key, target)| ends.contains(&key.from) && ends.contains(&target.to)));
    }
}
