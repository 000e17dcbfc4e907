//! What was added by command and gives way to the configuration, and what rests for want of a VNI.

use std::net::Ipv4Addr;

use wavnet_common::addr::{Mac, Vni};

use super::{Desired, Fabric, Runtime, RuntimePort, StaticPlace};

/// An addition that a configuration takes the place of, and contradicts. What it merely repeats is no loss.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shadowed {
    /// A port of another VNI.
    #[error(
        "port {name} was added to VNI {had} by command; the configuration has it in VNI {has}, so the addition is dropped"
    )]
    Port {
        /// Interface name.
        name: String,
        /// VNI of the addition.
        had: Vni,
        /// VNI of the configuration.
        has: Vni,
    },
    /// A port that treats VLAN tags otherwise.
    #[error(
        "port {0} was added by command with another vlan mode than the configuration has, so the addition is dropped"
    )]
    Vlan(String),
    /// A port of another mode.
    #[error("port {0} was added by command with another mode than the configuration has, so the addition is dropped")]
    Mode(String),
    /// A peer with another UDP port.
    #[error(
        "peer {addr} was added with UDP port {had} by command; the configuration has it with {has}, which is what counts"
    )]
    UdpPort {
        /// The peer.
        addr: Ipv4Addr,
        /// UDP port of the addition.
        had: u16,
        /// UDP port of the configuration.
        has: u16,
    },
    /// A static entry with another place.
    #[error(
        "the static entry for {mac} in VNI {vni} was added by command; the configuration has another place for it, so the \
         addition is dropped"
    )]
    Static {
        /// VNI.
        vni: Vni,
        /// MAC.
        mac: Mac,
    },
}

impl Runtime {
    /// The additions that a configuration contradicts: they give way to it.
    pub fn shadowed(&self, desired: &Desired) -> Vec<Shadowed> {
        let mut all = Vec::new();
        for rule in desired.ports.iter().filter(|r| r.name.is_exact()) {
            let name = rule.name.as_str();
            match self.ports.get(name) {
                Some(RuntimePort { vni, .. }) if *vni != rule.vni => {
                    all.push(Shadowed::Port { name: name.to_owned(), had: *vni, has: rule.vni });
                }
                Some(port) if port.vlan != rule.vlan => all.push(Shadowed::Vlan(name.to_owned())),
                Some(port) if port.mode != rule.mode => all.push(Shadowed::Mode(name.to_owned())),
                _ => {}
            }
        }
        for (addr, added) in &self.peers {
            let Some(peer) = desired.peers.get(addr) else { continue };
            let has = peer.udp_port.unwrap_or(desired.underlay.udp_port);
            if let Some(had) = added.udp_port.filter(|had| *had != has) {
                all.push(Shadowed::UdpPort { addr: *addr, had, has });
            }
        }
        for ((vni, mac), place) in &self.statics {
            if desired.statics.get(&(*vni, *mac)).is_some_and(|p| p != place) {
                all.push(Shadowed::Static { vni: *vni, mac: *mac });
            }
        }
        all
    }
}

impl Fabric {
    /// Ports and peers that were added by command to a VNI that the configuration does not have (any more): they rest until it
    /// has it again. Static entries say so themselves ([`Fabric::statics`]).
    pub fn resting(&self) -> Vec<(StaticPlace, Vni)> {
        let ports = self.runtime.ports.iter().map(|(name, p)| (StaticPlace::Port(name.clone()), p.vni));
        let peers = self.runtime.peers.iter();
        let peers = peers.flat_map(|(addr, p)| p.vnis.iter().map(|vni| (StaticPlace::Peer(*addr), *vni)));
        ports.chain(peers).filter(|(_, vni)| !self.desired.vnis.contains_key(vni)).collect()
    }
}
