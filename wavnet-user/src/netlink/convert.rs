//! From netlink messages to facts.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{LinkAttribute, LinkFlags, LinkInfo as Info, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
};
use wavnet_common::addr::Mac;
use wavnet_proto::fabric::{LinkInfo, RouteInfo, Via};

/// How unusual an address is as a source: a narrow scope, then a secondary one.
pub(super) type Rank = (bool, bool);

/// A link, without its XDP features; `None` for messages about bridge ports, which look much the same.
pub(super) fn link(message: &LinkMessage) -> Option<LinkInfo> {
    if !is_link(message) {
        return None;
    }
    let flags = message.header.flags;
    let mut info = LinkInfo {
        ifindex: message.header.index,
        name: String::new(),
        mtu: 0,
        mac: None,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        no_arp: flags.intersects(LinkFlags::Noarp | LinkFlags::Pointopoint),
        kind: None,
        xdp_redirect: None,
        datagram_gso: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                info.mac = mac(bytes);
            }
            LinkAttribute::LinkInfo(list) => {
                info.kind = list.iter().find_map(|i| match i {
                    Info::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    info.datagram_gso = info.is_tap();
    (!info.name.is_empty()).then_some(info)
}

/// True if a message is about the link itself, not about its being a bridge's port.
pub(super) fn is_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// An IPv4 address and its interface.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, Rank, Ipv4Addr)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    // On a point-to-point link the other one is the peer's.
    let address = local.or_else(|| {
        find(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    });
    let Some(IpAddr::V4(addr)) = address else { return None };
    let narrow = message.header.scope != AddressScope::Universe;
    let secondary = message.header.flags.contains(AddressHeaderFlags::Secondary);
    Some((message.header.index, (narrow, secondary), addr))
}

/// An IPv4 neighbour and its link address, if that can be used.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(u32, Ipv4Addr, Option<Mac>)> {
    let addr = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => Some(*addr),
        _ => None,
    })?;
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let found = message.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
        _ => None,
    });
    Some((message.header.ifindex, addr, found.filter(|m| usable && !m.is_zero())))
}

/// A route; `None` for one that says that there is none.
pub(super) fn route(message: &RouteMessage) -> Option<RouteInfo> {
    let local = match message.header.kind {
        RouteType::Unicast => false,
        RouteType::Local => true,
        _ => return None,
    };
    let (mut oif, mut via, mut mtu) = (None, Via::OnLink, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(addr)) => via = Via::Gateway(*addr),
            RouteAttribute::Via(RouteVia::Inet(addr)) => via = Via::Gateway(*addr),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => via = Via::Other,
            // Encapsulation by the route (MPLS, SRv6) is the kernel's business altogether.
            RouteAttribute::EncapType(_) => via = Via::Other,
            RouteAttribute::Metrics(list) => {
                mtu = list.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(RouteInfo { oif: oif?, via, mtu, local })
}

fn mac(bytes: &[u8]) -> Option<Mac> {
    bytes.try_into().ok().map(Mac)
}
