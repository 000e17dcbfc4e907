//! The live view: what the agents say, once a second, while machines talk.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use wavnet_user::api::model::{DropRow, FdbEntry, MeshInfo, PeerInfo, PortInfo, Status};

use super::{network::Network, view};
use crate::{
    lab::{agent::Agent, dhcp, host::Vm, on_interrupt, ping::Ping, stream::Stream},
    mesh::mesh_of,
};

const PERIOD: Duration = Duration::from_secs(1);
const KEY_PATIENCE: Duration = Duration::from_millis(100);

/// What one agent said.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) ports: Vec<PortInfo>,
    pub(super) peers: Vec<PeerInfo>,
    pub(super) mesh: MeshInfo,
    pub(super) fdb: Vec<FdbEntry>,
    pub(super) drops: Vec<DropRow>,
}

/// An agent as the view knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Its name, known even before it has said anything.
    pub(super) name: String,
    /// The sample before the last, for rates.
    pub(super) before: Option<Sample>,
    /// The last sample.
    pub(super) now: Option<Sample>,
    /// It did not answer when it was last asked: the samples are history.
    pub(super) silent: bool,
}

/// What the view draws from.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) agents: Vec<Watched>,
    /// Where the kernel's VTEP is.
    pub(super) kernel: Ipv4Addr,
}

impl Samples {
    fn new(network: &Network) -> Samples {
        let watched = |a: &Agent| Watched { name: a.ns().short_name().to_owned(), ..Watched::default() };
        Samples { agents: network.agents.iter().map(watched).collect(), kernel: network.kernel() }
    }
}

fn sample(agent: &Agent) -> Result<Sample> {
    Ok(Sample {
        at: Instant::now(),
        status: agent.status()?,
        ports: agent.ports()?,
        peers: agent.peers()?,
        mesh: mesh_of(agent)?,
        fdb: agent.fdb()?,
        drops: agent.json("drops")?,
    })
}

/// Something to look at: pings between all machines, and a connection per tenant.
fn traffic(network: &Network) -> Result<(Vec<Ping>, Vec<Stream>)> {
    let (mut pings, mut streams) = (Vec::new(), Vec::new());
    for tenant in &network.tenants {
        for (from, to) in tenant.pairs() {
            pings.push(Ping::start(&from.ns, dhcp::address(&to.ns, Vm::NIC)?, Duration::from_millis(50))?);
        }
        let (server, client) = (&tenant.vms[0], &tenant.vms[1]);
        streams.push(Stream::start(&server.ns, dhcp::address(&server.ns, Vm::NIC)?, &client.ns)?);
    }
    Ok((pings, streams))
}

/// Shows the network until the user has seen enough.
pub(super) fn run(network: &Network) -> Result<()> {
    let _traffic = traffic(network).context("starting traffic to look at")?;
    let hints = view::hints(network)?;
    let samples = Mutex::new(Samples::new(network));
    let stop = AtomicBool::new(false);
    on_interrupt(ratatui::restore, 0);
    thread::scope(|scope| {
        scope.spawn(|| watch(network, &samples, &stop));
        let mut terminal = ratatui::try_init().context("taking over the terminal")?;
        let shown = interact(&mut terminal, &samples, &hints);
        stop.store(true, Ordering::Relaxed);
        ratatui::restore();
        shown
    })?;
    println!("Cleaning up …");
    Ok(())
}

fn interact(terminal: &mut ratatui::DefaultTerminal, samples: &Mutex<Samples>, hints: &[String]) -> Result<()> {
    loop {
        terminal.draw(|frame| {
            view::draw(frame, &samples.lock().unwrap_or_else(PoisonError::into_inner), hints);
        })?;
        let end = Instant::now() + PERIOD / 2;
        while Instant::now() < end {
            if event::poll(KEY_PATIENCE)? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                        if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                            return Ok(());
                        }
                    }
                    Event::Resize(..) => break,
                    _ => {}
                }
            }
        }
    }
}

fn watch(network: &Network, samples: &Mutex<Samples>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for (i, agent) in network.agents.iter().enumerate() {
            let taken = sample(agent);
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            let watched = &mut samples.agents[i];
            watched.silent = taken.is_err();
            // Rates across a silence would be of another time.
            watched.before = if watched.silent { None } else { watched.now.take() };
            if let Ok(sample) = taken {
                watched.now = Some(sample);
            }
        }
        let end = Instant::now() + PERIOD;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            thread::sleep(KEY_PATIENCE);
        }
    }
}
