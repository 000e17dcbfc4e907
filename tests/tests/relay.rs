//! Two hosts that reach each other by a relay alone.

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use wavnet_common::{
    abi::{
        Arrival, Endpoint, LocalPort,
        relay::{Rate, RelayCount},
    },
    addr::{Label, PeerId},
    wire::pulse::{Number, PulseHdr, RelayedPulseHdr},
};
use wavnet_proto::{
    command::HookWish,
    fabric::{PathFrom, PeerPath},
};
use wavnet_tests::lab::{
    self, Lab,
    core::{Core, Setup, UDP_PORT, heard, socket},
    host::{Host, Vm, VmSpec},
    overlay::{SOON, blue, ip, mac},
    ping,
    raw::RawSocket,
    relay::RelayServer,
    stream,
    topology::UNDERLAY_MTU,
};
use wavnet_user::datapath::HookMode;

fn id(n: u8) -> PeerId {
    PeerId([n; 32])
}

fn at(host: &Host) -> SocketAddrV4 {
    SocketAddrV4::new(host.addr, UDP_PORT)
}

const LABELS: [Label; 2] = [Label::of_word(0x123456), Label::of_word(0x654321)];

/// Two hosts that know each other by their labels, and the relay; on each host a VM.
struct Net {
    cores: [Core; 2],
    slots: [u16; 2],
    vms: [Vm; 2],
    relay: RelayServer,
    hosts: Vec<Host>,
}

impl Net {
    /// Of three hosts, the last of which is the relay.
    fn start(lab: &Lab, hosts: Vec<Host>, wish: HookWish) -> Result<Net> {
        let mut relay = RelayServer::start(&hosts[2], wish)?;
        relay.connect([(at(&hosts[0]), LABELS[0]), (at(&hosts[1]), LABELS[1])])?;
        let start = |i: usize| {
            let n = i as u8 + 1;
            let vm = hosts[i].vm(lab, &VmSpec::new(&format!("v{n}"), mac(n), ip(n)))?;
            let mut core = Core::start(lab, &hosts[i], Setup::port(&vm.port))?;
            let (peer, relay, label) = (id(2 - i as u8), at(&hosts[2]), LABELS[i]);
            let there = Endpoint::plain(relay.ip().octets(), relay.port());
            let endpoint = Endpoint { source_port: Some(UDP_PORT), label, ..there };
            core.fabric.set_peer(peer, BTreeSet::from([blue()]), endpoint)?;
            let from = PathFrom::Relayed { relay: Arrival::new(relay, LocalPort::MAIN), label };
            let slot = core.fabric.add_path(PeerPath { from, peer: Some(peer) })?;
            core.settle()?;
            Ok::<_, anyhow::Error>((core, slot, vm))
        };
        let ((a, slot_a, vm_a), (b, slot_b, vm_b)) = (start(0)?, start(1)?);
        Ok(Net { cores: [a, b], slots: [slot_a, slot_b], vms: [vm_a, vm_b], relay, hosts })
    }

    /// Sends a pulse from the first host by the relay; how long its answer took.
    fn pulse(&self, number: u16) -> Result<Duration> {
        let number = Number::new(number);
        let paths = self.cores[0].datapath().paths();
        let from = socket(&self.hosts[0], UDP_PORT)?;
        paths.expect_pulse(self.slots[0], number);
        let start = Instant::now();
        from.send_to(&RelayedPulseHdr::new(LABELS[0], PulseHdr::request(number)).to_bytes(), at(&self.hosts[2]))?;
        loop {
            if paths.pulse_returned(self.slots[0], number).is_some() {
                return Ok(start.elapsed());
            }
            ensure!(start.elapsed() < SOON, "no answer");
        }
    }
}

#[test]
fn everything_goes_by_the_relay_at_every_hook() {
    for (wish, mode) in
        [(HookWish::Driver, Some(HookMode::Driver)), (HookWish::Generic, Some(HookMode::Generic)), (HookWish::Tc, None)]
    {
        lab::run(&format!("relay::everything_goes_by_the_relay_at_every_hook ({wish:?})"), &[], |lab| {
            let routed = lab.routed(3, UNDERLAY_MTU)?;
            let mut net = Net::start(lab, routed.hosts.clone(), wish)?;
            ensure!((net.relay.hooks.xdp, net.relay.hooks.tc) == (mode, true), "{:?}", net.relay.hooks);
            ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
            ping::once(&net.vms[1].ns, ip(1), 1472, SOON)?;
            let passed = RawSocket::open(&net.hosts[2].ns, Host::NIC)?;
            stream::bulk(&net.vms[1].ns, ip(2), &net.vms[0].ns, 5_000_000)?;
            stream::bulk(&net.vms[0].ns, ip(1), &net.vms[1].ns, 5_000_000)?;
            let passed = passed.drain(|frame| frame.len() > 1000)?.len();
            ensure!((passed == 0) == mode.is_some(), "{passed} frames went up to TC");
            let rtt = (0..100).map(|n| net.pulse(n)).collect::<Result<Vec<_>>>()?;
            println!("{wish:?}: RTT by the relay {:?}", rtt.iter().min());
            let [by, bytes_by] = match mode {
                Some(_) => [RelayCount::RelayedByXdp, RelayCount::BytesByXdp],
                None => [RelayCount::RelayedByTc, RelayCount::BytesByTc],
            };
            let (relayed, bytes) = (net.relay.count(by)?, net.relay.count(bytes_by)?);
            ensure!(relayed > 7000 && bytes > 10_000_000, "{relayed} datagrams, {bytes} bytes");
            let metered = LABELS.map(|label| net.relay.metered(label));
            ensure!(metered[0].frames + metered[1].frames == relayed, "{metered:?}");
            ensure!(net.relay.used().into_iter().collect::<BTreeSet<_>>() == BTreeSet::from(LABELS));
            ensure!(net.relay.used().is_empty());
            for what in [RelayCount::LeftToServer, RelayCount::TooFast, RelayCount::Malformed] {
                ensure!(net.relay.count(what)? == 0, "{what:?}");
            }
            drop(routed);
            Ok(())
        });
    }
}

#[test]
fn hosts_on_the_servers_own_link_are_reached() {
    lab::run("relay::hosts_on_the_servers_own_link_are_reached", &[], |lab| {
        let (hosts, _switch) = lab.segment(3, UNDERLAY_MTU)?;
        let net = Net::start(lab, hosts, HookWish::Auto)?;
        ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
        stream::bulk(&net.vms[1].ns, ip(2), &net.vms[0].ns, 2_000_000)?;
        ensure!(net.relay.count(RelayCount::RelayedByXdp)? > 1000);
        Ok(())
    });
}

#[test]
fn a_session_sends_no_more_than_it_may() {
    lab::run("relay::a_session_sends_no_more_than_it_may", &[], |lab| {
        let routed = lab.routed(3, UNDERLAY_MTU)?;
        let mut net = Net::start(lab, routed.hosts.clone(), HookWish::Auto)?;
        ping::once(&net.vms[0].ns, ip(2), 56, SOON)?;
        let rate = Rate { bytes_per_second: 1_000_000, burst: 50_000 };
        net.relay.tables.set_rate(Some(rate));
        net.relay.settle()?;
        let from = socket(&net.hosts[0], UDP_PORT)?;
        // Control that nobody reads, as fast as it goes.
        let word = u32::from(b'W') << 24 | LABELS[0].get();
        let datagram = [&word.to_be_bytes()[..], &[1, 5, 0, 0], &[0; 992]].concat();
        let before = net.relay.metered(LABELS[0]);
        let start = Instant::now();
        // The bucket is full after so long, and what would come into it is lost if nothing is sent.
        let full = Duration::from_secs_f64(rate.burst as f64 / rate.bytes_per_second as f64);
        let (mut used, mut last) = (Duration::ZERO, start);
        while start.elapsed() < Duration::from_secs(2) {
            (0..20).try_for_each(|_| from.send_to(&datagram, at(&net.hosts[2])).map(drop))?;
            std::thread::sleep(Duration::from_millis(2));
            used += last.elapsed().min(full);
            last = Instant::now();
        }
        let elapsed = start.elapsed();
        let after = net.relay.metered(LABELS[0]);
        let (bytes, dropped) = (after.bytes - before.bytes, after.dropped - before.dropped);
        let in_time = |time: Duration| time.as_secs_f64() * rate.bytes_per_second as f64;
        let (allowed, least) = (in_time(elapsed) + rate.burst as f64, in_time(used));
        println!("{bytes} bytes of {least} to {allowed} in {elapsed:?}, {dropped} datagrams dropped");
        ensure!(bytes as f64 <= allowed * 1.01 && bytes as f64 >= least * 0.9, "{bytes} of {least} to {allowed}");
        ensure!(dropped > 1000 && net.relay.count(RelayCount::TooFast)? == after.dropped);
        // The other side is not held to what this one sent.
        ping::once(&net.vms[1].ns, ip(1), 56, SOON).context("the other side")?;
        Ok(())
    });
}

#[test]
fn what_is_for_the_server_reaches_it() {
    lab::run("relay::what_is_for_the_server_reaches_it", &[], |lab| {
        let routed = lab.routed(3, UNDERLAY_MTU)?;
        let mut net = Net::start(lab, routed.hosts.clone(), HookWish::Auto)?;
        let (server, from) = (socket(&net.hosts[2], UDP_PORT)?, socket(&net.hosts[0], UDP_PORT)?);
        let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        let control = |label: u32| [&(u32::from(b'W') << 24 | label).to_be_bytes()[..], &[1, 5, 0, 0, 1, 2]].concat();
        let frame = |label: u32| [&(0x0800_0000 | label).to_be_bytes()[..], &[9; 60]].concat();
        for payload in [stun, control(0), control(77), vec![0x12, 0x34]] {
            from.send_to(&payload, at(&net.hosts[2]))?;
            ensure!(heard(&server, SOON)?.0 == payload, "{payload:02x?}");
        }
        // Frames by labels that nobody has are for nobody; unless some are left to the server.
        from.send_to(&frame(77), at(&net.hosts[2]))?;
        ensure!(heard(&server, Duration::from_millis(300)).is_err());
        net.relay.tables.set(Label::of_word(77), at(&net.hosts[0]).into(), "[::1]:4789".parse()?, LABELS[0]);
        net.relay.settle()?;
        from.send_to(&frame(77), at(&net.hosts[2]))?;
        ensure!(heard(&server, SOON)?.0 == frame(77));
        // And those of sessions, while the way is not known.
        net.relay.tables.route(net.hosts[1].addr, None);
        net.relay.settle()?;
        from.send_to(&frame(LABELS[0].get()), at(&net.hosts[2]))?;
        ensure!(heard(&server, SOON)?.0 == frame(LABELS[0].get()));
        ensure!(net.relay.count(RelayCount::LeftToServer)? == 1);
        // When it is over, so is the relay.
        let (hosts, vms) = (net.hosts, net.vms);
        drop(net.relay);
        ping::unreachable(&vms[0].ns, ip(2))?;
        drop(hosts);
        Ok(())
    });
}
