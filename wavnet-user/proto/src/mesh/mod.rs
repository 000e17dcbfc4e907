//! The agent among its peers: registered with rendezvous servers, connected to every host that shares a VNI with it, by the best path
//! that there is.
//!
//! [`Mesh`] is a state machine without I/O. Datagrams, time and facts come in ([`Mesh::handle_input`], [`Mesh::handle_timeout`],
//! [`Mesh::set_addresses`], …); datagrams, commands and events go out. After each call drain [`Mesh::poll_transmit`],
//! [`Mesh::poll_command`] and [`Mesh::poll_event`], carry out commands before sending, and call [`Mesh::handle_timeout`] when
//! [`Mesh::poll_timeout`] says so. Times are what the shell's clock says; one that steps back does no harm.
//!
//! ```text
//! link      HELLO, INIT → session with a server → REGISTER → lease, directory
//! peer      directory → CONNECT, INIT by way of the server → session with the peer → PEER_HELLO
//! peer::ways  INVITE → openers → probes → proven paths → the best one is selected; pulses watch over each
//! ```

mod budget;
mod change;
mod context;
mod drops;
mod left;
mod link;
mod mapped;
mod nat;
mod output;
mod path;
mod paths;
mod peer;
mod predict;
mod pulse;
mod receive;
mod roster;
mod search;
mod servers;
mod settings;
mod steady;
mod timer;
mod turns;
mod view;

use std::{collections::BTreeMap, time::Duration};

pub use drops::Dropped;
pub use output::{Command, Event, PathId, PathKind, RELAYED_PULSE, ServerTrouble, Way};
pub use pulse::{ANSWER, Health, Pulses, Rtt};
pub use search::ENTRIES;
pub use settings::{Server, Settings};
pub use view::{PathView, PeerView, ServerView};

use self::{
    context::{Context, Local, Output},
    link::Link,
    peer::Peer,
    steady::Steady,
    timer::Timer,
};
use crate::{
    counted::Counts,
    rng::Rng,
    time::Time,
    timers::Timers,
    transmit::Transmit,
    trust::{PublicKey, SecretKey},
    wire::NatSummary,
};

/// Who does nothing for so long though timers have run out has stood still (its clock shows it), or its clock was put forward.
const SLEPT: Duration = Duration::from_secs(2);

/// Whose session an index names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Link(usize),
    Peer(PublicKey),
}

/// The state machine. See the [module](self).
#[derive(Debug)]
pub struct Mesh {
    clock: Steady,
    /// When it was last looked which timers have run out.
    ran: Time,
    local: Local,
    rng: Rng,
    timers: Timers<Timer>,
    out: Output,
    links: Vec<Link>,
    /// Indices that each link has put into [`Mesh::owners`].
    link_indices: Vec<Vec<u32>>,
    peers: BTreeMap<PublicKey, Peer>,
    owners: BTreeMap<u32, Owner>,
    dropped: Counts<{ Dropped::ALL.len() }>,
    limits: receive::Limits,
}

/// A [`Context`] of the parts of a mesh that are not lent otherwise.
macro_rules! lend {
    ($mesh:ident, $now:expr) => {
        &mut Context {
            now: $now,
            rng: &mut $mesh.rng,
            local: &$mesh.local,
            timers: &mut $mesh.timers,
            out: &mut $mesh.out,
        }
    };
}
use lend;

impl Mesh {
    /// A mesh of one: it reaches out for its servers when [`Mesh::set_addresses`] has been called.
    #[must_use]
    pub fn new(settings: Settings, secret: SecretKey, seed: [u8; 32]) -> Mesh {
        let key = secret.public();
        let mut rng = Rng::from_seed(seed);
        let local = Local {
            secret,
            key,
            settings,
            hosts: Vec::new(),
            mapped: BTreeMap::new(),
            nat: NatSummary::default(),
            generation: 1,
            phase: Duration::from_nanos(rng.below(1 << 30)),
        };
        let mut mesh = Mesh {
            clock: Steady::default(),
            ran: Time::ZERO,
            local,
            rng,
            timers: Timers::default(),
            out: Output::default(),
            links: Vec::new(),
            link_indices: Vec::new(),
            peers: BTreeMap::new(),
            owners: BTreeMap::new(),
            dropped: Counts::default(),
            limits: receive::Limits::default(),
        };
        let servers = mesh.local.settings.servers.clone();
        mesh.replace_links(Time::ZERO, &servers, false);
        mesh
    }

    /// This host's public key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.local.key
    }

    /// Whether frames have gone to this peer lately. A path that is in use is watched closely.
    pub fn set_busy(&mut self, now: Time, peer: &PublicKey, busy: bool) {
        let now = self.clock.read(now);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.set_busy(lend!(self, now), busy);
        }
    }

    /// The kernel has seen the answer to a pulse, at `at`.
    pub fn pulse_answered(&mut self, now: Time, peer: &PublicKey, path: PathId, number: u16, at: Time) {
        let (now, at) = (self.clock.read(now), self.clock.of(at));
        if let Some(peer) = self.peers.get_mut(peer)
            && let Some(id) = peer.by_slot(path)
        {
            peer.pulsed(lend!(self, now), id, at.min(now), number);
            self.settle(now);
        }
    }

    /// The datapath has no room for a path: it is given up, until the peer proves it once more.
    pub fn path_refused(&mut self, now: Time, peer: &PublicKey, path: PathId) {
        let now = self.clock.read(now);
        if let Some(peer) = self.peers.get_mut(peer)
            && let Some(id) = peer.by_slot(path)
        {
            peer.drop_path(lend!(self, now), id);
            self.settle(now);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        let now = self.clock.read(now);
        let ran = std::mem::replace(&mut self.ran, now);
        if self.timers.next().is_some_and(|due| now.since(due.max(ran)) >= SLEPT) {
            self.peers.values_mut().for_each(|peer| peer.woke(lend!(self, now)));
        }
        while let Some(timer) = self.timers.pop(now) {
            self.run_out(now, timer);
            self.settle(now);
        }
    }

    /// When [`Mesh::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next().map(|at| self.clock.shell(at))
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.transmits.pop_front()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.out.commands.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    fn run_out(&mut self, now: Time, timer: Timer) {
        let index = self.fresh_index();
        // Ports are predicted where IPv4 is translated.
        let asks = |link: &&Link| link.is_sound(now) && link.server.addr.is_ipv4();
        self.out.stun_server = self.links.iter().find(asks).map(|link| link.server.addr);
        let cut_off = matches!(timer, Timer::ServerPulse(_)) && self.is_cut_off(now);
        let cx = lend!(self, now);
        match timer {
            Timer::Greet(i) | Timer::Register(i) | Timer::Sync(i) | Timer::ServerPulse(i) => {
                let Some(link) = self.links.get_mut(i) else { return };
                match timer {
                    Timer::Greet(_) => link.greet_again(cx, index),
                    Timer::Register(_) => link.register_again(cx, index),
                    Timer::Sync(_) => link.sync_again(cx),
                    _ => link.pulse(cx, cut_off),
                }
                self.own_link(i);
                self.forget_outdated(now);
            }
            Timer::Connect(key) => self.connect(now, key),
            Timer::Forget(key) => self.forget(now, key),
            Timer::Tell(key)
            | Timer::Probe(key, _)
            | Timer::Pulse(key, _)
            | Timer::Punch(key)
            | Timer::Switch(key)
            | Timer::Search(key)
            | Timer::Rekey(key) => {
                if let Some(peer) = self.peers.get_mut(&key) {
                    match timer {
                        Timer::Tell(_) => peer.tell_again(cx),
                        Timer::Probe(_, id) => peer.probe(cx, id),
                        Timer::Pulse(_, id) => peer.pulse(cx, id),
                        Timer::Punch(_) => peer.punch_again(cx),
                        Timer::Switch(_) => peer.switch_now(cx),
                        Timer::Search(_) => peer.search(cx),
                        _ => peer.rekey(cx, index),
                    }
                    self.settle_owners(key);
                }
                if timer == Timer::Search(key)
                    && let Some(next) = self.out.turns.pass(key, now)
                {
                    self.timers.set_no_later(Timer::Search(next), now);
                }
            }
        }
    }

    fn tell_all(&mut self, now: Time) {
        for peer in self.peers.values_mut() {
            peer.tell_anew(lend!(self, now));
        }
    }

    /// A session index that is nobody's.
    fn fresh_index(&mut self) -> u32 {
        loop {
            let index = self.rng.u32();
            if index != 0 && !self.owners.contains_key(&index) {
                return index;
            }
        }
    }

    fn disown_link(&mut self, i: usize) {
        if let Some(indices) = self.link_indices.get_mut(i) {
            for index in indices.drain(..) {
                self.owners.remove(&index);
            }
        }
    }

    fn own_link(&mut self, i: usize) {
        self.disown_link(i);
        if let (Some(link), Some(indices)) = (self.links.get(i), self.link_indices.get_mut(i)) {
            indices.extend(link.indices());
            for index in indices.iter() {
                self.owners.insert(*index, Owner::Link(i));
            }
        }
    }

    /// Notes whose sessions have begun and ended.
    fn settle_owners(&mut self, key: PublicKey) {
        for index in self.out.owned.drain(..) {
            self.owners.insert(index, Owner::Peer(key));
        }
        for index in self.out.disowned.drain(..) {
            self.owners.remove(&index);
        }
    }

    /// Hands on what is to go by way of a server, and looks whether servers still know us.
    fn settle(&mut self, now: Time) {
        for (way, key) in std::mem::take(&mut self.out.contested) {
            self.hand_over(now, way, key);
        }
        for (peer, link, datagram) in std::mem::take(&mut self.out.forwards) {
            self.forward(now, peer, link, datagram);
        }
        if std::mem::take(&mut self.out.lost) && self.is_cut_off(now) {
            (0..self.links.len()).for_each(|i| self.timers.set_no_later(Timer::ServerPulse(i), now));
        }
        let (all, doubtful) = (std::mem::take(&mut self.out.displaced), std::mem::take(&mut self.out.doubtful));
        for link in self.links.iter_mut().filter(|link| all || doubtful.contains(&link.server.addr)) {
            link.doubt(lend!(self, now));
        }
    }

    /// A way is this peer's now.
    fn hand_over(&mut self, now: Time, way: Way, key: PublicKey) {
        let before = self.out.ways.get(&way).copied().filter(|(owner, _)| *owner != key);
        if let Some((owner, id)) = before
            && let Some(peer) = self.peers.get_mut(&owner)
        {
            peer.usurped(lend!(self, now), id);
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.add_proven(lend!(self, now));
        }
    }
}
