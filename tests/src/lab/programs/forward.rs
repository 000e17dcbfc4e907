//! Programs that carry frames between two interfaces of a hypervisor: contenders of the benchmark.
//!
//! A hypervisor has a set of [`Programs`] of its own: interfaces are told by their index, which another namespace has, too.

use anyhow::{Context, Result};
use aya::{
    maps::{Array, MapData, xdp::DevMapHash},
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};

use super::{
    Programs,
    abi::{Pair, Tunnel, name},
    find, join, take,
};
use crate::lab::netns::Netns;

impl Programs {
    /// Redirects in XDP: what comes in on one of two interfaces goes out of the other. Once for each set of programs.
    ///
    /// # Errors
    /// No such interface, or it has an XDP program.
    pub fn redirect_xdp(&mut self, ns: &Netns, ends: [&str; 2]) -> Result<()> {
        let mut devices: DevMapHash<MapData> = take(&mut self.ebpf, name::REDIRECT_DEVS)?;
        join(&mut self.ebpf, &mut devices, name::XDP_REDIRECT, ns, ends)
    }

    /// The same in TC.
    ///
    /// # Errors
    /// No such interface, or the kernel refuses.
    pub fn redirect_tc(&mut self, ns: &Netns, ends: [&str; 2]) -> Result<()> {
        let pair = Pair { a: ns.ifindex(ends[0])?, b: ns.ifindex(ends[1])? };
        let mut map: Array<MapData, Pair> = take(&mut self.ebpf, name::PAIR)?;
        map.set(0, pair, 0).context("writing the pair")?;
        ends.iter().try_for_each(|end| self.ingress(ns, end, name::TC_REDIRECT))
    }

    /// Joins a VM's port and a collect-metadata vxlan device.
    ///
    /// # Errors
    /// No such interface, or the kernel refuses.
    pub fn tunnel(&mut self, ns: &Netns, [port, device]: [&str; 2], vni: u32, remote: u32) -> Result<()> {
        let tunnel = Tunnel { port: ns.ifindex(port)?, device: ns.ifindex(device)?, vni, remote };
        let mut map: Array<MapData, Tunnel> = take(&mut self.ebpf, name::TUNNEL)?;
        map.set(0, tunnel, 0).context("writing the tunnel")?;
        self.ingress(ns, port, name::TUNNEL_OUT)?;
        self.ingress(ns, device, name::TUNNEL_IN)
    }

    fn ingress(&mut self, ns: &Netns, interface: &str, name: &str) -> Result<()> {
        ns.enter(|| {
            let program: &mut SchedClassifier = find(&mut self.ebpf, name)?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::last());
            program
                .attach_with_options(interface, TcAttachType::Ingress, options)
                .with_context(|| format!("attaching {name} to {interface}"))?;
            Ok(())
        })
    }
}
