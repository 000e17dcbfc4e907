//! The wire-like topology, once for each contender.
//!
//! ```text
//! VM ns ─ veth ─ hypervisor ns ─ u0  w1 ─ wire ns ─ w2  u0 ─ hypervisor ns ─ veth ─ VM ns
//! ```
//!
//! The wire redirects between its ends in XDP, so that the receiving NIC gets page-backed frames as from a driver. A setting may
//! have a tap in the place of one of the VMs' veths, both VMs on one hypervisor, or more.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result};
use wavnet_common::addr::{Mac, Vni};

use super::{
    affinity::{Side, pin},
    contender::{Contender, Detours, Overlay, Running},
    entry::Entry,
    sender::Stream,
    setting::{ABSENT, Setting},
};
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
    tap::Tap,
    topology::UNDERLAY_MTU,
};
use crate::test_run::BATCH;

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

/// Two hypervisors on a wire, with a VM each, or both VMs on the first.
pub(super) struct Wired {
    pub(super) setting: Setting,
    pub(super) hosts: [Host; 2],
    pub(super) vms: [Vm; 2],
    /// The port of the VM that is on a tap, as its machine sees it.
    pub(super) tap: Option<Tap>,
}

impl Wired {
    /// VMs of a hypervisor: which ones.
    pub(super) fn vms_of(&self, host: usize) -> impl Iterator<Item = (usize, &Vm)> {
        self.vms.iter().enumerate().filter(move |(vm, _)| self.setting.host_of(*vm) == host)
    }
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
    pub(super) fn build(lab: &Lab, contender: Contender, setting: Setting) -> Result<Rig> {
        let prefix = format!("{}{}", contender.letter(), setting.letter());
        let wire = lab.netns(&format!("{prefix}-wire"))?;
        let hosts = [host(lab, &wire, &prefix, 0)?, host(lab, &wire, &prefix, 1)?];
        let (vm1, tap1) = vm(lab, &hosts[setting.host_of(0)], &prefix, 0, setting)?;
        let (vm2, tap2) = vm(lab, &hosts[setting.host_of(1)], &prefix, 1, setting)?;
        let vms = [vm1, vm2];
        for (side, vm) in vms.iter().enumerate() {
            // Resolution is not what is measured, and a contender that loses an ARP request would look slow.
            let (address, mac) = (vm_addr(1 - side), vm_mac(1 - side));
            vm.ns.ip(&format!("neigh replace {address} lladdr {mac} nud permanent dev {}", Vm::NIC))?;
        }
        let mut programs = Programs::load()?;
        programs.wire(&wire, ENDS)?;
        programs.sink(&vms[1].ns, Vm::NIC, Place::First)?;
        let wired = Wired { setting, hosts, vms, tap: tap1.or(tap2) };
        if setting.absent_vteps().next().is_some() {
            wired.hosts[0].ns.ip(&format!("route add {ABSENT} via {}", wired.hosts[1].addr))?;
        }
        let running = if setting == Setting::Bare { Box::new(()) } else { contender.install(lab, &wired)? };
        let mut rig = Rig { contender, wired, programs, running, wire };
        rig.pass_all()?;
        Ok(rig)
    }

    /// Who it is, and in which setting.
    pub(super) fn entry(&self) -> Entry {
        Entry { contender: self.contender, setting: self.wired.setting }
    }

    /// Has the wire pass everything on, and the second VM count small frames.
    pub(super) fn pass_all(&mut self) -> Result<()> {
        self.count_frames_to(vm_mac(1), 0, false)
    }

    /// Has the wire count and drop small frames to the second VM.
    pub(super) fn hold_at_wire(&mut self) -> Result<()> {
        self.count_frames_to(vm_mac(1), 0, true)
    }

    /// Has the wire count and drop broadcasts.
    pub(super) fn hold_broadcasts(&mut self) -> Result<()> {
        self.count_frames_to(Mac::BROADCAST, 0, true)
    }

    /// Counts, at the wire (where they end) or at the second VM, small frames to it or to a MAC that differs in bits of `any`.
    pub(super) fn count_frames(&mut self, any: u64, hold: bool) -> Result<()> {
        self.count_frames_to(vm_mac(1), any, hold)
    }

    fn count_frames_to(&mut self, mac: Mac, any: u64, hold: bool) -> Result<()> {
        let vni = if self.contender.encapsulates() { VNI } else { 0 };
        self.programs.set_probe(Probe { mac: mac.to_u64(), any, vni, hold: hold.into() })
    }

    /// What must not rise while frames are measured; `None` for those who do not count it.
    pub(super) fn detours(&self) -> Result<Option<Detours>> {
        self.running.overlay().map(Overlay::detours).transpose()
    }

    /// Small frames from where they begin: the first VM's NIC.
    pub(super) fn at_vm(&self) -> Result<Stream> {
        let ns = self.wired.vms[0].ns.clone();
        Ok(Stream { ifindex: ns.ifindex(Vm::NIC)?, ns, frame: small_frame(), batch: BATCH })
    }

    /// Small frames that are on their way already, out of the wire's second end. They look as the first hypervisor sent them.
    pub(super) fn at_wire(&self) -> Result<Stream> {
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
        Ok(Stream { ns: self.wire.clone(), ifindex, frame, batch: BATCH })
    }

    /// The tap's other side: where the stand-in for QEMU is.
    pub(super) fn tap(&self) -> Result<&Tap> {
        self.wired.tap.as_ref().context("no VM is on a tap here")
    }
}

/// From the first VM to the second, to be counted.
pub(super) fn small_frame() -> Vec<u8> {
    let (from, to) = (SocketAddrV4::new(vm_addr(0), 10_000), SocketAddrV4::new(vm_addr(1), abi::PORT));
    frame::ethernet(vm_mac(1), vm_mac(0), frame::IPV4, &udp4(from, to, &PAYLOAD))
}

fn host(lab: &Lab, wire: &Netns, prefix: &str, side: usize) -> Result<Host> {
    let ns = lab.netns(&format!("{prefix}-hv{}", side + 1))?;
    link::veth((&ns, Host::NIC), (wire, ENDS[side]), UNDERLAY_MTU, QUEUES)?;
    link::like_a_nic(&ns, Host::NIC)?;
    let host = Host { ns, addr: Ipv4Addr::new(172, 31, 0, side as u8 + 1) };
    host.ns.ip(&format!("address add {}/24 dev {}", host.addr, Host::NIC))?;
    Ok(host)
}

fn vm(lab: &Lab, host: &Host, prefix: &str, side: usize, setting: Setting) -> Result<(Vm, Option<Tap>)> {
    let name = format!("{prefix}-vm{}", side + 1);
    let queues = setting.port_queues();
    let spec = VmSpec { mtu: VM_MTU, queues, ..VmSpec::new(&name, vm_mac(side), vm_addr(side)) };
    if setting.on_tap(side) {
        let whose = if side == 0 { Side::Sender } else { Side::Receiver };
        let (vm, tap) = host.vnet_vm(lab, &spec, move || pin(whose))?;
        return Ok((vm, Some(tap)));
    }
    let vm = host.vm(lab, &spec)?;
    // The generator's frames enter the port as from XDP, which takes a port that polls.
    link::gro_on(&host.ns, &vm.port)?;
    Ok((vm, None))
}
