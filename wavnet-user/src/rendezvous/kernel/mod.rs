//! The relay in the kernel: its tables and programs, as the thread with the core and the task that listens to the kernel's routing
//! share them.
//!
//! The core's commands are written into the tables at once. What that raises of questions (how does the kernel route to a host, what is
//! the link address of the next hop) is left to [`routing`], which is woken for it; as long as there is no answer, the programs leave the
//! host's datagrams to the server, which relays as if there were no programs. They are not pinned: they go with the process, however it
//! ends.

mod questions;
pub(super) mod routing;
mod table;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use tracing::{debug, info, warn};
use wavnet_common::abi::relay::{Metered, Rate, RelayCount};
use wavnet_proto::{
    command::{Command, HookWish},
    relay::{Place, Relay as Tables, RelayCommand, Wish},
    rendezvous::Limits,
};

use questions::Questions;
pub(super) use table::KernelTable;

use super::sockets::{self, Family};
use crate::{
    config::{RelayXdp, RendezvousConfig},
    datapath::{Error, HookMode, Relay as Programs, RelayHooks},
};

/// Most sides of pairs that the kernel relays, 128 bytes each; more are left to the server.
const SIDES_MOST: usize = 1 << 18;

/// A relay in the kernel. See the [module](self).
pub(super) struct KernelRelay {
    inner: Mutex<Inner>,
    /// There are questions.
    wake: Notify,
    wish: Wish,
    listen: SocketAddrV4,
    /// How the sockets there answer STUN.
    family: Family,
    /// Sides of pairs that the tables have room for.
    room: u32,
}

/// What is behind the lock, which nobody holds while waiting for something.
struct Inner {
    tables: Tables,
    programs: Programs,
    questions: Questions,
    attached: Option<(Place, RelayHooks)>,
    /// Why nothing is attached, as it was told.
    why_not: Option<String>,
}

/// How it is, for `status` and for metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// The interface with the programs.
    pub(super) interface: Option<String>,
    /// The server's address there.
    pub(super) address: Option<Ipv4Addr>,
    /// Why the server relays everything itself.
    pub(super) why_not: Option<String>,
    /// Sides of pairs that are in the tables.
    pub(super) sides: u64,
    /// Sides that are left to the server.
    pub(super) left: u64,
    /// What became of datagrams to the server's port.
    pub(super) counts: Vec<(RelayCount, u64)>,
    /// The sides that have sent most since they have their labels.
    pub(super) busiest: Vec<Side>,
}

/// One side of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) metered: Metered,
}

impl KernelRelay {
    /// Sides in [`Report::busiest`].
    const BUSIEST: usize = 10;

    /// Loads the programs and makes the tables, and attaches nothing yet.
    ///
    /// # Errors
    /// Why the server has to relay by itself, in words.
    pub(super) fn open(config: &RendezvousConfig) -> Result<KernelRelay, String> {
        let wish = match &config.relay_xdp {
            _ if !config.relay => return Err("the relay was off when the server was started: start it again".into()),
            RelayXdp::Off => return Err("relay_xdp is off".into()),
            RelayXdp::Auto => Wish::Auto,
            RelayXdp::Interface(name) => Wish::Named(name.clone()),
        };
        let listen = config.listen.iter().find_map(|at| match at {
            std::net::SocketAddr::V4(at) => Some(*at),
            std::net::SocketAddr::V6(_) => None,
        });
        let listen = listen.ok_or("the server does not listen at an IPv4 address")?;
        let sides = sides(&config.limits);
        let programs = Programs::open(sides).map_err(|e| match e {
            Error::Privileges { what } => {
                format!("{what}: not permitted; it takes root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
            }
            e => format!("{:#}", anyhow::Error::from(e)),
        })?;
        let mut tables = Tables::new(sides);
        set_limits(&mut tables, &config.limits);
        let inner = Inner { tables, programs, questions: Questions::default(), attached: None, why_not: None };
        let family = sockets::family(listen.into(), config);
        Ok(KernelRelay { inner: Mutex::new(inner), wake: Notify::new(), wish, listen, family, room: sides })
    }

    /// What a reload to these limits leaves to the server until it is started again, in words: the tables keep their size.
    pub(super) fn shortfall(&self, limits: &Limits) -> Option<String> {
        shortfall(self.room, limits)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked held it between two writes that stand for themselves.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and writes what follows from it.
    fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> T {
        let mut inner = self.lock();
        let changed = change(&mut inner.tables);
        if inner.carry_out() {
            self.wake.notify_one();
        }
        changed
    }

    /// The next question to the kernel's routing.
    fn question(&self) -> Option<Command> {
        self.lock().questions.pop()
    }

    /// Nobody will answer questions: there is nothing to attach for, and none are kept.
    pub(super) fn give_up(&self) {
        self.detach();
        self.lock().questions.close();
    }

    /// Attaches where the programs should be by now, or detaches. `outward` is the interface that leads to the internet.
    fn settle_place(&self, outward: Option<u32>) {
        let mut inner = self.lock();
        inner.settle_place(&self.wish, self.listen, outward);
        // An address that the server could not answer at is left to it.
        let place = inner.attached.as_ref().filter(|(_, hooks)| hooks.xdp.is_some()).map(|(place, _)| place);
        let stun = place.and_then(|place| Some((place.ifindex, self.family.responder(Some(place.addr.into())).ok()?)));
        inner.tables.set_stun(stun);
        if inner.carry_out() {
            self.wake.notify_one();
        }
    }

    /// Ends it: datagrams reach the server again.
    fn detach(&self) {
        let mut inner = self.lock();
        if let Some((place, _)) = inner.attached.take() {
            inner.programs.detach(place.ifindex);
        }
    }

    /// The name of the hook in force, as in `status`; `None`: the server relays everything itself.
    pub(super) fn hook(&self) -> Option<&'static str> {
        Some(hook(&self.lock().attached.as_ref()?.1))
    }

    /// What became of datagrams so far.
    pub(super) fn counts(&self) -> Vec<(RelayCount, u64)> {
        self.lock().counts()
    }

    /// How it is. `busiest`: with those that have sent most.
    pub(super) fn report(&self, busiest: bool) -> Report {
        let inner = self.lock();
        let place = inner.attached.as_ref().map(|(place, _)| place);
        let mut sides: Vec<Side> = if busiest { inner.sides().collect() } else { Vec::new() };
        sides.retain(|side| side.metered != Metered::default());
        sides.sort_by_key(|side| std::cmp::Reverse(side.metered.bytes));
        sides.truncate(KernelRelay::BUSIEST);
        Report {
            interface: place.map(|place| place.name.clone()),
            address: place.map(|place| place.addr),
            why_not: inner.why_not.clone(),
            sides: inner.tables.rows().count() as u64,
            left: inner.tables.left() as u64,
            counts: inner.counts(),
            busiest: sides,
        }
    }
}

impl Inner {
    /// Writes the tables; true if there are questions.
    fn carry_out(&mut self) -> bool {
        while let Some(command) = self.tables.poll_command() {
            let command = match command {
                RelayCommand::Ask(question) => {
                    self.questions.push(question);
                    continue;
                }
                command => command,
            };
            let Err(e) = self.programs.apply(&command) else { continue };
            let e = anyhow::Error::from(e);
            match &command {
                RelayCommand::SetLeg { leg, .. } => {
                    debug!("a side of a pair is left to the server: {e:#}");
                    self.tables.not_written(leg.label);
                }
                _ => warn!("the kernel's relay: {e:#}"),
            }
        }
        !self.questions.is_empty()
    }

    fn settle_place(&mut self, wish: &Wish, listen: SocketAddrV4, outward: Option<u32>) {
        let place = match self.tables.place(wish, *listen.ip(), outward) {
            Ok(place) => place,
            Err(e) => return self.not_attached(wish, &e.to_string()),
        };
        let server = Some(SocketAddrV4::new(place.addr, listen.port()));
        match &mut self.attached {
            Some((in_force, _)) if *in_force == place => return,
            Some((in_force, _)) if in_force.ifindex == place.ifindex => *in_force = place,
            _ => {
                if let Some((before, _)) = self.attached.take() {
                    self.programs.detach(before.ifindex);
                }
                match self.programs.attach(place.ifindex, &place.name, HookWish::Auto) {
                    Ok(hooks) => {
                        let (interface, address, hook) = (&place.name, place.addr, hook(&hooks));
                        info!(interface, %address, hook, "the kernel relays");
                        hooks.refused.iter().for_each(|why| info!("a better hook was refused: {why}"));
                        self.tables.set_generic(hooks.xdp == Some(HookMode::Generic));
                        self.attached = Some((place, hooks));
                        self.why_not = None;
                    }
                    Err(e) => return self.not_attached(wish, &format!("{:#}", anyhow::Error::from(e))),
                }
            }
        }
        self.tables.set_server(server);
    }

    /// Says why, if that is news.
    fn not_attached(&mut self, wish: &Wish, why: &str) {
        if let Some((place, _)) = self.attached.take() {
            self.programs.detach(place.ifindex);
        }
        self.tables.set_server(None);
        if self.why_not.as_deref() != Some(why) {
            tell_why_not(matches!(wish, Wish::Named(_)), why);
            self.why_not = Some(why.to_owned());
        }
    }

    fn counts(&self) -> Vec<(RelayCount, u64)> {
        let counts = self.programs.counts();
        counts.inspect_err(|e| debug!("the relay's counters: {e}")).unwrap_or_default()
    }

    fn sides(&self) -> impl Iterator<Item = Side> {
        self.tables.sides().map(|(row, leg)| {
            let at = |at: wavnet_common::abi::relay::RelayAddr| SocketAddrV4::new(at.addr.into(), at.port);
            Side { from: at(leg.from), to: at(leg.to), metered: self.programs.metered(row) }
        })
    }
}

/// Says that the server relays by itself. That is worth a warning where the operator has named an interface.
pub(super) fn tell_why_not(is_wanted: bool, why: &str) {
    if is_wanted {
        warn!("the server relays, not the kernel: {why}");
    } else {
        info!("the server relays, not the kernel: {why}");
    }
}

/// Sides of pairs that tables made for these limits have room for.
fn sides(limits: &Limits) -> u32 {
    limits.relays.saturating_mul(2).clamp(2, SIDES_MOST) as u32
}

fn shortfall(room: u32, limits: &Limits) -> Option<String> {
    let pairs = room / 2;
    let words =
        || format!("limits.relays: the server relays, not the kernel, beyond {pairs} pairs until it is started again");
    (sides(limits) > room).then(words)
}

fn hook(hooks: &RelayHooks) -> &'static str {
    match hooks.xdp {
        Some(HookMode::Driver) => "xdp-driver",
        Some(HookMode::Generic) => "xdp-generic",
        Some(HookMode::Tc) | None => "tc",
    }
}

fn set_limits(tables: &mut Tables, limits: &Limits) {
    let Limits { relay_bytes, stun_of_source, .. } = *limits;
    tables.set_rate(Some(Rate { bytes_per_second: relay_bytes.per_second, burst: relay_bytes.burst }));
    tables.set_stun_of_source(stun_of_source);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_keep_the_size_that_they_had_at_the_start() {
        let limits = |relays| Limits { relays, ..Limits::default() };
        let room = sides(&limits(100));
        assert_eq!((room, shortfall(room, &limits(100)), shortfall(room, &limits(1))), (200, None, None));
        let said = shortfall(room, &limits(101)).unwrap();
        assert!(said.contains("beyond 100 pairs"), "{said}");
        // No start would make more room.
        let most = sides(&limits(SIDES_MOST));
        assert_eq!((most as usize, shortfall(most, &limits(4_000_000))), (SIDES_MOST, None));
    }
}
