//! XDP on taps that comes and goes with what the VM sends.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use wavnet_common::{
    abi::{PortFlags, map},
    addr::Mac,
};
use wavnet_tests::lab::{
    self, Lab, Need,
    agent::Agent,
    config::AgentConfig,
    frame::{has_mark, marked},
    host::Host,
    overlay::{SOON, blue},
    poll_until,
    programs::Programs,
    super_packet::{Kind, SuperPacket},
    topology::UNDERLAY_MTU,
    vnet::{VnetHdr, VnetTap},
    wait_until,
};
use wavnet_user::api::model::AttachState;

const NEEDS: &[Need] = &[Need::Wavnet];
const NEAR: Mac = Mac([2, 0, 0, 0, 0, 1]);
const FAR: Mac = Mac([2, 0, 0, 0, 0, 2]);
const TAP: &str = "tap-n";

/// Two hypervisors with a tap each, of which the test is the VMs.
struct Net {
    hosts: [Host; 2],
    agents: [Agent; 2],
    near: VnetTap,
    far: VnetTap,
}

impl Net {
    fn start(lab: &Lab) -> Result<Net> {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let near = VnetTap::create(&hosts[0].ns, TAP, 1500, false)?;
        let far = VnetTap::create(&hosts[1].ns, "tap-f", 1500, false)?;
        let start = |i: usize, mode| Agent::start(lab, &hosts[i], &config(&hosts, i, mode));
        let agents = [start(0, "auto")?, start(1, "throughput")?];
        agents[0].wait_ready()?;
        agents[1].wait_ready()?;
        agents[0].wait_port(TAP, AttachState::Attached)?;
        agents[1].wait_port("tap-f", AttachState::Attached)?;
        Ok(Net { hosts, agents, near, far })
    }

    fn has_xdp(&self) -> Result<bool> {
        self.agents[0].port(TAP)?.xdp.context("not attached")
    }

    /// Sends datagrams, numbered, and super-packets between them if asked for, until `done`; all must arrive, in order. How many.
    fn exchange(&self, super_packets: &AtomicBool, mut done: impl FnMut() -> Result<bool>) -> Result<u64> {
        const WINDOW: u64 = 48;
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        let all = AtomicU64::new(u64::MAX);
        thread::scope(|scope| {
            let sending = scope.spawn(|| -> Result<()> {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    if number - received.load(Ordering::Relaxed).min(number) < WINDOW {
                        self.near.send(&VnetHdr::default(), &numbered(number))?;
                        number += 1;
                        if super_packets.load(Ordering::Relaxed) && number % 4 == 0 {
                            let (header, frame) = bulk().handed_over();
                            self.near.send(&header, &frame)?;
                        }
                    } else {
                        thread::yield_now();
                    }
                }
                all.store(number, Ordering::Relaxed);
                Ok(())
            });
            let receiving = scope.spawn(|| -> Result<u64> {
                let (mut next, mut last) = (0, Instant::now());
                while next < all.load(Ordering::Relaxed) {
                    match self.far.recv()? {
                        Some((_, frame)) if has_mark(&frame, "number") => {
                            ensure!(frame == numbered(next), "another frame came in the place of {next}");
                            next += 1;
                            received.store(next, Ordering::Relaxed);
                            last = Instant::now();
                        }
                        Some(_) => {}
                        None => {
                            ensure!(last.elapsed() < SOON, "{next} was lost");
                            thread::yield_now();
                        }
                    }
                }
                Ok(next)
            });
            let waited = loop {
                match done() {
                    Ok(false) if !receiving.is_finished() => thread::sleep(Duration::from_millis(50)),
                    end => break end,
                }
            };
            stop.store(true, Ordering::Relaxed);
            sending.join().expect("the sender runs to its end")?;
            let got = receiving.join().expect("the receiver runs to its end")?;
            waited?;
            Ok(got)
        })
    }
}

fn config(hosts: &[Host; 2], i: usize, mode: &str) -> AgentConfig {
    let config = AgentConfig::new(&[blue()]).port_mode("tap-*", blue(), mode).peer(hosts[1 - i].addr, &[blue()]);
    match i {
        0 => config.static_peer(blue(), FAR, hosts[1].addr),
        _ => config.static_port(blue(), FAR, "tap-f"),
    }
}

/// A datagram with a right checksum.
fn numbered(number: u64) -> Vec<u8> {
    let packet = SuperPacket { kind: Kind::Udp4, dst: FAR, src: NEAR, tag: None, payload: 80, segment: 80 };
    let mut frame = packet.segments().swap_remove(0);
    let payload = 42;
    frame[payload..payload + 8].copy_from_slice(&number.to_be_bytes());
    frame[payload + 8..payload + 14].copy_from_slice(b"number");
    frame[40..42].fill(0);
    let sum =
        wavnet_tests::lab::frame::transport_checksum([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, &frame[34..]);
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn bulk() -> SuperPacket {
    SuperPacket { kind: Kind::Tcp4, dst: FAR, src: NEAR, tag: None, payload: 4000, segment: 1400 }
}

#[test]
fn xdp_comes_and_goes_and_no_datagram_overtakes_another() {
    lab::run("adaptive::xdp_comes_and_goes_and_no_datagram_overtakes_another", NEEDS, |lab| {
        let mut net = Net::start(lab)?;
        ensure!(!net.has_xdp()?, "XDP before anything was sent");
        let (bulk, end) = (AtomicBool::new(false), Instant::now() + 3 * SOON);
        let mut switches = Vec::new();
        // To it, away from it, and to it again, and for some looks more.
        let total = net.exchange(&bulk, || {
            let xdp = net.has_xdp()?;
            if xdp != (switches.len() % 2 == 1) {
                switches.push(Instant::now());
                bulk.store(xdp && switches.len() < 3, Ordering::Relaxed);
            }
            ensure!(Instant::now() < end, "XDP {xdp} after {} switches", switches.len());
            Ok(switches.len() == 3 && switches[2].elapsed() > Duration::from_secs(1))
        })?;
        println!("{total} datagrams, in order");
        ensure!(net.agents[0].metric("wavnet_port_xdp", &[&format!("port=\"{TAP}\"")])? == 1.0);
        let log = net.agents[0].log();
        for words in ["the port gets XDP: it sends mostly datagrams", "the port loses XDP: it sends super-packets"] {
            ensure!(log.contains(words), "not in the log: {words}\n{log}");
        }

        // The next agent keeps it, and nothing is lost meanwhile.
        net.agents[0].terminate()?;
        net.agents[0].launch()?;
        net.agents[0].wait_ready()?;
        ensure!(net.has_xdp()?, "the next agent has taken XDP away");
        net.exchange(&AtomicBool::new(false), || Ok(true))?;
        // By a reload it goes at once.
        net.agents[0].write_config(&config(&net.hosts, 0, "throughput"))?;
        net.agents[0].reload()?;
        ensure!(!net.has_xdp()?, "XDP in spite of the mode");
        net.agents[0].write_config(&config(&net.hosts, 0, "packet-rate"))?;
        net.agents[0].reload()?;
        ensure!(net.has_xdp()?, "no XDP in spite of the mode");
        net.agents[0].write_config(&config(&net.hosts, 0, "auto"))?;
        net.agents[0].reload()?;
        net.agents[0].cli("down")?;
        let link = net.hosts[0].ns.ip(&format!("-details link show dev {TAP}"))?;
        ensure!(!link.contains("xdp"), "{link}");
        Ok(())
    });
}

#[test]
fn a_tap_whose_xdp_is_refused_goes_on_without() {
    lab::run("adaptive::a_tap_whose_xdp_is_refused_goes_on_without", NEEDS, |lab| {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let near = VnetTap::create(&hosts[0].ns, TAP, 1500, false)?;
        let far = VnetTap::create(&hosts[1].ns, "tap-f", 1500, false)?;
        let mut occupant = Programs::load()?;
        occupant.occupy(&hosts[0].ns, TAP)?;
        let start = |i: usize| Agent::start(lab, &hosts[i], &config(&hosts, i, "packet-rate"));
        let agents = [start(0)?, start(1)?];
        agents[0].wait_ready()?;
        agents[1].wait_port("tap-f", AttachState::Attached)?;
        let port = agents[0].wait_port(TAP, AttachState::Attached)?;
        ensure!(port.xdp == Some(false), "{port:?}");
        ensure!(flags(&agents[0], port.ifindex)? & PortFlags::XDP == 0, "the programs believe that there is XDP");
        let words = format!("the kernel refuses XDP on port {TAP};");
        let warns = |agent: &Agent| anyhow::Ok(agent.status()?.warnings.iter().any(|w| w.starts_with(&words)));
        ensure!(warns(&agents[0])?, "{:?}", agents[0].status()?.warnings);
        near.send(&VnetHdr::default(), &marked(FAR, NEAR, "by TC"))?;
        poll_until("the frame", SOON, || {
            ensure!(far.recv()?.is_some_and(|(_, frame)| has_mark(&frame, "by TC")), "another frame");
            Ok(())
        })?;
        wait_until("the log to say so", SOON, || Ok(agents[0].log().contains(&words)))?;
        ensure!(agents[0].log().matches(&words).count() == 1, "more than once: {}", agents[0].log());
        // A reload tries again.
        drop(occupant);
        agents[0].reload()?;
        ensure!(agents[0].port(TAP)?.xdp == Some(true) && !warns(&agents[0])?, "{:?}", agents[0].status()?.warnings);
        ensure!(flags(&agents[0], port.ifindex)? & PortFlags::XDP != 0, "the programs do not know of XDP");
        Ok(())
    });
}

/// What the programs know of a port.
fn flags(agent: &Agent, ifindex: Option<u32>) -> Result<u16> {
    let pinned = MapData::from_pin(agent.pins().join("maps").join(map::PORTS))?;
    let ports: Array<_, [u32; 4]> = Map::Array(pinned).try_into()?;
    for port in ports.iter() {
        let [index, _, vni_and_flags, _] = port?;
        if Some(index) == ifindex {
            return Ok(u16::from_ne_bytes([vni_and_flags.to_ne_bytes()[2], vni_and_flags.to_ne_bytes()[3]]));
        }
    }
    anyhow::bail!("no port on interface {ifindex:?}")
}
