//! Routers: between a segment outside and a LAN, with a NAT or firewalls.

use std::net::{IpAddr, SocketAddr};

use wavnet_proto::time::Time;

use crate::{
    Drops, Entries, Prefix, Reason, Rng, RouterStats,
    nat::{Firewall, FirewallConfig, Nat, NatConfig},
};

/// A router, its outer side on one segment and its LAN on the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Its addresses outside, IPv4 alone: those of its NAT, else its own.
    pub external: Vec<IpAddr>,
    /// Prefixes of its LAN. Those that are not translated are routed to it on the outer segment.
    pub inside: Vec<Prefix>,
    /// What it does with IPv4.
    pub v4: Ipv4,
    /// The firewall for IPv6, which is never translated; `None`: it lets everything through.
    pub v6: Option<FirewallConfig>,
}

/// What a router does with IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ipv4 {
    /// Translates.
    Nat(NatConfig),
    /// Forwards, through a firewall or everything.
    Routed(Option<FirewallConfig>),
}

impl RouterConfig {
    /// A NAT with one address in front of a LAN.
    #[must_use]
    pub fn nat(external: IpAddr, inside: Prefix, nat: NatConfig) -> RouterConfig {
        RouterConfig {
            external: vec![external],
            inside: vec![inside],
            v4: Ipv4::Nat(nat),
            v6: Some(FirewallConfig::default()),
        }
    }
}

/// A router and what it remembers.
#[derive(Debug)]
pub(crate) struct Router {
    /// Its interface outside.
    pub(crate) outside: u32,
    /// Its segment inside.
    pub(crate) lan: u32,
    v4: V4,
    v6: Option<Firewall>,
    outbound: u64,
    inbound: u64,
    hairpinned: u64,
    dropped: Drops,
}

#[derive(Debug)]
enum V4 {
    Nat(Box<Nat>),
    Routed { firewall: Option<Box<Firewall>>, own: Vec<IpAddr> },
}

/// Where a datagram from inside goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Out, from this endpoint.
    Out(SocketAddr),
    /// Back in.
    Hairpin { from: SocketAddr, to: SocketAddr },
}

impl Router {
    pub(crate) fn new(outside: u32, lan: u32, config: RouterConfig, rng: Rng) -> Router {
        let v4 = match config.v4 {
            Ipv4::Nat(nat) => V4::Nat(Box::new(Nat::new(nat, config.external, rng))),
            Ipv4::Routed(firewall) => {
                let firewall = firewall.map(|config| Box::new(Firewall::new(config)));
                V4::Routed { firewall, own: config.external }
            }
        };
        Router {
            outside,
            lan,
            v4,
            v6: config.v6.map(Firewall::new),
            outbound: 0,
            inbound: 0,
            hairpinned: 0,
            dropped: Drops::default(),
        }
    }

    pub(crate) fn nat(&self) -> Option<&Nat> {
        match &self.v4 {
            V4::Nat(nat) => Some(nat),
            V4::Routed { .. } => None,
        }
    }

    pub(crate) fn nat_mut(&mut self) -> Option<&mut Nat> {
        match &mut self.v4 {
            V4::Nat(nat) => Some(nat),
            V4::Routed { .. } => None,
        }
    }

    /// A datagram from inside that is for nobody on the LAN.
    pub(crate) fn outward(&mut self, now: Time, from: SocketAddr, to: SocketAddr) -> Result<Way, Reason> {
        let way = match (&mut self.v4, &mut self.v6) {
            (V4::Nat(nat), _) if to.is_ipv4() => {
                if nat.pool().contains(&to.ip()) {
                    nat.hairpin(now, from, to).map(|(from, to)| Way::Hairpin { from, to })
                } else {
                    nat.outbound(now, from, to).map(Way::Out)
                }
            }
            (V4::Routed { firewall: Some(firewall), .. }, _) if to.is_ipv4() => {
                firewall.outbound(now, from, to).map(|()| Way::Out(from))
            }
            (_, Some(firewall)) if to.is_ipv6() => firewall.outbound(now, from, to).map(|()| Way::Out(from)),
            _ => Ok(Way::Out(from)),
        };
        match &way {
            Ok(Way::Out(_)) => self.outbound += 1,
            Ok(Way::Hairpin { .. }) => self.hairpinned += 1,
            Err(reason) => self.dropped.count(*reason),
        }
        way
    }

    /// A datagram from outside: the endpoint inside that it goes to.
    pub(crate) fn inward(&mut self, now: Time, from: SocketAddr, to: SocketAddr) -> Result<SocketAddr, Reason> {
        let inner = match (&mut self.v4, &mut self.v6) {
            (V4::Nat(nat), _) if to.is_ipv4() => nat.inbound(now, to, from),
            (V4::Routed { own, .. }, _) if own.contains(&to.ip()) => Err(Reason::ForRouter),
            (V4::Routed { firewall: Some(firewall), .. }, _) if to.is_ipv4() => {
                firewall.inbound(now, to, from).map(|()| to)
            }
            (_, Some(firewall)) if to.is_ipv6() => firewall.inbound(now, to, from).map(|()| to),
            _ => Ok(to),
        };
        match &inner {
            Ok(_) => self.inbound += 1,
            Err(reason) => self.dropped.count(*reason),
        }
        inner
    }

    pub(crate) const fn count(&mut self, reason: Reason) {
        self.dropped.count(reason);
    }

    pub(crate) fn reboot(&mut self) {
        match &mut self.v4 {
            V4::Nat(nat) => nat.reboot(),
            V4::Routed { firewall, .. } => firewall.iter_mut().for_each(|firewall| firewall.reboot()),
        }
        self.v6.iter_mut().for_each(Firewall::reboot);
    }

    pub(crate) fn stats(&self, now: Time) -> RouterStats {
        let v4 = match &self.v4 {
            V4::Nat(nat) => nat.flow_entries(now),
            V4::Routed { firewall, .. } => firewall.as_ref().map(|f| f.flows(now)).unwrap_or_default(),
        };
        let v6 = self.v6.as_ref().map(|f| f.flows(now)).unwrap_or_default();
        RouterStats {
            outbound: self.outbound,
            inbound: self.inbound,
            hairpinned: self.hairpinned,
            mappings: self.nat().map(|nat| nat.mapping_entries(now)).unwrap_or_default(),
            // The two peaks may have been at different times: their sum is not less than the real one.
            flows: Entries { now: v4.now + v6.now, peak: v4.peak + v6.peak, created: v4.created + v6.created },
            dropped: self.dropped.clone(),
        }
    }
}
