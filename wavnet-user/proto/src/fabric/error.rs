//! Why a change was refused.

use std::net::{Ipv4Addr, SocketAddrV4};

use wavnet_common::addr::{Mac, PeerId, Vni};

/// Why a change was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FabricError {
    /// The VNI is not in the configuration.
    #[error("VNI {0} is not configured")]
    UnknownVni(Vni),
    /// The port exists.
    #[error("port {name} belongs to VNI {vni} already")]
    DuplicatePort {
        /// Interface name.
        name: String,
        /// Its VNI.
        vni: Vni,
    },
    /// There is no such port.
    #[error("there is no port {0}")]
    NoSuchPort(String),
    /// The port comes from the configuration.
    #[error("port {0} comes from the configuration file")]
    ConfiguredPort(String),
    /// No interface can have this name.
    #[error(
        "{0:?} cannot be an interface name: 1 to 15 bytes without '/', ':' and white space, and neither '.' nor '..'"
    )]
    BadName(String),
    /// The interface carries the overlay's own packets.
    #[error("{0} is an underlay interface and cannot be a port as well")]
    UnderlayPort(String),
    /// The interface is of a kind that cannot be a port.
    #[error("{name} cannot be a port: {why}")]
    UnfitPort {
        /// Interface name.
        name: String,
        /// What it is.
        why: &'static str,
    },
    /// The port of a static entry belongs to another VNI.
    #[error("port {name} belongs to VNI {has}")]
    OtherVni {
        /// Interface name.
        name: String,
        /// Its VNI.
        has: Vni,
    },
    /// Every VNI given has this peer already.
    #[error("peer {0} is in these VNIs already")]
    DuplicatePeer(Ipv4Addr),
    /// The peer is there, with another UDP port.
    #[error("peer {addr} uses UDP port {has}: it cannot have another one in this VNI")]
    OtherUdpPort {
        /// The peer.
        addr: Ipv4Addr,
        /// The port it has.
        has: u16,
    },
    /// There is no such peer, or not in that VNI.
    #[error("there is no peer {0} in these VNIs")]
    NoSuchPeer(Ipv4Addr),
    /// There is no such dynamic peer.
    #[error("there is no peer with the key {0}")]
    NoSuchDynamicPeer(PeerId),
    /// The path is another peer's, or its address is one that is known for a relay, or the other way round.
    #[error("what comes from {0} is another peer's")]
    PathTaken(SocketAddrV4),
    /// The peer comes from the configuration.
    #[error("peer {0} comes from the configuration file")]
    ConfiguredPeer(Ipv4Addr),
    /// The address belongs to this host.
    #[error("{0} is this host's own address: a peer is another host")]
    OwnAddress(Ipv4Addr),
    /// No host can have this address.
    #[error("{0} is not an address that a peer can have: give the unicast IPv4 address of its VTEP")]
    BadAddress(Ipv4Addr),
    /// The UDP port is zero.
    #[error("UDP port 0 cannot be used: VXLAN's port is 4789")]
    BadUdpPort,
    /// A peer without VNI.
    #[error("peer {0} is given no VNI: name at least one")]
    NoVni(Ipv4Addr),
    /// The entry exists.
    #[error("VNI {vni} has a static entry for {mac} already")]
    DuplicateStatic {
        /// VNI.
        vni: Vni,
        /// MAC.
        mac: Mac,
    },
    /// There is no such entry.
    #[error("VNI {vni} has no static entry for {mac}")]
    NoSuchStatic {
        /// VNI.
        vni: Vni,
        /// MAC.
        mac: Mac,
    },
    /// The entry comes from the configuration.
    #[error("the static entry for {mac} comes from the configuration file")]
    ConfiguredStatic {
        /// MAC.
        mac: Mac,
    },
    /// No station can have this MAC.
    #[error("{0} is a group address or zero: a static entry names one station")]
    BadMac(Mac),
    /// A table is full.
    #[error("no room for more {what}: {limit} at the most")]
    Full {
        /// What there is no room for.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A VNI floods to too many peers.
    #[error("VNI {vni} would have more than {limit} peers, which is all that flooding can serve")]
    FloodFull {
        /// VNI.
        vni: Vni,
        /// How many there may be.
        limit: usize,
    },
}

impl FabricError {
    /// What the operator can do about it; `None` where the message says it all.
    pub fn help(&self) -> Option<String> {
        use FabricError::*;
        Some(match self {
            UnknownVni(vni) => format!("add [[vni]] id = {vni} to the configuration file, then `wavnet reload`"),
            DuplicatePort { name, .. } => format!("remove it first: wavnet port remove {name}"),
            NoSuchPort(_) => "`wavnet ports` lists the ports".to_owned(),
            ConfiguredPort(_) | ConfiguredPeer(_) | ConfiguredStatic { .. } => {
                "change it there, then `wavnet reload`".to_owned()
            }
            UnderlayPort(_) | UnfitPort { .. } => "give the tap or veth of a VM or container".to_owned(),
            OtherVni { has, .. } => format!("give that VNI (--vni {has}), or a port of the VNI of the entry"),
            DuplicatePeer(_) => "`wavnet peers` shows who is in which VNI".to_owned(),
            OtherUdpPort { addr, has } => {
                format!("leave the UDP port out or give {has}, or remove the peer first: wavnet peer remove {addr}")
            }
            NoSuchPeer(addr) => format!("`wavnet peers` lists the peers; add this one: wavnet peer add {addr} --vni …"),
            DuplicateStatic { vni, mac } => format!("remove it first: wavnet fdb remove --vni {vni} --mac {mac}"),
            NoSuchStatic { vni, .. } => format!("`wavnet fdb --vni {vni}` lists the entries"),
            Full { .. } => {
                "raise the size in the configuration file (limits), then `wavnet down` and start the agent again"
                    .to_owned()
            }
            FloodFull { .. } => "spread the peers over several VNIs".to_owned(),
            BadName(_) | OwnAddress(_) | BadAddress(_) | BadUdpPort | NoVni(_) | BadMac(_) | NoSuchDynamicPeer(_)
            | PathTaken(_) => return None,
        })
    }
}
