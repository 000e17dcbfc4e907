//! The kernel's own vxlan device is a peer like any other.

use std::time::Duration;

use anyhow::Result;
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    host::{Vm, VmSpec},
    link,
    overlay::{SOON, blue, ip, mac},
    ping::{self, Ping},
    stream::{self, Stream},
    topology::Routed,
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
        let (host, name) = (&net.hosts[2], format!("vx{}", blue()));
        host.ns.ip(&format!("link del dev {name}"))?;
        host.ns.ip(&format!(
            "link add name {name} mtu 1500 type vxlan id {} local {} dstport 4789 udpcsum",
            blue(),
            host.addr
        ))?;
        link::enslave(&host.ns, &name, &format!("br{}", blue()))?;
        host.ns.ip(&format!("link set dev {name} up"))?;
        for i in 0..2 {
            host.ns.bridge(&format!("fdb append 00:00:00:00:00:00 dev {name} dst {}", Routed::address(i)))?;
        }
        for n in 1..3 {
            ping::once(&vms[2].ns, ip(n), 1472, SOON)?;
            stream::bulk(&vms[usize::from(n) - 1].ns, ip(n), &vms[2].ns, 1_000_000)?;
        }
        Ok(())
    });
}
