//! What changes, as it changes.

use std::{collections::BTreeSet, net::Ipv4Addr, pin::Pin, time::Duration};

use futures_util::{FutureExt, Stream, StreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket, SocketAddr},
};
use tokio::task::JoinHandle;
use wavnet_common::addr::Mac;
use wavnet_proto::fabric::{LinkInfo, XdpRedirect};

use super::{Error, convert, neighbour, netdev::Notifications};

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is there or has changed; without its [`LinkInfo::xdp_redirect`].
    Link(LinkInfo),
    /// A link is gone.
    LinkGone(u32),
    /// The IPv4 addresses of an interface have changed.
    Addresses(u32),
    /// Some IPv4 route or rule has changed.
    Routes,
    /// The state of an IPv4 neighbour has changed; `None`: not resolved.
    Neighbour(u32, Ipv4Addr, Option<Mac>),
    /// A neighbour that was managed for an agent is not any more.
    NeighbourReleased(u32, Ipv4Addr),
    /// XDP can or cannot redirect into an interface any more.
    XdpRedirect(u32, XdpRedirect),
    /// The kernel had to drop messages: everything has to be read again.
    Lost,
}

type Messages = Pin<Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr)> + Send>>;

/// Hears what changes in the namespace that it was opened in.
pub struct Monitor {
    messages: Messages,
    netdev: Option<Notifications>,
    connection: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Most events that one call of [`Monitor::next`] answers with.
    const BATCH: usize = 4096;
    /// Before another one is opened once more.
    const REST: Duration = Duration::from_millis(200);
    /// Receive buffer, bytes: some thousand links that appear at once.
    const BUFFER: usize = 4 << 20;

    /// Takes what [`Monitor::next`] said. If there is no news any more another monitor takes its place, and news may have been lost.
    pub async fn or_reopened(&mut self, news: Result<Vec<Event>, Error>) -> Vec<Event> {
        let error = match news {
            Ok(events) => return events,
            Err(error) => error,
        };
        tracing::warn!("{error}; opening another one");
        match Monitor::open() {
            Ok(monitor) => *self = monitor,
            // The old one answers at once: do not spin.
            Err(e) => {
                tracing::warn!("{:#}", anyhow::Error::from(e));
                tokio::time::sleep(Monitor::REST).await;
            }
        }
        vec![Event::Lost]
    }

    /// Subscribes. Needs a tokio runtime.
    pub fn open() -> Result<Monitor, Error> {
        Monitor::open_with(Monitor::BUFFER)
    }

    pub(super) fn open_with(buffer: usize) -> Result<Monitor, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Neigh,
        ];
        let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&groups).map_err(Error::Open)?;
        // A smaller buffer only means more reading anew.
        if let Err(e) = connection.socket_mut().socket_mut().set_rx_buf_sz(buffer as libc::c_int) {
            tracing::debug!("the netlink receive buffer stays small: {e}");
        }
        let netdev = Notifications::open();
        let netdev = netdev.inspect_err(|e| tracing::debug!("no notifications of XDP features: {e}")).ok();
        Ok(Monitor { messages: Box::pin(messages), netdev, connection: Some(tokio::spawn(connection)) })
    }

    /// Stops listening: nothing is under way any more when this returns.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abort();
            // It was told to end, and so ends as one that was cancelled.
            let _ = connection.await;
        }
    }

    /// Waits for something to happen and answers with all that has happened, in order. Repeated news are left out. Cancelling
    /// loses nothing.
    ///
    /// # Errors
    /// [`Error::Closed`]: open another one, and read everything anew.
    pub async fn next(&mut self) -> Result<Vec<Event>, Error> {
        let mut batch = Batch::default();
        while batch.events.is_empty() {
            tokio::select! {
                message = self.messages.next() => match message {
                    Some((message, _)) => batch.take(message),
                    None => return Err(Error::Closed),
                },
                changes = next_features(self.netdev.as_mut()) => match changes {
                    Ok(changes) => batch.events.extend(changes),
                    Err(e) => {
                        tracing::warn!("no more notifications of XDP features: {e}");
                        self.netdev = None;
                    }
                },
            }
            while batch.events.len() < Monitor::BATCH {
                match self.messages.next().now_or_never() {
                    Some(Some((message, _))) => batch.take(message),
                    _ => break,
                }
            }
        }
        Ok(batch.events)
    }
}

async fn next_features(netdev: Option<&mut Notifications>) -> std::io::Result<Vec<Event>> {
    match netdev {
        Some(notifications) => notifications.next().await,
        None => std::future::pending().await,
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.abort();
        }
    }
}

#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    routes: bool,
    addresses: BTreeSet<u32>,
}

impl Batch {
    fn take(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        use RouteNetlinkMessage::*;
        let event = match message.payload {
            NetlinkPayload::InnerMessage(NewLink(m)) => convert::link(&m).map(Event::Link),
            NetlinkPayload::InnerMessage(DelLink(m)) => convert::is_link(&m).then_some(Event::LinkGone(m.header.index)),
            NetlinkPayload::InnerMessage(NewAddress(m) | DelAddress(m)) => {
                self.addresses.insert(m.header.index).then_some(Event::Addresses(m.header.index))
            }
            NetlinkPayload::InnerMessage(NewRoute(_) | DelRoute(_) | NewRule(_) | DelRule(_)) => {
                (!std::mem::replace(&mut self.routes, true)).then_some(Event::Routes)
            }
            NetlinkPayload::InnerMessage(NewNeighbour(m)) => {
                let known = convert::neighbour(&m);
                let released = known.filter(|_| neighbour::is_released(&m));
                self.events.extend(released.map(|(ifindex, addr, _)| Event::NeighbourReleased(ifindex, addr)));
                known.map(|(ifindex, addr, mac)| Event::Neighbour(ifindex, addr, mac))
            }
            NetlinkPayload::InnerMessage(DelNeighbour(m)) => {
                convert::neighbour(&m).map(|(ifindex, addr, _)| Event::Neighbour(ifindex, addr, None))
            }
            NetlinkPayload::Overrun(_) => Some(Event::Lost),
            _ => None,
        };
        self.events.extend(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_monitor_has_nobody_who_would_forward_messages_to_it() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut monitor = Monitor::open().unwrap();
            let connection = monitor.connection.as_ref().unwrap().abort_handle();
            assert!(!connection.is_finished());
            monitor.close().await;
            assert!(connection.is_finished());
            monitor.close().await;
        });
    }
}
