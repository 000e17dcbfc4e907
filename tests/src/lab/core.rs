//! An agent without its loop, in the test's own process: a fabric and the programs, and nothing that asks the kernel by itself.
//!
//! For what the agent has no command for. Routes and link addresses are told here as the topology has them.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use aya::maps::{Array, Map, MapData};
use nix::time::{ClockId, clock_gettime};
use wavnet_common::{
    abi::{Count, Heartbeat, map},
    addr::{Mac, PeerId, Vni},
    fdb::Place,
    reason::Reason,
};
use wavnet_proto::{
    command::{Command, HookWish},
    fabric::{
        Control, Desired, Fabric, Limits, LinkInfo, NamePattern, PortMode, PortRule, RouteInfo, Underlay,
        UnderlayDevice, Via, VlanMode, VniSettings, XdpRedirect,
    },
};
use wavnet_user::datapath::{Datapath, Options, PortXdp, Sizes, TcWish, down};

use super::{Lab, host::Host, netns::Netns, overlay::blue, ping, pins::PinDir};

/// UDP port of the overlay.
pub const UDP_PORT: u16 = 4789;

/// What a core is to have.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its ports, all of VNI [`blue`], by the names of their interfaces.
    pub ports: Vec<String>,
    /// How they are to be attached.
    pub mode: PortMode,
    /// How the NIC is.
    pub hook: HookWish,
    /// What is open besides.
    pub control: Control,
    /// The NIC's other end has XDP, too: then a veth is one by which XDP can send, as by a real NIC.
    pub both_xdp: bool,
}

impl Setup {
    /// One port, and the control socket.
    pub fn port(name: &str) -> Setup {
        let control = Control { open: true, ..Control::default() };
        Setup { ports: vec![name.to_owned()], mode: PortMode::Auto, hook: HookWish::Auto, control, both_xdp: false }
    }
}

/// An agent's core on a hypervisor.
pub struct Core {
    /// What is asked for. [`Core::settle`] puts it in force.
    pub fabric: Fabric,
    datapath: Datapath,
    ns: Netns,
    addr: Ipv4Addr,
    setup: Setup,
    // In this order: whoever writes the heartbeat has the map open.
    _beat: Beat,
    pins: Arc<Pins>,
}

/// Pins that go, with what is attached, when the last core on them is gone.
struct Pins(PinDir);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(e) = down(self.0.path()) {
            eprintln!("{} stays: {e}", self.0.path().display());
        }
    }
}

impl Core {
    /// Starts one, and puts its setup in force.
    ///
    /// # Errors
    /// Something cannot be loaded or attached.
    pub fn start(lab: &Lab, host: &Host, setup: Setup) -> Result<Core> {
        let pins = Arc::new(Pins(lab.pin_dir(&format!("core-{}", host.ns.short_name()))?));
        Core::open(host.ns.clone(), host.addr, setup, pins)
    }

    fn open(ns: Netns, addr: Ipv4Addr, setup: Setup, pins: Arc<Pins>) -> Result<Core> {
        let sizes = Sizes { ports: 16, vnis: 16, vteps: 64, members: 256, fdb_buckets: 1024 };
        let options = Options {
            bpffs: pins.0.path().to_owned(),
            sizes,
            program_stats: false,
            tc: TcWish::Auto,
            kernel_log: false,
            seed: None,
        };
        let datapath = ns.enter(|| Ok(Datapath::open(&options)?))?;
        let limits = Limits {
            ports: sizes.ports as usize,
            vnis: sizes.vnis as usize,
            vteps: sizes.vteps as usize,
            members: sizes.members as usize,
            ..Limits::default()
        };
        let mut fabric = Fabric::new(limits, &datapath.adopted()?);
        fabric.set_desired(desired(&setup)?)?;
        fabric.set_control(setup.control);
        let beat = Beat::start(&pins)?;
        let mut core = Core { fabric, datapath, ns, addr, setup, _beat: beat, pins };
        for name in [Host::NIC.to_owned()].iter().chain(&core.setup.ports.clone()) {
            core.put_link(name)?;
        }
        let nic = core.ns.ifindex(Host::NIC)?;
        core.fabric.addresses(nic, vec![addr]);
        core.fabric.links_complete();
        core.settle()?;
        Ok(core)
    }

    /// Ends this one and starts another on what it left, as when an agent is restarted.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(self) -> Result<Core> {
        let Core { fabric, datapath, ns, addr, setup, _beat, pins } = self;
        drop((fabric, datapath, _beat));
        Core::open(ns, addr, setup, pins)
    }

    fn put_link(&mut self, name: &str) -> Result<()> {
        let is_tap = name.starts_with("tap");
        let kind = match (is_tap, name) {
            (true, _) => Some("tun"),
            (false, Host::NIC) if self.setup.both_xdp => None,
            (false, _) => Some("veth"),
        };
        let redirect = if is_tap { XdpRedirect::OneBuffer } else { XdpRedirect::Everything };
        self.fabric.link_up(link_info(&self.ns, name, kind, redirect)?);
        Ok(())
    }

    /// Carries out what the fabric says, until it has nothing more to say.
    ///
    /// # Errors
    /// The first command that cannot be carried out.
    pub fn settle(&mut self) -> Result<()> {
        while let Some(command) = self.fabric.poll_command() {
            self.execute(&command).with_context(|| format!("carrying out {command:?}"))?;
        }
        Ok(())
    }

    fn execute(&mut self, command: &Command) -> Result<()> {
        let datapath = &mut self.datapath;
        match command {
            Command::QueryRoute { addr, .. } => self.fabric.route(*addr, Some(route(&self.ns, self.addr, *addr)?)),
            Command::ResolveNeighbour { ifindex, addr } => {
                let mac = resolve(&self.ns, *addr)?;
                self.fabric.neighbour(*ifindex, *addr, Some(mac));
            }
            Command::ForgetNeighbour { .. } => {}
            Command::AttachPort { ifindex, name, xdp } => {
                let hooks = self.ns.enter(|| Ok(datapath.attach_port(*ifindex, name, *xdp)?))?;
                ensure!(*xdp == (hooks.xdp == PortXdp::On), "{:?}", hooks.xdp);
            }
            Command::DetachPort { ifindex } => self.ns.enter(|| Ok(datapath.detach_port(*ifindex)?))?,
            Command::AttachUnderlay { ifindex, name, hook } => {
                self.ns.enter(|| Ok(datapath.attach_underlay(*ifindex, name, *hook)?))?;
            }
            Command::DetachUnderlay { ifindex } => self.ns.enter(|| Ok(datapath.detach_underlay(*ifindex)?))?,
            other => self.ns.enter(|| Ok(datapath.apply(other)?))?,
        }
        Ok(())
    }

    /// The programs and their tables.
    pub fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    /// What the programs have counted of something.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn count(&self, what: Count) -> Result<u64> {
        Ok(self.datapath.count(what)?)
    }

    /// Frames that were dropped for a reason.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn drops(&self, reason: Reason) -> Result<u64> {
        let all = self.datapath.drops()?;
        Ok(all.into_iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| count))
    }

    /// Slot of a dynamic peer.
    ///
    /// # Errors
    /// It has none.
    pub fn slot(&self, id: PeerId) -> Result<u16> {
        self.fabric.dynamic_peer(id).and_then(|peer| peer.index).with_context(|| format!("{id} has no slot"))
    }

    /// Where a MAC of VNI [`blue`] is, as was learned.
    pub fn place(&self, mac: Mac) -> Option<Place> {
        let vni = self.fabric.vni_index(blue())?;
        Some(self.datapath.fdb().get(vni, mac)?.place)
    }
}

/// What is to be known of an interface.
pub(super) fn link_info(ns: &Netns, name: &str, kind: Option<&str>, redirect: XdpRedirect) -> Result<LinkInfo> {
    let json = ns.ip(&format!("-j link show dev {name}"))?;
    let links: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
    let mtu = links[0]["mtu"].as_u64().context("no MTU in the output of ip -j")?;
    Ok(LinkInfo {
        ifindex: ns.ifindex(name)?,
        name: name.to_owned(),
        mtu: mtu.try_into()?,
        mac: Some(ns.mac(name)?),
        up: true,
        loopback: false,
        no_arp: false,
        kind: kind.map(str::to_owned),
        xdp_redirect: Some(redirect),
        datagram_gso: false,
    })
}

/// The way from a host to an address: by the router of its subnet, which has the first address there, unless it is near.
pub(super) fn route(ns: &Netns, from: Ipv4Addr, to: Ipv4Addr) -> Result<RouteInfo> {
    let [a, b, c, _] = from.octets();
    let near = to.octets()[..3] == [a, b, c];
    let via = if near { Via::OnLink } else { Via::Gateway(Ipv4Addr::new(a, b, c, 1)) };
    Ok(RouteInfo { oif: ns.ifindex(Host::NIC)?, via, mtu: None, local: false })
}

fn desired(setup: &Setup) -> Result<Desired> {
    let vni: Vni = blue();
    let rule =
        |name: &String| Ok(PortRule { name: NamePattern::new(name)?, vni, vlan: VlanMode::Pass, mode: setup.mode });
    Ok(Desired {
        underlay: Underlay {
            devices: vec![UnderlayDevice { name: Host::NIC.into(), hook: setup.hook }],
            ..Underlay::default()
        },
        vnis: [(vni, VniSettings::default())].into(),
        ports: setup.ports.iter().map(rule).collect::<Result<_>>()?,
        ..Desired::default()
    })
}

/// Link address of a neighbour, as the kernel finds it.
pub(super) fn resolve(ns: &Netns, addr: Ipv4Addr) -> Result<Mac> {
    ping::once(ns, addr, 0, Duration::from_secs(5))?;
    let json = ns.ip(&format!("-j neigh show to {addr} dev {}", Host::NIC))?;
    let found: serde_json::Value = serde_json::from_str(&json).context("output of ip -j")?;
    let text = found[0]["lladdr"].as_str().with_context(|| format!("{addr} has no link address: {json}"))?;
    text.parse().map_err(|e| anyhow!("{text}: {e}"))
}

/// Says that the agent is alive, as the agent would, whatever the test is doing.
struct Beat {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beat {
    fn start(pins: &Pins) -> Result<Beat> {
        let map = MapData::from_pin(pins.0.path().join("maps").join(map::HEARTBEAT))?;
        let mut map: Array<MapData, u64> = Map::Array(map).try_into()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
                let written = now.map(|now| map.set(0, now.as_nanos() as u64, 0));
                if !matches!(written, Ok(Ok(()))) {
                    eprintln!("no heartbeat: {written:?}");
                }
                thread::sleep(Duration::from_millis(Heartbeat::PERIOD_MS / 4));
            }
        });
        Ok(Beat { stop, thread: Some(thread) })
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the heartbeat's thread panicked");
        }
    }
}

/// A UDP socket of a host, such as an agent has on the overlay's port: it hears what the programs leave it.
///
/// # Errors
/// The port is taken.
pub fn socket(host: &Host, port: u16) -> Result<UdpSocket> {
    let socket = host.ns.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(host.addr, port))?))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(socket)
}

/// What a socket gets next, and from whom.
///
/// # Errors
/// Nothing comes.
pub fn heard(socket: &UdpSocket, timeout: Duration) -> Result<(Vec<u8>, SocketAddrV4)> {
    let (start, mut buffer) = (Instant::now(), [0; 2048]);
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, SocketAddr::V4(from))) => return Ok((buffer[..length].to_vec(), from)),
            Ok((_, from)) => bail!("a datagram from {from}"),
            Err(e) if start.elapsed() > timeout => return Err(e).context("nothing came"),
            Err(_) => {}
        }
    }
}
