//! Ready-made overlays that most tests start from.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Result;
use wavnet_common::addr::{Mac, Vni};
use wavnet_user::api::model::AttachState;

use super::{
    Lab,
    agent::Agent,
    config::AgentConfig,
    frame::{Outer, has_mark, marked},
    host::{Host, Vm, VmSpec},
    ping,
    raw::RawSocket,
    topology::{Routed, UNDERLAY_MTU},
};

/// How long something that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(15);

/// A VNI by number.
///
/// # Panics
/// The number is no VNI.
pub fn vni(n: u32) -> Vni {
    Vni::new(n).expect("tests use valid VNIs")
}

/// A VM's MAC by number.
pub fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

/// A VM's address by number.
pub fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

/// The VNI of the ready-made overlays.
pub fn blue() -> Vni {
    vni(100)
}

/// What may differ from test to test.
#[derive(Clone, Debug)]
pub struct Shape {
    /// MTU of the underlay.
    pub underlay_mtu: u32,
    /// MTU of VMs and ports.
    pub vm_mtu: u32,
    /// Lines for `[underlay]` of every agent.
    pub underlay: String,
    /// Other tables for every agent.
    pub tables: String,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { underlay_mtu: UNDERLAY_MTU, vm_mtu: 1500, underlay: String::new(), tables: String::new() }
    }
}

impl Shape {
    /// With one line for `[underlay]`.
    pub fn underlay(line: &str) -> Shape {
        Shape { underlay: line.into(), ..Shape::default() }
    }

    fn config(&self, vnis: &[Vni]) -> AgentConfig {
        AgentConfig::new(vnis).underlay(&self.underlay).table(&self.tables)
    }
}

/// Two hypervisors back to back with an agent each, and one VM of VNI [`blue`] on each: `a` is 10.0.0.1, `b` 10.0.0.2.
#[derive(Debug)]
pub struct Both {
    /// The agents.
    pub agents: [Agent; 2],
    /// The VM of the first hypervisor.
    pub a: Vm,
    /// The VM of the second hypervisor.
    pub b: Vm,
    /// The hypervisors.
    pub hosts: [Host; 2],
    shape: Shape,
}

impl Both {
    /// Starts all of it, and waits until the VMs reach each other.
    ///
    /// # Errors
    /// Something does not start, or they do not reach each other.
    pub fn start(lab: &Lab, shape: Shape) -> Result<Both> {
        let hosts = lab.pair(shape.underlay_mtu)?;
        let vm = |i: usize, name| {
            let n = i as u8 + 1;
            hosts[i].vm(lab, &VmSpec { mtu: shape.vm_mtu, ..VmSpec::new(name, mac(n), ip(n)) })
        };
        let (a, b) = (vm(0, "a")?, vm(1, "b")?);
        let start = |i: usize| Agent::start(lab, &hosts[i], &config(&shape, &hosts, i));
        let agents = [start(0)?, start(1)?];
        for agent in &agents {
            agent.wait_ready()?;
        }
        ping::once(&a.ns, ip(2), 56, SOON)?;
        Ok(Both { agents, a, b, hosts, shape })
    }

    /// The configuration of an agent, for a test to change.
    pub fn config(&self, i: usize) -> AgentConfig {
        config(&self.shape, &self.hosts, i)
    }
}

fn config(shape: &Shape, hosts: &[Host; 2], i: usize) -> AgentConfig {
    let port = ["p-a", "p-b"][i];
    shape.config(&[blue()]).port(port, blue()).peer(hosts[1 - i].addr, &[blue()])
}

/// One hypervisor with an agent and a VM `a` of VNI [`blue`], wired to a namespace where the test itself plays the peers.
#[derive(Debug)]
pub struct Lone {
    /// The agent.
    pub agent: Agent,
    /// The VM.
    pub a: Vm,
    /// Frames from and to the VM's NIC.
    pub vm_nic: RawSocket,
    /// Frames on the underlay, seen from the other end.
    pub wire: RawSocket,
    /// The hypervisor.
    pub host: Host,
    /// The other end.
    pub far: Host,
    nic: Mac,
    config: AgentConfig,
}

impl Lone {
    /// Another address of the other end, which is a peer only if a test makes it one.
    pub const SPARE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 250);

    /// Starts it with the other end's address and `more` (which the other end gets too) as peers.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(lab: &Lab, more: &[Ipv4Addr], tweak: impl FnOnce(AgentConfig) -> AgentConfig) -> Result<Lone> {
        Lone::start_on(lab, lab.pair(UNDERLAY_MTU)?, "auto", more, tweak)
    }

    /// The same on hypervisors that are there, with the VM's port in a mode, such as `packet-rate`.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start_on(
        lab: &Lab,
        [host, far]: [Host; 2],
        mode: &str,
        more: &[Ipv4Addr],
        tweak: impl FnOnce(AgentConfig) -> AgentConfig,
    ) -> Result<Lone> {
        for address in more.iter().chain([&Lone::SPARE]) {
            far.ns.ip(&format!("address add {address}/24 dev {}", Host::NIC))?;
        }
        let a = host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?;
        let mut config = AgentConfig::new(&[blue()]).port_mode(&a.port, blue(), mode).peer(far.addr, &[blue()]);
        for address in more {
            config = config.peer(*address, &[blue()]);
        }
        let config = tweak(config);
        let agent = Agent::start(lab, &host, &config)?;
        agent.wait_port(&a.port, AttachState::Attached)?;
        agent.wait_peers()?;
        let vm_nic = RawSocket::open(&a.ns, Vm::NIC)?;
        let wire = RawSocket::open(&far.ns, Host::NIC)?;
        let nic = host.ns.mac(Host::NIC)?;
        Ok(Lone { agent, a, vm_nic, wire, host, far, nic, config })
    }

    /// The agent's configuration, for a test to change.
    pub fn config(&self) -> AgentConfig {
        self.config.clone()
    }

    /// Outer headers of a correct packet from the other end's address.
    pub fn outer(&self) -> Outer {
        Outer::new(self.nic, self.far.addr, self.host.addr, blue())
    }

    /// Sends a frame into the overlay as the peer does whose headers these are.
    ///
    /// # Errors
    /// The link is down.
    pub fn inject(&self, outer: &Outer, inner: &[u8]) -> Result<()> {
        self.wire.send(&outer.wrap(inner))
    }

    /// Sends a marked frame from the other end to the VM and waits for it: all that was sent before has been seen by then.
    ///
    /// # Errors
    /// It does not arrive.
    pub fn fence_in(&self, mark: &str) -> Result<Vec<Vec<u8>>> {
        self.inject(&self.outer(), &marked(mac(1), mac(0xfe), mark))?;
        until(&self.vm_nic, mark)
    }

    /// Sends a marked broadcast from the VM and waits for it on the wire: all that was sent before has left by then.
    ///
    /// # Errors
    /// It does not arrive.
    pub fn fence_out(&self, mark: &str) -> Result<Vec<Vec<u8>>> {
        self.vm_nic.send(&marked(Mac::BROADCAST, mac(1), mark))?;
        until(&self.wire, mark)
    }
}

/// Frames that come before the one with a mark.
///
/// # Errors
/// The marked one does not come.
pub fn until(socket: &RawSocket, mark: &str) -> Result<Vec<Vec<u8>>> {
    let mut before = Vec::new();
    socket.expect(mark, SOON, |frame| {
        let last = has_mark(frame, mark);
        if !last {
            before.push(frame.to_vec());
        }
        last
    })?;
    Ok(before)
}

/// Agents on all hypervisors of a routed underlay, each with one VM of VNI [`blue`]: the first has 10.0.0.1, and so on.
#[derive(Debug)]
pub struct Mesh {
    /// The agents.
    pub agents: Vec<Agent>,
    /// The VMs `v1`, `v2`, … with ports `p-v1` and so on.
    pub vms: Vec<Vm>,
    /// Router and hypervisors.
    pub underlay: Routed,
}

impl Mesh {
    /// Starts it. Every agent takes all ports named `p-*`.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start(lab: &Lab, count: usize, vms: usize) -> Result<Mesh> {
        Mesh::start_with(lab, count, vms, |config| config)
    }

    /// The same with a change of every agent's configuration.
    ///
    /// # Errors
    /// Something does not start.
    pub fn start_with(lab: &Lab, count: usize, vms: usize, tweak: impl Fn(AgentConfig) -> AgentConfig) -> Result<Mesh> {
        let underlay = lab.routed(count, UNDERLAY_MTU)?;
        let vms = (0..vms)
            .map(|i| {
                let n = i as u8 + 1;
                underlay.hosts[i].vm(lab, &VmSpec::new(&format!("v{n}"), mac(n), ip(n)))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut agents = Vec::new();
        for (i, host) in underlay.hosts.iter().enumerate() {
            let mut config = AgentConfig::new(&[blue()]).port("p-*", blue());
            for j in (0..count).filter(|j| *j != i) {
                config = config.peer(Routed::address(j), &[blue()]);
            }
            agents.push(Agent::start(lab, host, &tweak(config))?);
        }
        for (i, agent) in agents.iter().enumerate() {
            agent.wait_peers()?;
            if let Some(vm) = vms.get(i) {
                agent.wait_port(&vm.port, AttachState::Attached)?;
            }
        }
        Ok(Mesh { agents, vms, underlay })
    }
}
