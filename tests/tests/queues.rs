//! Ports of several queues, as VMs of several CPUs have them: whatever queue a VM sends by, its frames arrive, and what is for it comes
//! by all of its queues. Nothing is lost, and no flow overtakes itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    cpu,
    frame::{IPV4, ethernet, ipv4_header, transport_checksum, udp4},
    host::{Vm, VmSpec},
    netns::Netns,
    overlay::{SOON, blue, ip},
    poll_until,
    raw::RawSocket,
    taps::{TapShape, Taps, up_to_fence},
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];
const QUEUES: usize = 4;
/// Flows of all senders: so many that, spread at random, they leave no queue out.
const FLOWS: u16 = 64;
/// Frames of each flow.
const FRAMES: u32 = 60;
/// Frames of each sender on their way at a time: those of all fit into the queue of a NIC.
const WINDOW: u64 = 24;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Which frame of which flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    flow: u16,
    number: u32,
}

/// By the last bytes of a frame.
fn stamp(frame: &[u8]) -> Result<Stamp> {
    let (_, last) = frame.split_last_chunk::<6>().context("a frame without a stamp")?;
    let [a, b, c, d, e, f] = *last;
    Ok(Stamp { flow: u16::from_be_bytes([a, b]), number: u32::from_be_bytes([c, d, e, f]) })
}

/// A frame of a flow from one VM to another: a datagram, or a segment of a connection. VMs differ in the last octet of their MACs, and of
/// their addresses.
fn frame(protocol: u8, from: Mac, to: Mac, Stamp { flow, number }: Stamp) -> Vec<u8> {
    let payload = [&[0x5a; 26][..], &flow.to_be_bytes(), &number.to_be_bytes()].concat();
    let place = |mac: Mac| SocketAddrV4::new(ip(mac.0[5]), if mac == Taps::FAR { 7000 } else { 10_000 + flow });
    let (src, dst) = (place(from), place(to));
    if protocol == UDP {
        return ethernet(to, from, IPV4, &udp4(src, dst, &payload));
    }
    const ACK: u8 = 0x10;
    let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
    // Always the same place in the stream: GRO must not merge what is counted.
    let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, ACK, 0xff, 0xff, 0, 0, 0, 0];
    let mut segment = [&ports[..], &rest, &payload].concat();
    let sum = transport_checksum(*src.ip(), *dst.ip(), TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    let header = ipv4_header(*src.ip(), *dst.ip(), TCP, 64, 0, &[], segment.len());
    ethernet(to, from, IPV4, &[header, segment].concat())
}

/// Sends [`FLOWS`] flows by some senders, each of which has its own ones and one CPU, all at a time; what arrived, with its queue, in the
/// order of reading.
fn exchange<S: Fn(Stamp) -> Result<()> + Sync>(
    senders: &[S],
    mut recv: impl FnMut() -> Result<Option<(usize, Vec<u8>)>>,
) -> Result<Vec<(usize, Stamp)>> {
    let arrived: Vec<AtomicU64> = senders.iter().map(|_| AtomicU64::new(0)).collect();
    let stop = AtomicBool::new(false);
    let send = |n: usize| -> Result<()> {
        cpu::pin(n)?;
        let flows = || (n as u16..FLOWS).step_by(senders.len());
        let all = (0..FRAMES).flat_map(|number| flows().map(move |flow| Stamp { flow, number }));
        for (sent, stamp) in (0..).zip(all) {
            while sent >= arrived[n].load(Ordering::Acquire) + WINDOW {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                thread::sleep(Duration::from_micros(50));
            }
            senders[n](stamp).with_context(|| format!("sender {n}, {stamp:?}"))?;
        }
        Ok(())
    };
    let mut receive = || -> Result<Vec<(usize, Stamp)>> {
        let (total, mut got, mut end) = (usize::from(FLOWS) * FRAMES as usize, vec![], Instant::now() + SOON);
        while got.len() < total {
            let Some((queue, frame)) = recv()? else {
                ensure!(Instant::now() < end, "{} of {total} frames arrived", got.len());
                thread::sleep(Duration::from_micros(50));
                continue;
            };
            let stamp = stamp(&frame)?;
            ensure!(stamp.flow < FLOWS && stamp.number < FRAMES, "{stamp:?} was not sent: {frame:02x?}");
            arrived[usize::from(stamp.flow) % senders.len()].fetch_add(1, Ordering::Release);
            got.push((queue, stamp));
            end = Instant::now() + SOON;
        }
        Ok(got)
    };
    thread::scope(|scope| {
        let send = &send;
        let threads: Vec<_> = (0..senders.len()).map(|n| scope.spawn(move || send(n))).collect();
        let got = receive();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().expect("a sender panicked"))?;
        got
    })
}

/// Each frame arrived once, and in each queue no frame before an earlier one of its flow. Gives the queues of each flow.
fn by_flow(got: &[(usize, Stamp)]) -> Result<BTreeMap<u16, BTreeSet<usize>>> {
    let (mut seen, mut last, mut queues) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::<_, BTreeSet<_>>::new());
    for (queue, stamp) in got {
        ensure!(seen.insert(stamp), "{stamp:?} arrived twice");
        let before = last.insert((queue, stamp.flow), stamp.number);
        ensure!(before < Some(stamp.number), "{stamp:?} arrived behind number {before:?} in queue {queue}");
        queues.entry(stamp.flow).or_default().insert(*queue);
    }
    Ok(queues)
}

/// All of a tap's queues.
fn all<'a>(first: &'a VnetTap, more: &'a [VnetTap]) -> Vec<&'a VnetTap> {
    std::iter::once(first).chain(more).collect()
}

/// The next frame of any queue.
fn next(queues: &[&VnetTap]) -> Result<Option<(usize, Vec<u8>)>> {
    for (n, queue) in queues.iter().enumerate() {
        if let Some((_, frame)) = queue.recv()? {
            return Ok(Some((n, frame)));
        }
    }
    Ok(None)
}

/// From all queues of one VM to all queues of another, which the kernel chooses by flow where TC delivers.
fn from_all_queues_to_all(lab: &Lab, mode: &str) -> Result<()> {
    let net = Taps::start(lab, TapShape { mode, multi_queue: true, ..TapShape::PLAIN })?;
    // The ports are attached already.
    let more = net.queues(QUEUES - 1)?;
    let (near, far) = (all(&net.near, &more[0]), all(&net.far, &more[1]));
    for protocol in [UDP, TCP] {
        let sender = |queue: usize| {
            let tap = near[queue];
            move |stamp| tap.send(&VnetHdr::default(), &frame(protocol, Taps::NEAR, Taps::FAR, stamp))
        };
        let senders: Vec<_> = (0..QUEUES).map(sender).collect();
        let before = (net.runs("port_xdp")?, net.runs("port_tc")?);
        let got = exchange(&senders, || next(&far))?;
        let flows = by_flow(&got)?;
        net.send_fence(Taps::FAR)?;
        let more = up_to_fence(&far)?;
        ensure!(more.is_empty(), "{} frames more than were sent", more.len());

        let frames = got.len() as f64;
        let (xdp, tc) = (net.runs("port_xdp")? - before.0, net.runs("port_tc")? - before.1);
        let by_xdp = mode == "packet-rate" && protocol == UDP;
        ensure!(if by_xdp { xdp >= frames && tc < 60.0 } else { tc >= frames }, "{xdp} runs in XDP, {tc} in TC");
        let used: BTreeSet<_> = flows.values().flatten().collect();
        println!("{mode}, protocol {protocol}: {frames} frames, {xdp} runs in XDP, {tc} in TC, by queues {used:?}");
        if protocol == TCP {
            ensure!(flows.values().all(|queues| queues.len() == 1), "flows came by several queues: {flows:?}");
            ensure!(used.len() == QUEUES, "queues {used:?} were used alone");
        } else {
            // What XDP delivers to a tap comes by the queue of the CPU where XDP runs (the kernel's tun_xdp_xmit).
            let cpus: BTreeSet<_> = cpu::usable()?.into_iter().take(QUEUES).map(|cpu| cpu % QUEUES).collect();
            ensure!(used.len() >= cpus.len().min(2), "queues {used:?} were used alone, with CPUs {cpus:?}");
        }
    }
    Ok(())
}

#[test]
fn frames_of_all_queues_of_a_tap_arrive() {
    lab::run("queues::frames_of_all_queues_of_a_tap_arrive", NEEDS, |lab| from_all_queues_to_all(lab, "auto"));
}

#[test]
fn frames_of_all_queues_of_a_packet_rate_tap_arrive() {
    let test = "queues::frames_of_all_queues_of_a_packet_rate_tap_arrive";
    lab::run(test, NEEDS, |lab| from_all_queues_to_all(lab, "packet-rate"));
}

/// The kernel remembers by which queue a VM sends a flow, and has the answers come by that one (automq): what TC delivers, it delivers so.
fn answers_come_by_the_queue_of_the_flow(lab: &Lab, shape: TapShape<'_>, protocol: u8) -> Result<()> {
    let net = Taps::start(lab, TapShape { multi_queue: true, ..shape })?;
    let more = net.queues(QUEUES - 1)?;
    let (near, far) = (all(&net.near, &more[0]), all(&net.far, &more[1]));
    let collect = |queues: &[&VnetTap]| -> Result<BTreeMap<u16, usize>> {
        let (mut got, end) = (BTreeMap::new(), Instant::now() + SOON);
        while got.len() < usize::from(FLOWS) {
            match next(queues)? {
                Some((queue, frame)) => drop(got.insert(stamp(&frame)?.flow, queue)),
                None => ensure!(Instant::now() < end, "flows {:?} arrived", got.keys()),
            }
        }
        Ok(got)
    };
    // Twice: a flow may move to another queue.
    for shift in [1, 2] {
        let wanted: BTreeMap<_, _> = (0..FLOWS).map(|flow| (flow, (usize::from(flow) * 3 + shift) % QUEUES)).collect();
        // The kernel forgets after seconds, which a busy machine may let pass.
        poll_until("answers to come by the queues of their flows", SOON, || {
            let send = |tap: &VnetTap, from, to, flow| {
                tap.send(&VnetHdr::default(), &frame(protocol, from, to, Stamp { flow, number: 0 }))
            };
            wanted.iter().try_for_each(|(flow, queue)| send(far[*queue], Taps::FAR, Taps::NEAR, *flow))?;
            collect(&near)?;
            wanted.keys().try_for_each(|flow| send(&net.near, Taps::NEAR, Taps::FAR, *flow))?;
            let got = collect(&far)?;
            ensure!(got == wanted, "answers came by {got:?}, not {wanted:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn answers_come_by_the_queue_that_a_vm_sends_a_flow_by() {
    lab::run("queues::answers_come_by_the_queue_that_a_vm_sends_a_flow_by", NEEDS, |lab| {
        answers_come_by_the_queue_of_the_flow(lab, TapShape::PLAIN, TCP)
    });
}

#[test]
fn answers_come_by_the_queue_of_their_flow_with_xdp_on_the_tap() {
    lab::run("queues::answers_come_by_the_queue_of_their_flow_with_xdp_on_the_tap", NEEDS, |lab| {
        answers_come_by_the_queue_of_the_flow(lab, TapShape { mode: "packet-rate", ..TapShape::PLAIN }, TCP)
    });
}

#[test]
fn answers_to_datagrams_come_by_the_queue_of_their_flow_where_tc_delivers() {
    lab::run("queues::answers_to_datagrams_come_by_the_queue_of_their_flow_where_tc_delivers", NEEDS, |lab| {
        answers_come_by_the_queue_of_the_flow(lab, TapShape { underlay: "hook = \"tc\"", ..TapShape::PLAIN }, UDP)
    });
}

/// Frames that each queue of a veth got.
fn polled(ns: &Netns, interface: &str) -> Result<Vec<u64>> {
    let text = ns.run("ethtool", &["-S", interface])?;
    let of = |queue| {
        let name = format!("rx_queue_{queue}_xdp_packets:");
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&name)).context(text.clone())?;
        Ok(line.trim().parse()?)
    };
    (0..QUEUES).map(of).collect()
}

/// A container's NIC chooses among its queues by flow. One CPU alone sends: several would come by several ways, on which veths, unlike
/// NICs, keep no order.
fn from_all_queues_of_a_container(lab: &Lab, mode: &str) -> Result<()> {
    let hosts = lab.pair(UNDERLAY_MTU)?;
    let macs = [Taps::NEAR, Taps::FAR];
    // Without addresses, so that nobody answers.
    let vm = |i: usize, name| {
        let spec = VmSpec { name, mac: macs[i], addr: None, mtu: 1500, queues: QUEUES as u32 };
        hosts[i].vm(lab, &spec)
    };
    let vms = [vm(0, "a")?, vm(1, "b")?];
    let start = |i: usize| {
        let (port, peer) = (&vms[i].port, hosts[1 - i].addr);
        let config = AgentConfig::new(&[blue()]).port_mode(port, blue(), mode).peer(peer, &[blue()]);
        Agent::start(lab, &hosts[i], &config.static_port(blue(), macs[i], port).static_peer(blue(), macs[1 - i], peer))
    };
    let agents = [start(0)?, start(1)?];
    for (agent, vm) in agents.iter().zip(&vms) {
        agent.wait_ready()?;
        let port = agent.wait_port(&vm.port, AttachState::Attached)?;
        ensure!(port.xdp == Some(mode == "packet-rate"), "in mode {mode}: {port:?}");
    }
    let [from, to] = [RawSocket::open(&vms[0].ns, Vm::NIC)?, RawSocket::open(&vms[1].ns, Vm::NIC)?];
    for protocol in [UDP, TCP] {
        let before = polled(&hosts[0].ns, &vms[0].port)?;
        let sender = |stamp| from.send(&frame(protocol, macs[0], macs[1], stamp));
        let got = exchange(&[sender], || Ok(to.recv(Duration::ZERO)?.map(|frame| (0, frame))))?;
        by_flow(&got)?;
        let more = to.drain(|_| true)?;
        ensure!(more.is_empty(), "{} frames more than were sent", more.len());
        let queues: Vec<_> =
            polled(&hosts[0].ns, &vms[0].port)?.iter().zip(&before).map(|(now, old)| now - old).collect();
        println!("{mode}, protocol {protocol}: {} frames by queues {queues:?}", got.len());
        // Without XDP frames do not wait in the queues, which then count nothing; but flows are spread in the same way.
        ensure!(mode != "packet-rate" || queues.iter().all(|frames| *frames > 0), "queues were not used: {queues:?}");
    }
    for agent in &agents {
        ensure!(agent.dropped()? == 0, "frames were dropped");
    }
    Ok(())
}

#[test]
fn frames_of_all_queues_of_a_container_arrive() {
    let test = "queues::frames_of_all_queues_of_a_container_arrive";
    lab::run(test, NEEDS, |lab| from_all_queues_of_a_container(lab, "auto"));
}

#[test]
fn frames_of_all_queues_of_a_packet_rate_container_arrive() {
    let test = "queues::frames_of_all_queues_of_a_packet_rate_container_arrive";
    lab::run(test, NEEDS, |lab| from_all_queues_of_a_container(lab, "packet-rate"));
}
