//! CONNECT_PULSE: the programs answer at each hook, and note when answers come.

use std::{
    net::{SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use wavnet_common::{
    abi::{Arrival, Count, ExtraPorts, LocalPort},
    addr::{Label, PeerId},
    reason::Reason,
    wire::pulse::{Number, PulseHdr, RelayedPulseHdr},
};
use wavnet_proto::{
    command::HookWish,
    fabric::{Control, PathFrom, PeerPath},
};
use wavnet_tests::lab::{
    self,
    core::{Core, Setup, UDP_PORT, heard, socket},
    host::{Host, VmSpec},
    overlay::{SOON, ip, mac},
    topology::UNDERLAY_MTU,
};
use wavnet_user::datapath::HookMode;

const ID: PeerId = PeerId([9; 32]);
const HOOKS: [(HookWish, HookMode); 3] =
    [(HookWish::Driver, HookMode::Driver), (HookWish::Generic, HookMode::Generic), (HookWish::Tc, HookMode::Tc)];
/// How long is waited for what should not come.
const QUIET: Duration = Duration::from_millis(300);

fn core(lab: &lab::Lab, host: &Host, n: u8, hook: (HookWish, HookMode), both_xdp: bool) -> Result<Core> {
    let vm = host.vm(lab, &VmSpec::new(&format!("v{n}"), mac(n), ip(n)))?;
    let control = Control { open: true, extra_ports: ExtraPorts::new(6000, 8), hold_ifindex: 0 };
    let core = Core::start(lab, host, Setup { hook: hook.0, control, both_xdp, ..Setup::port(&vm.port) })?;
    ensure!(core.datapath().underlay_mode(host.ns.ifindex(Host::NIC)?) == Some(hook.1), "no {hook:?}");
    Ok(core)
}

fn direct(host: &Host, to: LocalPort) -> PeerPath {
    let from = PathFrom::Direct(Arrival::new(SocketAddrV4::new(host.addr, UDP_PORT), to));
    PeerPath { from, peer: Some(ID) }
}

fn silent(socket: &UdpSocket) -> Result<()> {
    match heard(socket, QUIET) {
        Ok((bytes, from)) => anyhow::bail!("{bytes:02x?} from {from}"),
        Err(_) => Ok(()),
    }
}

fn now_ns() -> Result<u64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?).as_nanos() as u64)
}

#[test]
fn pulses_are_answered_and_their_answers_noted_at_every_hook() {
    for hook in HOOKS {
        let test = format!("pulses::pulses_are_answered_and_their_answers_noted_at_every_hook ({:?})", hook.1);
        lab::run(&test, &[], |lab| {
            let hosts = lab.pair(UNDERLAY_MTU)?;
            let mut slots = Vec::new();
            let mut cores = [core(lab, &hosts[0], 1, hook, true)?, core(lab, &hosts[1], 2, hook, true)?];
            for (i, core) in cores.iter_mut().enumerate() {
                slots.push(core.fabric.add_path(direct(&hosts[1 - i], LocalPort::MAIN))?);
                core.settle()?;
            }
            let sockets = [socket(&hosts[0], UDP_PORT)?, socket(&hosts[1], UDP_PORT)?];
            let mut best = u64::MAX;
            for n in 1000..1200 {
                let (number, paths) = (Number::new(n), cores[0].datapath().paths());
                ensure!(paths.pulse_returned(slots[0], number).is_none());
                paths.expect_pulse(slots[0], number);
                let sent = now_ns()?;
                sockets[0].send_to(&PulseHdr::request(number).0.0, SocketAddrV4::new(hosts[1].addr, UDP_PORT))?;
                let start = Instant::now();
                let came = loop {
                    match paths.pulse_returned(slots[0], number) {
                        Some(at) => break at,
                        None => ensure!(start.elapsed() < SOON, "no answer to {number:?}"),
                    }
                };
                ensure!(came > sent && came <= now_ns()?, "sent {sent}, answered {came}");
                best = best.min(came - sent);
                let asked = cores[1].datapath().paths().last_asked(slots[1]).context("the other side noted nothing")?;
                ensure!((sent..=came).contains(&asked), "sent {sent}, seen {asked}, answered {came}");
            }
            println!("{:?}: {best} ns from socket to note", hook.1);
            ensure!(cores[1].count(Count::PulseAnswered)? == 200 && cores[0].count(Count::PulseReturned)? == 200);
            sockets.iter().try_for_each(silent)?;
            Ok(())
        });
    }
}

#[test]
fn only_known_paths_are_answered_and_by_the_way_they_came() {
    for hook in HOOKS {
        let test = format!("pulses::only_known_paths_are_answered_and_by_the_way_they_came ({:?})", hook.1);
        lab::run(&test, &[], |lab| {
            let hosts = lab.pair(UNDERLAY_MTU)?;
            let mut core = core(lab, &hosts[0], 1, hook, false)?;
            let (peer, relay) = (socket(&hosts[1], UDP_PORT)?, socket(&hosts[1], 3478)?);
            let ours = socket(&hosts[0], UDP_PORT)?;
            let to = |port| SocketAddrV4::new(hosts[0].addr, port);
            let [request, answer] = [PulseHdr::request, PulseHdr::answer].map(|pulse| pulse(Number::new(5)).0.0);
            let relayed = |label| RelayedPulseHdr::new(Label::of_word(label), PulseHdr::request(Number::new(6)));
            let returned = |label| RelayedPulseHdr::new(Label::of_word(label), PulseHdr::answer(Number::new(6)));

            // Nobody is known: all of it goes up, and nothing goes back.
            for bytes in [&request[..], &answer, &relayed(7).to_bytes()] {
                peer.send_to(bytes, to(UDP_PORT))?;
                ensure!(heard(&ours, SOON)?.0 == bytes);
            }
            ensure!(core.count(Count::PulseUnknown)? == 3);
            silent(&peer)?;

            core.fabric.add_path(direct(&hosts[1], LocalPort::MAIN))?;
            let at = SocketAddrV4::new(hosts[1].addr, 3478);
            for (label, to) in [(7, LocalPort::MAIN), (8, LocalPort::of_word(4))] {
                let from = PathFrom::Relayed { relay: Arrival::new(at, to), label: Label::of_word(label) };
                core.fabric.add_path(PeerPath { from, peer: Some(ID) })?;
            }
            core.settle()?;
            peer.send_to(&request, to(UDP_PORT))?;
            ensure!(heard(&peer, SOON)? == (answer.to_vec(), to(UDP_PORT)));
            for (label, port) in [(7, UDP_PORT), (8, 6003)] {
                relay.send_to(&relayed(label).to_bytes(), to(port))?;
                ensure!(heard(&relay, SOON)? == (returned(label).to_bytes().to_vec(), to(port)));
            }
            // Longer ones are no pulses, and an answer to nothing is none.
            peer.send_to(&answer, to(UDP_PORT))?;
            for (socket, bytes, port) in
                [(&peer, vec![0, 5, 0], UDP_PORT), (&relay, [&relayed(7).to_bytes()[..], &[0]].concat(), UDP_PORT)]
            {
                socket.send_to(&bytes, to(port))?;
            }
            [&peer, &relay, &ours].into_iter().try_for_each(silent)?;
            // The same from there to another port of ours is somebody else's.
            let extra = socket(&hosts[0], 6003)?;
            relay.send_to(&relayed(8).to_bytes(), to(UDP_PORT))?;
            ensure!(heard(&ours, SOON)?.0 == relayed(8).to_bytes());
            peer.send_to(&request, to(6003))?;
            ensure!(heard(&extra, SOON)?.0 == request);
            [&peer, &relay].into_iter().try_for_each(silent)?;
            ensure!(core.count(Count::PulseAnswered)? == 3 && core.count(Count::PulseReturned)? == 0);
            ensure!(core.drops(Reason::PulseStray)? == 1 && core.count(Count::PulseUnknown)? == 5);
            // Without anybody to ask, unknown ones are dropped.
            relay.send_to(&relayed(9).to_bytes(), to(UDP_PORT))?;
            ensure!(heard(&ours, SOON)?.0 == relayed(9).to_bytes());
            core.fabric.set_control(Control::default());
            core.settle()?;
            relay.send_to(&relayed(9).to_bytes(), to(UDP_PORT))?;
            silent(&ours)?;
            Ok(())
        });
    }
}

#[test]
fn extra_ports_are_for_dynamic_peers_alone() {
    lab::run("pulses::extra_ports_are_for_dynamic_peers_alone", &[], |lab| {
        let hosts = lab.pair(UNDERLAY_MTU)?;
        let mut core = core(lab, &hosts[0], 1, HOOKS[0], false)?;
        core.fabric.add_path(direct(&hosts[1], LocalPort::of_word(4)))?;
        core.settle()?;
        let (peer, outside) = (socket(&hosts[1], UDP_PORT)?, socket(&hosts[0], 6008)?);
        let pulse = PulseHdr::request(Number::new(5)).0.0;
        peer.send_to(&pulse, SocketAddrV4::new(hosts[0].addr, 6003))?;
        ensure!(heard(&peer, SOON)?.1.port() == 6003);
        peer.send_to(&pulse, SocketAddrV4::new(hosts[0].addr, 6008))?;
        ensure!(heard(&outside, SOON)?.0 == pulse, "port 6008 is none of ours");
        Ok(())
    });
}
