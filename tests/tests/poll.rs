//! What a NIC or port finds in one turn of its work (a NAPI poll) leaves in the order in which it came, for each flow, whatever else is
//! among it: XDP's redirects go when the turn is over, TC's at once, so that the latter must not overtake the former.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use wavnet_common::addr::Mac;
use wavnet_tests::lab::{
    self, Lab, Need,
    burst::{Valve, send_segments},
    cpu,
    frame::{ARP, EXPERIMENT, IPV4, VLAN, checksum, ethernet, ipv4_header, tagged, transport_checksum, udp4},
    host::{Host, Vm},
    link,
    overlay::{Lone, SOON, blue, ip, mac},
    poll_until,
    raw::RawSocket,
    topology::UNDERLAY_MTU,
};
use wavnet_user::api::model::{Delivery, HookMode};

const NEEDS: &[Need] = &[Need::Wavnet, Need::Tool("tc")];
/// Frames in a poll, which takes 64.
const FRAMES: u32 = 40;
/// Which of them is not the flow's, by turns: redirects go after sixteen, or at the end.
const ODD_AT: [u32; 4] = [10, 1, 25, 37];
/// Polls of each kind.
const ROUNDS: u32 = 8;
/// Bytes of every frame without its tag: segments of one send are of one length.
const LENGTH: usize = 124;
const MARK: &[u8; 8] = b"one poll";

/// The VM's.
const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// Of somebody behind the peer.
const THERE: Mac = Mac([2, 0, 0, 0, 0, 9]);
const TAG: u16 = 42;

/// What the flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Datagrams,
    /// With a tag, which XDP of a port does not carry and that of the underlay does.
    TaggedDatagrams,
    /// All that a connection consists of, GRO merging none of it.
    Tcp,
}

/// What is in the middle of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    /// Nothing: to see that the way itself keeps order.
    Nothing,
    Broadcast,
    Arp,
    UnknownUnicast,
    /// A datagram without a checksum, of another flow of the same stations.
    Unsummed,
    /// A datagram of the flow with a wrong checksum, which XDP of a port must not carry.
    Corrupted,
    /// What is no IP, between the same stations.
    Other,
}

/// Which way.
#[derive(Clone, Copy, Debug)]
struct Way {
    from: Mac,
    to: Mac,
    /// No addresses of anybody's, so that nobody answers.
    addresses: [Ipv4Addr; 2],
}

impl Way {
    fn new(from: Mac, to: Mac) -> Way {
        Way { from, to, addresses: [ip(201), ip(202)] }
    }

    fn sockets(&self, port: u16) -> [SocketAddrV4; 2] {
        self.addresses.map(|address| SocketAddrV4::new(address, port))
    }

    fn datagram(&self, to: Mac, port: u16, end: &[u8]) -> Vec<u8> {
        let [src, dst] = self.sockets(port);
        let payload = [&vec![0x5a; LENGTH - 42 - end.len()][..], end].concat();
        ethernet(to, self.from, IPV4, &udp4(src, dst, &payload))
    }

    /// One of a connection's segments, by number: handshake, acknowledgements, data, its end, and fragments.
    fn segment(&self, number: u32, end: &[u8]) -> Vec<u8> {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const PSH: u8 = 8;
        const ACK: u8 = 0x10;
        const MF: u16 = 0x2000;
        let room = LENGTH - 14 - 20 - 20 - end.len();
        let (flags, fragment, payload) = match number % 10 {
            0 => (SYN, 0, 0),
            1 => (SYN | ACK, 0, 0),
            2 | 5 => (ACK, 0, 0),
            3 | 4 => (ACK, 0, room),
            // GRO sends this on at once. What it holds back for a moment, waiting for more, fragments overtake: it knows none.
            6 => (ACK | PSH, 0, room),
            7 => (ACK, MF, room / 8 * 8 + 4),
            8 => (ACK, 9, room),
            _ => (FIN | ACK, 0, 0),
        };
        let [src, dst] = self.sockets(7000);
        let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
        // With gaps: GRO must not merge what is counted.
        let sequence = (number * 10_000).to_be_bytes();
        let rest = [0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
        let mut tcp = [&ports[..], &sequence, &rest, &vec![0x5a; payload]].concat();
        if payload == room {
            tcp.extend(end);
        }
        let sum = transport_checksum(*src.ip(), *dst.ip(), 6, &tcp);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut header = ipv4_header(*src.ip(), *dst.ip(), 6, 64, fragment, &[], tcp.len());
        header[4..6].copy_from_slice(&(number as u16).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        padded(ethernet(self.to, self.from, IPV4, &[header, tcp].concat()), end)
    }

    fn odd(&self, odd: Odd, end: &[u8]) -> Option<Vec<u8>> {
        Some(match odd {
            Odd::Nothing => return None,
            Odd::Broadcast => self.datagram(Mac::BROADCAST, 7000, end),
            Odd::UnknownUnicast => self.datagram(mac(0x77), 7000, end),
            Odd::Arp => padded(ethernet(Mac::BROADCAST, self.from, ARP, &[0; 46]), end),
            Odd::Other => padded(ethernet(self.to, self.from, EXPERIMENT, &[0; 46]), end),
            Odd::Corrupted => {
                let mut frame = self.datagram(self.to, 7000, end);
                frame[60] ^= 1;
                frame
            }
            Odd::Unsummed => {
                let mut frame = self.datagram(self.to, 8000, end);
                frame[40..42].fill(0);
                frame
            }
        })
    }

    /// A round's frames, of which the last bytes tell round and number.
    fn frames(&self, flow: Flow, odd: Odd, round: u32) -> Vec<Vec<u8>> {
        let frame = |number: u32| {
            let end = [&MARK[..], &round.to_be_bytes(), &number.to_be_bytes()].concat();
            if number == odd_at(round)
                && let Some(odd) = self.odd(odd, &end)
            {
                return if flow == Flow::TaggedDatagrams { padded([&odd[..], &[0; 4]].concat(), &end) } else { odd };
            }
            match flow {
                Flow::Datagrams => self.datagram(self.to, 7000, &end),
                Flow::TaggedDatagrams => tagged(&self.datagram(self.to, 7000, &end), VLAN, TAG),
                Flow::Tcp => self.segment(number, &end),
            }
        };
        (0..FRAMES).map(frame).collect()
    }
}

fn odd_at(round: u32) -> u32 {
    ODD_AT[round as usize % ODD_AT.len()]
}

/// With these last bytes, and as long as all others.
fn padded(mut frame: Vec<u8>, end: &[u8]) -> Vec<u8> {
    if !frame.ends_with(end) {
        let length = frame.len().max(LENGTH) - end.len();
        frame.resize(length, 0);
        frame.extend(end);
    }
    frame
}

/// Numbers of a round's frames in the order in which they arrive.
fn arrivals(at: &RawSocket, round: u32) -> Result<Vec<u32>> {
    // They have been sent by now, and each of the cases may have to wait so long.
    let (mut got, end) = (Vec::new(), Instant::now() + SOON / 3);
    while got.len() < FRAMES as usize {
        let Some(frame) = at.recv(end.saturating_duration_since(Instant::now()))? else { break };
        let Some((rest, last)) = frame.split_last_chunk::<8>() else { continue };
        let [a, b, c, d, number @ ..] = *last;
        if rest.ends_with(MARK) && u32::from_be_bytes([a, b, c, d]) == round {
            got.push(u32::from_be_bytes(number));
        }
    }
    Ok(got)
}

/// Sends rounds with each of the odd ones in their middle, and says in which the flow overtook itself.
fn keeps_order(at: &RawSocket, cases: &[(Flow, Odd)], way: Way, send: impl Fn(&[Vec<u8>]) -> Result<()>) -> Result<()> {
    // All on one CPU: several would come by several ways, on which veths, unlike NICs, keep no order.
    cpu::pin(0)?;
    let mut faults = String::new();
    for (case, (flow, odd)) in (0..).zip(cases) {
        let mut wrong = Vec::new();
        for round in case * ROUNDS..(case + 1) * ROUNDS {
            send(&way.frames(*flow, *odd, round))?;
            let got = arrivals(at, round)?;
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

fn runs(net: &Lone, program: &str) -> Result<f64> {
    net.agent.metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])
}

/// From the wire into a container. What the peer sends by one call its NIC sends at once.
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
    link::offload(&net.far.ns, Host::NIC, "tx off tso off gso off tx-udp-segmentation off")?;
    let socket = net.far.ns.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(net.far.addr, 0))?))?;
    let to = SocketAddrV4::new(net.host.addr, 4789);
    let vxlan = [&[8, 0, 0, 0][..], &(blue().get() << 8).to_be_bytes()].concat();
    let before = runs(&net, "underlay_xdp")?;
    keeps_order(&net.vm_nic, cases, Way::new(THERE, HERE), |frames| {
        send_segments(&socket, to, &frames.iter().map(|frame| [&vxlan[..], frame].concat()).collect::<Vec<_>>())
    })?;
    let (sent, ran) = (cases.len() as u32 * ROUNDS * FRAMES, runs(&net, "underlay_xdp")? - before);
    ensure!(ran >= sent.into(), "underlay_xdp ran {ran} times for {sent} frames: the test proves nothing");
    Ok(())
}

/// From a container's NIC to the wire, by a port with XDP.
fn out_of_a_container(lab: &Lab, cases: &[(Flow, Odd)]) -> Result<()> {
    let net = start(lab, "packet-rate")?;
    let port = net.agent.port(&net.a.port)?;
    ensure!(port.xdp == Some(true), "{port:?}");
    let valve = Valve::before(&net.a.ns, Vm::NIC)?;
    let before = runs(&net, "port_xdp")?;
    keeps_order(&net.wire, cases, Way::new(HERE, THERE), |frames| {
        valve.close(&net.vm_nic, THERE, HERE)?;
        let (last, waiting) = frames.split_last().context("no frames")?;
        waiting.iter().try_for_each(|frame| net.vm_nic.send(frame))?;
        valve.open()?;
        net.vm_nic.send(last)
    })?;
    let (sent, ran) = (cases.len() as u32 * ROUNDS * FRAMES, runs(&net, "port_xdp")? - before);
    ensure!(ran >= sent.into(), "port_xdp ran {ran} times for {sent} frames: the test proves nothing");
    Ok(())
}

const fn with<const N: usize>(flow: Flow, odd: [Odd; N]) -> [(Flow, Odd); N] {
    let mut cases = [(flow, Odd::Nothing); N];
    let mut i = 0;
    while i < N {
        cases[i].1 = odd[i];
        i += 1;
    }
    cases
}

const FLOODED: [Odd; 4] = [Odd::Nothing, Odd::Broadcast, Odd::Arp, Odd::UnknownUnicast];
const ALL: [Odd; 7] =
    [Odd::Nothing, Odd::Broadcast, Odd::Arp, Odd::UnknownUnicast, Odd::Unsummed, Odd::Corrupted, Odd::Other];

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
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, &with(Flow::Datagrams, ALL)));
}

#[test]
fn tagged_datagrams_out_of_a_packet_rate_container_stay_in_order() {
    let test = "poll::tagged_datagrams_out_of_a_packet_rate_container_stay_in_order";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, &with(Flow::TaggedDatagrams, FLOODED)));
}

#[test]
fn a_connection_into_a_container_stays_in_order() {
    let test = "poll::a_connection_into_a_container_stays_in_order";
    lab::run(test, NEEDS, |lab| into_a_container(lab, Delivery::Xdp, &with(Flow::Tcp, ALL)));
}

#[test]
fn a_connection_out_of_a_packet_rate_container_stays_in_order() {
    let test = "poll::a_connection_out_of_a_packet_rate_container_stays_in_order";
    lab::run(test, NEEDS, |lab| out_of_a_container(lab, &with(Flow::Tcp, ALL)));
}

#[test]
fn flows_into_a_container_that_takes_nothing_from_xdp_stay_in_order() {
    let test = "poll::flows_into_a_container_that_takes_nothing_from_xdp_stay_in_order";
    lab::run(test, NEEDS, |lab| {
        let cases = [with(Flow::Datagrams, ALL), with(Flow::Tcp, ALL)].concat();
        into_a_container(lab, Delivery::Tc, &cases)
    });
}
