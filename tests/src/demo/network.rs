//! Three hypervisors, two tenants with the same addresses, six virtual machines.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use wavnet_common::addr::{Mac, Vni};

use crate::lab::{
    Lab,
    agent::Agent,
    config::AgentConfig,
    dhcp,
    host::{Vm, VmSpec},
    link,
    topology::{Routed, UNDERLAY_MTU},
};

/// Hypervisors; the last has the kernel's VTEPs.
const HYPERVISORS: usize = 3;
const MTU: u32 = 1500;
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
const LAST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 199);

/// A tenant: a VNI with one virtual machine per hypervisor, one of which serves DHCP.
#[derive(Debug)]
pub struct Tenant {
    /// For people.
    pub name: &'static str,
    /// Its network.
    pub vni: Vni,
    /// Its machines, by hypervisor.
    pub vms: Vec<Vm>,
    /// Which of them serves DHCP, from 10.0.0.1; the others are its clients.
    pub server: usize,
    /// The server's process.
    pub dnsmasq: dhcp::Server,
}

impl Tenant {
    /// The DHCP server's address.
    pub const SERVER: Ipv4Addr = SERVER;

    /// The machines that ask for an address.
    pub fn clients(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter().enumerate().filter(|(i, _)| *i != self.server).map(|(_, vm)| vm)
    }

    /// Ordered pairs of machines.
    pub fn pairs(&self) -> impl Iterator<Item = (&Vm, &Vm)> {
        let all = self.vms.iter().enumerate();
        all.flat_map(|(i, from)| {
            self.vms.iter().enumerate().filter(move |(j, _)| i != *j).map(move |(_, to)| (from, to))
        })
    }
}

/// All of it. Agents come first, so that they end before what they work on.
#[derive(Debug)]
pub struct Network {
    /// The agents on the first two hypervisors.
    pub agents: Vec<Agent>,
    /// The tenants.
    pub tenants: Vec<Tenant>,
    /// Router and hypervisors.
    pub underlay: Routed,
}

impl Network {
    /// Builds and starts it; machines other than the DHCP servers have no address yet.
    ///
    /// # Errors
    /// What failed, with what the tool said.
    pub fn build(lab: &Lab) -> Result<Network> {
        let underlay = lab.routed(HYPERVISORS, UNDERLAY_MTU).context("building the underlay")?;
        let plans = [("red", 100, 0), ("blue", 200, 2)];
        let mut tenants = Vec::new();
        for (name, vni, server) in plans {
            let vni = Vni::new(vni).context("the demonstration's VNIs are valid")?;
            tenants.push(tenant(lab, &underlay, name, vni, server).with_context(|| format!("building tenant {name}"))?);
        }
        let vnis: Vec<Vni> = tenants.iter().map(|t| t.vni).collect();
        let kernel = HYPERVISORS - 1;
        for tenant in &tenants {
            let host = &underlay.hosts[kernel];
            let peers: Vec<Ipv4Addr> = (0..kernel).map(Routed::address).collect();
            link::kernel_vtep(&host.ns, tenant.vni, host.addr, &peers, MTU).context("building the kernel's VTEP")?;
            link::enslave(&host.ns, &tenant.vms[kernel].port, &format!("br{}", tenant.vni))?;
        }
        let mut agents = Vec::new();
        for i in 0..kernel {
            let mut config = AgentConfig::new(&vnis);
            for tenant in &tenants {
                config = config.port(&tenant.vms[i].port, tenant.vni);
            }
            for j in (0..HYPERVISORS).filter(|j| *j != i) {
                config = config.peer(Routed::address(j), &vnis);
            }
            agents.push(
                Agent::start(lab, &underlay.hosts[i], &config).with_context(|| format!("starting agent {}", i + 1))?,
            );
        }
        for agent in &agents {
            agent.wait_ready()?;
        }
        Ok(Network { agents, tenants, underlay })
    }
}

fn tenant(lab: &Lab, underlay: &Routed, name: &'static str, vni: Vni, server: usize) -> Result<Tenant> {
    let mut vms = Vec::new();
    for (i, host) in underlay.hosts.iter().enumerate() {
        let n = i as u8 + 1;
        let vm_name = format!("{name}-{n}");
        // The same in both tenants.
        let mac = Mac([0x52, 0x54, 0, 0, 0, n]);
        let addr = (i == server).then_some(SERVER);
        let spec = VmSpec { name: &vm_name, mac, addr, mtu: MTU, queues: 1 };
        // One of them is behind a tap, as QEMU's guests are.
        vms.push(if vm_name == "red-2" { host.tap_vm(lab, &spec)? } else { host.vm(lab, &spec)? });
    }
    let dnsmasq = dhcp::Server::start(&vms[server].ns, Vm::NIC, FIRST, LAST)?;
    Ok(Tenant { name, vni, vms, server, dnsmasq })
}
