//! The kernel's links, routes and neighbours, as the fabric wants to know them.
//!
//! [`Netlink`] asks, [`Monitor`] listens. Both belong to the network namespace of the thread that opened them.

mod blocking;
mod convert;
mod monitor;
mod neighbour;
mod netdev;
pub(crate) mod tc;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, net::Ipv4Addr};

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::Handle;
use tokio::task::JoinHandle;
use wavnet_proto::fabric::{LinkInfo, RouteInfo, XdpRedirect};

pub use monitor::{Event, Monitor};
use netdev::Netdev;

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused, or the answer was no answer.
    #[error("{what}")]
    Request {
        /// What was asked.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is gone.
    #[error("the netlink socket has been closed")]
    Closed,
}

/// Everything there is, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Links, without their [`LinkInfo::xdp_redirect`].
    pub links: Vec<LinkInfo>,
    /// IPv4 addresses by interface index, most usual source address first.
    pub addresses: BTreeMap<u32, Vec<Ipv4Addr>>,
}

/// Asks the kernel.
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
    /// Missing before Linux 6.3.
    netdev: Option<Netdev>,
}

impl Netlink {
    /// Opens the sockets. Needs a tokio runtime.
    pub fn open() -> Result<Netlink, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        let connection = tokio::spawn(connection);
        let netdev = Netdev::open().inspect_err(|e| {
            tracing::info!("no XDP features of interfaces (Linux 6.3 has them), ports are delivered to in TC: {e}");
        });
        Ok(Netlink { handle, connection, netdev: netdev.ok() })
    }

    /// Everything there is. Open the [`Monitor`] first, so that nothing falls between the two.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut all = Snapshot::default();
        let mut links = self.handle.link().get().execute();
        while let Some(message) = links.next().await {
            all.links.extend(convert::link(&message.map_err(|e| failed("cannot list the interfaces", e))?));
        }
        all.addresses = self.addresses(None).await?;
        Ok(all)
    }

    /// IPv4 addresses of one interface or all, most usual source address first.
    pub async fn addresses(&self, ifindex: Option<u32>) -> Result<BTreeMap<u32, Vec<Ipv4Addr>>, Error> {
        let mut found: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        let mut request = self.handle.address().get();
        if let Some(ifindex) = ifindex {
            request = request.set_link_index_filter(ifindex);
        }
        let mut answers = request.execute();
        while let Some(message) = answers.next().await {
            let message = message.map_err(|e| failed("cannot list the addresses", e))?;
            if let Some((ifindex, rank, addr)) = convert::address(&message) {
                found.entry(ifindex).or_default().push((rank, addr));
            }
        }
        let sorted = |mut list: Vec<(convert::Rank, Ipv4Addr)>| {
            // Stable: among equals the kernel's order stays.
            list.sort_by_key(|(rank, _)| *rank);
            list.into_iter().map(|(_, addr)| addr).collect()
        };
        Ok(found.into_iter().map(|(ifindex, list)| (ifindex, sorted(list))).collect())
    }

    /// The route that packets from `from` to `addr` take; `None` if there is none. `from` must be an address of this host:
    /// the kernel finds no route for others.
    pub async fn route(&self, addr: Ipv4Addr, from: Option<Ipv4Addr>) -> Result<Option<RouteInfo>, Error> {
        self.ask_route(addr, from)
            .await
            .map_err(|source| Error::Request { what: format!("cannot ask for the route to {addr}"), source })
    }

    async fn ask_route(&self, addr: Ipv4Addr, from: Option<Ipv4Addr>) -> io::Result<Option<RouteInfo>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 32;
        message.header.kind = RouteType::Unspec;
        message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(addr)));
        if let Some(from) = from {
            message.header.source_prefix_length = 32;
            message.attributes.push(RouteAttribute::Source(RouteAddress::Inet(from)));
        }
        match self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST).await {
            Ok(Some(RouteNetlinkMessage::NewRoute(route))) => Ok(convert::route(&route)),
            Ok(_) => Ok(None),
            // No route, or one that says so: unreachable, prohibit, blackhole.
            Err(e) => match e.raw_os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(None),
                _ => Err(e),
            },
        }
    }

    /// Sends a request and waits for its answer: the first message or `None` for an acknowledgement alone.
    async fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut answers = self.handle.clone().request(request).map_err(|e| io::Error::other(e.to_string()))?;
        match answers.next().await.map(|m| m.payload) {
            Some(NetlinkPayload::InnerMessage(message)) => Ok(Some(message)),
            Some(NetlinkPayload::Error(e)) if e.code.is_some() => Err(e.to_io()),
            Some(_) | None if self.connection.is_finished() => Err(io::ErrorKind::NotConnected.into()),
            Some(_) | None => Ok(None),
        }
    }

    async fn neighbour_request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<NeighbourMessage>> {
        Ok(match self.request(message, flags).await? {
            Some(RouteNetlinkMessage::NewNeighbour(n)) => Some(n),
            _ => None,
        })
    }

    /// Whether XDP can redirect frames into an interface; `None` if the kernel does not say. Answers at once.
    pub fn xdp_redirect(&self, ifindex: u32) -> Option<XdpRedirect> {
        let asked = self.netdev.as_ref()?.redirect(ifindex);
        asked.inspect_err(|e| tracing::debug!(ifindex, "no XDP features of the interface: {e}")).ok()?
    }

    /// As [`Netlink::xdp_redirect`], of all interfaces at once.
    pub fn xdp_redirect_all(&self) -> BTreeMap<u32, XdpRedirect> {
        let asked = self.netdev.as_ref().map(Netdev::redirect_all);
        asked.and_then(|a| a.inspect_err(|e| tracing::debug!("no XDP features: {e}")).ok()).unwrap_or_default()
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn failed(what: &str, error: rtnetlink::Error) -> Error {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    };
    Error::Request { what: what.to_owned(), source }
}
