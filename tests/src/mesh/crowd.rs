//! Hosts by the thousand that are no processes: agents' cores, each with a socket of its own, and a model of the tables in place of the
//! kernel's. What they say on the wire is what agents say; frames go nowhere.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wavnet_common::addr::Vni;
use wavnet_proto::{
    mesh::{Mesh, PathKind, Server, Settings},
    policy::Policy,
    rng::Rng,
    time::Time,
    transmit::Socket,
    trust::{NetworkKey, PublicKey, SecretKey},
    wire::Name,
};
use wavnet_sim::{Agent, Node};

use super::World;
use crate::lab::netns::Netns;

/// Ports of the hosts of one address.
const FIRST_PORT: u16 = 10_000;
const PORTS: usize = 50;
/// The longest sleep: whether to end is looked at as often.
const LONGEST: Duration = Duration::from_millis(50);
/// Several of its datagrams are taken before the next host's turn.
const BATCH: usize = 16;

/// Such hosts, until they drop.
#[derive(Debug)]
pub struct Crowd {
    members: Arc<Mutex<Vec<Member>>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Member {
    agent: Agent,
    at: SocketAddr,
}

impl Crowd {
    /// As many hosts as there are sets of VNIs, at addresses of a namespace on the internet, fifty at each; they reach out for the world's
    /// server at once.
    ///
    /// # Errors
    /// The addresses are not there or too few.
    pub fn start(world: &World, ns: &Netns, addresses: &[Ipv4Addr], vnis: Vec<BTreeSet<Vni>>) -> Result<Crowd> {
        // A descriptor for each, and some beside them.
        let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)?;
        let network: NetworkKey = std::fs::read_to_string(world.server.path("network.key"))?.parse()?;
        let server = SocketAddr::new(world.public.host.addr.into(), 4789);
        let mut rng = Rng::from_seed([9; 32]);
        let (mut members, mut sockets) = (Vec::new(), Vec::new());
        for (n, vnis) in vnis.into_iter().enumerate() {
            let ip = *addresses.get(n / PORTS).context("there are too few addresses")?;
            let at = SocketAddr::new(ip.into(), FIRST_PORT + (n % PORTS) as u16);
            let socket = ns.enter(|| UdpSocket::bind(at).with_context(|| format!("binding {at}")))?;
            socket.set_nonblocking(true)?;
            let settings = Settings {
                name: Name::new(&format!("crowd-{n}")).context("a name")?,
                servers: vec![Server { addr: server, key: None }],
                access: network.access(),
                member: network.member(),
                policy: Policy::Network,
                vnis,
                pulse: Settings::PULSE,
                search: false,
                peers: Settings::PEERS,
            };
            members.push(Member {
                agent: Agent::new(Mesh::new(settings, SecretKey::generate(&mut rng), rng.bytes())),
                at,
            });
            sockets.push(socket);
        }
        let (members, ends) = (Arc::new(Mutex::new(members)), Arc::new(AtomicBool::new(false)));
        let of_thread = (members.clone(), ends.clone());
        let thread = thread::spawn(move || run(&of_thread.0, &sockets, &of_thread.1));
        Ok(Crowd { members, ends, thread: Some(thread) })
    }

    /// How many of them send frames straight to a host, and have measured how far it is.
    pub fn direct_to(&self, host: &PublicKey) -> usize {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let is_direct = |member: &&Member| {
            let view = member.agent.mesh.peers().find(|peer| peer.key == *host);
            let path = view.as_ref().and_then(|view| view.selected());
            path.is_some_and(|path| path.kind == PathKind::Direct && path.rtt.is_some())
        };
        members.iter().filter(is_direct).count()
    }

    /// Ends them without a word, as a power cut does.
    ///
    /// # Errors
    /// A socket failed.
    pub fn end(mut self) -> Result<()> {
        self.ends.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(anyhow!("a host of the crowd panicked")))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn run(members: &Mutex<Vec<Member>>, sockets: &[UdpSocket], ends: &AtomicBool) -> Result<()> {
    let start = Instant::now();
    let now = || Time::from_nanos(start.elapsed().as_nanos() as u64);
    let lock = || members.lock().unwrap_or_else(PoisonError::into_inner);
    for (member, socket) in lock().iter_mut().zip(sockets) {
        member.agent.handle_sockets(now(), &[(Socket::Main, member.at)]);
        member.send(socket);
    }
    let mut fds: Vec<PollFd<'_>> = sockets.iter().map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
    while !ends.load(Ordering::Relaxed) {
        let due = lock().iter_mut().filter_map(|member| member.agent.poll_timeout()).min();
        let sleep = due.map_or(LONGEST, |due| due.since(now()).min(LONGEST));
        // Rounded up, lest it spin.
        poll(&mut fds, PollTimeout::try_from(sleep + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO))?;
        for (n, member) in lock().iter_mut().enumerate() {
            if fds[n].any().unwrap_or(true) {
                member.receive(&sockets[n], now)?;
            }
            if member.agent.poll_timeout().is_some_and(|due| due <= now()) {
                member.agent.handle_timeout(now());
            }
            member.send(&sockets[n]);
        }
    }
    Ok(())
}

impl Member {
    fn receive(&mut self, socket: &UdpSocket, now: impl Fn() -> Time) -> Result<()> {
        let mut buffer = [0; 2048];
        for _ in 0..BATCH {
            match socket.recv_from(&mut buffer) {
                Ok((len, from)) => self.agent.handle_input(now(), Socket::Main, self.at, from, &buffer[..len]),
                // Somebody to whom something was sent is not there.
                Err(e) if matches!(e.kind(), ErrorKind::ConnectionRefused) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e).context("receiving"),
            }
        }
        Ok(())
    }

    fn send(&mut self, socket: &UdpSocket) {
        // Sockets are opened for searches alone, and these hosts never search.
        while self.agent.poll_socket_request().is_some() {}
        while let Some(transmit) = self.agent.poll_transmit() {
            // What cannot be sent is lost, as on the way.
            let _ = socket.send_to(&transmit.payload, transmit.to);
        }
    }
}
