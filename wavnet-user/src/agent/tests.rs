//! The whole agent against the real kernel, in network namespaces of our own.
//!
//! A hypervisor with two ports of VNI 10, whose other ends are in the namespace of VMs, and a peer that has nothing but the
//! kernel's vxlan device.

use std::{
    path::PathBuf,
    process::Command,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use wavnet_common::addr::Mac;

use super::run_until;
use crate::{
    api::{
        Client, ErrorCode, FdbFilter, Request, Response,
        model::{AttachState, FdbChange, FdbEvent, Origin, PeerInfo, PeerState, PlaceInfo, PortInfo, Status},
    },
    config::Source,
    datapath,
    testing::{Namespace, skip},
};

/// An agent in a thread of its own.
struct Agent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Agent {
    fn start(namespace: &Namespace, source: Source) -> Agent {
        let (stop, stopped) = oneshot::channel();
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_until(source, async { drop(stopped.await) }))
        });
        Agent { stop: Some(stop), thread: Some(thread) }
    }

    /// Ends as by SIGTERM, or waits until it has ended by itself.
    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |t| t.join().expect("the agent panicked"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A hypervisor, its VMs and a peer.
struct World {
    host: Namespace,
    vms: Namespace,
    peer: Namespace,
    dir: tempfile::TempDir,
    bpffs: PathBuf,
    agent: Option<Agent>,
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.agent.take());
        // There: what is attached by interface index alone must not be looked for here.
        let bpffs = self.bpffs.clone();
        if let Err(e) = self.host.run(move || datapath::down(&bpffs)) {
            println!("cannot clean up: {e}");
        }
    }
}

impl World {
    fn new(name: &str) -> Option<World> {
        let (host, vms, peer) = (Namespace::new()?, Namespace::new()?, Namespace::new()?);
        host.ip("link set lo up");
        host.ip(&format!("link add wav-u mtu 1600 type veth peer name wav-w mtu 1600 netns {}", peer.tid));
        host.ip("addr add 198.51.100.1/24 dev wav-u");
        host.ip("link set wav-u up");
        peer.ip("addr add 198.51.100.2/24 dev wav-w");
        peer.ip("link set wav-w up");
        peer.ip("link add wav-x type vxlan id 10 local 198.51.100.2 remote 198.51.100.1 dstport 4789");
        peer.ip("addr add 10.0.0.9/24 dev wav-x");
        peer.ip("link set wav-x up");
        let dir = tempfile::tempdir().unwrap();
        let bpffs = PathBuf::from(format!("/sys/fs/bpf/wav-{name}-{}", std::process::id()));
        let world = World { host, vms, peer, dir, bpffs, agent: None };
        world.add_vm(0);
        Some(world)
    }

    /// A veth whose end here is `wav-p{n}`, and there has an address.
    fn add_vm(&self, n: u8) {
        self.host.ip(&format!("link add wav-p{n} type veth peer name wav-v{n} netns {}", self.vms.tid));
        self.host.ip(&format!("link set wav-p{n} up"));
        self.vms.ip(&format!("addr add 10.0.0.{}/24 dev wav-v{n}", n + 1));
        self.vms.ip(&format!("link set wav-v{n} up"));
    }

    fn write_config(&self, more: &str) -> PathBuf {
        let path = self.dir.path().join("wavnet.toml");
        let text = format!(
            "[agent]\nbpffs = {:?}\nrun_dir = {:?}\n[metrics]\nlisten = \"off\"\n\
             [underlay]\ninterface = \"wav-u\"\n[[vni]]\nid = 10\n{more}",
            self.bpffs,
            self.dir.path(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts an agent and waits until it answers; `None` if there is no object to load.
    fn start(&mut self) -> Option<()> {
        let path = self.dir.path().join("wavnet.toml");
        let mut agent = Agent::start(&self.host, Source::File(path));
        let since = Instant::now();
        while Client::connect(&self.socket()).is_err() {
            if agent.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                let e = agent.end().expect_err("it has not been told to end");
                return match e.downcast_ref() {
                    Some(datapath::Error::NoObject) => skip(&format!("{e:#}")),
                    _ => panic!("{e:#}"),
                };
            }
            assert!(since.elapsed() < Duration::from_secs(60), "the agent does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.agent = Some(agent);
        Some(())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    fn call(&self, request: &Request) -> Result<Response, ErrorCode> {
        use crate::api::ClientError;
        match Client::connect(&self.socket()).unwrap().call(request) {
            Ok(response) => Ok(response),
            Err(ClientError::Refused(refusal)) => Err(refusal.code),
            Err(e) => panic!("{e}"),
        }
    }

    /// Neighbours that the kernel keeps fresh for us.
    fn managed(&self) -> Vec<String> {
        let out = self.host.run(|| Command::new("ip").args(["neigh", "show", "dev", "wav-u"]).output().unwrap());
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        let managed = lines.lines().filter(|l| l.contains("managed"));
        managed.filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect()
    }

    fn status(&self) -> Status {
        let Ok(Response::Status(status)) = self.call(&Request::Status) else { panic!("no status") };
        *status
    }

    fn ports(&self) -> Vec<PortInfo> {
        let Ok(Response::Ports(ports)) = self.call(&Request::Ports) else { panic!("no ports") };
        ports
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let Ok(Response::Peers(peers)) = self.call(&Request::Peers) else { panic!("no peers") };
        peers
    }

    /// Waits for something to become true.
    fn wait(&self, what: &str, mut done: impl FnMut(&World) -> bool) {
        let since = Instant::now();
        while !done(self) {
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "{what} does not happen: {:#?} {:#?} {:#?}",
                self.status(),
                self.ports(),
                self.peers()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A ping from a VM; repeated, as the first one may be lost to ARP.
    fn assert_ping(&self, from: u8, to: &str) {
        let args = ["-c", "1", "-W", "1", "-I", &format!("wav-v{from}"), to].map(str::to_owned);
        self.wait(&format!("a ping from wav-v{from} to {to}"), |w| {
            let args = args.clone();
            w.vms.run(move || Command::new("ping").args(args).output().is_ok_and(|o| o.status.success()))
        });
    }
}

const PEER: &str = "[[peer]]\naddress = \"198.51.100.2\"\nvnis = [10]\n";
const PORT: &str = "[[port]]\ninterface = \"wav-p0\"\nvni = 10\n";

#[test]
fn an_agent_connects_a_vm_to_a_kernel_vxlan_and_keeps_what_it_is_told() {
    let Some(mut w) = World::new("agent") else { return };
    if Command::new("ping").arg("-V").output().is_err() {
        return skip("no ping").unwrap_or_default();
    }
    w.write_config(&format!("{PEER}{PORT}"));
    let Some(()) = w.start() else { return };
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    let status = w.status();
    assert_eq!((status.counts.ports_attached, status.counts.peers_up), (1, 1), "{status:?}");
    assert_eq!(status.underlay.address, Some([198, 51, 100, 1].into()));
    w.assert_ping(0, "10.0.0.9");
    assert!(w.peers()[0].traffic.rx_frames > 0 && w.ports()[0].traffic.rx_frames > 0);

    // A second agent on the same pins is refused and does no harm.
    let refused = Agent::start(&w.host, Source::File(w.dir.path().join("wavnet.toml"))).end();
    let words = format!("{:#}", refused.expect_err("two agents on the same pins"));
    assert!(words.contains("another agent"), "{words}");

    // Added by command: a port that is not there yet, and a static entry behind it.
    let vni = w.ports()[0].vni;
    let add = Request::PortAdd { interface: "wav-p1".into(), vni, vlan: Default::default() };
    let Ok(Response::Done(done)) = w.call(&add) else { panic!("refused") };
    assert_eq!(done.warnings.len(), 1, "{done:?}");
    let missing = "port wav-p1 is added by command, but there is no such interface".to_owned();
    assert!(w.status().warnings.contains(&missing), "{:?}", w.status().warnings);
    assert_eq!(w.call(&add), Err(ErrorCode::Conflict));
    let lo = Request::PortAdd { interface: "lo".into(), vni, vlan: Default::default() };
    assert_eq!(w.call(&lo), Err(ErrorCode::Conflict));
    let mac = "02:00:00:00:00:77".parse().unwrap();
    w.call(&Request::FdbAdd { vni, mac, place: PlaceInfo::Port("wav-p1".into()) }).unwrap();
    w.add_vm(1);
    w.wait("the port is attached", |w| w.status().counts.ports_attached == 2);
    w.wait("the static entry is in force", |w| w.status().counts.fdb_static == 1);

    // The agent ends and another one takes over.
    w.agent.take().unwrap().end().unwrap();
    assert!(!w.socket().exists());
    let Some(()) = w.start() else { return };
    let ports = w.ports();
    assert_eq!(ports.iter().map(|p| p.origin).collect::<Vec<_>>(), [Origin::Config, Origin::Runtime]);
    assert!(ports.iter().all(|p| p.state == AttachState::Attached), "{ports:?}");
    assert_eq!(w.status().counts.fdb_static, 1);
    assert!(w.peers()[0].traffic.rx_frames > 0, "counters go on");
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.assert_ping(0, "10.0.0.9");

    // Deleted and created anew under the same name.
    let before = ports[1].ifindex;
    w.host.ip("link del wav-p1");
    w.wait("the port is missing", |w| w.ports()[1].state == AttachState::Missing);
    w.add_vm(1);
    w.wait("the port is back", |w| w.ports()[1].state == AttachState::Attached && w.ports()[1].ifindex != before);
    w.assert_ping(1, "10.0.0.9");

    // Removed by command; what the configuration has cannot be.
    w.call(&Request::PortRemove { interface: "wav-p1".into() }).unwrap();
    assert_eq!(w.ports().len(), 1);
    assert_eq!(w.call(&Request::PortRemove { interface: "wav-p0".into() }), Err(ErrorCode::Conflict));
    assert_eq!(w.call(&Request::PortRemove { interface: "wav-p7".into() }), Err(ErrorCode::NotFound));

    // Everything goes.
    w.call(&Request::Detach).unwrap();
    w.agent.take().unwrap().end().unwrap();
    assert!(!w.bpffs.exists());
}

#[test]
fn neighbours_that_no_peer_needs_any_more_are_released() {
    let Some(mut w) = World::new("neigh") else { return };
    let other = PEER.replace("100.2", "100.3");
    w.write_config(&format!("{PEER}{other}"));
    let Some(()) = w.start() else { return };
    w.wait("both neighbours are managed", |w| w.managed().len() == 2);
    // The peer is removed while no agent is running.
    w.agent.take().unwrap().end().unwrap();
    assert_eq!(w.managed().len(), 2, "the kernel goes on");
    w.write_config(PEER);
    let Some(()) = w.start() else { return };
    w.wait("the other one is released", |w| w.managed() == ["198.51.100.2"]);
    w.call(&Request::Detach).unwrap();
    w.agent.take().unwrap().end().unwrap();
    assert!(w.managed().is_empty(), "{:?}", w.managed());
}

#[test]
fn additions_that_a_reload_takes_out_of_force_are_told() {
    let Some(mut w) = World::new("shadow") else { return };
    let vni200 = "[[vni]]\nid = 200\n";
    w.write_config(vni200);
    let Some(()) = w.start() else { return };
    let vni = "200".parse().unwrap();
    let peer: std::net::Ipv4Addr = "198.51.100.2".parse().unwrap();
    // Written later if it cannot be written now.
    let blocked = w.dir.path().join("additions.json").join("x");
    std::fs::create_dir_all(&blocked).unwrap();
    let add = Request::PortAdd { interface: "wav-p0".into(), vni, vlan: Default::default() };
    let Ok(Response::Done(done)) = w.call(&add) else { panic!("refused") };
    assert!(done.warnings.iter().any(|words| words.contains("would not survive")), "{done:?}");
    std::fs::remove_dir_all(blocked.parent().unwrap()).unwrap();
    w.wait("the addition is written", |w| w.dir.path().join("additions.json").is_file());
    let twice = Request::PeerAdd { address: peer, udp_port: None, vnis: vec![vni, vni] };
    assert_eq!(w.call(&twice), Err(ErrorCode::Invalid));
    w.call(&Request::PeerAdd { address: peer, udp_port: None, vnis: vec![vni] }).unwrap();
    let mac = "02:00:00:00:00:77".parse().unwrap();
    w.call(&Request::FdbAdd { vni, mac, place: PlaceInfo::Peer(peer) }).unwrap();

    w.write_config("");
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    let told = |what: &str| done.warnings.iter().any(|words| words.contains(what));
    assert!(told("port wav-p0 of VNI 200, peer 198.51.100.2 of VNI 200 were added by command"), "{done:?}");
    assert!(told("VNI 200 is not in force: the VNI is not in the configuration"), "{done:?}");
    assert!(w.ports().is_empty() && w.peers().is_empty());

    w.write_config(&format!("{vni200}{PORT}"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    let told = |what: &str| done.warnings.iter().any(|words| words.contains(what));
    assert!(told("port wav-p0 was added to VNI 200 by command; the configuration has it in VNI 10"), "{done:?}");
    assert_eq!((w.ports()[0].vni.get(), w.peers().len()), (10, 1));
}

#[test]
fn a_reload_and_a_changing_underlay_are_followed() {
    let Some(mut w) = World::new("reload") else { return };
    w.write_config(PEER);
    let Some(()) = w.start() else { return };
    assert!(w.ports().is_empty());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);

    // A pattern, by reload.
    w.write_config(&format!("{PEER}[[port]]\ninterface = \"wav-p*\"\nvni = 10\n"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert_eq!(done.changes, ["port rules: 1 added"]);
    assert_eq!((w.ports().len(), w.ports()[0].origin), (1, Origin::Pattern));
    w.assert_ping(0, "10.0.0.9");
    // A port that is down is no place to flood to, and that is said as long as it lasts.
    let said = |w: &World| w.status().warnings.iter().any(|words| words.starts_with("port wav-p0 is down"));
    assert!(!said(&w), "{:?}", w.status().warnings);
    w.host.ip("link set wav-p0 down");
    w.wait("the port is down", said);
    w.host.ip("link set wav-p0 up");
    w.wait("the port is up again", |w| !said(w));
    w.assert_ping(0, "10.0.0.9");
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert!(done.changes.is_empty(), "{done:?}");

    // A MAC that moves to another port is told, and one that is not heard of any more ages.
    let mac: Mac = "02:00:00:00:00:50".parse().unwrap();
    w.vms.ip(&format!("link set wav-v0 address {mac}"));
    w.assert_ping(0, "10.0.0.9");
    let known = |w: &World| {
        let filter = FdbFilter { mac: Some(mac), ..FdbFilter::default() };
        let Ok(Response::Fdb(entries)) = w.call(&Request::Fdb(filter)) else { panic!("no entries") };
        entries.into_iter().next()
    };
    assert_eq!(known(&w).map(|e| e.place), Some(PlaceInfo::Port("wav-p0".into())));
    let (events, heard) = std::sync::mpsc::channel();
    let watcher = Client::connect(&w.socket()).unwrap();
    let watcher = std::thread::spawn(move || watcher.watch(|event| events.send(event).is_ok()));
    w.add_vm(1);
    w.wait("the second port is attached", |w| w.status().counts.ports_attached == 2);
    w.vms.ip("link set wav-v0 address 02:00:00:00:00:55");
    w.vms.ip(&format!("link set wav-v1 address {mac}"));
    w.assert_ping(1, "10.0.0.9");
    assert_eq!(known(&w).map(|e| e.place), Some(PlaceInfo::Port("wav-p1".into())));
    w.vms.ip("link set wav-v1 address 02:00:00:00:00:66");
    let ports = "[[port]]\ninterface = \"wav-p*\"\nvni = 10\n";
    w.write_config(&format!("[fdb]\nageing = \"1s\"\n{PEER}{ports}"));
    let Ok(Response::Done(done)) = w.call(&Request::Reload) else { panic!("refused") };
    assert_eq!(done.changes, ["entries age after 1 s"]);
    w.wait("the MAC ages", |w| known(w).is_none());
    let told = |kind| -> FdbEvent {
        let mut events = std::iter::from_fn(|| heard.recv_timeout(Duration::from_secs(60)).ok());
        events.find(|e| e.mac == mac && e.event == kind).unwrap_or_else(|| panic!("{kind:?} was not told"))
    };
    let moved = told(FdbChange::Moved);
    assert_eq!(moved.to, Some(PlaceInfo::Port("wav-p1".into())));
    let aged = told(FdbChange::Aged);
    assert_eq!(aged.from, Some(PlaceInfo::Port("wav-p1".into())));
    drop(heard);

    // A file with errors changes nothing.
    w.write_config("[[port]]\ninterface = \"wav-p*\"\nvni = 11\n");
    assert_eq!(w.call(&Request::Reload), Err(ErrorCode::Invalid));
    assert_eq!((w.ports().len(), w.peers().len()), (2, 1));

    // The next hop changes its link address, goes, and comes back; then the underlay's NIC is another one.
    w.peer.ip("link set wav-w address 02:00:00:00:00:0c");
    w.host.ip("neigh flush dev wav-u");
    w.assert_ping(0, "10.0.0.9");
    w.host.ip("route del 198.51.100.0/24 dev wav-u");
    w.wait("the route is gone", |w| w.peers()[0].state == PeerState::NoRoute);
    w.host.ip("route add 198.51.100.0/24 dev wav-u mtu 1580");
    w.wait("the route is back", |w| w.peers()[0].state == PeerState::Up && w.peers()[0].mtu == Some(1580));
    // Under another name it is not the underlay: nothing is attached, so no peer is up, though the route is still there.
    w.host.ip("link set wav-u name wav-y");
    w.wait("the underlay is missing", |w| w.status().underlay.state == AttachState::Missing);
    w.wait("the peer is cut off", |w| w.peers()[0].state == PeerState::NoRoute && w.status().counts.peers_up == 0);
    w.host.ip("link set wav-y name wav-u");
    w.wait("the underlay is attached", |w| w.status().underlay.hook_mode.is_some());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.host.ip("link del wav-u");
    w.wait("the underlay is missing", |w| w.status().underlay.state == AttachState::Missing);
    assert!(!w.status().warnings.is_empty());
    w.host.ip(&format!("link add wav-u mtu 1600 type veth peer name wav-w mtu 1600 netns {}", w.peer.tid));
    w.host.ip("addr add 198.51.100.1/24 dev wav-u");
    w.host.ip("link set wav-u up");
    w.peer.ip("addr add 198.51.100.2/24 dev wav-w");
    w.peer.ip("link set wav-w up");
    w.wait("the underlay is back", |w| w.status().underlay.hook_mode.is_some());
    w.wait("the peer is up", |w| w.peers()[0].state == PeerState::Up);
    w.assert_ping(0, "10.0.0.9");
    drop(w.agent.take());
    drop(watcher.join());
}
