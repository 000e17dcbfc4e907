//! The mesh in the agent: its sockets, its clock, and what it says put into the fabric.

mod agent;
mod carry;
mod device;
mod hold;
mod left;
mod names;
mod nat;
mod pulses;
pub(crate) mod settings;
mod sockets;
#[cfg(test)]
mod tests;
mod views;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use wavnet_proto::{
    fabric::{Control, Fabric},
    mesh::{Event, Mesh, PathId, PathKind, Settings},
    places::Places,
    time::Time,
    transmit::{Socket, Transmit},
    trust::PublicKey,
};

use self::{
    hold::Holding,
    names::Names,
    nat::Classification,
    pulses::Awaited,
    settings::Wanted,
    sockets::{Received, Sockets},
};
use crate::{
    agent::{RETRY, execute::Complaints},
    config::{Config, Exposed, ServerAddress},
    datapath::{Datapath, monotonic_ns},
    nat::Step,
    random,
};

/// Datagrams that are taken at once.
const BATCH: usize = 64;
/// Frames that went out longer ago than this are no traffic.
const QUIET: Duration = Duration::from_secs(2);
/// Peers that an earlier agent has left are kept for so long: they will be connected again.
const UNCLAIMED: Duration = Duration::from_secs(60);
/// The loop looks at the clock at least so often: whatever happens to clocks, nothing stands still for longer.
const LONGEST: Duration = Duration::from_secs(1);
/// How often it is looked whether answers to pulses have come, while some are missing.
const LOOK: Duration = Duration::from_millis(20);

/// Something happened.
pub(super) enum Input {
    /// A datagram.
    Received(Received),
    /// The time has come that some timer waits for.
    Timeout,
    /// Names were resolved.
    Resolved(Vec<names::Answer>),
    /// The classification of the NAT wants something.
    Classification(Step),
}

/// The mesh, and all that belongs to it in this process.
pub(super) struct Overlay {
    mesh: Mesh,
    names: Names,
    settings: Settings,
    /// Files of keys that others may use.
    exposed: Vec<Exposed>,
    sockets: Option<Sockets>,
    /// What an earlier agent has left.
    left: left::Left,
    closed: Option<Closed>,
    nat: Classification,
    /// Slots in the kernel's table.
    slots: BTreeMap<PathId, (PublicKey, u16)>,
    places: Places,
    holding: Holding,
    awaited: Awaited,
    complaints: Complaints,
    /// Frames sent to each peer, and when there were last more.
    traffic: BTreeMap<PublicKey, (u64, Option<Time>)>,
    /// How long it took until frames could be sent to each peer.
    firsts: BTreeMap<PublicKey, Firsts>,
    /// When a server first took this host in.
    registered: Option<Time>,
    /// How often somebody was refused, as the log has it.
    refused: u64,
    outgoing: Vec<Transmit>,
}

/// How long it took, since a peer was first wanted, until there was a path, and one without a relay.
#[derive(Clone, Copy, Debug, Default)]
struct Firsts {
    any: Option<Duration>,
    direct: Option<Duration>,
}

/// Why the main socket is not open.
struct Closed {
    at: SocketAddr,
    again: Time,
    why: String,
}

/// CLOCK_MONOTONIC: the clock that the programs read, too.
fn now() -> Time {
    Time::from_nanos(monotonic_ns())
}

impl Overlay {
    /// Reads the keys; nothing is sent before there is an underlay address.
    ///
    /// # Errors
    /// A file of keys cannot be read, or has something wrong.
    pub(super) fn open(config: &Config) -> Result<Option<Overlay>> {
        let (Some(mesh_config), Some(wanted)) = (&config.mesh, settings::read(config)?) else { return Ok(None) };
        let Wanted { secret, settings, exposed } = wanted;
        let mut rng = random::generator()?;
        let mesh = Mesh::new(settings.clone(), secret, rng.bytes());
        info!(key = %mesh.key(), "this host's public key");
        Ok(Some(Overlay {
            mesh,
            names: Names::new(mesh_config.servers.clone()),
            settings,
            exposed,
            sockets: None,
            left: left::Left::new(now()),
            closed: None,
            nat: Classification::new(rng.fork()),
            slots: BTreeMap::new(),
            places: Places::default(),
            holding: Holding::open(),
            awaited: Awaited::default(),
            complaints: Complaints::default(),
            traffic: BTreeMap::new(),
            firsts: BTreeMap::new(),
            registered: None,
            refused: 0,
            outgoing: Vec::new(),
        }))
    }

    /// Opens the main socket where the underlay's address is now, and tells the fabric what is open.
    pub(super) fn follow_address(&mut self, local: Option<Ipv4Addr>, port: u16, fabric: &mut Fabric) {
        let wanted = local.map(|ip| (ip, port).into());
        // That a port could not be opened is no trouble where this host is not any more.
        self.closed = self.closed.take().filter(|closed| Some(closed.at) == wanted);
        let rests = self.closed.as_ref().is_some_and(|closed| now() < closed.again);
        if rests || self.sockets.as_ref().map(Sockets::address) == wanted {
            return;
        }
        // The old one first: it may have the same port.
        self.sockets = None;
        self.closed = None;
        if let Some(ip) = local {
            match Sockets::open(ip, port) {
                Ok(sockets) => {
                    self.sockets = Some(sockets);
                    self.names.hurry();
                }
                Err(e) => {
                    self.closed = Some(Closed { at: (ip, port).into(), again: now() + RETRY, why: e.to_string() });
                }
            }
        }
        // Frames leave by the port that there is now.
        if let Some(sockets) = &self.sockets {
            let refused = self.places.follow_ports(fabric, sockets.ports());
            refused.into_iter().for_each(|(peer, e)| self.complain(&peer, Err(e)));
        }
        let hosts = self.sockets.iter().map(Sockets::address).collect();
        self.mesh.set_addresses(now(), hosts);
        self.nat.restart();
        self.take_over(fabric);
    }

    /// True if this host is to have another key than it runs with.
    pub(super) fn is_another(&self, wanted: &Wanted) -> bool {
        self.mesh.key() != wanted.secret.public()
    }

    /// What is open for peers.
    fn open_now(&self) -> Control {
        let ports = self.sockets.as_ref().map(Sockets::extra_ports);
        Control {
            open: self.sockets.is_some(),
            extra_ports: ports.unwrap_or(wavnet_common::abi::ExtraPorts::NONE),
            hold_ifindex: self.hold_ifindex(),
        }
    }

    /// The interface that frames wait at; zero: there is none.
    pub(super) fn hold_ifindex(&self) -> u32 {
        self.holding.ifindex()
    }

    /// What the operator should look at.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.names.unresolved().iter().map(|why| format!("rendezvous server: {why}")).collect();
        all.extend(self.exposed.iter().map(Exposed::warning));
        // Without a socket nothing was asked.
        let servers = if self.sockets.is_some() { self.mesh.servers() } else { Vec::new() };
        let troubled = servers.iter().filter_map(|s| Some((s.addr, s.trouble?)));
        all.extend(troubled.map(|(addr, trouble)| format!("rendezvous server {addr}: {trouble}")));
        if self.mesh.is_full() {
            all.push("there are as many peers as `limits.peers` allows: more hosts cannot be reached".to_owned());
        }
        all.extend(self.closed.as_ref().map(|closed| {
            let Closed { at, why, .. } = closed;
            format!(
                "peers behind NATs cannot be reached, for UDP port {} of {} cannot be opened: {why}",
                at.port(),
                at.ip()
            )
        }));
        all.extend(self.holding.trouble().map(|why| {
            format!("a few frames may be overtaken when a peer changes its path, for no tap can be made ({why})")
        }));
        all
    }

    /// Waits until something happens.
    pub(super) async fn next(&mut self) -> Input {
        let now = now();
        let timeouts = [self.mesh.poll_timeout(), self.holding.poll_timeout(now)];
        let mut due = timeouts.into_iter().flatten().fold(now + LONGEST, Time::min);
        if !self.awaited.is_empty() {
            due = due.min(now + LOOK);
        }
        tokio::select! {
            received = next_datagram(&mut self.sockets) => Input::Received(received),
            () = sleep(due.since(now)) => Input::Timeout,
            () = self.holding.readable() => Input::Timeout,
            step = self.nat.next() => Input::Classification(step),
            answers = self.names.next(now) => Input::Resolved(answers),
        }
    }

    /// Takes what happened.
    pub(super) fn handle(&mut self, input: Input, datapath: &Datapath) {
        match input {
            Input::Received(received) => {
                self.receive(received);
                for _ in 1..BATCH {
                    let Some(more) = self.sockets.as_mut().and_then(Sockets::try_next) else { break };
                    self.receive(more);
                }
            }
            Input::Timeout => {}
            Input::Resolved(answers) => self.resolved(answers),
            Input::Classification(step) => self.classification(step),
        }
        self.look_for_answers(datapath);
        self.mesh.handle_timeout(now());
    }

    fn receive(&mut self, Received { socket, from, payload }: Received) {
        // Other sockets are the mesh's alone.
        if socket != Socket::Main || !self.classified(from, &payload) {
            self.mesh.handle_input(now(), socket, from, &payload);
        }
    }

    fn resolved(&mut self, answers: Vec<names::Answer>) {
        self.names.take(now(), answers);
        let servers = self.names.servers();
        if servers != self.settings.servers {
            self.settings.servers = servers;
            self.mesh.configure(now(), self.settings.clone());
        }
    }

    /// Takes another configuration, with what its files of keys say; what that changes, in sentences.
    pub(super) fn reload(&mut self, servers: Vec<ServerAddress>, wanted: Wanted) -> Vec<String> {
        let (came, went) = self.names.configure(servers);
        let settings = Settings { servers: self.names.servers(), ..wanted.settings };
        self.exposed = wanted.exposed;
        let mut changes = settings::differences(&self.settings, &settings, self.places.keys());
        if came + went > 0 {
            changes.push(format!("rendezvous servers: {came} added, {went} removed"));
        }
        self.settings = settings;
        self.mesh.configure(now(), self.settings.clone());
        changes
    }

    /// Sends what is to be sent. What cannot be is lost, as it may be on the way.
    pub(super) fn send(&mut self) {
        self.outgoing.extend(std::iter::from_fn(|| self.mesh.poll_transmit()));
        if let Some(sockets) = &self.sockets {
            for transmit in &self.outgoing {
                drop(sockets.send(transmit));
            }
        }
        self.outgoing.clear();
    }

    /// Tells servers and peers that this host goes.
    fn say_goodbye(&mut self) {
        self.mesh.close(now());
        self.send();
    }

    /// Keeps what is to be shown of an event, and logs it.
    fn note(&mut self, event: &Event) {
        if let Event::Path { peer, kind: Some(kind), after } = event {
            let firsts = self.firsts.entry(*peer).or_default();
            firsts.any.get_or_insert(*after);
            if *kind != PathKind::Relayed {
                firsts.direct.get_or_insert(*after);
            }
        }
        match event {
            Event::Gone { peer } => drop(self.firsts.remove(peer)),
            Event::Registered { .. } => drop(self.registered.get_or_insert_with(now)),
            Event::Refused { .. } => self.refused += 1,
            _ => {}
        }
        self.log(event);
    }

    fn log(&self, event: &Event) {
        match event {
            Event::Registered { server, mapped } => {
                info!(server = %self.server(*server), %mapped, "registered with a rendezvous server");
            }
            // A warning says so for as long as it lasts.
            Event::ServerLost { server, why } => debug!(server = %self.server(*server), ?why, "a server is lost"),
            Event::Connected { peer, name } => info!(peer = %peer.short(), name, "connected"),
            Event::Path { peer, kind: Some(kind), after } => {
                info!(peer = %peer.short(), path = kind.name(), ms = after.as_millis(), "frames take a path");
            }
            Event::Path { peer, kind: None, .. } => warn!(peer = %peer.short(), "there is no path to this peer"),
            Event::Gone { peer } => info!(peer = %peer.short(), "gone"),
            Event::Refused { peer } => {
                warn!(peer = %peer.short(), "refused: it is not on the list of identities, or was revoked")
            }
            Event::Dropped { reason } => {
                info!(
                    reason = reason.label(),
                    "dropped what came in, the first time for this reason (more is counted): {}",
                    reason.help()
                );
            }
        }
    }

    fn server(&self, i: usize) -> String {
        self.settings.servers.get(i).map_or_else(|| "?".to_owned(), |s| s.addr.to_string())
    }
}

async fn next_datagram(sockets: &mut Option<Sockets>) -> Received {
    match sockets {
        Some(sockets) => sockets.next().await,
        None => std::future::pending().await,
    }
}
