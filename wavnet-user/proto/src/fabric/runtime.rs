//! Changes by command rather than configuration.

use std::{collections::BTreeSet, net::Ipv4Addr};

use wavnet_common::addr::{Mac, Vni};

use super::{
    Desired, Fabric, FabricError, PeerSettings, Runtime, RuntimePort, StaticPlace,
    desired::{check_peer_address, exact_name},
    target::{local_address, rule_for, unfit},
};

impl Runtime {
    /// Leaves out what no command could have added.
    pub(super) fn sanitise(&mut self) {
        self.ports.retain(|name, _| exact_name(name).is_ok());
        self.peers.retain(|addr, p| check_peer_address(*addr).is_ok() && p.udp_port != Some(0));
        self.statics.retain(|(_, mac), _| mac.is_station());
    }

    /// Leaves out what the configuration has.
    pub(super) fn prune(&mut self, desired: &Desired) {
        let configured = |name: &str| desired.ports.iter().any(|r| r.name.is_exact() && r.name.matches(name));
        self.ports.retain(|name, _| !configured(name));
        for (addr, settings) in &desired.peers {
            if let Some(added) = self.peers.get_mut(addr) {
                added.vnis.retain(|v| !settings.vnis.contains(v));
            }
        }
        self.peers.retain(|_, p| !p.vnis.is_empty());
        self.statics.retain(|key, _| !desired.statics.contains_key(key));
    }
}

impl Fabric {
    /// Makes an interface a port, now or when it appears. It goes before patterns of the configuration.
    pub fn add_port(&mut self, name: &str, port: RuntimePort) -> Result<(), FabricError> {
        let vni = port.vni;
        let name = exact_name(name)?;
        self.check_vni(vni)?;
        if self.desired.underlay.devices.iter().any(|d| d.name == name) {
            return Err(FabricError::UnderlayPort(name));
        }
        if let Some(why) = self.links.named(&name).and_then(|l| unfit(&l.info)) {
            return Err(FabricError::UnfitPort { name, why });
        }
        if self.configured_port(&name).is_some() {
            return Err(FabricError::ConfiguredPort(name));
        }
        if let Some(vni) = self.runtime.ports.get(&name).map(|p| p.vni) {
            return Err(FabricError::DuplicatePort { name, vni });
        }
        let there = self.links.named(&name).is_some_and(|l| self.tables.port_of(l.info.ifindex).is_some());
        if !there && self.tables.ports.len() >= self.limits.ports {
            return Err(FabricError::Full { what: "ports", limit: self.limits.ports });
        }
        self.forgive_xdp(Some(&name));
        self.runtime.ports.insert(name, port);
        self.dirty = true;
        Ok(())
    }

    /// Takes back [`Fabric::add_port`]. If a pattern of the configuration means the interface, it is a port by that again.
    pub fn remove_port(&mut self, name: &str) -> Result<(), FabricError> {
        if self.runtime.ports.remove(name).is_none() {
            let by_rule = self.configured_port(name).is_some()
                || self.links.named(name).is_some_and(|l| self.tables.port_of(l.info.ifindex).is_some());
            let name = name.to_owned();
            return Err(if by_rule { FabricError::ConfiguredPort(name) } else { FabricError::NoSuchPort(name) });
        }
        self.dirty = true;
        Ok(())
    }

    /// Adds a peer, or VNIs to a peer that is there. `udp_port` is that of the underlay unless given.
    pub fn add_peer(&mut self, addr: Ipv4Addr, udp_port: Option<u16>, vnis: &BTreeSet<Vni>) -> Result<(), FabricError> {
        check_peer_address(addr)?;
        vnis.iter().try_for_each(|v| self.check_vni(*v))?;
        if vnis.is_empty() {
            return Err(FabricError::NoVni(addr));
        }
        if udp_port == Some(0) {
            return Err(FabricError::BadUdpPort);
        }
        if local_address(&self.desired, &self.links) == Some(addr) || self.links.has_address(addr) {
            return Err(FabricError::OwnAddress(addr));
        }
        let default = self.desired.underlay.udp_port;
        let entries = [self.desired.peers.get(&addr), self.runtime.peers.get(&addr)];
        if let Some(first) = entries.into_iter().flatten().next() {
            let has = first.udp_port.unwrap_or(default);
            if udp_port.is_some_and(|p| p != has) {
                return Err(FabricError::OtherUdpPort { addr, has });
            }
        }
        let has = |v: &Vni| entries.into_iter().flatten().any(|p| p.vnis.contains(v));
        let new: Vec<Vni> = vnis.iter().filter(|v| !has(v)).copied().collect();
        if new.is_empty() {
            return Err(FabricError::DuplicatePeer(addr));
        }
        let mut runtime = self.runtime.clone();
        let entry = runtime.peers.entry(addr).or_insert(PeerSettings { udp_port, vnis: BTreeSet::new() });
        entry.vnis.extend(new);
        self.check_sizes(&self.desired, &runtime)?;
        self.runtime = runtime;
        self.touch_peers();
        Ok(())
    }

    /// Takes back [`Fabric::add_peer`], for some VNIs or (`None`) for all that were added.
    pub fn remove_peer(&mut self, addr: Ipv4Addr, vnis: Option<&BTreeSet<Vni>>) -> Result<(), FabricError> {
        let configured = self.desired.peers.get(&addr);
        let refuse = |by_config| {
            if by_config { FabricError::ConfiguredPeer(addr) } else { FabricError::NoSuchPeer(addr) }
        };
        let Some(added) = self.runtime.peers.get_mut(&addr) else { return Err(refuse(configured.is_some())) };
        if let Some(vnis) = vnis {
            if let Some(missing) = vnis.iter().find(|v| !added.vnis.contains(v)) {
                return Err(refuse(configured.is_some_and(|c| c.vnis.contains(missing))));
            }
            added.vnis.retain(|v| !vnis.contains(v));
        }
        if vnis.is_none() || added.vnis.is_empty() {
            self.runtime.peers.remove(&addr);
        }
        self.touch_peers();
        Ok(())
    }

    /// Adds a static FDB entry. One behind a port is in force while the port is attached.
    pub fn add_static(&mut self, vni: Vni, mac: Mac, place: StaticPlace) -> Result<(), FabricError> {
        self.check_vni(vni)?;
        if !mac.is_station() {
            return Err(FabricError::BadMac(mac));
        }
        match &place {
            StaticPlace::Port(name) => {
                let name = exact_name(name)?;
                // A port that nobody has asked for yet may come later.
                let rule = rule_for(&self.desired, &self.runtime, &name);
                if let Some(rule) = rule.filter(|rule| rule.port.vni != vni) {
                    return Err(FabricError::OtherVni { name, has: rule.port.vni });
                }
            }
            StaticPlace::Peer(addr) => {
                let entries = [self.desired.peers.get(addr), self.runtime.peers.get(addr)];
                if !entries.into_iter().flatten().any(|p| p.vnis.contains(&vni)) {
                    return Err(FabricError::NoSuchPeer(*addr));
                }
            }
        }
        if self.desired.statics.contains_key(&(vni, mac)) || self.runtime.statics.contains_key(&(vni, mac)) {
            return Err(FabricError::DuplicateStatic { vni, mac });
        }
        self.runtime.statics.insert((vni, mac), place);
        self.dirty = true;
        Ok(())
    }

    /// Takes back [`Fabric::add_static`].
    pub fn remove_static(&mut self, vni: Vni, mac: Mac) -> Result<(), FabricError> {
        if self.runtime.statics.remove(&(vni, mac)).is_none() {
            let configured = self.desired.statics.contains_key(&(vni, mac));
            return Err(match configured {
                true => FabricError::ConfiguredStatic { mac },
                false => FabricError::NoSuchStatic { vni, mac },
            });
        }
        self.dirty = true;
        Ok(())
    }

    fn check_vni(&self, vni: Vni) -> Result<(), FabricError> {
        if self.desired.vnis.contains_key(&vni) { Ok(()) } else { Err(FabricError::UnknownVni(vni)) }
    }

    fn configured_port(&self, name: &str) -> Option<Vni> {
        self.desired.ports.iter().find(|r| r.name.is_exact() && r.name.matches(name)).map(|r| r.vni)
    }

    /// Refuses more peers than there is room for, whatever links there are.
    pub(super) fn check_sizes(&self, desired: &Desired, runtime: &Runtime) -> Result<(), FabricError> {
        let mut peers = BTreeSet::new();
        let mut members = BTreeSet::new();
        let mut per_vni = self.dynamic.per_vni(desired);
        let dynamic: usize = per_vni.values().sum();
        for (addr, settings) in desired.peers.iter().chain(&runtime.peers) {
            peers.insert(*addr);
            for vni in &settings.vnis {
                if members.insert((*vni, *addr)) {
                    *per_vni.entry(*vni).or_default() += 1;
                }
            }
        }
        let full = |what, has, limit| if has > limit { Err(FabricError::Full { what, limit }) } else { Ok(()) };
        full("peers", peers.len() + self.dynamic.in_vnis(desired).count(), self.limits.vteps)?;
        full("memberships of peers in VNIs", members.len() + dynamic, self.limits.members)?;
        let limit = self.limits.flood_vteps;
        match per_vni.into_iter().find(|(_, n)| *n > limit) {
            Some((vni, _)) => Err(FabricError::FloodFull { vni, limit }),
            None => Ok(()),
        }
    }
}
