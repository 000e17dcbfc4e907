//! Neighbours that the kernel resolves and keeps fresh for us.

use std::{io, net::Ipv4Addr};

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteProtocol, RouteType},
};
use wavnet_common::addr::Mac;

use super::{Error, Netlink, convert, failed};

/// Marks the entries that are managed for us (NDA_PROTOCOL, Linux 5.2): a number that rtnetlink.h gives to nobody.
const OURS: RouteProtocol = RouteProtocol::Other(119);

impl Netlink {
    /// Has the kernel resolve a neighbour and keep it so (NTF_EXT_MANAGED, Linux 5.16; before that, once: NTF_USE), and tells
    /// what is known at this moment.
    ///
    /// An entry that the administrator has made permanent stays as it is.
    pub async fn resolve(&self, ifindex: u32, addr: Ipv4Addr) -> Result<Option<Mac>, Error> {
        let what = |source| Error::Request { what: format!("cannot have the neighbour {addr} resolved"), source };
        let present = self.get(ifindex, addr).await.map_err(what)?;
        if let Some(n) = present.filter(|n| is_fixed(n.header.state)) {
            return Ok(convert::neighbour(&n).and_then(|(_, _, mac)| mac));
        }
        let mut managed = message(ifindex, addr);
        managed.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        managed.attributes.push(NeighbourAttribute::Protocol(OURS));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let done = self.neighbour_request(RouteNetlinkMessage::NewNeighbour(managed), flags).await;
        if let Err(e) = done {
            tracing::debug!(%addr, "no managed neighbours ({e}), falling back to NTF_USE");
            let mut used = message(ifindex, addr);
            used.header.flags = NeighbourFlags::Use;
            self.neighbour_request(RouteNetlinkMessage::NewNeighbour(used), flags).await.map_err(what)?;
        }
        let now = self.get(ifindex, addr).await.map_err(what)?;
        Ok(now.and_then(|n| convert::neighbour(&n)).and_then(|(_, _, mac)| mac))
    }

    /// Leaves a neighbour to the kernel's ordinary ageing again.
    pub async fn forget(&self, ifindex: u32, addr: Ipv4Addr) -> Result<(), Error> {
        let what = |source| Error::Request { what: format!("cannot release the neighbour {addr}"), source };
        let present = self.get(ifindex, addr).await.map_err(what)?;
        if present.is_none_or(|n| is_fixed(n.header.state)) {
            return Ok(());
        }
        // An update without the flag clears it and keeps the entry, which others may be using.
        let mut plain = message(ifindex, addr);
        plain.header.flags = NeighbourFlags::Use;
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
        self.neighbour_request(RouteNetlinkMessage::NewNeighbour(plain), flags).await.map_err(what)?;
        Ok(())
    }

    /// Releases every neighbour that an agent had managed, on all interfaces: for `wavnet down`, when there is no agent left to
    /// remember which. Returns how many.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn forget_all(&self) -> Result<usize, Error> {
        self.forget_unused(|_, _| false).await
    }

    /// Releases every neighbour that an agent had managed, unless `used` says otherwise of its interface and address. Returns how
    /// many.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn forget_unused(&self, used: impl Fn(u32, Ipv4Addr) -> bool) -> Result<usize, Error> {
        let mut ours = self.managed().await?;
        ours.retain(|(ifindex, addr)| !used(*ifindex, *addr));
        for (ifindex, addr) in &ours {
            self.forget(*ifindex, *addr).await?;
        }
        Ok(ours.len())
    }

    /// The neighbours that are managed for an agent: interface and address.
    pub(super) async fn managed(&self) -> Result<Vec<(u32, Ipv4Addr)>, Error> {
        let mut ours = Vec::new();
        let mut dump = self.handle.neighbours().get().execute();
        while let Some(message) = dump.next().await {
            let message = message.map_err(|e| failed("cannot list the neighbours", e))?;
            if is_ours(&message) {
                ours.extend(convert::neighbour(&message).map(|(ifindex, addr, _)| (ifindex, addr)));
            }
        }
        Ok(ours)
    }

    pub(super) async fn get(&self, ifindex: u32, addr: Ipv4Addr) -> io::Result<Option<NeighbourMessage>> {
        let asked = RouteNetlinkMessage::GetNeighbour(message(ifindex, addr));
        match self.neighbour_request(asked, NLM_F_REQUEST).await {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            other => other,
        }
    }
}

fn is_ours(message: &NeighbourMessage) -> bool {
    let has = |wanted: &NeighbourAttribute| message.attributes.contains(wanted);
    has(&NeighbourAttribute::Protocol(OURS))
        && message
            .attributes
            .iter()
            .any(|a| matches!(a, NeighbourAttribute::ExtFlags(flags) if flags.contains(NeighbourExtFlags::Managed)))
}

/// Permanent, or on an interface without ARP.
pub(super) fn is_fixed(state: NeighbourState) -> bool {
    matches!(state, NeighbourState::Permanent | NeighbourState::Noarp)
}

fn message(ifindex: u32, addr: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::None;
    message.header.kind = RouteType::Unspec;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)));
    message
}
