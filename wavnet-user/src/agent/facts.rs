//! What netlink tells, on its way to the fabric.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};
use wavnet_proto::fabric::LinkInfo;

use super::Agent;
use crate::netlink::{Error, Event};

/// Routes are asked for at most this often: a router's whole table may be changing.
const ROUTES_EVERY: Duration = Duration::from_millis(200);

impl Agent {
    /// Takes news from the monitor; if there is none any more, opens another one.
    pub(super) async fn hear(&mut self, news: Result<Vec<Event>, Error>) {
        let events = self.monitor.or_reopened(news).await;
        if events.contains(&Event::Lost) {
            info!("the kernel had more news than fits: reading everything anew");
            return self.resync_or_complain().await;
        }
        for event in events {
            debug!(?event, "netlink");
            match event {
                Event::Link(info) => self.link_up(info),
                Event::LinkGone(ifindex) => self.link_gone(ifindex),
                Event::Addresses(ifindex) => match self.netlink.addresses(Some(ifindex)).await {
                    Ok(mut all) => self.fabric.addresses(ifindex, all.remove(&ifindex).unwrap_or_default()),
                    // Gone meanwhile, as a rule.
                    Err(e) => debug!(ifindex, "{:#}", anyhow::Error::from(e)),
                },
                Event::Routes => self.routes_changed(),
                Event::Neighbour(ifindex, addr, mac) => self.fabric.neighbour(ifindex, addr, mac),
                Event::NeighbourReleased(ifindex, addr) => self.keep_neighbour(ifindex, addr).await,
                Event::XdpRedirect(ifindex, can) => {
                    if let Some(link) = self.links.get_mut(&ifindex) {
                        link.xdp_redirect = Some(can);
                        self.fabric.link_up(link.clone());
                    }
                }
                Event::Lost => {}
            }
        }
    }

    /// Somebody else, such as another agent in this network namespace, has released a neighbour that we may still need.
    async fn keep_neighbour(&mut self, ifindex: u32, addr: Ipv4Addr) {
        if self.fabric.uses_neighbour(ifindex, addr) {
            match self.netlink.resolve(ifindex, addr).await {
                Ok(mac) => self.fabric.neighbour(ifindex, addr, mac),
                Err(e) => {
                    debug!(%addr, "{:#}", anyhow::Error::from(e));
                    // So that it is sought.
                    self.fabric.neighbour(ifindex, addr, None);
                }
            }
        }
    }

    /// True if it is an interface that the agent has made for itself: no pattern of ports means it.
    fn is_own(&self, ifindex: u32) -> bool {
        self.mesh.as_ref().is_some_and(|mesh| mesh.hold_ifindex() == ifindex)
    }

    fn link_up(&mut self, mut info: LinkInfo) {
        if self.is_own(info.ifindex) {
            return;
        }
        let known = self.links.get(&info.ifindex).and_then(|l| l.xdp_redirect);
        info.xdp_redirect = known.or_else(|| self.netlink.xdp_redirect(info.ifindex));
        self.keep_features(&mut info);
        self.links.insert(info.ifindex, info.clone());
        self.datapath.interface_there(info.ifindex);
        self.fabric.link_up(info);
    }

    fn link_gone(&mut self, ifindex: u32) {
        self.links.remove(&ifindex);
        self.datapath.interface_gone(ifindex);
        self.fabric.link_gone(ifindex);
    }

    fn routes_changed(&mut self) {
        self.routes_due.get_or_insert_with(|| Instant::now() + ROUTES_EVERY);
    }

    /// Asks for the routes to all peers.
    pub(super) fn ask_routes(&mut self) {
        self.routes_due = None;
        self.fabric.routes_changed();
    }

    /// Reads everything anew and tells the fabric what differs.
    pub(super) async fn resync(&mut self) -> Result<(), Error> {
        let all = self.netlink.snapshot().await?;
        let redirect = self.netlink.xdp_redirect_all();
        let present: BTreeSet<u32> = all.links.iter().map(|l| l.ifindex).collect();
        let gone: Vec<u32> = self.links.keys().filter(|i| !present.contains(i)).copied().collect();
        gone.into_iter().for_each(|ifindex| self.link_gone(ifindex));
        let links: Vec<LinkInfo> = all.links.into_iter().filter(|link| !self.is_own(link.ifindex)).collect();
        for mut link in links {
            link.xdp_redirect = redirect.get(&link.ifindex).copied();
            self.keep_features(&mut link);
            self.links.insert(link.ifindex, link.clone());
            self.fabric.link_up(link);
        }
        let mut addresses = all.addresses;
        for ifindex in present {
            self.fabric.addresses(ifindex, addresses.remove(&ifindex).unwrap_or_default());
        }
        self.datapath.recheck_interfaces();
        self.fabric.recheck();
        Ok(())
    }

    pub(super) async fn resync_or_complain(&mut self) {
        if let Err(e) = self.resync().await {
            warn!("{:#}", anyhow::Error::from(e));
        }
    }
}
