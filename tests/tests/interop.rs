//! The kernel's own vxlan device is a peer like any other.

use std::time::Duration;

use anyhow::{Context, Result};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::marked,
    host::{Vm, VmSpec},
    link,
    overlay::{SOON, blue, ip, mac, until},
    ping::{self, Ping},
    raw::RawSocket,
    stream::{self, Stream},
    topology::{Routed, UNDERLAY_MTU},
};

const NEEDS: &[Need] = &[Need::Wavnet];

/// Two hypervisors with agents and a third with the kernel's VTEP; a VM on each.
fn three(lab: &Lab) -> Result<(Routed, Vec<Vm>, Vec<Agent>)> {
    let net = lab.routed(3, 1600)?;
    let vms = (0..3u8)
        .map(|i| net.hosts[usize::from(i)].vm(lab, &VmSpec::new(&format!("v{}", i + 1), mac(i + 1), ip(i + 1))))
        .collect::<Result<Vec<_>>>()?;
    let kernel = &net.hosts[2];
    link::kernel_vtep(&kernel.ns, blue(), kernel.addr, &[Routed::address(0), Routed::address(1)], 1500)?;
    link::enslave(&kernel.ns, &vms[2].port, &format!("br{}", blue()))?;
    let mut agents = Vec::new();
    for i in 0..2 {
        let config = AgentConfig::new(&[blue()]).port("p-*", blue());
        let config = config.peer(Routed::address(1 - i), &[blue()]).peer(Routed::address(2), &[blue()]);
        agents.push(Agent::start(lab, &net.hosts[i], &config)?);
    }
    for agent in &agents {
        agent.wait_ready()?;
    }
    Ok((net, vms, agents))
}

#[test]
fn the_kernel_is_a_peer_in_both_directions() {
    lab::run("the_kernel_is_a_peer_in_both_directions", NEEDS, |lab| {
        let (_net, vms, agents) = three(lab)?;
        let streams = [Stream::start(&vms[2].ns, ip(3), &vms[0].ns)?, Stream::start(&vms[1].ns, ip(2), &vms[2].ns)?];
        for from in 0..3usize {
            for to in (0..3u8).filter(|to| usize::from(*to) != from) {
                let target = ip(to + 1);
                ping::once(&vms[from].ns, target, 56, SOON)?;
                ping::once(&vms[from].ns, target, 1472, SOON)?;
                let pings = Ping::start(&vms[from].ns, target, Duration::from_millis(2))?;
                stream::bulk(&vms[usize::from(to)].ns, target, &vms[from].ns, 1_000_000)?;
                let loss = pings.stop();
                assert_eq!(loss.lost(), 0, "v{} -> {target}: {loss:?}", from + 1);
            }
        }
        for stream in streams {
            stream.wait_progress(SOON)?;
            assert!(stream.finish()? > 0);
        }
        let peers = agents[0].peers()?;
        let kernel = peers.iter().find(|p| p.address == Routed::address(2)).expect("the kernel is a configured peer");
        assert!(kernel.traffic.rx_frames > 100 && kernel.traffic.tx_frames > 100, "{kernel:?}");
        Ok(())
    });
}

#[test]
fn udp_checksums_of_a_peer_are_accepted() {
    lab::run("udp_checksums_of_a_peer_are_accepted", NEEDS, |lab| {
        let (net, vms, _agents) = three(lab)?;
        let host = &net.hosts[2];
        host.ns.ip(&format!("link del dev vx{}", blue()))?;
        link::kernel_vxlan(&host.ns, blue(), host.addr, &[0, 1].map(Routed::address), 1500, "udpcsum")?;
        for n in 1..3 {
            ping::once(&vms[2].ns, ip(n), 1472, SOON)?;
            stream::bulk(&vms[usize::from(n) - 1].ns, ip(n), &vms[2].ns, 1_000_000)?;
        }
        Ok(())
    });
}

/// An agent with a VM whose NIC has GRO off (so that XDP cannot deliver to it), and the kernel's VTEP with another VM.
fn beside_the_kernel(lab: &Lab, hook: &str) -> Result<()> {
    let [host, kernel] = lab.pair(UNDERLAY_MTU)?;
    let (a, b) = (host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?, kernel.vm(lab, &VmSpec::new("b", mac(2), ip(2)))?);
    link::offload(&a.ns, Vm::NIC, "gro off")?;
    link::kernel_vtep(&kernel.ns, blue(), kernel.addr, &[host.addr], 1500)?;
    link::enslave(&kernel.ns, &b.port, &format!("br{}", blue()))?;
    let config = AgentConfig::new(&[blue()]).port(&a.port, blue()).peer(kernel.addr, &[blue()]);
    let config = config.underlay(&format!("hook = \"{hook}\""));
    let agent = Agent::start(lab, &host, &config)?;
    agent.wait_ready()?;
    let a_nic = RawSocket::open(&a.ns, Vm::NIC)?;
    // Broadcasts first: the ping below needs ARP, and would not say which of the two fails.
    let b_nic = RawSocket::open(&b.ns, Vm::NIC)?;
    b_nic.send(&marked(Mac::BROADCAST, mac(2), "to all"))?;
    until(&a_nic, "to all").context("a broadcast of the kernel's side")?;
    a_nic.send(&marked(Mac::BROADCAST, mac(1), "from a"))?;
    until(&b_nic, "from a").context("a broadcast to the kernel's side")?;
    for (from, to) in [(&b, 1), (&a, 2)] {
        ping::once(&from.ns, ip(to), 56, SOON)?;
        ping::once(&from.ns, ip(to), 1472, SOON)?;
    }
    stream::bulk(&a.ns, ip(1), &b.ns, 1_000_000)?;
    stream::bulk(&b.ns, ip(2), &a.ns, 1_000_000)
}

#[test]
fn a_kernel_peer_reaches_a_port_that_tc_delivers_to_with_generic_xdp() {
    let test = "a_kernel_peer_reaches_a_port_that_tc_delivers_to_with_generic_xdp";
    lab::run(test, NEEDS, |lab| beside_the_kernel(lab, "generic"));
}

#[test]
fn a_kernel_peer_reaches_a_port_that_tc_delivers_to_with_driver_xdp() {
    let test = "a_kernel_peer_reaches_a_port_that_tc_delivers_to_with_driver_xdp";
    lab::run(test, NEEDS, |lab| beside_the_kernel(lab, "driver"));
}

#[test]
fn a_kernel_peer_reaches_a_port_that_tc_delivers_to_without_xdp() {
    let test = "a_kernel_peer_reaches_a_port_that_tc_delivers_to_without_xdp";
    lab::run(test, NEEDS, |lab| beside_the_kernel(lab, "tc"));
}
