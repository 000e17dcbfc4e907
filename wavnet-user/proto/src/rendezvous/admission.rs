//! Who gets a session: HELLO and INIT, and what keeps floods of them from costing anything.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Damper, Done, Dropped, Event, HostId, Rendezvous, Timer,
    damper::Subject,
    hosts::{Host, Pending, Prefix},
    settings::Limits,
};
use crate::{
    bucket::{Bucket, Rate},
    time::Time,
    trust::{HandshakeError, NetworkId, NetworkKey, Psk, PublicKey, Responder},
    wire::{Hello, Init},
};

/// Buckets of prefixes, which share them by chance.
const PREFIXES: usize = 4096;
/// How long a visitor may take to register.
pub(super) const VISIT: Duration = Duration::from_secs(15);
/// Visitors at the most, beside an eighth of the hosts that there may be.
const VISITORS: usize = 256;
/// Those of one prefix take up one place in so many: there is room for others.
const PREFIX_SHARE: usize = 4;
/// HELLOs of a prefix, for each handshake that it may have: they cost less, some are lost, and anybody who has seen one can send it again.
const HELLOS: u64 = 2;
/// Of all handshakes the hosts of the network without a key have one in so many: anybody can be one.
const OPEN_SHARE: u64 = 4;
/// Draws of a session's index.
const DRAWS: usize = 16;

/// Limits of handshakes, and of what comes before them.
#[derive(Debug)]
pub(super) struct Admission {
    all: Bucket,
    /// The share of the network without a key.
    open: Bucket,
    prefixes: Box<[Bucket]>,
    /// Of HELLO there is no limit for all: who sends old ones from everywhere would use it up.
    hellos: Box<[Bucket]>,
    seed: u64,
}

impl Admission {
    pub(super) fn new(seed: u64) -> Admission {
        let buckets = || vec![Bucket::default(); PREFIXES].into();
        Admission { all: Bucket::default(), open: Bucket::default(), prefixes: buckets(), hellos: buckets(), seed }
    }

    fn place(&self, ip: IpAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        // What an attacker does not know, so that it cannot choose prefixes that share a bucket with its victim's.
        self.seed.hash(&mut hasher);
        Prefix::of(ip).hash(&mut hasher);
        hasher.finish() as usize % PREFIXES
    }

    /// True if another HELLO may be answered; it is then.
    fn takes_hello(&mut self, now: Time, from: IpAddr, limits: &Limits) -> bool {
        let Rate { per_second, burst } = limits.handshakes_of_prefix;
        let rate = Rate { per_second: per_second.saturating_mul(HELLOS), burst: burst.saturating_mul(HELLOS) };
        let place = self.place(from);
        self.hellos.get_mut(place).is_some_and(|prefix| prefix.take(now, rate, 1))
    }

    /// True if another handshake of this network may be answered; it is then.
    fn takes(&mut self, now: Time, from: IpAddr, network: NetworkId, limits: &Limits) -> bool {
        let Rate { per_second, burst } = limits.handshakes;
        let share = Rate { per_second: (per_second / OPEN_SHARE).max(1), burst: (burst / OPEN_SHARE).max(1) };
        let place = self.place(from);
        let Some(prefix) = self.prefixes.get_mut(place) else { return false };
        // Who has had its share leaves the others theirs.
        prefix.take(now, limits.handshakes_of_prefix, 1)
            && (network != NetworkKey::open().id() || self.open.take(now, share, 1))
            && self.all.take(now, limits.handshakes, 1)
    }
}

fn reason(error: HandshakeError) -> Dropped {
    match error {
        HandshakeError::Network(_) => Dropped::Network,
        HandshakeError::Mac => Dropped::Mac,
        HandshakeError::Cookie => Dropped::Cookie,
        _ => Dropped::Forged,
    }
}

impl Rendezvous {
    pub(super) fn hello(&mut self, now: Time, from: SocketAddr, hello: &Hello<'_>) -> Result<(), Dropped> {
        let served = self.networks.get(&hello.network).ok_or(Dropped::Network)?;
        let responder = Responder::new(&self.secret, Psk::Access(&served.network.access));
        let cookie = responder.answer_hello(&mut self.jar, now, from, hello).map_err(reason)?;
        // Old ones that come as if from a host's neighbours do not keep it out.
        let is_known = self.hosts.by_addr(from).is_some();
        if !is_known && !self.admission.takes_hello(now, from.ip(), &self.settings.limits) {
            return Err(Dropped::HelloLimit);
        }
        self.out.send(from, cookie);
        self.counters.note(Done::Hello);
        Ok(())
    }

    pub(super) fn init(&mut self, now: Time, from: SocketAddr, init: &Init<'_>) -> Result<(), Dropped> {
        let served = self.networks.get(&init.network).ok_or(Dropped::Network)?;
        let limits = self.settings.limits;
        let responder = Responder::new(&self.secret, Psk::Access(&served.network.access));
        // Wrong MACs and cookies cost little, and anybody can send them: they leave others room.
        responder.check_init(&self.jar, now, from, init).map_err(reason)?;
        if !self.admission.takes(now, from.ip(), init.network, &limits) {
            return Err(Dropped::HandshakeLimit);
        }
        if let Some(response) = self.hosts.response(&init.ephemeral()) {
            self.out.send(from, response.to_vec());
            return Ok(());
        }
        let request = responder.read_init(&self.jar, now, from, init, &mut self.rng).map_err(reason)?;
        let (network, key, remote) = (init.network, request.peer(), request.remote_index());
        if self.holds(now, network, key, from) {
            return Err(Dropped::Duplicate);
        }
        let id = self.visit(now, network, key, from)?;
        let host = self.hosts.get(id).ok_or(Dropped::Session)?;
        if host.current.as_ref().is_some_and(|session| session.remote_index() == remote) {
            return Err(Dropped::Replayed);
        }
        let (response, session) = request.respond(now, self.index()?, &[]).map_err(reason)?;
        self.out.send(from, response.clone());
        self.hosts.add_pending(id, Pending { session, addr: from, ephemeral: init.ephemeral(), response });
        self.counters.note(Done::Handshake);
        Ok(())
    }

    /// True while another host with the same key is to be left in peace.
    fn holds(&self, now: Time, network: NetworkId, key: PublicKey, from: SocketAddr) -> bool {
        let host = self.hosts.by_key(network, key).and_then(|id| self.hosts.get(id));
        let hold = |host: &Host| host.takeover.as_ref().and_then(|takeover| takeover.hold);
        host.is_some_and(|host| host.addr != from && hold(host).is_some_and(|until| now < until))
    }

    /// The host with this key; a visitor if it is not there yet and there is room.
    fn visit(&mut self, now: Time, network: NetworkId, key: PublicKey, from: SocketAddr) -> Result<HostId, Dropped> {
        if let Some(id) = self.hosts.by_key(network, key) {
            return Ok(id);
        }
        let visitors = self.hosts.len() - self.hosts.registered();
        let most = VISITORS + self.settings.limits.hosts / 8;
        // Who may not come is told so only while there is room enough for those who may.
        let admitted = self.networks.get(&network).is_some_and(|served| served.network.admits(&key));
        let crowded = self.hosts.visitors_of(Prefix::of(from.ip())) >= most / PREFIX_SHARE;
        if visitors >= most || crowded || visitors >= most / 2 && !admitted {
            return Err(Dropped::Visitors);
        }
        let id = self.hosts.insert(Host::visitor(network, key, from)).ok_or(Dropped::Visitors)?;
        self.timers.set(Timer::Lease(id), now + VISIT);
        Ok(id)
    }

    /// An index that no session has.
    fn index(&mut self) -> Result<u32, Dropped> {
        let mut drawn = (0..DRAWS).map(|_| self.rng.u32());
        drawn.find(|index| self.hosts.by_index(*index).is_none()).ok_or(Dropped::Visitors)
    }
}

/// Tells of two hosts with one key, once a minute.
pub(super) fn duplicate(damper: &mut Damper, now: Time, host: &Host, other: SocketAddr) -> Option<Event> {
    let told = damper.tells(now, Subject::Duplicate(host.key));
    told.then_some(Event::Duplicate { network: host.network, host: host.key, held: host.addr, other })
}
