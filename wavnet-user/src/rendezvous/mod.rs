//! `wavnet rendezvous`: the server that hosts find each other by.
//!
//! [`wavnet_proto::rendezvous`] decides; here are its surroundings. Threads with a socket each receive in batches ([`reader`](self)): they answer STUN
//! by themselves, and hand on everything else to the one thread that the core lives in. Another one writes the store. This
//! loop has the local API, the metrics and the signals.

mod core;
mod datagrams;
mod drops;
mod keeper;
mod kernel;
mod metrics;
mod reader;
mod record;
mod relay_table;
mod reload;
mod setup;
mod sockets;
mod stats;
mod store;
mod view;

#[cfg(test)]
mod tests;

use std::{
    pin::pin,
    sync::{
        Arc,
        mpsc::{self, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{interval, timeout},
};
use tracing::{info, warn};
use wavnet_proto::{
    rendezvous::{Network, Rendezvous, Settings},
    stun::Sources,
    time::Time,
};

pub use relay_table::{InCore, RelayTable, RelayTotals};
pub use sockets::SocketError;
pub use store::{FILE, FileStore, Store, StoreError};

use self::{
    core::{Core, Order, QUEUE, Shown},
    keeper::Keeper,
    kernel::{KernelRelay, KernelTable, Report, routing::Routing},
    reader::Packets,
    setup::{exits, first_changes},
    sockets::Family,
    stats::Stats,
    view::Facts,
};
use crate::{
    api::{Answer, Call, ErrorCode, Refusal, Request, Response, Server},
    config::{
        Exposed, RelayXdp, RendezvousConfig, RendezvousSource,
        key_files::{self, ServerFiles},
    },
    firsts::Firsts,
    metrics::{Endpoint, Rendered},
    notify::Notifier,
    random,
};

/// How long the core may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Calls and scrapes that wait at the most; their senders wait with them.
const CALLS: usize = 64;
/// Between two signs of life to the service manager.
const ALIVE: Duration = Duration::from_secs(1);

impl Rendered for metrics::Numbers {
    const WHO: &'static str = "rendezvous server";

    fn render(&self) -> prometheus::Result<String> {
        metrics::render(self)
    }
}

/// Everything that this loop holds.
struct Shell {
    source: RendezvousSource,
    facts: Arc<Facts>,
    /// Files of keys that others may use.
    exposed: Vec<Exposed>,
    stats: Arc<Stats>,
    sources: Arc<Sources>,
    orders: mpsc::Sender<Order>,
    wake: SyncSender<Packets>,
    core: JoinHandle<()>,
    receivers: Vec<JoinHandle<()>>,
    /// The relay in the kernel, or why there is none.
    kernel: Result<Arc<KernelRelay>, String>,
    /// Of the sockets, for REGISTERED.
    stun: Vec<std::net::SocketAddr>,
    reloads: (u64, u64),
    notifier: Notifier,
    /// What is dropped beside the core.
    drops: Firsts,
}

/// Runs until SIGTERM or SIGINT. SIGHUP reads the configuration, keys and lists again. Hosts are not told that it ends: they need not notice.
///
/// # Errors
/// What stands in the way at the start: configuration, keys, sockets, the store; or that the core has failed.
pub async fn run(source: RendezvousSource) -> Result<()> {
    let config = source.load()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let api = Server::bind(&config.socket(), config.socket_mode, config.socket_group.as_deref())?;
    let endpoint = match config.metrics.listen {
        None => None,
        Some(address) => Some(Endpoint::bind(address).await.with_context(|| {
            format!("cannot serve metrics on {address}: choose another metrics.listen, or switch them off with \"off\"")
        })?),
    };
    let metrics = endpoint.as_ref().and_then(|endpoint| endpoint.local_addr().ok());
    let mut shell = Shell::start(source, config, metrics)?;
    let routing = shell.listen_to_the_kernel().await;
    let (call, mut calls) = tokio::sync::mpsc::channel::<Call>(CALLS);
    let (scrape, mut scrapes) = tokio::sync::mpsc::channel::<oneshot::Sender<metrics::Numbers>>(CALLS);
    let api = tokio::spawn(api.run(call));
    let endpoint = endpoint.map(|endpoint| tokio::spawn(endpoint.run(scrape)));
    shell.notifier.ready();
    let mut alive = interval(ALIVE);
    let mut stop = pin!(async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: the server ends; paths that stand go on without it"),
            _ = interrupt.recv() => info!("SIGINT: the server ends; paths that stand go on without it"),
        }
    });
    let outcome = loop {
        tokio::select! {
            () = &mut stop => break Ok(()),
            _ = hangup.recv() => drop(shell.reload()),
            Some(call) = calls.recv() => shell.answer(call).await,
            Some(ask) = scrapes.recv() => {
                if let Some(numbers) = shell.numbers().await {
                    // Who asked may have gone.
                    let _ = ask.send(numbers);
                }
            }
            _ = alive.tick() => {
                if let Some(thread) = shell.ended() {
                    break Err(anyhow::anyhow!("the server's {thread} has failed; the log says why"));
                }
                shell.tell_drops();
                if shell.shown().await.is_some() {
                    shell.notifier.alive();
                }
            }
        }
    };
    shell.notifier.stopping();
    if let Some((stop, task)) = routing {
        drop(stop);
        // What it has not tidied up by then is a neighbour that the kernel goes on asking for.
        if timeout(PATIENCE, task).await.is_err() {
            warn!("the kernel does not answer: neighbours may stay managed");
        }
    }
    drop(calls);
    drop(scrapes);
    if let Some(endpoint) = endpoint {
        endpoint.abort();
    }
    if let Err(e) = api.await {
        warn!("the local API ended badly: {e}");
    }
    shell.stop()?;
    outcome
}

impl Shell {
    fn start(
        source: RendezvousSource,
        config: RendezvousConfig,
        metrics: Option<std::net::SocketAddr>,
    ) -> Result<Shell> {
        let ServerFiles { secret, networks, exposed } = key_files::of_server(&config)?;
        exposed.iter().for_each(|file| warn!("{}", file.warning()));
        let families = sockets::open(&config)?;
        let stun: Vec<_> = families.iter().flat_map(Family::others).collect();
        let mut store = FileStore::open(&config.state_dir)?;
        let saved = store.load()?;
        let (key, known) = (secret.public(), saved.hosts.len());
        let started = Instant::now();
        let mut server =
            Rendezvous::new(settings(&config, networks, &stun), secret, saved, *random::seed()?, Time::ZERO);
        let kernel = KernelRelay::open(&config).map(Arc::new);
        let mut table: Box<dyn RelayTable> = match &kernel {
            Ok(relay) => Box::new(KernelTable(Arc::clone(relay))),
            Err(why) => {
                if config.relay {
                    kernel::tell_why_not(matches!(config.relay_xdp, RelayXdp::Interface(_)), why);
                }
                Box::new(InCore)
            }
        };
        // Before anything is sent: a directory's versions must not come twice.
        store.apply(&first_changes(&mut server, &mut *table))?;
        let stats = Arc::new(Stats::default());
        let (wake, packets) = sync_channel(QUEUE);
        let (orders, orders_in) = mpsc::channel();
        let core = Core {
            server,
            started,
            packets,
            orders: orders_in,
            exits: exits(&families)?,
            keeper: Keeper::start(Box::new(store), Arc::clone(&stats))?,
            table,
            stats: Arc::clone(&stats),
        };
        let core = thread::Builder::new().name("core".into()).spawn(move || core.run()).context("starting a thread")?;
        let sources = Arc::new(Sources::new(random::generator()?.u64(), config.limits.stun_of_source));
        let mut receivers = Vec::new();
        for family in families {
            receivers.extend(reader::start(family, &wake, &stats, &sources, started)?);
        }
        let listen = config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        info!(%key, listen, networks = config.networks.len(), hosts = known, "rendezvous server ready");
        let facts = Facts { key, source: source.to_string(), config, started: SystemTime::now(), metrics };
        let (facts, notifier) = (Arc::new(facts), Notifier::from_env());
        let reloads = (0, 0);
        let shell = Shell {
            source,
            facts,
            exposed,
            stats,
            sources,
            orders,
            wake,
            core,
            receivers,
            kernel,
            stun,
            reloads,
            notifier,
            drops: Firsts::default(),
        };
        Ok(shell)
    }

    /// Attaches the kernel's relay, and keeps up with the kernel's routing from now on, until the sender is dropped.
    async fn listen_to_the_kernel(&mut self) -> Option<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)> {
        match Routing::start(Arc::clone(self.kernel.as_ref().ok()?)).await {
            Ok(routing) => {
                let (stop, stopped) = oneshot::channel();
                Some((stop, tokio::spawn(routing.run(stopped))))
            }
            Err(e) => {
                let why = format!("{:#}", anyhow::Error::from(e));
                kernel::tell_why_not(true, &why);
                if let Ok(relay) = &self.kernel {
                    relay.give_up();
                }
                self.kernel = Err(why);
                None
            }
        }
    }

    /// A thread that has ended, as none does before it is told to. A receiver's datagrams would be lost: its socket goes on taking them.
    fn ended(&self) -> Option<&'static str> {
        if self.core.is_finished() {
            return Some("core");
        }
        self.receivers.iter().any(JoinHandle::is_finished).then_some("receiver")
    }

    fn report(&self, busiest: bool) -> Report {
        match &self.kernel {
            Ok(relay) => relay.report(busiest),
            Err(why) => Report { why_not: Some(why.clone()), ..Report::default() },
        }
    }

    async fn shown(&self) -> Option<Shown> {
        let (ask, answer) = oneshot::channel();
        if !core::order(&self.orders, &self.wake, Order::View(ask)) {
            return None;
        }
        timeout(PATIENCE, answer).await.ok()?.ok()
    }

    async fn numbers(&self) -> Option<metrics::Numbers> {
        let (facts, stats) = (Arc::clone(&self.facts), Arc::clone(&self.stats));
        let (shown, kernel) = (self.shown().await?, self.report(false));
        Some(metrics::Numbers { facts, shown, kernel, stats, reloads: self.reloads })
    }

    /// Says what has begun to be dropped beside the core; each kind is said once.
    fn tell_drops(&mut self) {
        let kernel = self.kernel.as_ref().map(|relay| relay.counts()).unwrap_or_default();
        for kind in self.drops.news(drops::kinds(&self.stats, &kernel)) {
            info!("{kind}: the first ones (more is counted)");
        }
    }

    async fn answer(&mut self, call: Call) {
        let answer =
            match call.request {
                Request::Rendezvous => match self.shown().await {
                    Some(shown) => {
                        let (kernel, warnings) = (self.report(true), self.warnings(&shown));
                        let status = view::status(&self.facts, &shown, &kernel, &self.stats, warnings);
                        Ok(Response::Rendezvous(Box::new(status)).into())
                    }
                    None => Err(Refusal::new(ErrorCode::Failed, "the server's core does not answer")
                        .with_help("look at its log")),
                },
                Request::Reload => self.reload().map(|done| Answer::from(Response::Done(done))),
                other => {
                    let words = format!("a rendezvous server knows no request `{}`", other.name());
                    Err(Refusal::new(ErrorCode::BadRequest, words).with_help("it answers `rendezvous` and `reload`"))
                }
            };
        // Who asked may have gone.
        let _ = call.reply.send(answer);
    }

    fn warnings(&self, shown: &Shown) -> Vec<String> {
        let view = &shown.view;
        let limits = &self.facts.config.limits;
        let hosts: usize = view.networks.iter().map(|network| network.hosts).sum();
        let mut warnings: Vec<String> = self.exposed.iter().map(Exposed::warning).collect();
        warnings.extend(view::store_warning(&self.stats));
        if hosts * 10 >= limits.hosts * 9 {
            warnings.push(format!("{hosts} of {} hosts: raise limits.hosts before it is full", limits.hosts));
        }
        if view.relays * 10 >= limits.relays * 9 {
            warnings.push(format!(
                "{} of {} relayed pairs: raise limits.relays before it is full",
                view.relays, limits.relays
            ));
        }
        if let (RelayXdp::Interface(_), Some(why)) = (&self.facts.config.relay_xdp, self.report(false).why_not) {
            warnings.push(format!("the server relays, not the kernel: {why}"));
        }
        if self.facts.config.other_port.is_none() {
            warnings.push("without a second port (other_port) agents cannot tell how their NAT filters".to_owned());
        }
        warnings
    }

    /// Keeps what must be kept.
    fn stop(self) -> Result<()> {
        core::order(&self.orders, &self.wake, Order::Stop);
        if self.core.join().is_err() {
            bail!("the server's core has failed; the log says why");
        }
        Ok(())
    }
}

fn settings(config: &RendezvousConfig, networks: Vec<Network>, stun: &[std::net::SocketAddr]) -> Settings {
    Settings { networks, lease: config.lease, relay: config.relay, stun: stun.to_vec(), limits: config.limits }
}
