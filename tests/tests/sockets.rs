//! What a VM's process sends by one UDP socket arrives in order and whole, though the kernel carries some of it as super-packets (UDP
//! segmentation offload, `UDP_SEGMENT`) and some as single datagrams.

use std::{
    collections::VecDeque,
    net::{SocketAddrV4, UdpSocket},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    burst::send_cut,
    config::AgentConfig,
    counters, cpu,
    host::{Vm, VmSpec},
    netns::Netns,
    overlay::{blue, ip, mac},
    ping,
    topology::UNDERLAY_MTU,
    vnet::VnetTap,
};

const NEEDS: &[Need] = &[Need::Wavnet];
/// All datagrams of a mix.
const COUNT: usize = 6000;
/// Of them on their way at a time: fewer than any queue on the way has room for.
const WINDOW: usize = 96;
/// What a single datagram has room for.
const LONGEST: usize = 1472;
const PORT: u16 = 7000;

/// Numbers at random (xorshift64).
struct Dice(u64);

impl Dice {
    /// Says which, so that a failure can be had again.
    fn new() -> Result<Dice> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let seed = now.as_nanos() as u64 | 1;
        println!("seed {seed}");
        Ok(Dice(seed))
    }

    /// From `low` up to `high`, both included.
    fn throw(&mut self, low: usize, high: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        low + (self.0 % (high - low + 1) as u64) as usize
    }
}

/// A datagram's bytes: its number, and what follows from it.
fn payload(number: usize, length: usize) -> Vec<u8> {
    let pattern = (0..length - 4).map(|i| ((number * 31 + i) % 251) as u8);
    (number as u32).to_be_bytes().into_iter().chain(pattern).collect()
}

/// Lengths of the datagrams that the next call sends: one, or some that are equal but for the last.
fn next_lengths(dice: &mut Dice) -> Vec<usize> {
    if dice.throw(0, 1) == 0 {
        return vec![dice.throw(4, LONGEST)];
    }
    // Short ones, whose super-packets are no longer than a frame may be, as often as long ones.
    let each = if dice.throw(0, 1) == 0 { dice.throw(8, 70) } else { dice.throw(71, LONGEST) };
    let mut lengths = vec![each; dice.throw(3, 20)];
    if let Some(last) = lengths.last_mut() {
        *last = dice.throw(4, each);
    }
    lengths
}

/// The receiver's side of a mix.
struct Sink {
    socket: UdpSocket,
    /// Lengths of what is on its way.
    expected: VecDeque<usize>,
    received: usize,
}

impl Sink {
    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 65_536];
        let n = self.received;
        let length = self.expected.pop_front().context("nothing is on its way")?;
        let got = self.socket.recv(&mut buffer).with_context(|| format!("waiting for datagram {n} of {length} B"))?;
        let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        ensure!(number as usize == n, "datagram {number} came where {n} should have come");
        ensure!(got == length, "datagram {n} has {got} B, not {length}");
        ensure!(buffer[..got] == payload(n, got), "datagram {n} has other contents");
        self.received += 1;
        Ok(())
    }
}

/// Sends the mix by one socket. Gives how many calls sent many.
fn mix(from: &Netns, to: &Netns) -> Result<usize> {
    let mut dice = Dice::new()?;
    let place = SocketAddrV4::new(ip(2), PORT);
    let socket = to.enter(|| Ok(UdpSocket::bind(place)?))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20))?;
    let mut sink = Sink { socket, expected: VecDeque::new(), received: 0 };
    let sender = from.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(ip(1), 0))?))?;
    let (mut sent, mut many) = (0, 0);
    while sent < COUNT {
        let lengths = next_lengths(&mut dice);
        while sink.expected.len() + lengths.len() > WINDOW {
            sink.receive()?;
        }
        let bytes: Vec<u8> = lengths.iter().zip(sent..).flat_map(|(length, n)| payload(n, *length)).collect();
        // One that fits into a segment goes as a datagram like any other.
        send_cut(&sender, place, &bytes, lengths[0]).with_context(|| format!("datagram {sent} of {lengths:?}"))?;
        sent += lengths.len();
        many += usize::from(lengths.len() > 1);
        sink.expected.extend(lengths);
    }
    while !sink.expected.is_empty() {
        sink.receive()?;
    }
    Ok(many)
}

fn runs(agent: &Agent, program: &str) -> Result<f64> {
    agent.metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])
}

/// How the sending VM is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nic {
    Veth,
    /// Its machine and its hypervisor take super-packets of datagrams.
    Tap,
}

fn arrives_in_order(lab: &Lab, nic: Nic, mode: &str) -> Result<()> {
    let hosts = lab.pair_by(UNDERLAY_MTU, 1)?;
    let spec = VmSpec::new("a", mac(1), ip(1));
    // What writes to a tap keeps to a CPU, as veths, unlike NICs, keep no order of what several send.
    let first = || cpu::pin(1).map(drop);
    let a = match nic {
        Nic::Veth => hosts[0].vm(lab, &spec)?,
        Nic::Tap => hosts[0].vnet_vm_that_takes(lab, &spec, VnetTap::ALL_OFFLOADS, first)?.0,
    };
    let b = hosts[1].vm(lab, &VmSpec::new("b", mac(2), ip(2)))?;
    let start = |i: usize, vm: &Vm, mode: &str| {
        let config = AgentConfig::new(&[blue()]).port_mode(&vm.port, blue(), mode);
        Agent::start(lab, &hosts[i], &config.peer(hosts[1 - i].addr, &[blue()]).metrics("program_run_time = true"))
    };
    let agents = [start(0, &a, mode)?, start(1, &b, "auto")?];
    for agent in &agents {
        agent.wait_ready()?;
    }
    let port = agents[0].port(&a.port)?;
    ensure!(port.xdp == Some(mode == "packet-rate"), "{port:?}");
    ping::once(&a.ns, ip(2), 56, Duration::from_secs(15))?;

    cpu::pin(0)?;
    let count = |program| runs(&agents[0], program);
    let before = (count("port_xdp").unwrap_or(0.0), count("port_tc")?, counters::sent(&a.ns, Vm::NIC)?);
    let many = mix(&a.ns, &b.ns)?;
    let packets = counters::sent(&a.ns, Vm::NIC)? - before.2;
    let (xdp, tc) = (count("port_xdp").unwrap_or(0.0) - before.0, count("port_tc")? - before.1);
    println!("{nic:?}, {mode}: {many} calls sent many, {packets} packets, {xdp} runs in XDP, {tc} in TC");

    for name in ["InCsumErrors", "InErrors"] {
        let errors = counters::protocol(&b.ns, "Udp", name)?;
        ensure!(errors == 0, "{errors} {name} of UDP where they arrived");
    }
    for agent in &agents {
        ensure!(agent.dropped()? == 0, "frames were dropped: {}", agent.cli("drops")?);
    }
    // Otherwise the test proves nothing.
    ensure!(many > 100, "only {many} calls sent many");
    if nic == Nic::Veth && mode == "packet-rate" {
        // The kernel cuts them apart before such a port.
        ensure!(xdp >= COUNT as f64, "{xdp} runs in XDP for {COUNT} datagrams");
    } else {
        ensure!(packets < COUNT as u64 / 2, "{packets} packets for {COUNT} datagrams");
        ensure!(tc >= many as f64, "{tc} runs in TC for {many} super-packets");
    }
    Ok(())
}

#[test]
fn super_packets_and_datagrams_of_a_packet_rate_container_arrive_in_order() {
    let test = "sockets::super_packets_and_datagrams_of_a_packet_rate_container_arrive_in_order";
    lab::run(test, NEEDS, |lab| arrives_in_order(lab, Nic::Veth, "packet-rate"));
}

#[test]
fn super_packets_and_datagrams_of_a_container_arrive_in_order() {
    let test = "sockets::super_packets_and_datagrams_of_a_container_arrive_in_order";
    lab::run(test, NEEDS, |lab| arrives_in_order(lab, Nic::Veth, "auto"));
}

#[test]
fn super_packets_and_datagrams_of_a_packet_rate_tap_arrive_in_order() {
    let test = "sockets::super_packets_and_datagrams_of_a_packet_rate_tap_arrive_in_order";
    lab::run(test, NEEDS, |lab| arrives_in_order(lab, Nic::Tap, "packet-rate"));
}

#[test]
fn super_packets_and_datagrams_of_a_tap_arrive_in_order() {
    let test = "sockets::super_packets_and_datagrams_of_a_tap_arrive_in_order";
    lab::run(test, NEEDS, |lab| arrives_in_order(lab, Nic::Tap, "throughput"));
}
