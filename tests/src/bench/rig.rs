//! The wire-like topology, once for each contender.
//!
//! ```text
//! VM ns ─ veth ─ hypervisor ns ─ u0  w1 ─ wire ns ─ w2  u0 ─ hypervisor ns ─ veth ─ VM ns
//! ```
//!
//! The wire redirects between its ends in XDP, so that the receiving NIC gets page-backed frames as from a driver.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use wavnet_common::addr::{Mac, Vni};

use super::contender::{Contender, Overlay, Running};
use crate::lab::{
    Lab,
    frame::{self, Outer, udp4},
    host::{Host, Vm, VmSpec},
    link,
    netns::Netns,
    programs::{
        Place, Programs,
        abi::{self, Probe},
    },
    topology::UNDERLAY_MTU,
};

/// MTU of VMs and their ports.
pub(super) const VM_MTU: u32 = 1500;
/// The tenant of the benchmark.
pub(super) const VNI: u32 = 100;
/// Queues of a NIC.
const QUEUES: u32 = 2;
/// The wire's ends.
const ENDS: [&str; 2] = ["w1", "w2"];
/// UDP payload of small frames.
const PAYLOAD: [u8; 64] = [0x5a; 64];

/// Two hypervisors on a wire, with a VM each.
pub(super) struct Wired {
    pub(super) hosts: [Host; 2],
    pub(super) vms: [Vm; 2],
}

/// A contender in place.
pub(super) struct Rig {
    pub(super) contender: Contender,
    pub(super) wired: Wired,
    pub(super) programs: Programs,
    running: Box<dyn Running>,
    wire: Netns,
}

/// Address of the VM on a side.
pub(super) fn vm_addr(side: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, side as u8 + 1)
}

fn vm_mac(side: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, side as u8 + 1])
}

/// The VNI as a type.
pub(super) fn vni() -> Vni {
    Vni::new(VNI).expect("a VNI within range")
}

impl Rig {
    pub(super) fn build(lab: &Lab, contender: Contender) -> Result<Rig> {
        let letter = contender.letter();
        let wire = lab.netns(&format!("{letter}-wire"))?;
        let hosts = [host(lab, &wire, letter, 0)?, host(lab, &wire, letter, 1)?];
        let vms = [vm(lab, &hosts[0], letter, 0)?, vm(lab, &hosts[1], letter, 1)?];
        for (side, vm) in vms.iter().enumerate() {
            // Resolution is not what is measured, and a contender that loses an ARP request would look slow.
            let (address, mac) = (vm_addr(1 - side), vm_mac(1 - side));
            vm.ns.ip(&format!("neigh replace {address} lladdr {mac} nud permanent dev {}", Vm::NIC))?;
        }
        let mut programs = Programs::load()?;
        programs.wire(&wire, ENDS)?;
        programs.sink(&vms[1].ns, Vm::NIC, Place::First)?;
        let wired = Wired { hosts, vms };
        let running = contender.install(lab, &wired)?;
        let mut rig = Rig { contender, wired, programs, running, wire };
        rig.hold_at_wire(false)?;
        Ok(rig)
    }

    /// Ours, if it is what is in place.
    pub(super) fn overlay(&self) -> Option<&Overlay> {
        self.running.overlay()
    }

    /// Has the wire count and drop small frames, or pass them on.
    pub(super) fn hold_at_wire(&mut self, hold: bool) -> Result<()> {
        let vni = if self.contender.encapsulates() { VNI } else { 0 };
        self.programs.set_probe(Probe { mac: vm_mac(1).to_u64(), vni, hold: hold.into() })
    }

    /// Where small frames begin: the first VM's NIC.
    pub(super) fn at_vm(&self) -> Result<(Netns, u32, Vec<u8>)> {
        let ns = self.wired.vms[0].ns.clone();
        let ifindex = ns.ifindex(Vm::NIC)?;
        Ok((ns, ifindex, small_frame()))
    }

    /// Where small frames begin that are on their way already: the wire's second end. They look as the first hypervisor sent them.
    pub(super) fn at_wire(&self) -> Result<(Netns, u32, Vec<u8>)> {
        let ifindex = self.wire.ifindex(ENDS[1])?;
        let [from, to] = &self.wired.hosts;
        let frame = if self.contender.encapsulates() {
            let underlay = self.contender.underlay();
            let src_mac = from.ns.mac(underlay)?;
            let outer = Outer { src_mac, ..Outer::new(to.ns.mac(underlay)?, from.addr, to.addr, vni()) };
            outer.wrap(&small_frame())
        } else {
            small_frame()
        };
        Ok((self.wire.clone(), ifindex, frame))
    }
}

/// From the first VM to the second, to be counted.
pub(super) fn small_frame() -> Vec<u8> {
    let (from, to) = (SocketAddrV4::new(vm_addr(0), 10_000), SocketAddrV4::new(vm_addr(1), abi::PORT));
    frame::ethernet(vm_mac(1), vm_mac(0), frame::IPV4, &udp4(from, to, &PAYLOAD))
}

fn host(lab: &Lab, wire: &Netns, letter: char, side: usize) -> Result<Host> {
    let ns = lab.netns(&format!("{letter}-hv{}", side + 1))?;
    link::veth((&ns, Host::NIC), (wire, ENDS[side]), UNDERLAY_MTU, QUEUES)?;
    link::like_a_nic(&ns, Host::NIC)?;
    let host = Host { ns, addr: Ipv4Addr::new(172, 31, 0, side as u8 + 1) };
    host.ns.ip(&format!("address add {}/24 dev {}", host.addr, Host::NIC))?;
    Ok(host)
}

fn vm(lab: &Lab, host: &Host, letter: char, side: usize) -> Result<Vm> {
    let name = format!("{letter}-vm{}", side + 1);
    let vm = host.vm(lab, &VmSpec { mtu: VM_MTU, ..VmSpec::new(&name, vm_mac(side), vm_addr(side)) })?;
    // The generator's frames enter the port as from XDP, which takes a port that polls.
    link::gro_on(&host.ns, &vm.port)?;
    Ok(vm)
}
