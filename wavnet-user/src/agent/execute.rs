//! Carrying out what the fabric says.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};
use wavnet_common::{abi::Heartbeat, addr::Mac};
use wavnet_proto::command::Command;

use super::{Agent, convert};
use crate::datapath::{self, PortXdp};

/// What was complained about lately, so that the log does not repeat itself with every retry.
#[derive(Default)]
pub(super) struct Complaints(BTreeMap<String, Instant>);

impl Complaints {
    /// How long the same words are not repeated.
    const SILENCE: Duration = Duration::from_secs(300);
    /// More different ones than this are forgotten rather than kept.
    const MOST: usize = 1000;

    /// True if these words are news.
    pub(super) fn is_news(&mut self, words: &str) -> bool {
        let now = Instant::now();
        if self.0.len() >= Complaints::MOST {
            self.0.clear();
        }
        match self.0.insert(words.to_owned(), now) {
            Some(before) if now.duration_since(before) < Complaints::SILENCE => {
                self.0.insert(words.to_owned(), before);
                false
            }
            _ => true,
        }
    }
}

impl Agent {
    /// Carries out commands until the fabric has none.
    pub(super) async fn settle(&mut self) {
        self.ask_features();
        while let Some(command) = self.fabric.poll_command() {
            self.execute(command).await;
            // A long list must not make the programs believe that we are dead.
            let period = Duration::from_millis(Heartbeat::PERIOD_MS);
            if self.last_heartbeat.is_some_and(|at| at.elapsed() > period) {
                self.heartbeat();
            }
        }
    }

    async fn execute(&mut self, command: Command) {
        match &command {
            Command::QueryRoute { addr, from } => match self.netlink.route(*addr, *from).await {
                Ok(route) => self.fabric.route(*addr, route),
                Err(e) => self.complain(&command, &e.into()),
            },
            Command::ResolveNeighbour { ifindex, addr } => match self.resolve(*ifindex, *addr).await {
                Ok(mac) => self.fabric.neighbour(*ifindex, *addr, mac),
                Err(e) => {
                    self.fabric.neighbour(*ifindex, *addr, None);
                    self.complain(&command, &e);
                }
            },
            Command::ForgetNeighbour { ifindex, addr } => {
                // The neighbour or its interface may be gone, which is as good.
                if let Err(e) = self.release(*ifindex, *addr).await {
                    debug!(%addr, "neighbour not released: {e:#}");
                }
            }
            _ => {
                debug!(?command, "table change");
                self.occupants.note(&command, datapath::event_clock_ns());
                if let Err(e) = self.apply(&command) {
                    let e = anyhow::Error::from(e);
                    self.fabric.command_failed(&command, &format!("{e:#}"));
                    self.complain(&command, &e);
                }
            }
        }
    }

    async fn resolve(&self, ifindex: u32, addr: Ipv4Addr) -> anyhow::Result<Option<Mac>> {
        self.datapath.note_neighbour((ifindex, addr))?;
        Ok(self.netlink.resolve(ifindex, addr).await?)
    }

    /// Leaves a neighbour to the kernel's ordinary ageing again; `true` if it was managed.
    pub(super) async fn release(&self, ifindex: u32, addr: Ipv4Addr) -> anyhow::Result<bool> {
        let released = self.netlink.release(ifindex, addr).await?;
        self.datapath.forget_neighbour((ifindex, addr))?;
        Ok(released)
    }

    fn apply(&mut self, command: &Command) -> Result<(), datapath::Error> {
        match command {
            Command::AttachPort { ifindex, name, xdp } => {
                let hooks = self.datapath.attach_port(*ifindex, name, *xdp)?;
                let (hook, by_xdp) = (convert::port_hook(hooks.tc), hooks.xdp == PortXdp::On);
                info!(port = name, ifindex, hook, xdp = by_xdp, "port attached");
                if let PortXdp::Refused(why) = &hooks.xdp {
                    // The programs must not believe that there is XDP before them.
                    self.fabric.xdp_refused(*ifindex, why);
                }
                self.port_hooks.insert(*ifindex, (name.clone(), hooks));
                Ok(())
            }
            Command::DetachPort { ifindex } => {
                // Not attached by us: left by an earlier agent, or attaching has failed.
                let name = self.port_hooks.remove(ifindex).map_or_else(|| "(unknown)".to_owned(), |(name, _)| name);
                info!(port = name, ifindex, "port detached");
                self.datapath.detach_port(*ifindex)
            }
            Command::AttachUnderlay { ifindex, name, hook } => {
                let attached = self.datapath.attach_underlay(*ifindex, name, *hook);
                let in_force = attached.as_ref().ok().copied().or_else(|| self.datapath.underlay_mode(*ifindex));
                match in_force {
                    Some(mode) => drop(self.hook_modes.insert(*ifindex, mode)),
                    None => drop(self.hook_modes.remove(ifindex)),
                }
                let mode = attached?;
                info!(interface = name, ifindex, mode = convert::hook_mode(mode).as_str(), "underlay attached");
                Ok(())
            }
            Command::DetachUnderlay { ifindex } => {
                self.hook_modes.remove(ifindex);
                // Its name is known while it is there.
                let name = self.links.get(ifindex).map_or("(gone)", |l| l.name.as_str());
                info!(interface = name, ifindex, "underlay detached");
                self.datapath.detach_underlay(*ifindex)
            }
            other => self.datapath.apply(other),
        }
    }

    /// Says what went wrong, unless it has been said lately.
    fn complain(&mut self, command: &Command, e: &anyhow::Error) {
        let words = format!("{e:#}");
        if !self.complaints.is_news(&words) {
            debug!(?command, "still: {words}");
        } else if matches!(command, Command::DetachPort { .. } | Command::DetachUnderlay { .. }) {
            warn!("{words}");
        } else {
            error!("{words}; trying again at least every {} s", super::RETRY.as_secs());
        }
    }

    /// Tells the programs that next hops are kept up to date, and the service manager that the loop turns.
    pub(super) fn heartbeat(&mut self) {
        self.last_heartbeat = Some(Instant::now());
        self.notifier.alive();
        if let Err(e) = self.datapath.heartbeat() {
            let words = format!("no heartbeat: {:#}", anyhow::Error::from(e));
            if self.complaints.is_news(&words) {
                error!("{words}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_words_are_said_once() {
        let mut complaints = Complaints::default();
        assert!(complaints.is_news("a") && complaints.is_news("b"));
        assert!(!complaints.is_news("a"));
        let others = (0..2 * Complaints::MOST).filter(|i| complaints.is_news(&i.to_string()));
        assert_eq!(others.count(), 2 * Complaints::MOST);
        assert!(complaints.0.len() <= Complaints::MOST);
    }
}
