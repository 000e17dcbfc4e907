//! The underlay NIC: what arrives on it in other forms than a datagram for the VTEP, and its MTU.

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::{VLAN, has_mark, marked, tagged},
    host::{Host, Vm, VmSpec},
    link,
    overlay::{Both, Lone, SOON, Shape, blue, ip, mac},
    ping, poll_until,
    raw::RawSocket,
    stream,
    topology::UNDERLAY_MTU,
    wait_until,
};

const NEEDS: &[Need] = &[Need::Wavnet];

/// A packet on a VLAN of the underlay is not for the VTEP, whose address is on the untagged network.
fn tagged_outer(lab: &Lab, hook: &str) -> Result<()> {
    let net = Lone::start(lab, &[], |c| c.underlay(&format!("hook = \"{hook}\"")))?;
    // So that the fence below needs no flooding.
    net.fence_out("hello")?;
    wait_until("the VM to be known", SOON, || Ok(net.agent.fdb()?.iter().any(|e| e.mac == mac(1))))?;
    for (dst, mark) in [(mac(1), "tagged unicast"), (Mac::BROADCAST, "tagged broadcast")] {
        for (tpid, tci) in [(VLAN, 7), (VLAN, 0xe007), (lab::frame::QINQ, 7)] {
            let outer = net.outer().wrap(&marked(dst, mac(0x10), mark));
            net.wire.send(&tagged(&outer, tpid, tci))?;
        }
    }
    let before = net.fence_in("fence")?;
    ensure!(!before.iter().any(|f| has_mark(f, "tagged")), "{hook}: a packet of VLAN 7 reached the VM");
    let known = net.agent.fdb()?.iter().any(|e| e.mac == mac(0x10));
    ensure!(!known, "{hook}: a station was learned from a packet of VLAN 7");
    Ok(())
}

#[test]
fn a_tagged_outer_packet_does_not_reach_a_vm_with_driver_xdp() {
    let test = "a_tagged_outer_packet_does_not_reach_a_vm_with_driver_xdp";
    lab::run(test, NEEDS, |lab| tagged_outer(lab, "driver"));
}

#[test]
fn a_tagged_outer_packet_does_not_reach_a_vm_with_generic_xdp() {
    let test = "a_tagged_outer_packet_does_not_reach_a_vm_with_generic_xdp";
    lab::run(test, NEEDS, |lab| tagged_outer(lab, "generic"));
}

#[test]
fn a_tagged_outer_packet_does_not_reach_a_vm_without_xdp() {
    let test = "a_tagged_outer_packet_does_not_reach_a_vm_without_xdp";
    lab::run(test, NEEDS, |lab| tagged_outer(lab, "tc"));
}

#[test]
fn forwarded_gro_of_the_underlay_does_not_corrupt_what_tc_decapsulates() {
    let test = "forwarded_gro_of_the_underlay_does_not_corrupt_what_tc_decapsulates";
    lab::run(test, NEEDS, |lab| {
        let [host, kernel] = lab.pair(UNDERLAY_MTU)?;
        let (a, b) =
            (host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?, kernel.vm(lab, &VmSpec::new("b", mac(2), ip(2)))?);
        link::kernel_vtep(&kernel.ns, blue(), kernel.addr, &[], 1500)?;
        // Only packets with a UDP checksum are merged, which wavnet's do not have.
        let (name, local, to) = (format!("vx{}", blue()), kernel.addr, host.addr);
        kernel.ns.ip(&format!("link del dev {name}"))?;
        kernel.ns.ip(&format!(
            "link add name {name} mtu 1500 type vxlan id {} local {local} remote {to} dstport 4789 udpcsum",
            blue()
        ))?;
        for port in [name.as_str(), b.port.as_str()] {
            link::enslave(&kernel.ns, port, &format!("br{}", blue()))?;
        }
        kernel.ns.ip(&format!("link set dev {name} up"))?;
        let config = AgentConfig::new(&[blue()]).port(&a.port, blue()).peer(kernel.addr, &[blue()]);
        let agent = Agent::start(lab, &host, &config.underlay("hook = \"tc\""))?;
        agent.wait_ready()?;
        ping::once(&a.ns, ip(2), 56, SOON)?;
        link::offload(&host.ns, Host::NIC, "gro on rx-udp-gro-forwarding on")?;
        let wire = RawSocket::open(&host.ns, Host::NIC)?;
        let before = agent.dropped()?;
        let outcome = stream::bulk(&a.ns, ip(1), &b.ns, 300_000);
        let merged = wire.drain(|frame| frame.len() > UNDERLAY_MTU as usize + 14)?.len();
        ensure!(merged > 0, "nothing was merged: the test proves nothing");
        if let Err(error) = outcome {
            let counted = agent.dropped()? - before;
            let wrong = error.to_string().contains("wrong");
            ensure!(counted > 0 && !wrong, "{merged} merged packets, {counted} drops counted, but {error:#}");
        }
        Ok(())
    });
}

#[test]
fn a_changed_mtu_of_the_underlay_is_followed() {
    lab::run("a_changed_mtu_of_the_underlay_is_followed", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let set = |mtu: u32| -> Result<()> {
            for host in &net.hosts {
                host.ns.ip(&format!("link set dev {} mtu {mtu}", Host::NIC))?;
            }
            for agent in &net.agents {
                poll_until("the agent to know the new MTU", SOON, || {
                    let underlay = agent.status()?.underlay;
                    ensure!(underlay.mtu == Some(mtu), "{underlay:?}");
                    Ok(())
                })?;
            }
            Ok(())
        };
        set(1400)?;
        let before = net.agents[0].drops(Reason::ExceedsUnderlayMtu)?;
        wait_until("a frame that no longer fits to be counted", SOON, || {
            let a = RawSocket::open(&net.a.ns, Vm::NIC)?;
            let mut long = marked(mac(2), mac(1), "long");
            long.resize(1514, 0);
            a.send(&long)?;
            Ok(net.agents[0].drops(Reason::ExceedsUnderlayMtu)? > before)
        })?;
        ping::once(&net.a.ns, ip(2), 1200, SOON).context("what still fits")?;
        set(1600)?;
        ping::once(&net.a.ns, ip(2), 1472, SOON).context("what fits again")?;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, 1_000_000)
    });
}
