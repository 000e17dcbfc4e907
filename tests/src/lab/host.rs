//! Hypervisors and virtual machines.

use std::net::Ipv4Addr;

use anyhow::Result;
use wavnet_common::addr::Mac;

use super::{
    Lab, link,
    netns::Netns,
    tap::{Pump, Tap},
    vnet::VnetTap,
};

/// A hypervisor: a namespace with an underlay NIC.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where it is.
    pub ns: Netns,
    /// Address of the underlay NIC: that of its VTEP.
    pub addr: Ipv4Addr,
}

/// Frames that a tap keeps until they are read.
const TAP_QUEUE: u32 = 20_000;

impl Host {
    /// Name of the underlay NIC.
    pub const NIC: &str = "u0";

    /// Connects a virtual machine by a veth port.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn vm(&self, lab: &Lab, spec: &VmSpec<'_>) -> Result<Vm> {
        let ns = lab.netns(spec.name)?;
        let vm = Vm { ns, port: format!("p-{}", spec.name), mac: spec.mac, queues: spec.queues, pump: None };
        vm.plug(self, spec.mtu)?;
        if let Some(addr) = spec.addr {
            vm.set_address(addr)?;
        }
        Ok(vm)
    }

    /// Connects a virtual machine by a tap port, with a stand-in for QEMU in between.
    ///
    /// # Errors
    /// What `ip` or the tun device says.
    pub fn tap_vm(&self, lab: &Lab, spec: &VmSpec<'_>) -> Result<Vm> {
        let ns = lab.netns(spec.name)?;
        let port = format!("tap-{}", spec.name);
        let near = Tap::create(&self.ns, &port, spec.mtu)?;
        let far = Tap::create(&ns, Vm::NIC, spec.mtu)?;
        // What the stand-in does not read in time is lost: it may have no CPU for a while.
        self.ns.ip(&format!("link set dev {port} txqueuelen {TAP_QUEUE}"))?;
        ns.ip(&format!("link set dev {} txqueuelen {TAP_QUEUE}", Vm::NIC))?;
        Vm::on_tap(ns, port, spec, Pump::start(near, far)?)
    }

    /// The same with vnet headers and offloads, as QEMU has them by default: super-packets and partial checksums go through as they
    /// are. `first` is done in the stand-in's thread before it begins. Also gives the port's descriptor, for frames with a vnet
    /// header as the machine would send them.
    ///
    /// # Errors
    /// What `ip`, the tun device or `first` says.
    pub fn vnet_vm(
        &self,
        lab: &Lab,
        spec: &VmSpec<'_>,
        first: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<(Vm, Tap)> {
        self.vnet_vm_that_takes(lab, spec, VnetTap::TCP_OFFLOADS, first)
    }

    /// The same with other offloads (`TUN_F_*`), both of the machine and of the hypervisor.
    ///
    /// # Errors
    /// As [`Host::vnet_vm`], or the kernel has not these.
    pub fn vnet_vm_that_takes(
        &self,
        lab: &Lab,
        spec: &VmSpec<'_>,
        offloads: libc::c_uint,
        first: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<(Vm, Tap)> {
        let ns = lab.netns(spec.name)?;
        let port = format!("tap-{}", spec.name);
        let tap = |ns, name| {
            let tap = VnetTap::create(ns, name, spec.mtu, true)?;
            tap.take(offloads)?;
            Ok::<_, anyhow::Error>(tap.into_raw())
        };
        let (near, far) = (tap(&self.ns, &port)?, tap(&ns, Vm::NIC)?);
        let raw = near.try_clone()?;
        Ok((Vm::on_tap(ns, port, spec, Pump::start_with(near, far, first)?)?, raw))
    }
}

/// What a virtual machine is to be.
#[derive(Clone, Debug)]
pub struct VmSpec<'a> {
    /// Name; with its prefix, `p-` or `tap-`, at most 15 characters.
    pub name: &'a str,
    /// Link address.
    pub mac: Mac,
    /// Address in a /24; `None`: it will ask DHCP.
    pub addr: Option<Ipv4Addr>,
    /// MTU of its NIC and port.
    pub mtu: u32,
    /// Queues of both, if its port is a veth.
    pub queues: u32,
}

impl<'a> VmSpec<'a> {
    /// A machine with an address, an MTU of 1500 and one queue.
    pub fn new(name: &'a str, mac: Mac, addr: Ipv4Addr) -> VmSpec<'a> {
        VmSpec { name, mac, addr: Some(addr), mtu: 1500, queues: 1 }
    }
}

/// A virtual machine: a namespace with one NIC, whose other end is a port of a hypervisor.
#[derive(Debug)]
pub struct Vm {
    /// Where it is.
    pub ns: Netns,
    /// Name of the port on the hypervisor.
    pub port: String,
    /// Link address.
    pub mac: Mac,
    queues: u32,
    pump: Option<Pump>,
}

impl Vm {
    /// Name of its NIC.
    pub const NIC: &str = "eth0";

    /// Makes NIC and port anew: after [`Vm::unplug`], on the same hypervisor or another.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn plug(&self, host: &Host, mtu: u32) -> Result<()> {
        link::veth((&host.ns, &self.port), (&self.ns, Vm::NIC), mtu, self.queues)?;
        self.ns.ip(&format!("link set dev {} address {}", Vm::NIC, self.mac))?;
        link::gro_on(&self.ns, Vm::NIC)
    }

    /// Removes NIC and port.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn unplug(&self) -> Result<()> {
        self.ns.ip(&format!("link del dev {}", Vm::NIC))?;
        Ok(())
    }

    /// Sets an address in a /24.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn set_address(&self, addr: Ipv4Addr) -> Result<()> {
        self.ns.ip(&format!("address replace {addr}/24 dev {}", Vm::NIC))?;
        Ok(())
    }

    /// Frames that the stand-in for QEMU moved, on a tap port.
    pub fn pumped(&self) -> Option<u64> {
        self.pump.as_ref().map(Pump::moved)
    }

    /// The stand-in for QEMU, on a tap port.
    pub fn pump(&self) -> Option<&Pump> {
        self.pump.as_ref()
    }

    fn on_tap(ns: Netns, port: String, spec: &VmSpec<'_>, pump: Pump) -> Result<Vm> {
        ns.ip(&format!("link set dev {} address {}", Vm::NIC, spec.mac))?;
        let vm = Vm { ns, port, mac: spec.mac, queues: 1, pump: Some(pump) };
        if let Some(addr) = spec.addr {
            vm.set_address(addr)?;
        }
        Ok(vm)
    }
}
