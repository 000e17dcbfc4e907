//! What the operator wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use wavnet_common::addr::{Mac, Vni};

use super::{FabricError, Limits};
use crate::command::HookWish;

/// The whole of a configuration, as far as the tables depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// What carries the overlay.
    pub underlay: Underlay,
    /// The VNIs there are.
    pub vnis: BTreeMap<Vni, VniSettings>,
    /// Which interfaces are ports. An exact name goes before a pattern, an earlier pattern before a later one.
    pub ports: Vec<PortRule>,
    /// Static peers by address.
    pub peers: BTreeMap<Ipv4Addr, PeerSettings>,
    /// Static FDB entries.
    pub statics: BTreeMap<(Vni, Mac), StaticPlace>,
}

/// What carries the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The interfaces that packets of peers come in by.
    pub devices: Vec<UnderlayDevice>,
    /// Address of our VTEP; `None`: the first address of the first of the devices that has one.
    pub address: Option<Ipv4Addr>,
    /// Our UDP port, and that of peers without one of their own.
    pub udp_port: u16,
}

impl Default for Underlay {
    fn default() -> Underlay {
        Underlay { devices: Vec::new(), address: None, udp_port: 4789 }
    }
}

/// An underlay interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayDevice {
    /// Interface name.
    pub name: String,
    /// Which hook to use.
    pub hook: HookWish,
}

/// What is set per VNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniSettings {
    /// Longest IP packet in this VNI, bytes; `None`: what the port's interface takes.
    pub mtu: Option<u32>,
    /// Whether places of MACs are learned from data (RFC 7348 section 4.1); if not, there are static entries alone.
    pub learning: bool,
}

impl Default for VniSettings {
    fn default() -> VniSettings {
        VniSettings { mtu: None, learning: true }
    }
}

/// Which interfaces are ports, of which VNI, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRule {
    /// Interface name or pattern.
    pub name: NamePattern,
    /// The VNI.
    pub vni: Vni,
    /// What happens to VLAN tags.
    pub vlan: VlanMode,
    /// Which frames it is to be fast for.
    pub mode: PortMode,
}

/// Which frames a port is to be fast for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortMode {
    /// Those that it sends: a tap has XDP while they are mostly datagrams. A veth has none.
    #[default]
    Auto,
    /// Many small frames: XDP on the port, always. The other end of a veth then loses its segmentation offload.
    PacketRate,
    /// Bulk: never XDP on the port.
    Throughput,
}

/// What happens to inner frames that carry a VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanMode {
    /// They pass as they are.
    #[default]
    Pass,
    /// They are dropped, both ways (RFC 7348 section 6.1).
    Discard,
}

/// What is set per static peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSettings {
    /// UDP port; `None`: [`Underlay::udp_port`].
    pub udp_port: Option<u16>,
    /// Its VNIs.
    pub vnis: BTreeSet<Vni>,
}

/// Where the station of a static entry is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaticPlace {
    /// Behind the port of this name.
    Port(String),
    /// Behind this peer.
    Peer(Ipv4Addr),
}

/// An interface name, in which `*` stands for any run of characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(String);

impl NamePattern {
    /// A name or pattern; [`FabricError::BadName`] if no interface can have such a name.
    pub fn new(text: impl Into<String>) -> Result<NamePattern, FabricError> {
        let text = text.into();
        // A pattern may be longer than a name by as many `*` as it has: they may stand for nothing.
        let least = text.bytes().filter(|&b| b != b'*').count();
        let bad = text.is_empty()
            || least > NAME_MAX
            || text == "."
            || text == ".."
            || text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
        if bad { Err(FabricError::BadName(text)) } else { Ok(NamePattern(text)) }
    }

    /// True if this is one name, not a pattern.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '?'])
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if an interface of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let (p, n) = (self.0.as_bytes(), name.as_bytes());
        let (mut pi, mut ni) = (0, 0);
        let mut star = None;
        while ni < n.len() {
            match p.get(pi) {
                Some(b'*') => {
                    star = Some((pi, ni));
                    pi += 1;
                }
                Some(&c) if c == b'?' || c == n[ni] => {
                    pi += 1;
                    ni += 1;
                }
                // No match from here: let the last `*` stand for one more character.
                _ => match star {
                    Some((sp, sn)) => {
                        star = Some((sp, sn + 1));
                        pi = sp + 1;
                        ni = sn + 1;
                    }
                    None => return false,
                },
            }
        }
        p[pi..].iter().all(|&c| c == b'*')
    }
}

/// IFNAMSIZ - 1.
const NAME_MAX: usize = 15;

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An exact interface name, or [`FabricError::BadName`].
pub(super) fn exact_name(name: &str) -> Result<String, FabricError> {
    match NamePattern::new(name) {
        Ok(p) if p.is_exact() => Ok(p.0),
        _ => Err(FabricError::BadName(name.to_owned())),
    }
}

/// Refuses addresses that no peer can have.
pub(super) fn check_peer_address(addr: Ipv4Addr) -> Result<(), FabricError> {
    // 0/8 and 240/4 are not unicast addresses of hosts (RFC 6890); loopback is, as the host's own.
    if addr.octets()[0] == 0 || addr.octets()[0] >= 224 { Err(FabricError::BadAddress(addr)) } else { Ok(()) }
}

impl Desired {
    /// Checks everything that does not depend on links.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), FabricError> {
        if self.underlay.udp_port == 0 {
            return Err(FabricError::BadUdpPort);
        }
        let known = |vni: &Vni| {
            if self.vnis.contains_key(vni) { Ok(()) } else { Err(FabricError::UnknownVni(*vni)) }
        };
        if self.vnis.len() > limits.vnis {
            return Err(FabricError::Full { what: "VNIs", limit: limits.vnis });
        }
        let mut names = BTreeMap::new();
        for rule in &self.ports {
            known(&rule.vni)?;
            if let Some(vni) = names.insert(&rule.name, rule.vni) {
                return Err(FabricError::DuplicatePort { name: rule.name.to_string(), vni });
            }
            if rule.name.is_exact() && self.underlay.devices.iter().any(|d| d.name == rule.name.as_str()) {
                return Err(FabricError::UnderlayPort(rule.name.to_string()));
            }
        }
        for (addr, peer) in &self.peers {
            check_peer_address(*addr)?;
            if self.underlay.address == Some(*addr) {
                return Err(FabricError::OwnAddress(*addr));
            }
            if peer.udp_port == Some(0) {
                return Err(FabricError::BadUdpPort);
            }
            if peer.vnis.is_empty() {
                return Err(FabricError::NoVni(*addr));
            }
            peer.vnis.iter().try_for_each(known)?;
        }
        for ((vni, mac), place) in &self.statics {
            known(vni)?;
            if !mac.is_station() {
                return Err(FabricError::BadMac(*mac));
            }
            match place {
                StaticPlace::Port(name) => drop(exact_name(name)?),
                StaticPlace::Peer(addr) if self.peers.get(addr).is_some_and(|p| p.vnis.contains(vni)) => {}
                StaticPlace::Peer(addr) => return Err(FabricError::NoSuchPeer(*addr)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(s: &str) -> NamePattern {
        NamePattern::new(s).unwrap()
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(pattern("tap*").matches("tap0") && pattern("tap*").matches("tap"));
        assert!(!pattern("tap*").matches("mytap0") && !pattern("tap").matches("tap0"));
        assert!(pattern("v?et*-*").matches("vnet12-0") && !pattern("v?et*-*").matches("vet-0"));
        assert!(pattern("*a*b").matches("aabab") && !pattern("*a*b").matches("aaba"));
        assert!(pattern("*").matches("") && pattern("**").matches("x"));
    }

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-bytes-xx", "a\nb"] {
            assert!(NamePattern::new(bad).is_err(), "{bad:?}");
        }
        assert!(NamePattern::new("fifteen-bytes-x*").is_ok());
        assert!(exact_name("tap*").is_err() && exact_name("tap0").is_ok());
    }
}
