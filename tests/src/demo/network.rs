//! Three hypervisors, two of them behind NATs, a rendezvous server; two tenants with the same addresses, six virtual machines.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use wavnet_common::addr::{Mac, Vni};

use crate::{
    lab::{
        Lab,
        agent::Agent,
        config::AgentConfig,
        dhcp,
        host::{Host, Vm, VmSpec},
        link,
        nat::{Forward, NatKind, Router, RouterSpec},
    },
    mesh::{SiteSpec, World},
};

/// What is in front of the hypervisors that run wavnet.
const NATS: [NatKind; 2] = [NatKind::FullCone, NatKind::PortRestrictedCone];
/// The port of VXLAN.
const PORT: u16 = 4789;
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
    /// What is in front of each agent.
    pub routers: Vec<Router>,
    /// The hypervisors; the last is on the internet, and has the kernel's VTEPs.
    pub hosts: Vec<Host>,
    /// The internet and its rendezvous server.
    pub world: World,
}

impl Network {
    /// Builds and starts it; machines other than the DHCP servers have no address yet.
    ///
    /// # Errors
    /// What failed, with what the tool said.
    pub fn build(lab: &Lab) -> Result<Network> {
        let mut world = World::new(lab, None).context("building the internet with its rendezvous server")?;
        let (mut routers, mut hosts) = (Vec::new(), Vec::new());
        for (n, kind) in (1..).zip(NATS) {
            let mut router = Router::new(lab, &format!("nat{n}"), &mut world.internet, &RouterSpec::new(kind))?;
            hosts.push(router.host(lab, &format!("hv{n}"))?);
            routers.push(router);
        }
        let kernel = hosts.len();
        hosts.push(world.internet.host(lab, &format!("hv{}", kernel + 1), 1, None)?.host);
        let (outside, from): (Vec<Ipv4Addr>, _) = (routers.iter().map(Router::external).collect(), hosts[kernel].addr);
        for (router, host) in routers.iter_mut().zip(&hosts) {
            // The kernel's VTEP cannot punch: where not everybody is let in, its datagrams need a port that is forwarded.
            if router.kind() != NatKind::FullCone {
                router.forward(Forward { from, port: PORT, to: host.addr })?;
            }
        }
        let plans = [("red", 100, 0), ("blue", 200, 2)];
        let mut tenants = Vec::new();
        for (name, vni, server) in plans {
            let vni = Vni::new(vni).context("the demonstration's VNIs are valid")?;
            tenants.push(tenant(lab, &hosts, name, vni, server).with_context(|| format!("building tenant {name}"))?);
        }
        let vnis: Vec<Vni> = tenants.iter().map(|t| t.vni).collect();
        for tenant in &tenants {
            let host = &hosts[kernel];
            link::kernel_vtep(&host.ns, tenant.vni, host.addr, &outside, MTU).context("building the kernel's VTEP")?;
            link::enslave(&host.ns, &tenant.vms[kernel].port, &format!("br{}", tenant.vni))?;
        }
        let mut agents = Vec::new();
        for (i, host) in hosts[..kernel].iter().enumerate() {
            let mut config = AgentConfig::new(&vnis).peer(hosts[kernel].addr, &vnis);
            for tenant in &tenants {
                config = config.port(&tenant.vms[i].port, tenant.vni);
            }
            let (table, _) = world.mesh_table(lab, host.ns.short_name(), &SiteSpec::default())?;
            let config = config.table(&table);
            agents.push(Agent::start(lab, host, &config).with_context(|| format!("starting agent {}", i + 1))?);
        }
        for agent in &agents {
            agent.wait_ready()?;
        }
        Ok(Network { agents, tenants, routers, hosts, world })
    }

    /// Where the kernel's VTEPs are.
    pub fn kernel(&self) -> Ipv4Addr {
        self.hosts.last().map_or(Ipv4Addr::UNSPECIFIED, |host| host.addr)
    }
}

fn tenant(lab: &Lab, hosts: &[Host], name: &'static str, vni: Vni, server: usize) -> Result<Tenant> {
    let mut vms = Vec::new();
    for (i, host) in hosts.iter().enumerate() {
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
