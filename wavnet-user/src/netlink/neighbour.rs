//! Neighbours that the kernel resolves and keeps fresh for us.

use std::{io, net::Ipv4Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteProtocol, RouteType},
};
use wavnet_common::addr::Mac;

use super::{Error, Netlink, convert};

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

    /// Leaves a neighbour that is managed for an agent to the kernel's ordinary ageing again; `true` if it was such a one.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn release(&self, ifindex: u32, addr: Ipv4Addr) -> Result<bool, Error> {
        let what = |source| Error::Request { what: format!("cannot release the neighbour {addr}"), source };
        let present = self.get(ifindex, addr).await.map_err(what)?;
        if present.is_none_or(|n| is_fixed(n.header.state) || !is_managed(&n)) {
            return Ok(false);
        }
        // An update without the flag clears it and keeps the entry, which others may be using.
        let mut plain = message(ifindex, addr);
        plain.header.flags = NeighbourFlags::Use;
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE;
        self.neighbour_request(RouteNetlinkMessage::NewNeighbour(plain), flags).await.map_err(what)?;
        Ok(true)
    }

    pub(super) async fn get(&self, ifindex: u32, addr: Ipv4Addr) -> io::Result<Option<NeighbourMessage>> {
        let asked = RouteNetlinkMessage::GetNeighbour(message(ifindex, addr));
        match self.neighbour_request(asked, NLM_F_REQUEST).await {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            other => other,
        }
    }
}

/// Managed for an agent.
fn is_managed(message: &NeighbourMessage) -> bool {
    is_ours(message)
        && message
            .attributes
            .iter()
            .any(|a| matches!(a, NeighbourAttribute::ExtFlags(flags) if flags.contains(NeighbourExtFlags::Managed)))
}

/// Was managed for an agent, and is not any more.
pub(super) fn is_released(message: &NeighbourMessage) -> bool {
    is_ours(message) && !is_managed(message)
}

fn is_ours(message: &NeighbourMessage) -> bool {
    message.attributes.contains(&NeighbourAttribute::Protocol(OURS))
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
