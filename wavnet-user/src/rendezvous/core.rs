//! The thread that the core lives in: datagrams and orders in, datagrams, map writes and changes to be kept out.

use std::{
    collections::HashMap,
    net::UdpSocket,
    os::fd::AsFd,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{debug, info, warn};
use wavnet_proto::{
    rendezvous::{Command, Event, Rendezvous, Settings, View},
    time::Time,
};

use super::{
    datagrams::Outgoing,
    keeper::Keeper,
    reader::Packets,
    relay_table::{RelayTable, RelayTotals},
    stats::{Stats, add},
};

/// Batches that wait for the core; what comes beyond is dropped.
pub(super) const QUEUE: usize = 64;
/// Longest sleep: orders are looked for as often.
const LONGEST: Duration = Duration::from_millis(50);
/// Between two batches for the store.
const KEEP: Duration = Duration::from_millis(200);
/// Between two looks at what a relay table has relayed.
const USED: Duration = Duration::from_secs(30);

/// What the other threads want of the core.
pub(super) enum Order {
    /// How it is.
    View(oneshot::Sender<Shown>),
    /// Other settings.
    Configure(Box<Settings>),
    /// Keep everything and end.
    Stop,
}

/// The core and its relay, as they are.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) view: View,
    pub(super) relay: RelayTotals,
    pub(super) relay_name: &'static str,
}

/// The core's thread.
pub(super) struct Core {
    pub(super) server: Rendezvous,
    pub(super) started: Instant,
    pub(super) packets: Receiver<Packets>,
    pub(super) orders: Receiver<Order>,
    /// A main socket of each family: IPv4 is true.
    pub(super) exits: HashMap<bool, UdpSocket>,
    pub(super) keeper: Keeper,
    pub(super) table: Box<dyn RelayTable>,
    pub(super) stats: Arc<Stats>,
}

/// Gives an order; true if the core takes it. It is looked for at once, not only when it has slept.
pub(super) fn order(orders: &std::sync::mpsc::Sender<Order>, wake: &SyncSender<Packets>, order: Order) -> bool {
    let taken = orders.send(order).is_ok();
    // Full: it does not sleep.
    let _ = wake.try_send(Packets::default());
    taken
}

impl Core {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let (mut keep_due, mut used_due) = (Instant::now() + KEEP, Instant::now() + USED);
        let mut outgoing = HashMap::new();
        self.carry_out(&mut outgoing);
        loop {
            let due = self.server.poll_timeout().map(|at| at.since(self.now()));
            match self.packets.recv_timeout(due.unwrap_or(LONGEST).min(LONGEST)) {
                Ok(packets) => self.take(&packets, &mut outgoing),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = self.now();
            if self.server.poll_timeout().is_some_and(|due| due <= now) {
                self.server.handle_timeout(now);
            }
            if Instant::now() >= used_due {
                used_due = Instant::now() + USED;
                self.table.used().into_iter().for_each(|label| self.server.note_relayed(now, label));
            }
            if !self.obey() {
                break;
            }
            self.carry_out(&mut outgoing);
            if Instant::now() >= keep_due {
                self.keeper.flush();
                keep_due = Instant::now() + KEEP;
            }
        }
        self.keeper.finish();
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, packets: &Packets, outgoing: &mut HashMap<bool, Outgoing>) {
        let now = self.now();
        for (socket, from, payload) in packets.iter() {
            self.server.handle_input(now, socket, from, payload);
            self.carry_out_some(outgoing);
        }
    }

    /// False if it is to stop.
    fn obey(&mut self) -> bool {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::View(answer) => {
                    let (relay, relay_name) = (self.table.totals(), self.table.name());
                    // Who asked may have gone.
                    let _ = answer.send(Shown { view: self.server.view(), relay, relay_name });
                }
                Order::Configure(settings) => {
                    self.table.limit(&settings.limits);
                    self.server.configure(self.now(), *settings);
                }
                Order::Stop => return false,
            }
        }
        true
    }

    /// Commands and events; transmits are collected, and sent when there are many.
    fn carry_out_some(&mut self, outgoing: &mut HashMap<bool, Outgoing>) {
        while let Some(command) = self.server.poll_command() {
            match command {
                Command::SetRelay { key, target } => _ = self.table.set(key, target),
                Command::DeleteRelay { key } => self.table.delete(key),
                Command::Save(change) => self.keeper.add(change),
            }
        }
        while let Some(event) = self.server.poll_event() {
            tell(&event);
        }
        while let Some(transmit) = self.server.poll_transmit() {
            let family = transmit.to.is_ipv4();
            let batch = outgoing.entry(family).or_insert_with(Outgoing::new);
            if batch.is_full(transmit.payload.len()) {
                send(&self.exits, &self.stats, family, batch);
            }
            let added = batch.push(transmit.payload.len(), None, |buffer| {
                buffer.copy_from_slice(&transmit.payload);
                Some((transmit.payload.len(), transmit.to))
            });
            // Longer than all of the room: the core makes none that is.
            add(&self.stats.not_sent, u64::from(!added));
        }
    }

    fn carry_out(&mut self, outgoing: &mut HashMap<bool, Outgoing>) {
        self.carry_out_some(outgoing);
        for (family, batch) in outgoing.iter_mut().filter(|(_, batch)| batch.len() > 0) {
            send(&self.exits, &self.stats, *family, batch);
        }
    }
}

fn send(exits: &HashMap<bool, UdpSocket>, stats: &Stats, family: bool, batch: &mut Outgoing) {
    let many = batch.len();
    let lost = match exits.get(&family) {
        Some(exit) => batch.send(exit.as_fd()),
        None => {
            *batch = Outgoing::new();
            many
        }
    };
    add(&stats.not_sent, lost as u64);
}

/// What happened, for the log.
fn tell(event: &Event) {
    match event {
        Event::Joined { network, host, name, addr } => info!(%network, %host, %name, %addr, "a host has registered"),
        Event::Moved { network, host, from, to } => debug!(%network, %host, %from, %to, "a host has moved"),
        Event::Left { network, host, why } => info!(%network, %host, "a host has gone: {why}"),
        Event::Refused { network, host, addr } => {
            warn!(%network, %host, %addr, "refused a host: it is not on the network's list, or was revoked (a few are named in a minute)");
        }
        Event::Duplicate { network, host, held, other } => {
            warn!(%network, %host, %held, %other, "two hosts have the same secret key: make another one for one of them");
        }
        Event::Full { hosts } => warn!(hosts, "there is no room for another host: raise limits.hosts"),
        Event::Dropped { reason } => {
            info!(
                reason = reason.label(),
                "dropped what came in, the first time for this reason (more is counted): {}",
                reason.help()
            );
        }
    }
}
