//! XDP on ports, with real sockets and real taps: no checksum is wrong that was right, none right that was wrong, and no flow overtakes
//! itself.

use std::{
    mem::offset_of,
    net::{SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use nix::sys::socket::{setsockopt, sockopt};
use wavnet_common::{
    abi::{Port, PortFlags, map},
    addr::Mac,
    reason::Reason,
};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    counters,
    frame::{IPV4, checksum, ethernet, udp4},
    host::{Host, Vm, VmSpec},
    netns::Netns,
    overlay::{SOON, blue, ip, mac},
    ping,
    raw::RawSocket,
    stream,
    super_packet::{Kind, SuperPacket},
    taps::{TapShape, Taps},
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
    wait_until,
};
use wavnet_user::api::model::PortMode;

/// Runs of a program so far.
fn runs(agent: &Agent, program: &str) -> Result<f64> {
    agent.metric("wavnet_program_runs_total", &[&format!("program=\"{program}\"")])
}

/// Two hypervisors with a VM each.
struct Net {
    agents: [Agent; 2],
    hosts: [Host; 2],
    vms: [Vm; 2],
}

impl Net {
    fn start(lab: &Lab) -> Result<Net> {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let vm = |i: usize, name| hosts[i].vm(lab, &VmSpec::new(name, mac(i as u8 + 1), ip(i as u8 + 1)));
        let vms = [vm(0, "a")?, vm(1, "b")?];
        let start = |i: usize| Agent::start(lab, &hosts[i], &Net::config(&hosts, &vms, i, "auto"));
        let agents = [start(0)?, start(1)?];
        for agent in &agents {
            agent.wait_ready()?;
        }
        ping::once(&vms[0].ns, ip(2), 56, SOON)?;
        Ok(Net { agents, hosts, vms })
    }

    fn config(hosts: &[Host; 2], vms: &[Vm; 2], i: usize, mode: &str) -> AgentConfig {
        let config = AgentConfig::new(&[blue()]).port_mode(&vms[i].port, blue(), mode);
        config.peer(hosts[1 - i].addr, &[blue()]).metrics("program_run_time = true")
    }

    /// By a reload, while the VMs run.
    fn set_mode(&self, i: usize, mode: &str) -> Result<()> {
        self.agents[i].write_config(&Net::config(&self.hosts, &self.vms, i, mode))?;
        self.agents[i].reload()?;
        Ok(())
    }
}

/// Sends datagrams of these sizes, numbered, and sees them arrive in order, so many on their way at a time.
fn exchange(from: &Netns, to: &Netns, sizes: &[usize], count: u32) -> Result<()> {
    const WINDOW: u32 = 24;
    const PORT: u16 = 7000;
    let receiver = to.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(ip(2), PORT))?))?;
    let sender = from.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(ip(1), 0))?))?;
    sender.connect(SocketAddrV4::new(ip(2), PORT))?;
    receiver.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut sent, mut buffer) = (0, vec![0; 65_536]);
    for wanted in 0..count {
        while sent < count && sent - wanted < WINDOW {
            let mut payload = vec![0x5a; sizes[sent as usize % sizes.len()].max(4)];
            payload[..4].copy_from_slice(&sent.to_be_bytes());
            sender.send(&payload).with_context(|| format!("datagram {sent}"))?;
            sent += 1;
        }
        let length =
            receiver.recv(&mut buffer).with_context(|| format!("waiting for datagram {wanted} of {sent} sent"))?;
        let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        ensure!(number == wanted, "datagram {number} came where {wanted} should have come");
        ensure!(length == sizes[wanted as usize % sizes.len()].max(4), "datagram {number} has {length} bytes");
    }
    Ok(())
}

#[test]
fn datagrams_of_packet_rate_ports_arrive_whole_and_in_order() {
    const TEST: &str = "express::datagrams_of_packet_rate_ports_arrive_whole_and_in_order";
    lab::run(TEST, &[Need::Wavnet], |lab| {
        let net = Net::start(lab)?;
        let [a, b] = [&net.vms[0].ns, &net.vms[1].ns];
        for i in 0..2 {
            net.set_mode(i, "packet-rate")?;
            let port = net.agents[i].port(&net.vms[i].port)?;
            ensure!(port.xdp == Some(true) && port.mode == PortMode::PacketRate, "{port:?}");
        }
        ping::once(a, ip(2), 56, SOON)?;
        let before = (runs(&net.agents[0], "port_xdp")?, runs(&net.agents[0], "port_tc")?);
        // Small, odd, full.
        exchange(a, b, &[4, 5, 64, 333, 700, 1472], 3000)?;
        let (xdp, tc) = (runs(&net.agents[0], "port_xdp")? - before.0, runs(&net.agents[0], "port_tc")? - before.1);
        ensure!(xdp >= 3000.0 && tc < 100.0, "{xdp} runs in XDP, {tc} in TC");
        // With fragments between them, which XDP carries, too.
        exchange(a, b, &[64, 3000, 5, 1472, 4000], 1500)?;
        ensure!(counters::protocol(b, "Udp", "InCsumErrors")? == 0, "checksums were wrong");
        ensure!(counters::protocol(b, "Udp", "InErrors")? == 0, "datagrams were refused");
        // TCP goes on by TC.
        stream::bulk(b, ip(2), a, 20 << 20)?;
        net.set_mode(0, "auto")?;
        ensure!(net.agents[0].port(&net.vms[0].port)?.xdp == Some(false), "XDP stays");
        exchange(a, b, &[64], 100)
    });
}

/// Taps in packet-rate mode.
const TAPS: TapShape<'_> = TapShape { mode: "packet-rate", ..TapShape::PLAIN };

/// What arrives at the far tap before a frame that is sent now.
fn arrived(taps: &Taps) -> Result<Vec<Vec<u8>>> {
    arrived_at(taps, &taps.far, Taps::FAR)
}

fn arrived_at(taps: &Taps, tap: &VnetTap, dst: Mac) -> Result<Vec<Vec<u8>>> {
    let frames = taps.received(tap, dst)?.into_iter().map(|(header, frame)| {
        ensure!(header.flags & VnetHdr::NEEDS_CSUM == 0, "a checksum is not complete: {header:?}");
        ensure!(header.gso_type == 0, "a super-packet: {header:?}");
        Ok(frame)
    });
    frames.collect()
}

/// A datagram with its checksum left to others: what the guest's driver hands over, and the frame that it must become.
fn datagram(payload: usize) -> (VnetHdr, Vec<u8>, Vec<u8>) {
    datagram_to(Taps::FAR, payload)
}

fn datagram_to(dst: Mac, payload: usize) -> (VnetHdr, Vec<u8>, Vec<u8>) {
    let packet = SuperPacket { kind: Kind::Udp4, dst, src: Taps::NEAR, tag: None, payload, segment: payload.max(1) };
    let (header, frame) = packet.handed_over();
    let header = VnetHdr { gso_type: 0, gso_size: 0, ..header };
    let whole = packet.segments().pop().unwrap_or_else(|| frame.clone());
    (header, frame, whole)
}

#[test]
fn checksums_of_a_tap_are_completed_whoever_completes_them() {
    const TEST: &str = "express::checksums_of_a_tap_are_completed_whoever_completes_them";
    lab::run(TEST, &[Need::Wavnet], |lab| {
        let taps = Taps::start(lab, TAPS)?;
        // A writer that waits gets its frames to XDP as packets, beside which there may be more; those are TC's.
        for (waiting, by_tc) in [(false, 0), (true, 800)] {
            taps.near.set_waiting(waiting)?;
            let before = (taps.runs("port_xdp")?, taps.runs("port_tc")?);
            let mut wanted = Vec::new();
            for n in 0..400 {
                let (header, frame, whole) = datagram(1 + n * 13 % 1472);
                taps.near.send(&header, &frame)?;
                taps.near.send(&VnetHdr::default(), &whole)?;
                wanted.extend([whole.clone(), whole]);
                if n % 50 == 49 {
                    let arrived = arrived(&taps)?;
                    ensure!(
                        arrived == wanted,
                        "waiting {waiting}: {} frames arrived of {}",
                        arrived.len(),
                        wanted.len()
                    );
                    wanted.clear();
                }
            }
            let ran = (taps.runs("port_xdp")? - before.0, taps.runs("port_tc")? - before.1);
            ensure!(ran.0 >= 800.0, "{} runs in XDP", ran.0);
            // The fences, and whatever the kernel itself sends.
            ensure!((by_tc as f64..by_tc as f64 + 60.0).contains(&ran.1), "waiting {waiting}: {} runs in TC", ran.1);
        }
        Ok(())
    });
}

#[test]
fn corrupted_datagrams_of_a_tap_stay_corrupted() {
    lab::run("express::corrupted_datagrams_of_a_tap_stay_corrupted", &[Need::Wavnet], |lab| {
        let taps = Taps::start(lab, TAPS)?;
        let (_, _, whole) = datagram(200);
        let mut sent = Vec::new();
        for byte in [40, 41, 42, 100, 241] {
            let mut frame = whole.clone();
            frame[byte] ^= 0x40;
            taps.near.send(&VnetHdr::default(), &frame)?;
            sent.push(frame);
        }
        // One without a checksum stays without.
        let mut bare = whole;
        bare[40..42].fill(0);
        taps.near.send(&VnetHdr::default(), &bare)?;
        sent.push(bare);
        ensure!(arrived(&taps)? == sent, "frames were changed");
        Ok(())
    });
}

/// From a container: among right ones, to a socket, which gets the right ones, and whose kernel finds the others wrong.
#[test]
fn corrupted_datagrams_of_a_packet_rate_container_stay_corrupted() {
    const TEST: &str = "express::corrupted_datagrams_of_a_packet_rate_container_stay_corrupted";
    lab::run(TEST, &[Need::Wavnet], |lab| {
        let net = Net::start(lab)?;
        net.set_mode(0, "packet-rate")?;
        let port = net.agents[0].port(&net.vms[0].port)?;
        ensure!(port.xdp == Some(true), "{port:?}");
        let [a, b] = [&net.vms[0].ns, &net.vms[1].ns];
        let [from, to] = [SocketAddrV4::new(ip(1), 9000), SocketAddrV4::new(ip(2), 7000)];
        let receiver = b.enter(|| Ok(UdpSocket::bind(to)?))?;
        receiver.set_read_timeout(Some(SOON))?;
        // Room for all of them.
        setsockopt(&receiver, sockopt::RcvBufForce, &(8 << 20))?;
        let (near, far) = (RawSocket::open(a, Vm::NIC)?, RawSocket::open(b, Vm::NIC)?);
        let before = (runs(&net.agents[0], "port_xdp")?, runs(&net.agents[0], "port_tc")?);
        let (mut sent, mut good, mut wrong) = (vec![], vec![], 0);
        let mut send = |frame: Vec<u8>| -> Result<()> {
            near.send(&frame)?;
            sent.push(frame);
            Ok(())
        };
        for n in 0..120_usize {
            let payload = [&(n as u32).to_be_bytes()[..], &vec![0x5a; 20 + n * 11]].concat();
            let whole = ethernet(mac(2), mac(1), IPV4, &udp4(from, to, &payload));
            send(whole.clone())?;
            // Of the checksum, the first and last of what it covers, and in the middle: each changes the sum.
            let byte = [40, 41, 42, 50, whole.len() - 1][n % 5];
            let mut frame = whole.clone();
            frame[byte] ^= 1 << (n % 8);
            send(frame)?;
            wrong += 1;
            good.push(payload.clone());
            if n % 4 == 0 {
                // One without a checksum stays without.
                let mut bare = whole;
                bare[40..42].fill(0);
                send(bare)?;
                good.push(payload);
            }
        }
        let mut buffer = [0; 2000];
        for (n, payload) in good.iter().enumerate() {
            let length = receiver.recv(&mut buffer).with_context(|| format!("datagram {n}, which is right"))?;
            ensure!(buffer[..length] == payload[..], "datagram {n} has other contents");
        }
        // The kernel looks when it is to hand them over.
        receiver.set_nonblocking(true)?;
        wait_until("the wrong ones to be found", SOON, || {
            ensure!(receiver.recv(&mut buffer).is_err(), "a wrong one was taken for right");
            Ok(counters::protocol(b, "Udp", "InCsumErrors")? >= wrong)
        })?;
        let arrived = far.drain(|frame| frame[6..12] == mac(1).0 && frame[34..36] == 9000_u16.to_be_bytes())?;
        ensure!(arrived == sent, "{} frames arrived of {}, or were changed", arrived.len(), sent.len());
        let found = counters::protocol(b, "Udp", "InCsumErrors")?;
        ensure!(found == wrong, "the kernel found {found} of {wrong} wrong");
        // XDP carried the right ones, TC what XDP must not say anything of.
        let (xdp, tc) = (runs(&net.agents[0], "port_xdp")? - before.0, runs(&net.agents[0], "port_tc")? - before.1);
        let others = sent.len() as f64 - 120.0;
        ensure!(xdp >= sent.len() as f64, "{xdp} runs in XDP");
        ensure!((others..others + 40.0).contains(&tc), "{tc} runs in TC for {others} such datagrams");
        Ok(())
    });
}

/// A VM says of what is a whole datagram in every byte that it is many: the kernel must not send it so past its own checks.
#[test]
fn a_super_packet_in_a_frames_clothes_goes_nowhere() {
    lab::run("express::a_super_packet_in_a_frames_clothes_goes_nowhere", &[Need::Wavnet], |lab| {
        let taps = Taps::start(lab, TAPS)?;
        let hidden = || taps.agents[0].drops(Reason::HiddenOffload);
        for (dst, tap) in [(Taps::FAR, &taps.far), (Taps::BESIDE, &taps.beside)] {
            let (before, mut wanted) = (hidden()?, Vec::new());
            for n in 0..40 {
                let (partial, frame, whole) = datagram_to(dst, 100 + n);
                let many = VnetHdr { gso_type: VnetHdr::UDP_L4, gso_size: 32, ..partial };
                // With a right checksum, and with one to be completed.
                taps.near.send(&many, if n % 2 == 0 { &whole } else { &frame })?;
                // Honest ones between them.
                taps.near.send(&partial, &frame)?;
                taps.near.send(&VnetHdr::default(), &whole)?;
                wanted.extend([whole.clone(), whole]);
            }
            let arrived = arrived_at(&taps, tap, dst)?;
            ensure!(arrived == wanted, "{} frames arrived of {}", arrived.len(), wanted.len());
            ensure!(hidden()? - before == 40, "{} were dropped for it", hidden()? - before);
        }
        Ok(())
    });
}

/// The agent has told its programs that a VM may send super-packets of datagrams.
fn sends_super_packets(agent: &Agent) -> Result<bool> {
    const SLOTS: u32 = 8;
    let pinned = Map::Array(MapData::from_pin(agent.pins().join("maps").join(map::PORTS))?);
    let ports: Array<MapData, [u8; size_of::<Port>()]> = pinned.try_into()?;
    for slot in 0..SLOTS {
        let port = ports.get(&slot, 0)?;
        let at = offset_of!(Port, flags);
        if u16::from_ne_bytes([port[at], port[at + 1]]) & PortFlags::DATAGRAM_GSO != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Super-packets of datagrams between single ones of the same flow: XDP carries neither, once it knows.
#[test]
fn datagrams_and_their_super_packets_stay_in_order() {
    lab::run("express::datagrams_and_their_super_packets_stay_in_order", &[Need::Wavnet], |lab| {
        let taps = Taps::start(lab, TAPS)?;
        taps.near.take(VnetTap::ALL_OFFLOADS)?;
        wait_until("the agent to hear of it", SOON, || sends_super_packets(&taps.agents[0]))?;
        let mut wanted = Vec::new();
        for n in 0..200 {
            let (header, frame, whole) = datagram(10 + n);
            taps.near.send(&header, &frame)?;
            wanted.push(whole);
            // Some shorter than a frame may be, some longer.
            let (payload, segment) = [(900, 300), (9000, 1000), (64, 32)][n % 3];
            let packet = SuperPacket { kind: Kind::Udp4, dst: Taps::FAR, src: Taps::NEAR, tag: None, payload, segment };
            let (header, frame) = packet.handed_over();
            taps.near.send(&header, &frame)?;
            wanted.extend(packet.segments());
            if n % 10 == 9 {
                let arrived = arrived(&taps)?;
                ensure!(arrived.len() == wanted.len(), "{} frames arrived of {}", arrived.len(), wanted.len());
                for (i, (arrived, wanted)) in arrived.iter().zip(&wanted).enumerate() {
                    ensure!(arrived == wanted, "frame {i} of round {n} is another");
                    ensure!(checksum(&arrived[14..34]) == 0, "frame {i} has a wrong IP checksum");
                }
                wanted.clear();
            }
        }
        Ok(())
    });
}
