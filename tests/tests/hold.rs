//! Frames that are held back and sent on arrive in order with those before and after them.

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use wavnet_common::{
    abi::{Arrival, Count, Endpoint, Hold, LocalPort},
    addr::{Mac, PeerId},
    datapath::held_for,
};
use wavnet_proto::{
    command::PeerKey,
    fabric::{Control, PathFrom, PeerPath, PortMode},
};
use wavnet_tests::lab::{
    self, Lab,
    core::{Core, Setup, UDP_PORT},
    frame::{has_mark, marked},
    host::{Host, Vm, VmSpec},
    numbered::{Numbered, Tally},
    overlay::{SOON, blue, ip, mac},
    ping,
    raw::RawSocket,
    stream,
    tap::Tap,
    topology::UNDERLAY_MTU,
    wait_until,
};

/// Two hosts back to back that are dynamic peers, a VM on each, and at the first one a device for what is held back.
struct Net {
    cores: [Core; 2],
    vms: [Vm; 2],
    held: Tap,
    nic: RawSocket,
    /// Link address of the other end.
    far: Mac,
}

fn id(n: u8) -> PeerId {
    PeerId([n; 32])
}

impl Net {
    fn start(lab: &Lab, mode: PortMode) -> Result<Net> {
        // What is sent in an order arrives in it, whoever sent it.
        let hosts = lab.pair_by(UNDERLAY_MTU, 1)?;
        let held = Tap::create(&hosts[0].ns, "hold", 65_000)?;
        hosts[0].ns.ip("link set dev hold txqueuelen 20000")?;
        let hold_ifindex = hosts[0].ns.ifindex("hold")?;
        let start = |i: usize| {
            let n = i as u8 + 1;
            let vm = hosts[i].vm(lab, &VmSpec::new(&format!("v{n}"), mac(n), ip(n)))?;
            let control = Control { hold_ifindex: if i == 0 { hold_ifindex } else { 0 }, ..Control::default() };
            let mut core = Core::start(lab, &hosts[i], Setup { mode, control, ..Setup::port(&vm.port) })?;
            let other = SocketAddrV4::new(hosts[1 - i].addr, UDP_PORT);
            let endpoint =
                Endpoint { source_port: Some(UDP_PORT), ..Endpoint::plain(other.ip().octets(), other.port()) };
            let peer = id(2 - i as u8);
            core.fabric.set_peer(peer, BTreeSet::from([blue()]), endpoint)?;
            core.fabric.add_path(PeerPath {
                from: PathFrom::Direct(Arrival::new(other, LocalPort::MAIN)),
                peer: Some(peer),
            })?;
            core.settle()?;
            Ok::<_, anyhow::Error>((core, vm))
        };
        let ((a, vm_a), (b, vm_b)) = (start(0)?, start(1)?);
        let nic = RawSocket::open(&hosts[0].ns, Host::NIC)?;
        let far = hosts[1].ns.mac(Host::NIC)?;
        ping::once(&vm_a.ns, ip(2), 56, SOON)?;
        Ok(Net { cores: [a, b], vms: [vm_a, vm_b], held, nic, far })
    }

    fn hold(&mut self, hold: Hold) -> Result<()> {
        self.cores[0].fabric.hold_peer(PeerKey::Dynamic(id(2)), hold);
        self.cores[0].settle()
    }

    /// Holds back so many frames at the least, and sends on first those and then the others; how many they were.
    fn hold_for_a_while(&mut self, least: u64) -> Result<u64> {
        self.hold(Hold::Hold)?;
        thread::sleep(Duration::from_millis(100));
        let slot = self.cores[0].slot(id(2))?;
        let holds = self.cores[0].datapath().holds();
        wait_until("frames to be held back", SOON, || {
            let (held, released) = holds.counts(slot);
            Ok(held >= released + least)
        })?;
        self.hold(Hold::Drain)?;
        let sent = self.drain()?;
        thread::sleep(Duration::from_millis(20));
        ensure!(self.drain()? == 0, "it never ends");
        self.hold(Hold::Normal)?;
        thread::sleep(Duration::from_millis(50));
        Ok(sent)
    }

    /// Sends on what is held back, until nothing is; how much it was.
    fn drain(&self) -> Result<u64> {
        let slot = self.cores[0].slot(id(2))?;
        let holds = self.cores[0].datapath().holds();
        let (start, before, mut sent) = (Instant::now(), holds.counts(slot).1, 0);
        loop {
            if let Some(mut frame) = self.held.recv()? {
                ensure!(held_for(Mac(frame[..6].try_into()?)) == Some(slot), "not ours: {:02x?}", &frame[..14]);
                frame[..6].copy_from_slice(&self.far.0);
                self.nic.send(&frame)?;
                sent += 1;
                holds.release(slot, before + sent);
            } else if holds.counts(slot).0 == before + sent {
                return Ok(sent);
            }
            ensure!(start.elapsed() < SOON, "{:?} and {sent} were sent on", holds.counts(slot));
        }
    }
}

#[test]
fn what_is_held_back_arrives_in_order_and_nothing_is_lost() {
    for (name, mode) in [("tc", PortMode::Throughput), ("xdp", PortMode::PacketRate)] {
        lab::run(&format!("hold::what_is_held_back_arrives_in_order_and_nothing_is_lost ({name})"), &[], |lab| {
            let mut net = Net::start(lab, mode)?;
            let flow = Numbered::start((&net.vms[0].ns, ip(1)), (&net.vms[1].ns, ip(2)), 24)?;
            let held = (0..5).map(|_| net.hold_for_a_while(101)).collect::<Result<Vec<u64>>>()?;
            let Tally { sent, arrived } = flow.finish()?;
            println!("{name}: {arrived} of {sent} arrived, {held:?} were held back");
            ensure!(arrived == sent && held.iter().all(|held| *held > 100), "{arrived} of {sent} arrived");
            Ok(())
        });
    }
}

#[test]
fn super_packets_and_floods_are_held_back_as_frames() {
    lab::run("hold::super_packets_and_floods_are_held_back_as_frames", &[], |lab| {
        let mut net = Net::start(lab, PortMode::Throughput)?;
        thread::scope(|scope| {
            let (server, client) = (net.vms[1].ns.clone(), net.vms[0].ns.clone());
            let bulk = scope.spawn(move || stream::bulk(&server, ip(2), &client, 40_000_000));
            let held = (0..5).map(|_| net.hold_for_a_while(0)).collect::<Result<Vec<u64>>>();
            bulk.join().expect("it runs to its end")?;
            println!("of a TCP connection {:?} frames were held back", held?);
            Ok::<_, anyhow::Error>(())
        })?;
        net.hold(Hold::Hold)?;
        let flood = marked(Mac::BROADCAST, mac(1), "flood");
        RawSocket::open(&net.vms[0].ns, Vm::NIC)?.send(&flood)?;
        let slot = net.cores[0].slot(id(2))?;
        let (held, released) = net.cores[0].datapath().holds().counts(slot);
        wait_until(
            "the flood to be held back",
            SOON,
            || Ok(net.cores[0].datapath().holds().counts(slot).0 > released),
        )?;
        let there = RawSocket::open(&net.vms[1].ns, Vm::NIC)?;
        net.hold(Hold::Drain)?;
        ensure!(net.drain()? >= 1, "{held} {released}");
        there.expect("flood", SOON, |frame| has_mark(frame, "flood"))?;
        ensure!(net.cores[0].count(Count::Held)? == net.cores[0].datapath().holds().counts(slot).0);
        Ok(())
    });
}
