//! The outer next hop follows the kernel's routes and neighbours.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use wavnet_common::{addr::Mac, reason::Reason};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    burst::send_segments,
    config::AgentConfig,
    frame::{VLAN, gratuitous_arp, has_mark, marked, tagged},
    host::{Host, Vm, VmSpec},
    link,
    netns::Netns,
    numbered,
    overlay::{Both, Mesh, SOON, Shape, blue, ip, mac, until},
    ping::{self, Ping},
    poll_until,
    raw::RawSocket,
    topology::{Routed, UNDERLAY_MTU},
    wait_until,
};
use wavnet_user::api::model::PeerState;

const NEEDS: &[Need] = &[Need::Wavnet];
const PACE: Duration = Duration::from_millis(5);

#[test]
fn a_new_link_address_of_the_next_hop_is_followed() {
    lab::run("a_new_link_address_of_the_next_hop_is_followed", NEEDS, |lab| {
        let net = Mesh::start(lab, 2, 2)?;
        let (a, router) = (&net.vms[0], &net.underlay.router);
        ping::once(&a.ns, ip(2), 56, SOON)?;
        let pings = Ping::start(&a.ns, ip(2), PACE)?;
        pings.wait_answered(20, SOON)?;
        for n in 1..4u8 {
            let new = Mac([2, 0xaa, 0, 0, 0, n]);
            router.ip(&format!("link set dev r0 address {new}"))?;
            // As a router does that takes over an address; hosts believe it.
            let raw = RawSocket::open(router, "r0")?;
            poll_until("traffic through the router's new address", SOON, || {
                raw.send(&gratuitous_arp(new, Routed::gateway(0)))?;
                pings.wait_answered(10, Duration::from_millis(500))
            })?;
            let known = net.underlay.hosts[0].ns.ip(&format!("neigh show {}", Routed::gateway(0)))?;
            ensure!(known.contains(&new.to_string()), "the kernel itself has not followed: {known}");
        }
        Ok(())
    });
}

/// A segment with the first hypervisor and two routers, which both reach the second hypervisor.
fn two_routers(lab: &Lab) -> Result<(Vec<Host>, Vec<Netns>)> {
    let mut keep = Vec::new();
    let mut hosts = Vec::new();
    let mut segments = Vec::new();
    for i in 0..2u8 {
        let segment = lab.netns(&format!("seg{i}"))?;
        link::bridge(&segment, "br", 1600)?;
        let ns = lab.netns(&format!("hv{}", i + 1))?;
        link::veth((&ns, Host::NIC), (&segment, "h"), 1600, 1)?;
        link::like_a_nic(&ns, Host::NIC)?;
        link::enslave(&segment, "h", "br")?;
        let addr = Ipv4Addr::new(172, 31, i + 1, 2);
        ns.ip(&format!("address add {addr}/24 dev {}", Host::NIC))?;
        hosts.push(Host { ns, addr });
        segments.push(segment);
    }
    for r in 0..2u8 {
        let router = lab.netns(&format!("gw{r}"))?;
        router.sysctl("net/ipv4/ip_forward", "1")?;
        for (i, segment) in segments.iter().enumerate() {
            let name = format!("r{r}");
            link::veth((&router, &format!("l{i}")), (segment, &name), 1600, 1)?;
            link::enslave(segment, &name, "br")?;
            router.ip(&format!("address add 172.31.{}.{}/24 dev l{i}", i + 1, 100 + r))?;
        }
        keep.push(router);
    }
    hosts[0].ns.ip("route add 172.31.2.0/24 via 172.31.1.100")?;
    hosts[1].ns.ip("route add 172.31.1.0/24 via 172.31.2.100")?;
    keep.extend(segments);
    Ok((hosts, keep))
}

/// A VM on each of two hosts, by a port of this mode, and the agents; each VM reaches the other.
fn overlay(lab: &Lab, hosts: &[Host], mode: &str) -> Result<([Vm; 2], [Agent; 2])> {
    let vm = |i: usize, name| hosts[i].vm(lab, &VmSpec::new(name, mac(i as u8 + 1), ip(i as u8 + 1)));
    let start = |i: usize| {
        let config = AgentConfig::new(&[blue()]).port_mode("p-*", blue(), mode);
        Agent::start(lab, &hosts[i], &config.peer(hosts[1 - i].addr, &[blue()]))
    };
    let vms = [vm(0, "v1")?, vm(1, "v2")?];
    let agents = [start(0)?, start(1)?];
    for agent in &agents {
        agent.wait_ready()?;
    }
    ping::once(&vms[0].ns, ip(2), 56, SOON)?;
    Ok((vms, agents))
}

#[test]
fn a_changed_route_is_followed() {
    lab::run("a_changed_route_is_followed", NEEDS, |lab| {
        let (hosts, others) = two_routers(lab)?;
        let (vms, agents) = overlay(lab, &hosts, "auto")?;
        let pings = Ping::start(&vms[0].ns, ip(2), PACE)?;
        pings.wait_answered(20, SOON)?;
        hosts[0].ns.ip("route replace 172.31.2.0/24 via 172.31.1.101")?;
        hosts[1].ns.ip("route replace 172.31.1.0/24 via 172.31.2.101")?;
        let second = Ipv4Addr::new(172, 31, 1, 101);
        wait_peer(&agents[0], "to go by the second router", |p| {
            p.next_hop == Some(second) && p.state == PeerState::Up
        })?;
        wait_peer(&agents[1], "to be up again", |p| p.state == PeerState::Up)?;
        for leg in ["l0", "l1"] {
            others[0].ip(&format!("link set dev {leg} down"))?;
        }
        pings.wait_answered(50, SOON)?;

        // No route at all is told and counted; a new one heals it.
        hosts[0].ns.ip("route del 172.31.2.0/24")?;
        wait_peer(&agents[0], "to have no route", |p| p.state == PeerState::NoRoute)?;
        wait_until("drops for want of a route", SOON, || Ok(agents[0].drops(Reason::NoRoute)? > 0))?;
        hosts[0].ns.ip("route add 172.31.2.0/24 via 172.31.1.101")?;
        wait_peer(&agents[0], "to be up again", |p| p.state == PeerState::Up)?;
        pings.wait_answered(50, SOON)
    });
}

fn wait_peer(agent: &Agent, what: &str, wanted: impl Fn(&wavnet_user::api::model::PeerInfo) -> bool) -> Result<()> {
    poll_until(&format!("the peer {what}"), SOON, || {
        let peers = agent.peers()?;
        ensure!(peers.iter().any(&wanted), "{peers:?}");
        Ok(())
    })
}

#[test]
fn a_next_hop_that_does_not_answer_heals_when_it_does() {
    lab::run("a_next_hop_that_does_not_answer_heals_when_it_does", NEEDS, |lab| {
        let hosts = lab.pair(1600)?;
        hosts[1].ns.ip("link set dev u0 arp off")?;
        hosts[0].ns.ip("neigh flush dev u0")?;
        let vms =
            [hosts[0].vm(lab, &VmSpec::new("a", mac(1), ip(1)))?, hosts[1].vm(lab, &VmSpec::new("b", mac(2), ip(2)))?];
        let start = |i: usize| {
            let config = AgentConfig::new(&[blue()]).port("p-*", blue()).peer(hosts[1 - i].addr, &[blue()]);
            Agent::start(lab, &hosts[i], &config)
        };
        let agents = [start(0)?, start(1)?];
        wait_peer(&agents[0], "to be unresolved", |p| p.state == PeerState::Unresolved)?;
        let pings = Ping::start(&vms[0].ns, ip(2), PACE)?;
        // The kernel is asked again for every frame, ARP included: nothing is dropped silently for good.
        let asked = "wavnet_kernel_next_hop_frames_total";
        wait_until("frames given to the kernel's neighbour output", SOON, || Ok(agents[0].metric(asked, &[])? > 0.0))?;
        assert_eq!(pings.so_far().received, 0);
        hosts[1].ns.ip("link set dev u0 arp on")?;
        wait_peer(&agents[0], "to be resolved", |p| p.state == PeerState::Up)?;
        pings.wait_answered(50, SOON)
    });
}

/// Somebody deletes the neighbour again and again: what the kernel itself would send meanwhile could overtake what XDP has sent.
#[test]
fn a_lost_link_address_stays_in_force_until_there_is_another() {
    lab::run("a_lost_link_address_stays_in_force_until_there_is_another", NEEDS, |lab| {
        let hosts = lab.pair_by(UNDERLAY_MTU, 1)?;
        let ([a, b], agents) = overlay(lab, &hosts, "packet-rate")?;
        let by_kernel = || agents[0].metric("wavnet_kernel_next_hop_frames_total", &[]);
        let before = by_kernel()?;

        let place = SocketAddrV4::new(ip(2), 7000);
        let receiver = b.ns.enter(|| Ok(UdpSocket::bind(place)?))?;
        receiver.set_read_timeout(Some(Duration::from_millis(200)))?;
        setsockopt(&receiver, sockopt::RcvBufForce, &(8 << 20))?;
        let sender = a.ns.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(ip(1), 0))?))?;
        let stop = AtomicBool::new(false);
        let (sent, got) = thread::scope(|scope| {
            let sending = scope.spawn(|| numbered_bursts(&sender, place, &stop));
            let receiving = scope.spawn(|| numbered::ascending(&receiver, &stop));
            let disturbed = (0..50).try_for_each(|_| {
                hosts[0].ns.ip(&format!("neigh del {} dev {}", hosts[1].addr, Host::NIC))?;
                poll_until("the neighbour to be back", SOON, || {
                    let known = hosts[0].ns.ip(&format!("neigh show {}", hosts[1].addr))?;
                    ensure!(known.contains("lladdr"), "{known}");
                    Ok(())
                })
            });
            stop.store(true, Ordering::Relaxed);
            let sent = sending.join().expect("the sender runs to its end")?;
            let got = receiving.join().expect("the receiver runs to its end")?;
            disturbed.map(|()| (sent, got))
        })?;
        println!("{got} of {sent} arrived");
        ensure!(sent > 1000 && got == sent, "{got} of {sent} arrived");
        ensure!(by_kernel()? == before, "{} frames went by the kernel's own lookup", by_kernel()? - before);
        Ok(())
    });
}

/// A router that does not answer for itself, and forwards: an agent that is replaced meanwhile does not know its address, and what
/// the one before has left serves.
#[test]
fn a_restart_keeps_the_link_address_of_a_router_that_does_not_answer() {
    lab::run("a_restart_keeps_the_link_address_of_a_router_that_does_not_answer", NEEDS, |lab| {
        let mut net = Mesh::start(lab, 2, 2)?;
        let host = &net.underlay.hosts[0];
        ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
        let link = host.ns.ip(&format!("-br link show {}", Host::NIC))?;
        let nic = link.split_whitespace().nth(2).context("no link address")?;
        // It does not ask either, which would tell its own address.
        let fixed = format!("neigh replace {} lladdr {nic} nud permanent dev r0", host.addr);
        net.underlay.router.ip(&fixed)?;
        net.underlay.router.sysctl("net/ipv4/conf/r0/arp_ignore", "8")?;
        host.ns.ip(&format!("neigh flush dev {}", Host::NIC))?;
        wait_peer(&net.agents[0], "to be unresolved", |p| p.state == PeerState::Unresolved)?;
        let pings = Ping::start(&net.vms[0].ns, ip(2), PACE)?;
        pings.wait_answered(20, SOON)?;
        // Without an agent for longer than three seconds the kernel would send them.
        drop(pings);
        net.agents[0].terminate()?;
        net.agents[0].launch()?;
        wait_peer(&net.agents[0], "to be unresolved again", |p| p.state == PeerState::Unresolved)?;
        let by_kernel = || net.agents[0].metric("wavnet_kernel_next_hop_frames_total", &[]);
        let before = by_kernel()?;
        Ping::start(&net.vms[0].ns, ip(2), PACE)?.wait_answered(20, SOON)?;
        ensure!(by_kernel()? == before, "frames went by the kernel's own lookup");
        Ok(())
    });
}

/// The kernel chooses among routers those that answer, and tells nobody when it chooses another.
#[test]
fn another_router_takes_over_from_one_that_is_gone() {
    lab::run("another_router_takes_over_from_one_that_is_gone", NEEDS, |lab| {
        let (hosts, routers) = two_routers(lab)?;
        let (vms, agents) = overlay(lab, &hosts, "auto")?;
        let equal = |i: usize| format!("route replace default nexthop via 172.31.{i}.100 nexthop via 172.31.{i}.101");
        let first = |i: usize| format!("route replace default via 172.31.{i}.100");
        let second = |i: usize| format!("route append default via 172.31.{i}.101");
        let ways: [&[&dyn Fn(usize) -> String]; 2] = [&[&equal], &[&first, &second]];
        for (n, way) in ways.into_iter().enumerate() {
            for (i, host) in hosts.iter().enumerate() {
                host.ns.sysctl("net/ipv4/fib_multipath_use_neigh", "1")?;
                let _ = host.ns.ip(&format!("route del 172.31.{}.0/24", 2 - i));
                let _ = host.ns.ip("route flush default");
                way.iter().try_for_each(|route| host.ns.ip(&route(i + 1)).map(drop))?;
            }
            ping::once(&vms[0].ns, ip(2), 56, SOON)?;
            let pings = Ping::start(&vms[0].ns, ip(2), PACE)?;
            // Long enough for the agent to have asked for all that the changed routes made it ask.
            pings.wait_answered(200, SOON)?;
            let used = agents[0].peers()?[0].next_hop.context("no next hop")?.octets()[3] - 100;
            let router = &routers[usize::from(used)];
            let legs = |state: &str| -> Result<()> {
                ["l0", "l1"].iter().try_for_each(|leg| router.ip(&format!("link set dev {leg} {state}")).map(drop))
            };
            legs("down")?;
            for host in &hosts {
                host.ns.ip(&format!("neigh flush dev {}", Host::NIC))?;
            }
            pings.wait_answered(50, SOON).with_context(|| format!("by the other router, routes of kind {n}"))?;
            legs("up")?;
        }
        Ok(())
    });
}

/// Sends numbered datagrams, many at a time, so that XDP has others of them in its queue.
fn numbered_bursts(socket: &UdpSocket, to: SocketAddrV4, stop: &AtomicBool) -> Result<u64> {
    const AT_ONCE: u64 = 30;
    let mut sent = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let datagrams: Vec<_> = (sent..sent + AT_ONCE).map(|n| n.to_be_bytes().to_vec()).collect();
        send_segments(socket, to, &datagrams)?;
        sent += AT_ONCE;
        thread::sleep(Duration::from_micros(500));
    }
    Ok(sent)
}

#[test]
fn an_underlay_that_goes_down_and_up_heals() {
    lab::run("an_underlay_that_goes_down_and_up_heals", NEEDS, |lab| {
        let net = Both::start(lab, Shape::default())?;
        let pings = Ping::start(&net.a.ns, ip(2), PACE)?;
        pings.wait_answered(20, SOON)?;
        for _ in 0..2 {
            net.hosts[0].ns.ip("link set dev u0 down")?;
            wait_peer(&net.agents[0], "to be out of reach", |p| p.state != PeerState::Up)?;
            net.hosts[0].ns.ip("link set dev u0 up")?;
            wait_peer(&net.agents[0], "to be up again", |p| p.state == PeerState::Up)?;
            pings.wait_answered(20, SOON)?;
        }
        Ok(())
    });
}

#[test]
fn without_agents_broadcasts_find_a_new_link_address_to_every_peer() {
    lab::run("without_agents_broadcasts_find_a_new_link_address_to_every_peer", NEEDS, |lab| {
        let mut net = Mesh::start(lab, 3, 3)?;
        ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
        for agent in &mut net.agents {
            agent.kill();
        }
        net.underlay.router.ip("link set dev r0 address 02:bb:00:00:00:01")?;
        // Routes by mark are other software's: ours may not show.
        net.underlay.hosts[0].ns.ip("rule add fwmark 0x57560000/0xffff0000 blackhole")?;
        let nics = net.vms.iter().map(|vm| RawSocket::open(&vm.ns, Vm::NIC)).collect::<Result<Vec<_>>>()?;
        // The kernel takes its time to doubt the old address.
        for nic in &nics[1..] {
            wait_until("a broadcast", SOON * 6, || {
                nics[0].send(&marked(Mac::BROADCAST, mac(1), "once more"))?;
                Ok(!nic.drain(|frame| has_mark(frame, "once more"))?.is_empty())
            })?;
        }
        // From here on everybody gets each of them, once, as it was sent.
        let sent: Vec<_> = (0..50).map(|i| format!("number {i:02}")).collect();
        for (i, mark) in sent.iter().enumerate() {
            let frame = marked(Mac::BROADCAST, mac(1), mark);
            nics[0].send(&if i % 2 == 0 { frame } else { tagged(&frame, VLAN, 7) })?;
        }
        for nic in &nics[1..] {
            let got = until(nic, &sent[49])?.iter().filter(|frame| has_mark(frame, "number")).count();
            ensure!(got == 49, "{got} of the first 49 came");
        }
        let back = nics[0].drain(|frame| has_mark(frame, "number"))?.len();
        ensure!(back == 0, "{back} came back to the VM that sent them");
        for vm in &net.vms[1..] {
            vm.ns.ip(&format!("neigh flush dev {}", Vm::NIC))?;
            ping::once(&vm.ns, ip(1), 56, SOON).context("by ARP anew")?;
        }
        Ok(())
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
