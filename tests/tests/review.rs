//! What reviewers found: paths that a plain exchange between two agents does not take.

use anyhow::{Context, Result, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::{VLAN, has_mark, marked, tagged},
    host::{Host, Vm, VmSpec},
    link,
    netns::Netns,
    overlay::{Both, Lone, Mesh, SOON, Shape, blue, ip, mac, until},
    ping, poll_until,
    raw::RawSocket,
    stream,
    topology::UNDERLAY_MTU,
    wait_until,
};
use wavnet_user::api::model::{DropRow, PortInfo};

const NEEDS: &[Need] = &[Need::Wavnet];
const HOOKS: [&str; 3] = ["driver", "generic", "tc"];

fn offload(ns: &Netns, nic: &str, words: &str) -> Result<()> {
    let words: Vec<&str> = ["-K", nic].into_iter().chain(words.split(' ')).collect();
    ns.run("ethtool", &words).map(drop)
}

/// Frames dropped so far, for whatever reason.
fn dropped(agent: &Agent) -> Result<u64> {
    let rows: Vec<DropRow> = agent.json("drops")?;
    Ok(rows.iter().map(|row| row.frames).sum())
}

fn port(agent: &Agent, name: &str) -> Result<PortInfo> {
    agent.ports()?.into_iter().find(|p| p.interface == name).context("the port is not listed")
}

/// An agent with a VM whose NIC has GRO off (so that XDP cannot deliver to it), and the kernel's VTEP with another VM.
fn beside_the_kernel(lab: &Lab, hook: &str) -> Result<()> {
    let [host, kernel] = lab.pair(UNDERLAY_MTU)?;
    let (a, b) = (host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?, kernel.vm(lab, &VmSpec::new("b", mac(2), ip(2)))?);
    offload(&a.ns, Vm::NIC, "gro off")?;
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
    lab::run(test, NEEDS, |lab| tagged_outer(lab, HOOKS[0]));
}

#[test]
fn a_tagged_outer_packet_does_not_reach_a_vm_with_generic_xdp() {
    let test = "a_tagged_outer_packet_does_not_reach_a_vm_with_generic_xdp";
    lab::run(test, NEEDS, |lab| tagged_outer(lab, HOOKS[1]));
}

#[test]
fn a_tagged_outer_packet_does_not_reach_a_vm_without_xdp() {
    let test = "a_tagged_outer_packet_does_not_reach_a_vm_without_xdp";
    lab::run(test, NEEDS, |lab| tagged_outer(lab, HOOKS[2]));
}

#[test]
fn super_packets_of_a_vm_count_as_the_frames_they_become() {
    lab::run("super_packets_of_a_vm_count_as_the_frames_they_become", NEEDS, |lab| {
        const BYTES: u64 = 8_000_000;
        let net = Both::start(lab, Shape::default())?;
        let before = port(&net.agents[0], &net.a.port)?.traffic;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, BYTES)?;
        // A segment carries at most 1460 octets.
        let wanted = BYTES / 1460;
        poll_until("the port's counters", SOON, || {
            let after = port(&net.agents[0], &net.a.port)?.traffic;
            let (frames, bytes) = (after.rx_frames - before.rx_frames, after.rx_bytes - before.rx_bytes);
            ensure!(frames >= wanted, "{frames} frames for {BYTES} octets; at least {wanted} were on the wire");
            ensure!(frames < wanted * 2, "{frames} frames for {BYTES} octets are too many");
            // Every segment has headers of its own: 14 + 20 + 20 at least.
            ensure!(bytes >= BYTES + wanted * 54, "{bytes} B for {BYTES} octets: segments' headers are not counted");
            Ok(())
        })
    });
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
        offload(&host.ns, Host::NIC, "gro on rx-udp-gro-forwarding on")?;
        let wire = RawSocket::open(&host.ns, Host::NIC)?;
        let before = dropped(&agent)?;
        let outcome = stream::bulk(&a.ns, ip(1), &b.ns, 300_000);
        let merged = wire.drain(|frame| frame.len() > UNDERLAY_MTU as usize + 14)?.len();
        ensure!(merged > 0, "nothing was merged: the test proves nothing");
        if let Err(error) = outcome {
            let counted = dropped(&agent)? - before;
            let wrong = error.to_string().contains("wrong");
            ensure!(counted > 0 && !wrong, "{merged} merged packets, {counted} drops counted, but {error:#}");
        }
        Ok(())
    });
}

#[test]
fn a_port_that_is_down_is_counted_and_left_out_of_flooding() {
    lab::run("a_port_that_is_down_is_counted_and_left_out_of_flooding", NEEDS, |lab| {
        let net = Lone::start(lab, &[], |c| c.port("p-c", blue()))?;
        let c = net.host.vm(lab, &VmSpec::new("c", mac(3), ip(3)))?;
        net.agent.wait_ready()?;
        let c_nic = RawSocket::open(&c.ns, Vm::NIC)?;
        c_nic.send(&marked(Mac::BROADCAST, mac(3), "here I am"))?;
        until(&net.wire, "here I am")?;
        net.host.ns.ip(&format!("link set dev {} down", c.port))?;
        let down = || -> Result<u64> {
            let rows: Vec<DropRow> = net.agent.json("drops")?;
            let row = rows.iter().find(|r| r.reason == "port_down");
            Ok(row.context("`wavnet drops` has no port_down")?.frames)
        };
        // Learned entries of a port that went down may be gone: a static one stays.
        net.agent.cli(&format!("fdb add --vni 100 --mac {} --port {}", mac(4), c.port))?;
        wait_until("unicast from the wire to the port to be counted", SOON, || {
            let before = down()?;
            net.inject(&net.outer(), &marked(mac(4), mac(0x10), "unicast"))?;
            net.fence_in("fence")?;
            Ok(down()? > before)
        })?;
        wait_until("unicast from a VM to the port to be counted", SOON, || {
            let before = down()?;
            net.vm_nic.send(&marked(mac(4), mac(1), "unicast"))?;
            net.fence_out("fence")?;
            Ok(down()? > before)
        })?;
        // Flooding leaves it out: nothing is tried and refused, and everybody else gets his copy.
        let traffic = || port(&net.agent, &c.port).map(|p| (p.traffic.tx_frames, p.traffic.tx_bytes));
        let before = (traffic()?, dropped(&net.agent)?);
        net.inject(&net.outer(), &marked(Mac::BROADCAST, mac(0x10), "flooded"))?;
        until(&net.vm_nic, "flooded")?;
        net.fence_out("flooded by a")?;
        ensure!((traffic()?, dropped(&net.agent)?) == before, "flooding tried the port that is down");
        net.host.ns.ip(&format!("link set dev {} up", c.port))?;
        ping::once(&c.ns, ip(1), 56, SOON)
    });
}

#[test]
fn without_agents_a_new_link_address_of_the_next_hop_heals() {
    lab::run("without_agents_a_new_link_address_of_the_next_hop_heals", NEEDS, |lab| {
        // A router, for it drops what is sent to its old address; XDP at the other end would take it.
        let mut net = Mesh::start(lab, 2, 2)?;
        ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
        for agent in &mut net.agents {
            agent.kill();
        }
        // Nobody announces it: the kernel has to ask.
        net.underlay.router.ip("link set dev r0 address 02:bb:00:00:00:01")?;
        ping::once(&net.vms[0].ns, ip(2), 56, SOON * 6).context("by an address that is resolved")?;
        for vm in &net.vms {
            vm.ns.ip(&format!("neigh flush dev {}", Vm::NIC))?;
        }
        ping::once(&net.vms[0].ns, ip(2), 56, SOON).context("by ARP anew")
    });
}

#[test]
fn vms_talk_ipv6() {
    lab::run("vms_talk_ipv6", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        for (vm, n) in [(&net.a, 1), (&net.b, 2)] {
            for which in ["all", "default", Vm::NIC] {
                vm.ns.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")?;
            }
            vm.ns.ip(&format!("-6 address add fd00::{n}/64 dev {} nodad", Vm::NIC))?;
        }
        for (vm, to) in [(&net.a, "fd00::2"), (&net.b, "fd00::1")] {
            for size in ["56", "1452"] {
                poll_until(&format!("{to} to answer"), SOON, || {
                    vm.ns.run("ping", &["-6", "-n", "-q", "-c", "1", "-W", "1", "-s", size, to]).map(drop)
                })?;
            }
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

#[test]
fn down_leaves_nothing_on_links_and_neighbours() {
    lab::run("down_leaves_nothing_on_links_and_neighbours", NEEDS, |lab| {
        for (round, hook) in HOOKS.into_iter().enumerate() {
            let mut net = Both::start(lab, Shape::underlay(&format!("hook = \"{hook}\"")))?;
            let ns = net.hosts[0].ns.clone();
            if round == 1 {
                net.agents[0].kill();
            }
            net.agents[0].cli("down")?;
            for device in [Host::NIC, net.a.port.as_str()] {
                ensure!(!ns.ip(&format!("-d link show dev {device}"))?.contains("xdp"), "{hook}: XDP is on {device}");
                let queues = ns.run("tc", &["qdisc", "show", "dev", device])?;
                ensure!(!queues.contains("clsact") && !queues.contains("ingress"), "{hook}: {device} has {queues}");
                for way in ["ingress", "egress"] {
                    let filters = ns.run("tc", &["filter", "show", "dev", device, way])?;
                    ensure!(filters.trim().is_empty(), "{hook}: {device} has {filters}");
                    let programs = tcx(&ns, device, way)?;
                    ensure!(programs.is_empty(), "{hook}: {device} has tcx {way} programs {programs:?}");
                }
            }
            let neighbours = ns.ip("neigh show")?;
            ensure!(!neighbours.contains("managed") && !neighbours.contains("extern_learn"), "{hook}: {neighbours}");
            ensure!(!net.agents[0].pins().exists(), "{hook}: {} is still there", net.agents[0].pins().display());
        }
        Ok(())
    });
}

/// Ids of the programs that the kernel has on an interface by tcx.
fn tcx(ns: &Netns, device: &str, way: &str) -> Result<Vec<u32>> {
    use aya::programs::{SchedClassifier, TcAttachType};
    let kind = if way == "ingress" { TcAttachType::Ingress } else { TcAttachType::Egress };
    ns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(device, kind).with_context(|| format!("tcx of {device}"))?;
        Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
    })
}
