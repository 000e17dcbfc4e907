//! A hypervisor with an agent, VMs and a peer, each in a network namespace of its own.

use std::{
    path::PathBuf,
    process::Command,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    agent::run_until,
    api::{
        Client, ErrorCode, Request, Response,
        model::{PeerInfo, PortInfo, Status},
    },
    config::Source,
    datapath,
    testing::{Namespace, skip},
};

/// An agent in a thread of its own.
pub(super) struct Agent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Agent {
    pub(super) fn start(namespace: &Namespace, source: Source) -> Agent {
        let (stop, stopped) = oneshot::channel();
        let thread = namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run_until(source, async { drop(stopped.await) }))
        });
        Agent { stop: Some(stop), thread: Some(thread) }
    }

    /// Ends as by SIGTERM, or waits until it has ended by itself.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
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
pub(super) struct World {
    pub(super) host: Namespace,
    pub(super) vms: Namespace,
    pub(super) peer: Namespace,
    pub(super) dir: tempfile::TempDir,
    pub(super) bpffs: PathBuf,
    pub(super) agent: Option<Agent>,
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
    pub(super) fn new(name: &str) -> Option<World> {
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
    pub(super) fn add_vm(&self, n: u8) {
        self.host.ip(&format!("link add wav-p{n} type veth peer name wav-v{n} netns {}", self.vms.tid));
        self.host.ip(&format!("link set wav-p{n} up"));
        self.vms.ip(&format!("addr add 10.0.0.{}/24 dev wav-v{n}", n + 1));
        self.vms.ip(&format!("link set wav-v{n} up"));
    }

    pub(super) fn write_config(&self, more: &str) -> PathBuf {
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
    pub(super) fn start(&mut self) -> Option<()> {
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

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub(super) fn call(&self, request: &Request) -> Result<Response, ErrorCode> {
        use crate::api::ClientError;
        match Client::connect(&self.socket()).unwrap().call(request) {
            Ok(response) => Ok(response),
            Err(ClientError::Refused(refusal)) => Err(refusal.code),
            Err(e) => panic!("{e}"),
        }
    }

    /// Neighbours that the kernel keeps fresh for us.
    pub(super) fn managed(&self) -> Vec<String> {
        let out = self.host.run(|| Command::new("ip").args(["neigh", "show", "dev", "wav-u"]).output().unwrap());
        let lines = String::from_utf8_lossy(&out.stdout).into_owned();
        let managed = lines.lines().filter(|l| l.contains("managed"));
        managed.filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect()
    }

    pub(super) fn status(&self) -> Status {
        let Ok(Response::Status(status)) = self.call(&Request::Status) else { panic!("no status") };
        *status
    }

    pub(super) fn ports(&self) -> Vec<PortInfo> {
        let Ok(Response::Ports(ports)) = self.call(&Request::Ports) else { panic!("no ports") };
        ports
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let Ok(Response::Peers(peers)) = self.call(&Request::Peers) else { panic!("no peers") };
        peers
    }

    /// Waits for something to become true.
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut(&World) -> bool) {
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
    pub(super) fn assert_ping(&self, from: u8, to: &str) {
        let args = ["-c", "1", "-W", "1", "-I", &format!("wav-v{from}"), to].map(str::to_owned);
        self.wait(&format!("a ping from wav-v{from} to {to}"), |w| {
            let args = args.clone();
            w.vms.run(move || Command::new("ping").args(args).output().is_ok_and(|o| o.status.success()))
        });
    }
}
