//! The underlay NIC: what arrives on it in other forms than a datagram for the VTEP, and its MTU.

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::{IPV4, Outer, VLAN, ethernet, has_mark, marked, tagged, udp4},
    host::{Host, Vm, VmSpec},
    link,
    overlay::{Both, Lone, SOON, Shape, blue, ip, mac, until, vni},
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

/// Holds what GRO has merged for so long after the last frame, so that datagrams sent one by one are merged.
fn hold_gro(host: &Host, time: Duration) -> Result<()> {
    link::set_attribute(&host.ns, Host::NIC, "gro_flush_timeout", &time.as_nanos().to_string())
}

/// Datagrams of two tenants in one flow, merged by a NIC that merges what it is to forward.
struct Merging {
    wire: RawSocket,
    nic: RawSocket,
    vms: [(Vm, RawSocket); 2],
    agent: Agent,
    outers: [Outer; 2],
}

impl Merging {
    const TENANTS: [u32; 2] = [100, 200];
    /// What an inner frame is long, so that they are merged.
    const INNER: usize = 300;

    fn start(lab: &Lab, hook: &str) -> Result<Merging> {
        let [host, far] = lab.pair(UNDERLAY_MTU)?;
        let tenants = Merging::TENANTS.map(vni);
        let mut config = AgentConfig::new(&tenants).peer(far.addr, &tenants).underlay(&format!("hook = \"{hook}\""));
        let mut vms = Vec::new();
        for (name, tenant) in ["a", "b"].into_iter().zip(tenants) {
            let vm = host.vm(lab, &VmSpec::new(name, mac(1), ip(1)))?;
            config = config.port(&vm.port, tenant).static_port(tenant, mac(1), &vm.port);
            let nic = RawSocket::open(&vm.ns, Vm::NIC)?;
            vms.push((vm, nic));
        }
        let agent = Agent::start(lab, &host, &config)?;
        agent.wait_ready()?;
        link::offload(&host.ns, Host::NIC, "gro on rx-udp-gro-forwarding on")?;
        hold_gro(&host, Duration::from_millis(20))?;
        let to = host.ns.mac(Host::NIC)?;
        // Only datagrams with a checksum are merged.
        let outers = tenants.map(|t| Outer { udp_checksum: true, ..Outer::new(to, far.addr, host.addr, t) });
        let vms = vms.try_into().map_err(|_| anyhow!("there are two tenants"))?;
        let (wire, nic) = (RawSocket::open(&far.ns, Host::NIC)?, RawSocket::open(&host.ns, Host::NIC)?);
        Ok(Merging { wire, nic, vms, agent, outers })
    }

    /// Sends numbered frames, to both tenants by turns, until some were merged; checks that what was merged was dropped and counted,
    /// and that the rest reached those it was for as it was sent. `inner` makes a frame of [`Merging::INNER`] bytes with a mark.
    fn check(&self, what: &str, inner: impl Fn(&str) -> Vec<u8>) -> Result<()> {
        let before = self.agent.drops(Reason::OuterAggregated)?;
        let (mut merged, mut sent) = (0, 0);
        let mut single: [Vec<Vec<u8>>; 2] = Default::default();
        let end = Instant::now() + SOON;
        while merged < 3 {
            ensure!(Instant::now() < end, "{what}: {merged} of {sent} were merged: the test proves nothing");
            let mut frames = Vec::new();
            for _ in 0..16 {
                let tenant = sent % 2;
                let frame = inner(&format!("{what}-{}-{sent:06}", Merging::TENANTS[tenant]));
                ensure!(frame.len() == Merging::INNER, "frames of one length");
                self.wire.send(&self.outers[tenant].wrap(&frame))?;
                frames.push((tenant, frame));
                sent += 1;
            }
            // Every one of them arrives, alone or merged with others.
            let datagram = 8 + Merging::INNER;
            let mut arrived = 0;
            while arrived < frames.len() {
                let packet = self.nic.expect(what, SOON, |f| has_mark(f, what))?;
                let count = (packet.len() - 42) / datagram;
                arrived += count;
                if count > 1 {
                    merged += 1;
                } else if let Some((tenant, frame)) = frames.iter().find(|(_, frame)| packet.ends_with(frame)) {
                    single[*tenant].push(frame.clone());
                }
            }
        }
        wait_until(&format!("{what}: {merged} merged packets to be counted"), SOON, || {
            Ok(self.agent.drops(Reason::OuterAggregated)? >= before + merged)
        })?;
        ensure!(self.agent.drops(Reason::OuterAggregated)? == before + merged, "{what}: not only merged ones");
        for (n, (_, vm)) in self.vms.iter().enumerate() {
            let fence = format!("fence-{n}");
            self.wire.send(&self.outers[n].wrap(&marked(mac(1), mac(0x10), &fence)))?;
            let got = until(vm, &fence)?;
            let got: Vec<Vec<u8>> = got.into_iter().filter(|f| has_mark(f, what)).collect();
            let (mut got, mut want) = (got, single[n].clone());
            got.sort();
            want.sort();
            ensure!(got == want, "{what}: tenant {n} got other frames than those that came alone: {got:02x?}");
        }
        Ok(())
    }
}

/// An inner IPv4 packet that claims a length of its own.
fn claiming(dst: Mac, length: u16) -> impl Fn(&str) -> Vec<u8> {
    move |mark| {
        let [from, to] = [ip(9), ip(1)].map(|a| SocketAddrV4::new(a, 5000));
        let mut payload = mark.as_bytes().to_vec();
        payload.resize(Merging::INNER - 14 - 28, 0);
        let mut packet = udp4(from, to, &payload);
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        ethernet(dst, mac(0x10), IPV4, &packet)
    }
}

fn merged_datagrams(lab: &Lab, hook: &str, dst: Mac) -> Result<()> {
    let net = Merging::start(lab, hook)?;
    net.check("other", |mark| {
        let mut frame = marked(dst, mac(0x10), mark);
        frame.resize(Merging::INNER, 0x5a);
        frame
    })?;
    net.check("udp", claiming(dst, (Merging::INNER - 14) as u16))?;
    // As if it were a super-packet that covers the datagrams of others behind it.
    net.check("zero", claiming(dst, 0))?;
    net.check("long", claiming(dst, u16::MAX))
}

#[test]
fn datagrams_merged_for_forwarding_are_dropped_and_counted() {
    let test = "datagrams_merged_for_forwarding_are_dropped_and_counted";
    lab::run(test, NEEDS, |lab| merged_datagrams(lab, "tc", mac(1)));
}

/// XDP comes before GRO, but what it passes up for flooding is merged, too.
#[test]
fn flooded_datagrams_merged_behind_xdp_are_dropped_and_counted() {
    let test = "flooded_datagrams_merged_behind_xdp_are_dropped_and_counted";
    lab::run(test, NEEDS, |lab| merged_datagrams(lab, "driver", Mac::BROADCAST));
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

/// A peer on the same machine hands over what it encapsulated uncut, checksums included.
#[test]
fn super_packets_of_a_peer_with_checksums_are_decapsulated_whole() {
    lab::run("super_packets_of_a_peer_with_checksums_are_decapsulated_whole", NEEDS, |lab| {
        let [host, kernel] = lab.pair(UNDERLAY_MTU)?;
        let (a, b) =
            (host.vm(lab, &VmSpec::new("a", mac(1), ip(1)))?, kernel.vm(lab, &VmSpec::new("b", mac(2), ip(2)))?);
        let offloads = "tx on tso on gso on tx-udp_tnl-segmentation on tx-udp_tnl-csum-segmentation on";
        link::offload(&kernel.ns, Host::NIC, offloads)?;
        let bridge = format!("br{}", blue());
        link::bridge(&kernel.ns, &bridge, 1500)?;
        link::enslave(&kernel.ns, &b.port, &bridge)?;
        link::kernel_vxlan(&kernel.ns, blue(), kernel.addr, &[host.addr], 1500, "udpcsum")?;
        let config = AgentConfig::new(&[blue()]).port(&a.port, blue()).peer(kernel.addr, &[blue()]);
        let agent = Agent::start(lab, &host, &config.underlay("hook = \"tc\""))?;
        agent.wait_ready()?;
        ping::once(&a.ns, ip(2), 56, SOON)?;
        let nic = RawSocket::open(&host.ns, Host::NIC)?;
        stream::bulk(&a.ns, ip(1), &b.ns, 1_000_000)?;
        let whole = nic.drain(|f| f.len() > 14 + UNDERLAY_MTU as usize)?;
        ensure!(!whole.is_empty(), "nothing came uncut: the test proves nothing");
        ensure!(whole.iter().all(|f| f[40..42] != [0, 0]), "without checksums: the test proves nothing");
        ensure!(agent.drops(Reason::OuterAggregated)? == 0, "taken for merged datagrams");
        Ok(())
    });
}
