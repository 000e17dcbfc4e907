//! What the kernel says of interfaces, routes and neighbours, on its way to the relay's tables.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep_until},
};
use tracing::{debug, warn};
use wavnet_common::addr::Mac;
use wavnet_proto::{
    command::Command,
    fabric::{LinkInfo, XdpRedirect},
};

use super::KernelRelay;
use crate::netlink::{Error, Event, Monitor, Netlink};

/// Routes are asked for at most this often: a router's whole table may be changing.
const ROUTES_EVERY: Duration = Duration::from_millis(200);
/// How often next hops without a link address are sought, as long as there is hope.
const SEEK: Duration = Duration::from_secs(1);
/// How often what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often everything is read anew, in case something went unnoticed.
const RESYNC: Duration = Duration::from_secs(60);
/// Who has a route to this address (RFC 5737) has one to the internet. Nothing is sent there.
const INTERNET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The task.
pub(in crate::rendezvous) struct Routing {
    relay: Arc<KernelRelay>,
    netlink: Netlink,
    monitor: Monitor,
    outward: Option<u32>,
    /// When the routes are to be asked for again.
    routes_due: Option<Instant>,
}

impl Routing {
    /// Reads what there is, attaches the programs, and answers what the tables ask.
    ///
    /// # Errors
    /// No netlink.
    pub(in crate::rendezvous) async fn start(relay: Arc<KernelRelay>) -> Result<Routing, Error> {
        // The monitor first: what happens between the two is then heard.
        let monitor = Monitor::open()?;
        let mut routing = Routing { relay, monitor, netlink: Netlink::open()?, outward: None, routes_due: None };
        routing.resync().await?;
        routing.answer().await;
        Ok(routing)
    }

    /// Runs until it is told to stop; the programs are detached then, and neighbours left to the kernel's ordinary ageing again.
    pub(in crate::rendezvous) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let ticks = |period| {
            let mut ticks = interval(period);
            ticks.reset();
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut seek, mut retry, mut resync) = (ticks(SEEK), ticks(RETRY), ticks(RESYNC));
        loop {
            self.answer().await;
            tokio::select! {
                // Whoever does not tell is gone, too.
                _ = &mut stop => break,
                () = self.relay.wake.notified() => {}
                news = self.monitor.next() => self.hear(news).await,
                () = wait_until(self.routes_due) => self.ask_routes().await,
                _ = seek.tick() => self.relay.change(|tables| tables.seek_next_hops()),
                _ = retry.tick() => self.retry(),
                _ = resync.tick() => self.resync_or_complain().await,
            }
        }
        self.monitor.close().await;
        self.relay.detach();
        let neighbours = self.relay.lock().tables.neighbours();
        for (ifindex, addr) in neighbours {
            self.release(ifindex, addr).await;
        }
    }

    /// Answers what the tables ask.
    async fn answer(&mut self) {
        while let Some(question) = self.relay.question() {
            match question {
                Command::QueryRoute { addr, from } => match self.netlink.route(addr, from).await {
                    Ok(route) => self.relay.change(|tables| tables.route(addr, route)),
                    // It is asked again.
                    Err(e) => warn!("{:#}", anyhow::Error::from(e)),
                },
                Command::ResolveNeighbour { ifindex, addr } => self.resolve(ifindex, addr).await,
                Command::ForgetNeighbour { ifindex, addr } => self.release(ifindex, addr).await,
                other => debug!(?other, "no question"),
            }
        }
    }

    async fn resolve(&mut self, ifindex: u32, addr: Ipv4Addr) {
        let asked = self.netlink.resolve(ifindex, addr).await;
        let mac: Option<Mac> = asked.unwrap_or_else(|e| {
            debug!(%addr, "{:#}", anyhow::Error::from(e));
            // So that it is sought.
            None
        });
        self.relay.change(|tables| tables.neighbour(ifindex, addr, mac));
    }

    async fn release(&mut self, ifindex: u32, addr: Ipv4Addr) {
        // The neighbour or its interface may be gone, which is as good.
        if let Err(e) = self.netlink.release(ifindex, addr).await {
            debug!(%addr, "neighbour not released: {:#}", anyhow::Error::from(e));
        }
    }

    async fn hear(&mut self, news: Result<Vec<Event>, Error>) {
        let events = self.monitor.or_reopened(news).await;
        if events.contains(&Event::Lost) {
            return self.resync_or_complain().await;
        }
        let mut moved = false;
        for event in events {
            debug!(?event, "netlink");
            match event {
                Event::Link(info) => {
                    moved |= self.relay.lock().tables.interface(info.ifindex).is_none_or(|l| l.name != info.name);
                    self.link_up(info, None);
                }
                Event::LinkGone(ifindex) => {
                    moved = true;
                    self.relay.change(|tables| tables.link_gone(ifindex));
                }
                Event::Addresses(ifindex) => {
                    moved = true;
                    match self.netlink.addresses(Some(ifindex)).await {
                        Ok(mut all) => {
                            let addresses = all.remove(&ifindex).unwrap_or_default();
                            self.relay.change(|tables| tables.addresses(ifindex, addresses));
                        }
                        // Gone meanwhile, as a rule.
                        Err(e) => debug!(ifindex, "{:#}", anyhow::Error::from(e)),
                    }
                }
                Event::Routes => _ = self.routes_due.get_or_insert_with(|| Instant::now() + ROUTES_EVERY),
                Event::Neighbour(ifindex, addr, mac) => {
                    self.relay.change(|tables| tables.neighbour(ifindex, addr, mac));
                }
                // Somebody else, such as an agent, has released it.
                Event::NeighbourReleased(ifindex, addr) => {
                    let needed = self.relay.lock().tables.uses_neighbour(ifindex, addr);
                    if needed {
                        self.resolve(ifindex, addr).await;
                    }
                }
                Event::XdpRedirect(ifindex, can) => {
                    let known = self.relay.lock().tables.interface(ifindex).cloned();
                    if let Some(info) = known {
                        self.link_up(info, Some(can));
                    }
                }
                Event::Lost => {}
            }
        }
        if moved {
            self.relay.settle_place(self.outward);
        }
    }

    fn link_up(&self, mut info: LinkInfo, redirect: Option<XdpRedirect>) {
        let known = || self.relay.lock().tables.interface(info.ifindex).and_then(|l| l.xdp_redirect);
        info.xdp_redirect = redirect.or_else(known).or_else(|| self.netlink.xdp_redirect(info.ifindex));
        self.relay.change(|tables| tables.link_up(info));
    }

    async fn ask_routes(&mut self) {
        self.routes_due = None;
        self.relay.change(|tables| tables.routes_changed());
        self.look_outward().await;
        self.relay.settle_place(self.outward);
    }

    async fn look_outward(&mut self) {
        match self.netlink.route(INTERNET, None).await {
            Ok(route) => self.outward = route.map(|route| route.oif),
            Err(e) => debug!("{:#}", anyhow::Error::from(e)),
        }
    }

    fn retry(&mut self) {
        self.relay.change(|tables| tables.retry());
        let detached = self.relay.hook().is_none();
        if detached {
            self.relay.settle_place(self.outward);
        }
    }

    /// Reads everything anew.
    async fn resync(&mut self) -> Result<(), Error> {
        let all = self.netlink.snapshot().await?;
        let redirect = self.netlink.xdp_redirect_all();
        let present: BTreeSet<u32> = all.links.iter().map(|link| link.ifindex).collect();
        let mut addresses = all.addresses;
        self.relay.change(|tables| {
            let gone: Vec<u32> = tables.interfaces().filter(|ifindex| !present.contains(ifindex)).collect();
            gone.into_iter().for_each(|ifindex| tables.link_gone(ifindex));
            for mut link in all.links {
                link.xdp_redirect = redirect.get(&link.ifindex).copied();
                tables.link_up(link);
            }
            for ifindex in present {
                tables.addresses(ifindex, addresses.remove(&ifindex).unwrap_or_default());
            }
            tables.recheck();
        });
        self.look_outward().await;
        self.relay.settle_place(self.outward);
        Ok(())
    }

    async fn resync_or_complain(&mut self) {
        if let Err(e) = self.resync().await {
            warn!("{:#}", anyhow::Error::from(e));
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
