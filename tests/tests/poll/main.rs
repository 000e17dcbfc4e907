//! What a NIC or port finds in one turn of its work (a NAPI poll) leaves in the order in which it came, for each flow, whatever else is
//! among it: XDP's redirects go when the turn is over, TC's at once, so that the latter must not overtake the former.

mod frames;

use std::{
    fmt::Write as _,
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    burst::{Valve, send_segments},
    cpu,
    host::{Host, Vm, VmSpec},
    link,
    overlay::{Lone, SOON, blue, ip},
    poll_until,
    raw::RawSocket,
    taps::{TapShape, Taps},
    topology::UNDERLAY_MTU,
};
use wavnet_user::api::model::{AttachState, Delivery, HookMode};

use frames::{ALL, FLOODED, FRAMES, Flow, HERE, Odd, ROUNDS, THERE, Way, number, odd_at, with};

const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("tc")];
/// Of a container on the same hypervisor.
const BESIDE: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// The next frame where they arrive, if one comes in time.
type Recv<'a> = dyn Fn(Duration) -> Result<Option<Vec<u8>>> + 'a;

/// Numbers of a round's frames in the order in which they arrive.
fn arrivals(recv: &Recv<'_>, round: u32) -> Result<Vec<u32>> {
    // They have been sent by now, and each of the cases may have to wait so long.
    let (mut got, end) = (Vec::new(), Instant::now() + SOON / 3);
    while got.len() < FRAMES as usize {
        let Some(frame) = recv(end.saturating_duration_since(Instant::now()))? else { break };
        got.extend(number(&frame, round));
    }
    Ok(got)
}

/// Sends rounds with each of the odd ones in their middle, and says in which the flow overtook itself.
fn keeps_order(
    recv: &Recv<'_>,
    cases: &[(Flow, Odd)],
    way: Way,
    send: impl Fn(&[Vec<u8>]) -> Result<()>,
) -> Result<()> {
    // All on one CPU: several would come by several ways, on which veths, unlike NICs, keep no order.
    cpu::pin(0)?;
    let mut faults = String::new();
    for (case, (flow, odd)) in (0..).zip(cases) {
        let mut wrong = Vec::new();
        for round in case * ROUNDS..(case + 1) * ROUNDS {
            send(&way.frames(*flow, *odd, round))?;
            let got = arrivals(recv, round)?;
            let ours: Vec<_> = got.iter().filter(|n| *odd == Odd::Nothing || **n != odd_at(round)).collect();
            let all = got.len() == FRAMES as usize;
            if !all || !ours.is_sorted() {
                wrong.push(got);
            }
            if !all {
                // Each of these waits long.
                break;
            }
        }
        if let Some(first) = wrong.first() {
            let _ = write!(faults, "\n{flow:?} with {odd:?}: {} of {ROUNDS} polls, such as ", wrong.len());
            let _ = write!(faults, "{} frames: {first:?}", first.len());
        }
    }
    ensure!(faults.is_empty(), "flows overtook themselves, or frames are missing:{faults}");
    Ok(())
}

/// With both stations known from the beginning.
fn start(lab: &Lab, mode: &str) -> Result<Lone> {
    let hosts = lab.pair_by(UNDERLAY_MTU, 1)?;
    let peer = hosts[1].addr;
    Lone::start_on(lab, hosts, mode, &[], |config| {
        config.static_port(blue(), HERE, "p-a").static_peer(blue(), THERE, peer).metrics("program_run_time = true")
    })
}

fn runs(agent: &Agent, program: &str) -> Result<f64> {
    agent.metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])
}

/// The program has seen all that was sent.
fn ran(agent: &Agent, program: &str, before: f64, cases: &[(Flow, Odd)]) -> Result<()> {
    let (sent, ran) = (cases.len() as u32 * ROUNDS * FRAMES, runs(agent, program)? - before);
    ensure!(ran >= sent.into(), "{program} ran {ran} times for {sent} frames: the test proves nothing");
    Ok(())
}

/// Somebody who sends into the overlay. What it sends by one call its NIC sends at once.
struct Peer {
    socket: UdpSocket,
    to: SocketAddrV4,
}

impl Peer {
    fn new(from: &Host, to: &Host) -> Result<Peer> {
        link::offload(&from.ns, Host::NIC, "tx off tso off gso off tx-udp-segmentation off")?;
        let socket = from.ns.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(from.addr, 0))?))?;
        Ok(Peer { socket, to: SocketAddrV4::new(to.addr, 4789) })
    }

    fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        let vxlan = [&[8, 0, 0, 0][..], &(blue().get() << 8).to_be_bytes()].concat();
        let packets: Vec<_> = frames.iter().map(|frame| [&vxlan[..], frame].concat()).collect();
        send_segments(&self.socket, self.to, &packets)
    }
}

/// From the wire into a container.
fn into_a_container(lab: &Lab, delivery: Delivery, cases: &[(Flow, Odd)]) -> Result<()> {
    let net = start(lab, "auto")?;
    if delivery == Delivery::Tc {
        // Its NIC does not poll then, and so takes nothing from XDP.
        link::offload(&net.a.ns, Vm::NIC, "gro off")?;
    }
    let underlay = net.agent.status()?.underlay;
    ensure!(underlay.hook_mode == Some(HookMode::XdpDriver), "{underlay:?}");
    poll_until("the agent to see how the port takes frames", SOON, || {
        let port = net.agent.port(&net.a.port)?;
        ensure!(port.delivery == Some(delivery), "{port:?}");
        Ok(())
    })?;
    let peer = Peer::new(&net.far, &net.host)?;
    let before = runs(&net.agent, "underlay_xdp")?;
    keeps_order(&|time| net.vm_nic.recv(time), cases, Way::new(THERE, HERE), |frames| peer.send(frames))?;
    ran(&net.agent, "underlay_xdp", before, cases)
}

/// From the wire into a VM on a tap.
fn into_a_tap(lab: &Lab, cases: &[(Flow, Odd)]) -> Result<()> {
    let taps = Taps::start(lab, TapShape::PLAIN)?;
    let peer = Peer::new(&taps.hosts[0], &taps.hosts[1])?;
    let before = runs(&taps.agents[1], "underlay_xdp")?;
    let recv = |time| {
        let end = Instant::now() + time;
        loop {
            let next = taps.far.recv()?.map(|(_, frame)| frame);
            if next.is_some() || Instant::now() >= end {
                return Ok(next);
            }
            thread::sleep(Duration::from_micros(100));
        }
    };
    keeps_order(&recv, cases, Way::new(Taps::NEAR, Taps::FAR), |frames| peer.send(frames))?;
    ran(&taps.agents[1], "underlay_xdp", before, cases)
}

/// Where to from a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Wire,
    /// To the wire, from a port that a thread of the kernel polls.
    WireByThread,
    /// To another port of the hypervisor.
    Beside,
}

/// From a container's NIC, by a port with XDP.
fn out_of_a_container(lab: &Lab, to: To, cases: &[(Flow, Odd)]) -> Result<()> {
    let net = start(lab, "packet-rate")?;
    let port = net.agent.port(&net.a.port)?;
    ensure!(port.xdp == Some(true), "{port:?}");
    let other = net.host.vm(lab, &VmSpec { addr: None, ..VmSpec::new("c", BESIDE, ip(3)) })?;
    net.agent.cli(&format!("port add {} --vni {} --mode packet-rate", other.port, blue()))?;
    net.agent.wait_port(&other.port, AttachState::Attached)?;
    net.agent.cli(&format!("fdb add --vni {} --mac {BESIDE} --port {}", blue(), other.port))?;
    if to == To::WireByThread {
        link::set_attribute(&net.host.ns, &net.a.port, "threaded", "1")?;
    }
    let at = if to == To::Beside { &RawSocket::open(&other.ns, Vm::NIC)? } else { &net.wire };
    let to = if to == To::Beside { BESIDE } else { THERE };
    let valve = Valve::before(&net.a.ns, Vm::NIC)?;
    let before = runs(&net.agent, "port_xdp")?;
    keeps_order(&|time| at.recv(time), cases, Way::new(HERE, to), |frames| {
        valve.close(&net.vm_nic, to, HERE)?;
        let (last, waiting) = frames.split_last().context("no frames")?;
        waiting.iter().try_for_each(|frame| net.vm_nic.send(frame))?;
        valve.open()?;
        net.vm_nic.send(last)
    })?;
    ran(&net.agent, "port_xdp", before, cases)
}

#[test]
fn datagrams_into_a_container_stay_in_order_around_what_is_flooded() {
    let test = "poll::datagrams_into_a_container_stay_in_order_around_what_is_flooded";
    lab::run(test, NEEDS, |lab| into_a_container(lab, Delivery::Xdp, &with(Flow::Datagrams, ALL)));
}

#[test]
fn tagged_datagrams_into_a_container_stay_in_order_around_what_is_flooded() {
    let test = "poll::tagged_datagrams_into_a_container_stay_in_order_around_what_is_flooded";
    lab::run(test, NEEDS, |lab| into_a_container(lab, Delivery::Xdp, &with(Flow::TaggedDatagrams, FLOODED)));
}

#[test]
fn datagrams_out_of_a_packet_rate_container_stay_in_order_around_what_xdp_leaves() {
    let test = "poll::datagrams_out_of_a_packet_rate_container_stay_in_order_around_what_xdp_leaves";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, To::Wire, &with(Flow::Datagrams, ALL)));
}

#[test]
fn tagged_datagrams_out_of_a_packet_rate_container_stay_in_order() {
    let test = "poll::tagged_datagrams_out_of_a_packet_rate_container_stay_in_order";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, To::Wire, &with(Flow::TaggedDatagrams, FLOODED)));
}

#[test]
fn a_connection_into_a_container_stays_in_order() {
    let test = "poll::a_connection_into_a_container_stays_in_order";
    lab::run(test, NEEDS, |lab| into_a_container(lab, Delivery::Xdp, &with(Flow::Tcp, ALL)));
}

#[test]
fn connections_that_xdp_does_not_hand_to_gro_stay_in_order() {
    let test = "poll::connections_that_xdp_does_not_hand_to_gro_stay_in_order";
    lab::run(test, NEEDS, |lab| {
        let cases = [with(Flow::TaggedTcp, FLOODED), with(Flow::ExtendedTcp, FLOODED)].concat();
        into_a_container(lab, Delivery::Xdp, &cases)
    });
}

#[test]
fn a_connection_out_of_a_packet_rate_container_stays_in_order() {
    let test = "poll::a_connection_out_of_a_packet_rate_container_stays_in_order";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, To::Wire, &with(Flow::Tcp, ALL)));
}

#[test]
fn flows_into_a_container_that_takes_nothing_from_xdp_stay_in_order() {
    let test = "poll::flows_into_a_container_that_takes_nothing_from_xdp_stay_in_order";
    lab::run(test, NEEDS, |lab| {
        let cases = [with(Flow::Datagrams, ALL), with(Flow::Tcp, ALL)].concat();
        into_a_container(lab, Delivery::Tc, &cases)
    });
}

#[test]
fn datagrams_to_a_container_beside_stay_in_order_around_what_xdp_leaves() {
    let test = "poll::datagrams_to_a_container_beside_stay_in_order_around_what_xdp_leaves";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, To::Beside, &with(Flow::Datagrams, ALL)));
}

#[test]
fn datagrams_into_a_tap_stay_in_order_around_what_is_flooded() {
    let test = "poll::datagrams_into_a_tap_stay_in_order_around_what_is_flooded";
    lab::run(test, NEEDS, |lab| into_a_tap(lab, &with(Flow::Datagrams, ALL)));
}

#[test]
fn a_connection_into_a_tap_stays_in_order() {
    lab::run("poll::a_connection_into_a_tap_stays_in_order", NEEDS, |lab| into_a_tap(lab, &with(Flow::Tcp, ALL)));
}

#[test]
fn datagrams_out_of_a_packet_rate_container_stay_in_order_where_a_thread_polls() {
    let test = "poll::datagrams_out_of_a_packet_rate_container_stay_in_order_where_a_thread_polls";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, To::WireByThread, &with(Flow::Datagrams, ALL)));
}
