//! Underlays: hypervisors behind a router, or on one segment.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Lab, host::Host, link, netns::Netns};

/// MTU of underlays: room for a VM's 1500 and VXLAN's 50.
pub const UNDERLAY_MTU: u32 = 1600;
/// Queues of a NIC.
const QUEUES: u32 = 2;

/// Hypervisors with a router between all of them, each on a subnet of its own.
#[derive(Debug)]
pub struct Routed {
    /// The router; its link to hypervisor `i` (from 0) is `r<i>`.
    pub router: Netns,
    /// The hypervisors `hv1`, `hv2`, …
    pub hosts: Vec<Host>,
}

impl Routed {
    /// Address of hypervisor `i` (from 0).
    pub fn address(i: usize) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, i as u8 + 1, 2)
    }

    /// Address of the router towards hypervisor `i` (from 0).
    pub fn gateway(i: usize) -> Ipv4Addr {
        Ipv4Addr::new(172, 31, i as u8 + 1, 1)
    }
}

impl Lab {
    /// Hypervisors around a router.
    ///
    /// # Errors
    /// What `ip` or `ethtool` says.
    pub fn routed(&self, count: usize, mtu: u32) -> Result<Routed> {
        let router = self.netns("router")?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        let mut hosts = Vec::new();
        for i in 0..count {
            let ns = self.netns(&format!("hv{}", i + 1))?;
            let (addr, gateway) = (Routed::address(i), Routed::gateway(i));
            nic(&ns, (&router, &format!("r{i}")), mtu, QUEUES)?;
            router.ip(&format!("address add {gateway}/24 dev r{i}"))?;
            ns.ip(&format!("address add {addr}/24 dev {}", Host::NIC))?;
            ns.ip(&format!("route add default via {gateway}"))?;
            hosts.push(Host { ns, addr });
        }
        Ok(Routed { router, hosts })
    }

    /// Hypervisors on one segment, and the namespace with the bridge that it is.
    ///
    /// # Errors
    /// What `ip` or `ethtool` says.
    pub fn segment(&self, count: u8, mtu: u32) -> Result<(Vec<Host>, Netns)> {
        let switch = self.netns("switch")?;
        link::bridge(&switch, "br0", mtu)?;
        let host = |n: u8| {
            let (ns, port) = (self.netns(&format!("hv{n}"))?, format!("s{n}"));
            nic(&ns, (&switch, &port), mtu, 1)?;
            link::enslave(&switch, &port, "br0")?;
            let addr = Ipv4Addr::new(172, 31, 0, n);
            ns.ip(&format!("address add {addr}/24 dev {}", Host::NIC))?;
            Ok(Host { ns, addr })
        };
        Ok(((1..=count).map(host).collect::<Result<_>>()?, switch.clone()))
    }

    /// Two hypervisors wired back to back, on one subnet.
    ///
    /// # Errors
    /// What `ip` or `ethtool` says.
    pub fn pair(&self, mtu: u32) -> Result<[Host; 2]> {
        self.pair_by(mtu, QUEUES)
    }

    /// The same with so many queues of each NIC. With one, what is sent in an order arrives in it, whoever sent it: a veth has XDP's
    /// redirects come by the queue of the CPU, and all else by that of the flow's hash.
    ///
    /// # Errors
    /// What `ip` or `ethtool` says.
    pub fn pair_by(&self, mtu: u32, queues: u32) -> Result<[Host; 2]> {
        let (a, b) = (self.netns("hv1")?, self.netns("hv2")?);
        let hosts = [(a, 1), (b, 2)].map(|(ns, n)| Host { ns, addr: Ipv4Addr::new(172, 31, 0, n) });
        wire(&hosts[0], &hosts[1], mtu, queues)?;
        Ok(hosts)
    }
}

/// Wires two hypervisors back to back (again).
///
/// # Errors
/// What `ip` or `ethtool` says.
pub fn rewire(a: &Host, b: &Host, mtu: u32) -> Result<()> {
    wire(a, b, mtu, QUEUES)
}

fn wire(a: &Host, b: &Host, mtu: u32, queues: u32) -> Result<()> {
    nic(&a.ns, (&b.ns, Host::NIC), mtu, queues)?;
    for host in [a, b] {
        host.ns.ip(&format!("address add {}/24 dev {}", host.addr, Host::NIC))?;
    }
    Ok(())
}

fn nic(ns: &Netns, other: (&Netns, &str), mtu: u32, queues: u32) -> Result<()> {
    link::veth((ns, Host::NIC), other, mtu, queues)?;
    link::like_a_nic(ns, Host::NIC)?;
    link::like_a_nic(other.0, other.1)
}
