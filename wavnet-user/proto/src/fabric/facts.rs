//! What the shell tells: links, routes, and what was found in pinned maps.

use std::{collections::BTreeMap, net::Ipv4Addr};

use wavnet_common::{
    abi::{Arrival, Config, Member, MemberKey, Path, Port, VniEntry, Vtep, size},
    addr::{Mac, PeerId, Vni},
    fdb::Place,
};

use super::{PeerSettings, PortMode, StaticPlace, VlanMode};

/// How much fits into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ports.
    pub ports: usize,
    /// VNIs.
    pub vnis: usize,
    /// Peers.
    pub vteps: usize,
    /// {VNI, peer} pairs.
    pub members: usize,
    /// Peers of one VNI.
    pub flood_vteps: usize,
    /// Ports of one VNI.
    pub flood_ports: usize,
}

impl Limits {
    /// Paths of dynamic peers: so many for each peer that there is room for.
    pub const fn paths(&self) -> usize {
        self.vteps * size::PATHS_PER_VTEP as usize
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            ports: size::PORTS as usize,
            vnis: size::VNIS as usize,
            vteps: size::VTEPS as usize,
            members: size::MEMBERS as usize,
            flood_vteps: size::FLOOD_VTEPS,
            flood_ports: size::FLOOD_PORTS,
        }
    }
}

/// What an earlier agent left in pinned maps: slots in use, by index. Free slots may be listed or left out.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    /// `CONFIG[0]`.
    pub config: Option<Config>,
    /// `PORTS`.
    pub ports: Vec<(u16, Port)>,
    /// `VNIS`.
    pub vnis: Vec<(u16, VniEntry)>,
    /// `VTEPS`.
    pub vteps: Vec<(u16, Vtep)>,
    /// `VTEP_IDS`, of dynamic peers.
    pub ids: Vec<(u16, PeerId)>,
    /// `PATHS`.
    pub paths: Vec<(u16, Path)>,
    /// Relays in `PATH_OF_SOURCE`: number, and where their datagrams come from.
    pub relays: Vec<(u16, Arrival)>,
    /// `MEMBERS`.
    pub members: Vec<(MemberKey, Member)>,
    /// Static entries of the `FDB`: VNI index, MAC, place.
    pub statics: Vec<(u16, Mac, Place)>,
    /// Interfaces that underlay programs are attached to.
    pub underlays: Vec<u32>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// Longest IP packet, bytes.
    pub mtu: u32,
    /// Link address, if it is an Ethernet device.
    pub mac: Option<Mac>,
    /// Administratively up and with carrier.
    pub up: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// Neighbours are not resolved on it (IFF_NOARP, IFF_POINTOPOINT): the kernel knows how to send.
    pub no_arp: bool,
    /// What made it, such as `veth` or `tun`.
    pub kind: Option<String>,
    /// What XDP can redirect into it; `None`: not known.
    pub xdp_redirect: Option<XdpRedirect>,
    /// A tap whose owner takes super-packets of datagrams, and so may send them, or of which that is not known.
    pub datagram_gso: bool,
}

impl LinkInfo {
    /// A tap.
    pub fn is_tap(&self) -> bool {
        self.kind.as_deref() == Some("tun") && self.mac.is_some()
    }
}

/// What XDP can redirect into an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpRedirect {
    /// Nothing: the driver takes no redirects.
    Nothing,
    /// Frames in one buffer; longer ones vanish.
    OneBuffer,
    /// All frames.
    Everything,
}

/// The next router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// None: the destination is a neighbour.
    OnLink,
    /// This one.
    Gateway(Ipv4Addr),
    /// One that has no IPv4 address (RTA_VIA): left to the kernel's FIB lookup.
    Other,
}

/// A route to a peer, as the kernel resolved it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// Interface.
    pub oif: u32,
    /// Next router.
    pub via: Via,
    /// MTU of the route where it has one of its own, bytes (path MTU discovery included).
    pub mtu: Option<u32>,
    /// The destination is this host.
    pub local: bool,
}

/// Ports, peers and static entries that were added by command rather than configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtime {
    /// By interface name.
    pub ports: BTreeMap<String, RuntimePort>,
    /// By address; also VNIs that were added to a configured peer.
    pub peers: BTreeMap<Ipv4Addr, PeerSettings>,
    /// By VNI and MAC.
    pub statics: BTreeMap<(Vni, Mac), StaticPlace>,
}

impl RuntimePort {
    /// A port of a VNI with default settings.
    pub fn of(vni: Vni) -> RuntimePort {
        RuntimePort { vni, vlan: VlanMode::default(), mode: PortMode::default() }
    }
}

/// A port that was added by command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimePort {
    /// The VNI.
    pub vni: Vni,
    /// What happens to VLAN tags.
    pub vlan: VlanMode,
    /// Which frames it is to be fast for.
    pub mode: PortMode,
}
