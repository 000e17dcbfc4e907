//! The agent: a loop that keeps the kernel's tables as the fabric says.
//!
//! Facts come in from netlink, wishes from the configuration and the local API; [`Fabric`] turns them into commands, which are
//! carried out here one after the other. The loop holds everything, so nothing is shared and nothing is locked. When it ends,
//! however it ends, the kernel goes on forwarding.

mod adapt;
mod additions;
mod convert;
mod events;
mod execute;
mod facts;
mod maintain;
pub(crate) mod mesh;
mod numbers;
mod occupants;
mod reload;
mod requests;
mod told;
mod views;
mod warnings;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::{Pin, pin},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{broadcast, mpsc, oneshot},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};
use wavnet_common::abi::Heartbeat;
use wavnet_proto::{
    adaptive::{self, Chooser},
    ageing::scan_every,
    fabric::{Fabric, LinkInfo},
};

use crate::{
    api::{Call, Server, model::FdbEvent},
    config::{Config, Source},
    datapath::{self, Datapath, Events, HookMode, PortHooks},
    metrics::{Endpoint, Snapshot},
    netlink::{Monitor, Netlink},
    notify::Notifier,
};
use additions::Additions;
use mesh::{Input, Overlay};
use occupants::Occupants;

/// How often next hops without a link address are sought, as long as there is hope.
const SEEK: Duration = Duration::from_secs(1);
/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked to which peers frames go.
const TRAFFIC: Duration = Duration::from_millis(250);
/// How often everything is read anew, in case something went unnoticed.
const RESYNC: Duration = Duration::from_secs(60);
/// How often it is looked whether there is something to warn of.
const WARN: Duration = Duration::from_secs(2);
/// Calls and scrapes that wait at the most; their senders wait with them.
const QUEUE: usize = 64;
/// Events that a slow `fdb --watch` may lag behind.
const WATCH: usize = 4096;

/// Runs until SIGTERM, SIGINT or a `detach` request. SIGHUP reads the configuration again.
///
/// # Errors
/// What stands in the way at the start: configuration, privileges, pins of another agent or version, sockets. Later on
/// trouble is logged, shown by `status`, and tried again.
pub async fn run(source: Source) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: the agent ends, the kernel goes on forwarding"),
            _ = interrupt.recv() => info!("SIGINT: the agent ends, the kernel goes on forwarding"),
        }
    };
    run_until(source, stop).await
}

/// As [`run`], until `stop` is done rather than by a signal.
///
/// # Errors
/// Those of [`run`].
pub async fn run_until(source: Source, stop: impl Future<Output = ()>) -> Result<()> {
    let config = source.load()?;
    let mut reload = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut agent = Agent::open(source, config)?;
    let sockets = Sockets::open(&agent.config).await?;
    let mut sockets = sockets.serve();
    agent.start().await?;
    let outcome = agent.run(pin!(stop), &mut reload, &mut sockets).await;
    let detach = matches!(outcome, Outcome::Detach);
    agent.ends(detach).await;
    let report = if detach { agent.detach().await } else { Ok(()) };
    sockets.close().await;
    report
}

/// Why the loop ended.
enum Outcome {
    /// Because it should.
    Stop,
    /// Because somebody asked to have everything removed.
    Detach,
}

/// Everything that the loop holds.
struct Agent {
    source: Source,
    config: Config,
    datapath: Datapath,
    fabric: Fabric,
    mesh: Option<Overlay>,
    netlink: Netlink,
    monitor: Monitor,
    kernel_events: Option<Events>,
    occupants: Occupants,
    /// Links as they were told to the fabric.
    links: BTreeMap<u32, LinkInfo>,
    /// Those of which [`LinkInfo::datagram_gso`] may be news, or of interest only now.
    features_due: BTreeSet<u32>,
    chooser: Chooser,
    /// When the routes are to be asked for again.
    routes_due: Option<Instant>,
    /// Names and hooks of attached ports by interface index. A name is wanted when the interface is gone.
    port_hooks: BTreeMap<u32, (String, PortHooks)>,
    hook_modes: BTreeMap<u32, HookMode>,
    additions: Additions,
    watchers: broadcast::Sender<FdbEvent>,
    moves: events::Limiter,
    complaints: execute::Complaints,
    told: told::Told,
    notifier: Notifier,
    started: (Instant, SystemTime),
    created_ns: u64,
    last_heartbeat: Option<Instant>,
    /// Entries removed for their age.
    aged: u64,
    reloads: reload::Reloads,
    detaching: bool,
}

impl Agent {
    /// Opens everything that belongs to the kernel. Nothing is changed yet, but programs are loaded and maps made if there
    /// were none.
    fn open(source: Source, config: Config) -> Result<Agent> {
        let sizes = config.sizes();
        let options = datapath::Options {
            bpffs: config.agent.bpffs.clone(),
            sizes,
            program_stats: config.metrics.program_run_time,
            tc: convert::tc_wish(config.underlay.tc),
            kernel_log: tracing::enabled!(tracing::Level::DEBUG),
            seed: None,
        };
        let mut datapath = Datapath::open(&options)?;
        let created_ns = datapath.created_ns()?;
        let adopted = datapath.adopted()?;
        if !adopted.vnis.is_empty() {
            let (ports, vnis, peers) = (adopted.ports.len(), adopted.vnis.len(), adopted.vteps.len());
            info!(ports, vnis, peers, "taking over from an earlier agent");
        }
        let told = told::Told::after(&datapath.drops()?);
        let mesh = Overlay::open(&config)?;
        let fabric = Fabric::new(convert::limits(&sizes), &adopted);
        let occupants = Occupants::new(&adopted);
        let kernel_events = datapath.take_events()?;
        if let Some(log) = datapath.take_kernel_log() {
            tokio::spawn(async move {
                if let Err(e) = log.forward().await {
                    warn!("no more messages of the kernel programs: {e}");
                }
            });
        }
        Ok(Agent {
            // The monitor first: what happens between the two is then heard.
            monitor: Monitor::open()?,
            netlink: Netlink::open()?,
            additions: Additions::new(&config.agent.run_dir, created_ns),
            source,
            config,
            datapath,
            fabric,
            mesh,
            kernel_events,
            occupants,
            links: BTreeMap::new(),
            features_due: BTreeSet::new(),
            chooser: Chooser::default(),
            routes_due: None,
            port_hooks: BTreeMap::new(),
            hook_modes: BTreeMap::new(),
            watchers: broadcast::Sender::new(WATCH),
            moves: events::Limiter::default(),
            complaints: execute::Complaints::default(),
            told,
            notifier: Notifier::from_env(),
            started: (Instant::now(), SystemTime::now()),
            created_ns,
            last_heartbeat: None,
            aged: 0,
            reloads: reload::Reloads::default(),
            detaching: false,
        })
    }

    /// Puts the configuration in force on what there is.
    async fn start(&mut self) -> Result<()> {
        let desired = convert::desired(&self.config)?;
        self.fabric.set_desired(desired).context("the configuration cannot be put in force")?;
        let additions = self.additions.load();
        self.give_up_strangers();
        additions.shadowed(self.fabric.desired()).iter().for_each(|given_up| warn!("{given_up}"));
        if let Err(e) = self.fabric.restore(additions) {
            warn!("ports and peers that were added by command are left out: {e}");
        }
        self.resync().await.context("cannot read the interfaces")?;
        self.fabric.links_complete();
        self.settle().await;
        if let Err(e) = self.release_neighbours().await {
            warn!("neighbours of an earlier agent may stay managed: {e:#}");
        }
        self.keep();
        self.heartbeat();
        self.notifier.ready();
        let address = self.fabric.local_address().map_or_else(|| "none".to_owned(), |a| a.to_string());
        info!(address, ports = self.fabric.ports().len(), peers = self.fabric.peers().len(), "agent ready");
        Ok(())
    }

    async fn run(
        &mut self,
        mut stop: Pin<&mut impl Future<Output = ()>>,
        reload: &mut Signal,
        sockets: &mut Serving,
    ) -> Outcome {
        let mut heartbeat = ticks(Duration::from_millis(Heartbeat::PERIOD_MS));
        let mut adapt = ticks(adaptive::PERIOD);
        let mut seek = ticks(SEEK);
        let mut traffic = ticks(TRAFFIC);
        let mut retry = ticks(RETRY);
        let mut warn = ticks(WARN);
        let mut resync = ticks(RESYNC);
        let mut scan = ticks(scan_every(self.config.fdb.ageing));
        loop {
            self.settle_all().await;
            let ageing = self.config.fdb.ageing;
            let routes_due = self.routes_due;
            tokio::select! {
                () = &mut stop => return Outcome::Stop,
                _ = heartbeat.tick() => self.heartbeat(),
                news = self.monitor.next() => self.hear(news).await,
                () = wait_until(routes_due) => self.ask_routes(),
                _ = reload.recv() => self.ask_reload(None).await,
                read = self.reloads.next() => self.reloaded(read).await,
                Some(call) = sockets.calls.recv() => self.answer(call).await,
                Some(ask) = sockets.scrapes.recv() => drop(ask.send(self.numbers())),
                events = next_events(&mut self.kernel_events) => self.kernel_told(events),
                _ = scan.tick() => self.scan_fdb(),
                _ = adapt.tick() => self.adapt(),
                _ = seek.tick() => self.fabric.seek_next_hops(),
                input = next_input(&mut self.mesh) => self.mesh_input(input),
                _ = traffic.tick(), if self.mesh.is_some() => self.look_at_traffic(),
                _ = retry.tick() => self.retry(),
                _ = warn.tick() => self.log_warnings(),
                _ = resync.tick() => self.resync_or_complain().await,
            }
            if self.detaching {
                return Outcome::Detach;
            }
            if ageing != self.config.fdb.ageing {
                scan = ticks(scan_every(self.config.fdb.ageing));
            }
        }
    }

    /// Releases the neighbours of peers that were removed while no agent was running.
    async fn release_neighbours(&self) -> Result<()> {
        let mut released = 0;
        for (ifindex, addr) in self.datapath.noted_neighbours()? {
            if !self.fabric.uses_neighbour(ifindex, addr) {
                released += usize::from(self.release(ifindex, addr).await?);
            }
        }
        if released > 0 {
            info!("neighbours released that an earlier agent had needed: {released}");
        }
        Ok(())
    }

    /// Removes everything from the kernel.
    async fn detach(self) -> Result<()> {
        let Agent { datapath, additions, config, netlink, .. } = self;
        additions.remove();
        // The lock goes with it.
        drop(datapath);
        let report = datapath::down(&config.agent.bpffs)?;
        // What is left otherwise is a few ARP requests.
        for (ifindex, addr) in report.neighbours {
            if let Err(e) = netlink.release(ifindex, addr).await {
                warn!("the neighbour stays managed: {:#}", anyhow::Error::from(e));
            }
        }
        info!(links = report.links, maps = report.maps, "detached; nothing of wavnet is left in the kernel");
        Ok(())
    }
}

async fn next_input(mesh: &mut Option<Overlay>) -> Input {
    match mesh {
        Some(mesh) => mesh.next().await,
        None => std::future::pending().await,
    }
}

async fn next_events(events: &mut Option<Events>) -> Result<Vec<wavnet_common::abi::Event>, datapath::Error> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The first one after a period, not at once.
fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The local API and the metrics, listening.
struct Sockets {
    api: Server,
    metrics: Option<Endpoint>,
}

/// The same, serving.
struct Serving {
    calls: mpsc::Receiver<Call>,
    scrapes: mpsc::Receiver<oneshot::Sender<Snapshot>>,
    api: tokio::task::JoinHandle<()>,
    metrics: Option<tokio::task::JoinHandle<()>>,
}

impl Sockets {
    async fn open(config: &Config) -> Result<Sockets> {
        let api = Server::bind(&config.agent.socket(), config.agent.socket_mode, config.agent.socket_group.as_deref())?;
        let metrics = match config.metrics.listen {
            None => None,
            Some(address) => Some(Endpoint::bind(address).await.with_context(|| {
                format!(
                    "cannot serve metrics on {address}: choose another metrics.listen, or switch them off with \"off\""
                )
            })?),
        };
        Ok(Sockets { api, metrics })
    }

    fn serve(self) -> Serving {
        let (call, calls) = mpsc::channel(QUEUE);
        let (scrape, scrapes) = mpsc::channel(QUEUE);
        Serving {
            calls,
            scrapes,
            api: tokio::spawn(self.api.run(call)),
            metrics: self.metrics.map(|endpoint| tokio::spawn(endpoint.run(scrape))),
        }
    }
}

impl Serving {
    /// Lets answers that are under way reach their clients.
    async fn close(self) {
        drop(self.calls);
        drop(self.scrapes);
        if let Some(metrics) = self.metrics {
            metrics.abort();
        }
        if let Err(e) = self.api.await {
            warn!("the local API ended badly: {e}");
        }
    }
}
