//! Start from what was kept, other settings while it runs, and whom they leave.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Admission, Command, Counters, Event, HostId, Hosts, Leave, Network, Output, Relays, Rendezvous, Served, Settings,
    Timer,
    directory::Directory,
    hosts::{Host, Registration},
    persist::{Change, Saved, SavedHost, SavedRelay},
    vnis::Vnis,
};
use crate::{
    bucket::Bucket,
    rng::Rng,
    time::Time,
    timers::Timers,
    trust::{CookieJar, NetworkId, SecretKey},
    wire::{Message, message::ByeReason},
};

/// Numbers of starts come round after so many.
const INCARNATIONS: u32 = 1 << 24;

impl Rendezvous {
    /// Starts from what was kept; randomness comes from the seed alone.
    #[must_use]
    pub fn new(settings: Settings, secret: SecretKey, saved: Saved, seed: [u8; 32], now: Time) -> Rendezvous {
        let mut rng = Rng::from_seed(seed);
        let jar = CookieJar::new(rng.fork());
        let incarnation = (saved.incarnation % INCARNATIONS + 1) % INCARNATIONS;
        let mut server = Rendezvous {
            secret,
            jar,
            incarnation: incarnation.max(1),
            networks: BTreeMap::new(),
            hosts: Hosts::default(),
            relays: Relays::default(),
            timers: Timers::default(),
            admission: Admission::new(rng.u64()),
            unknowns: Bucket::default(),
            damper: Default::default(),
            moved: BTreeMap::new(),
            looked_for_room: Time::ZERO,
            counters: Counters::default(),
            out: Output::default(),
            plaintext: Vec::new(),
            settings: settings.clone(),
            rng,
        };
        server.out.save(Change::Incarnation(server.incarnation));
        server.serve(now, settings.networks);
        saved.hosts.into_iter().for_each(|host| server.restore_host(now, host));
        saved.relays.into_iter().for_each(|relay| server.restore_relay(now, relay));
        server.map_relays(true);
        // Nobody knows an older directory than this one.
        for served in server.networks.values_mut() {
            served.directory.take_changed();
        }
        server.timers.set(Timer::Sweep, now + super::push::SWEEP);
        server
    }

    fn restore_host(&mut self, now: Time, saved: SavedHost) {
        let (network, key) = (saved.network, saved.key);
        let is_known = self.hosts.by_key(network, key).is_some();
        let has_room = self.hosts.registered() < self.settings.limits.hosts;
        let served = self.networks.get_mut(&network).filter(|s| s.network.admits(&key) && has_room && !is_known);
        let Some(served) = served else {
            if !is_known {
                self.out.save(Change::ForgetHost { network, key });
            }
            return;
        };
        let mut host = Host::visitor(network, key, saved.addr);
        let mut registration = Registration {
            name: saved.name,
            nat: saved.nat,
            candidates: saved.candidates.into(),
            vnis: Vnis::default(),
            asked: None,
            left: Vnis::default(),
            changed: 0,
            vnis_since: 0,
        };
        registration.set_vnis(saved.vnis.into_iter().collect(), &key, &served.network);
        served.directory.put(key, &mut registration, None);
        host.registration = Some(Box::new(registration));
        if let Some(id) = self.hosts.insert(host) {
            self.timers.set(Timer::Lease(id), now + self.lease());
        }
    }

    fn restore_relay(&mut self, now: Time, saved: SavedRelay) {
        let SavedRelay { network, hosts, labels } = saved;
        let [a, b] = hosts.map(|key| self.hosts.by_key(network, key));
        let has_room = self.relays.len() < self.settings.limits.relays;
        let restored = match (a, b) {
            (Some(a), Some(b)) if has_room => self.relays.restore(now, [a, b], labels),
            _ => false,
        };
        if !restored {
            self.out.save(Change::ForgetRelay { network, hosts });
        }
    }

    /// Takes other settings: at once, for those who are here as well.
    pub fn configure(&mut self, now: Time, settings: Settings) {
        let relayed = self.settings.relay;
        let networks = settings.networks.clone();
        self.settings = settings;
        self.serve(now, networks);
        match (relayed, self.settings.relay) {
            (false, true) => self.map_relays(true),
            (true, false) => self.map_relays(false),
            _ => {}
        }
        self.flush();
    }

    /// Serves these networks and no others.
    fn serve(&mut self, now: Time, networks: Vec<Network>) {
        let wanted: BTreeSet<NetworkId> = networks.iter().map(Network::id).collect();
        for (id, why) in self.unwanted(&wanted, &networks) {
            self.dismiss(now, id, why, Some(ByeReason::NOT_ALLOWED));
        }
        self.networks.retain(|id, _| wanted.contains(id));
        let mut seen = BTreeSet::new();
        for network in networks.into_iter().filter(|network| seen.insert(network.id())) {
            let incarnation = self.incarnation;
            let served = self.networks.entry(network.id()).or_insert_with(|| Served {
                network: network.clone(),
                directory: Directory::new(incarnation),
                round: None,
                round_at: Time::ZERO,
            });
            served.network = network;
        }
        self.reconsider_vnis(now);
    }

    /// Hosts that may not be here any more.
    fn unwanted(&self, wanted: &BTreeSet<NetworkId>, networks: &[Network]) -> Vec<(HostId, Leave)> {
        let stays = |host: &Host| {
            let network = networks.iter().find(|network| network.id() == host.network);
            wanted.contains(&host.network) && network.is_some_and(|network| network.admits(&host.key))
        };
        self.hosts.iter().filter(|(_, host)| !stays(host)).map(|(id, _)| (id, Leave::NotAllowed)).collect()
    }

    /// Each host's VNIs as the policies have them now.
    fn reconsider_vnis(&mut self, now: Time) {
        let ids: Vec<HostId> = self.hosts.iter().map(|(id, _)| id).collect();
        for id in ids {
            let Some(host) = self.hosts.get(id) else { continue };
            let Some(served) = self.networks.get_mut(&host.network) else { continue };
            let (Some(before), key) = (&host.registration, host.key) else { continue };
            let mut registration = Registration::clone(before);
            registration.set_vnis(before.asked.as_ref().unwrap_or(&before.vnis).clone(), &key, &served.network);
            if registration.vnis != before.vnis {
                served.directory.put(key, &mut registration, Some(before));
                let network = host.network;
                self.hosts.register(id, registration);
                self.note_changed(now, network);
            }
        }
    }

    /// A host leaves; it is told if there is a reason to give.
    pub(super) fn dismiss(&mut self, now: Time, id: HostId, why: Leave, bye: Option<ByeReason>) {
        self.drop_relays(id);
        let Some(mut host) = self.hosts.remove(id) else { return };
        self.timers.stop(Timer::Lease(id));
        self.moved.remove(&id);
        self.out.messages.remove(&id);
        if let (Some(reason), Some(session)) = (bye, &mut host.current) {
            self.out.bye(session, host.addr, reason);
        }
        let Some(registration) = host.registration else { return };
        let (network, key) = (host.network, host.key);
        self.out.save(Change::ForgetHost { network, key });
        self.out.events.push_back(Event::Left { network, host: key, why });
        if let Some(served) = self.networks.get_mut(&network) {
            served.directory.remove(now, key, &registration);
            self.note_changed(now, network);
        }
    }

    /// How long a host is kept: longer than it is told, for REFRESH may be on its way.
    pub(super) fn lease(&self) -> std::time::Duration {
        self.settings.lease + super::requests::GRACE
    }
}

impl Registration {
    /// Of what a host wants to join, what it may.
    pub(super) fn set_vnis(&mut self, asked: Vnis, key: &crate::trust::PublicKey, network: &Network) {
        self.vnis = asked.iter().filter(|vni| network.policy.allows(key, *vni)).collect();
        self.asked = (self.vnis != asked).then_some(asked);
    }
}

impl Output {
    pub(super) fn save(&mut self, change: Change) {
        self.commands.push_back(Command::Save(change));
    }

    /// Tells a host that its session is over.
    pub(super) fn bye(&mut self, session: &mut crate::trust::Session, to: std::net::SocketAddr, reason: ByeReason) {
        self.tell(session, to, &Message::Bye { reason });
    }
}
