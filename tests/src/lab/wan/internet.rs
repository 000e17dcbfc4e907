//! The public internet: a router that sites and public hosts are attached to, each on a network of its own.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use super::link::{LinkSpec, WanLink};
use crate::lab::{Lab, host::Host, link, netns::Netns};

/// Queues of a NIC that has no emulator behind it.
const QUEUES: u32 = 2;

/// What hosts and routers are plugged into: the internet, or a router's LAN.
pub trait Network {
    /// MTU of its links.
    fn mtu(&self) -> u32;

    /// Makes an interface in a namespace that is attached to the network, with an address and a default route; with a WAN in between if
    /// one is given.
    ///
    /// # Errors
    /// The network is full, or what `ip` or `ethtool` says.
    fn plug(&mut self, lab: &Lab, ns: &Netns, interface: &str, link: Option<&LinkSpec>) -> Result<Plug>;

    /// Makes it known that a /24 is behind an address.
    ///
    /// # Errors
    /// What `ip` says.
    fn route(&self, behind: Ipv4Addr, via: Ipv4Addr) -> Result<()>;
}

/// A place in a network.
#[derive(Debug)]
pub struct Plug {
    /// Address, in a /24.
    pub address: Ipv4Addr,
    /// The network's router.
    pub gateway: Ipv4Addr,
    /// A /24 that nobody else in the lab uses, for hosts behind who is plugged in here and translates addresses.
    pub private: Ipv4Addr,
    /// The same for hosts whose addresses are not translated.
    pub public: Ipv4Addr,
    /// The WAN in between.
    pub link: Option<WanLink>,
}

/// The internet. Site `i` (from 1) has 198.18.`i`.0/24, and 198.19.`i`.0/24 behind it: addresses set aside for measurements (RFC 2544).
#[derive(Debug)]
pub struct Internet {
    /// Its router; the link to site `i` is `s<i>`.
    pub ns: Netns,
    mtu: u32,
    sites: u8,
}

/// A host on the internet, without a NAT.
#[derive(Debug)]
pub struct PublicHost {
    /// Namespace and first address.
    pub host: Host,
    /// All of its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The WAN between it and the internet, if there is one.
    pub link: Option<WanLink>,
}

impl Internet {
    /// An internet without anybody.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn new(lab: &Lab, mtu: u32) -> Result<Internet> {
        let ns = lab.netns("internet")?;
        ns.sysctl("net/ipv4/ip_forward", "1")?;
        Ok(Internet { ns, mtu, sites: 0 })
    }

    /// Attaches a public host with so many addresses.
    ///
    /// # Errors
    /// As [`Network::plug`].
    pub fn host(&mut self, lab: &Lab, name: &str, addresses: u8, link: Option<&LinkSpec>) -> Result<PublicHost> {
        let ns = lab.netns(name)?;
        let plug = self.plug(lab, &ns, Host::NIC, link)?;
        let all: Vec<_> = (0..addresses.max(1)).map(|n| offset(plug.address, n)).collect();
        for address in &all[1..] {
            ns.ip(&format!("address add {address}/24 dev {}", Host::NIC))?;
        }
        Ok(PublicHost { host: Host { ns, addr: plug.address }, addresses: all, link: plug.link })
    }
}

impl Network for Internet {
    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn plug(&mut self, lab: &Lab, ns: &Netns, interface: &str, link: Option<&LinkSpec>) -> Result<Plug> {
        ensure!(self.sites < 250, "the internet has room for 250 sites");
        self.sites += 1;
        let site = self.sites;
        let (address, gateway) = (Ipv4Addr::new(198, 18, site, 2), Ipv4Addr::new(198, 18, site, 1));
        let port = format!("s{site}");
        let link = connect(lab, [(ns, interface), (&self.ns, &port)], self.mtu, link)?;
        self.ns.ip(&format!("address add {gateway}/24 dev {port}"))?;
        address_and_route(ns, interface, address, gateway)?;
        let (private, public) = (Ipv4Addr::new(192, 168, site, 0), Ipv4Addr::new(198, 19, site, 0));
        Ok(Plug { address, gateway, private, public, link })
    }

    fn route(&self, behind: Ipv4Addr, via: Ipv4Addr) -> Result<()> {
        self.ns.ip(&format!("route replace {behind}/24 via {via}"))?;
        Ok(())
    }
}

/// Joins two interfaces by a wire, or by a WAN.
///
/// # Errors
/// What `ip` or `ethtool` says.
pub(in crate::lab) fn connect(
    lab: &Lab,
    ends: [(&Netns, &str); 2],
    mtu: u32,
    spec: Option<&LinkSpec>,
) -> Result<Option<WanLink>> {
    if let Some(spec) = spec {
        let name = format!("{}-{}", ends[0].0.short_name(), ends[0].1);
        return WanLink::between(lab, &name, ends, mtu, spec).map(Some);
    }
    link::veth(ends[0], ends[1], mtu, QUEUES)?;
    for (ns, interface) in ends {
        link::like_a_nic(ns, interface)?;
    }
    Ok(None)
}

/// Sets the only address of an interface, and the default route.
///
/// # Errors
/// What `ip` says.
pub(in crate::lab) fn address_and_route(
    ns: &Netns,
    interface: &str,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<()> {
    ns.ip(&format!("address flush dev {interface}"))?;
    ns.ip(&format!("address add {address}/24 dev {interface}"))?;
    ns.ip(&format!("route replace default via {gateway}")).context("setting the default route")?;
    Ok(())
}

/// An address of the same /24.
pub(in crate::lab) fn offset(address: Ipv4Addr, by: u8) -> Ipv4Addr {
    let [a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d.wrapping_add(by))
}
