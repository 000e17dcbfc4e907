//! A flow does not overtake itself when another program begins to carry it.

use std::{
    net::{SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use wavnet_tests::lab::{
    self, Need,
    host::{Host, Vm},
    numbered,
    overlay::{Both, SOON, Shape, ip, mac},
    ping,
    raw::RawSocket,
    stream, wait_until,
};

/// A stream of datagrams goes on while its receiver's port goes and comes back: at first nobody knows the receiver's address, and
/// TC floods; then the receiver says something, and XDP takes over in the middle of the stream.
#[test]
fn a_flow_that_begins_before_its_port_exists_arrives_in_order() {
    const TEST: &str = "order::a_flow_that_begins_before_its_port_exists_arrives_in_order";
    const ROUNDS: usize = 8;
    lab::run(TEST, &[Need::Wavnet], |lab| {
        let net = Both::start(lab, Shape::default())?;
        net.a.ns.ip(&format!("neigh replace {} lladdr {} nud permanent dev {}", ip(2), mac(2), Vm::NIC))?;
        let receiver = net.b.ns.enter(|| Ok(UdpSocket::bind("0.0.0.0:7000")?))?;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        let sender = net.a.ns.enter(|| Ok(UdpSocket::bind(SocketAddrV4::new(ip(1), 0))?))?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| send(&sender, &stop));
            let receiving = scope.spawn(|| numbered::ascending(&receiver, &stop));
            let disturbed = disturb(&net, ROUNDS);
            stop.store(true, Ordering::Relaxed);
            let sent = sending.join().expect("the sender runs to its end")?;
            let got = receiving.join().expect("the receiver runs to its end")?;
            println!("{got} of {sent} arrived");
            disturbed?;
            ensure!(got > 1000, "{got} of {sent} arrived");
            Ok(())
        })
    });
}

fn disturb(net: &Both, rounds: usize) -> Result<()> {
    let flooded = || net.agents[1].metric("wavnet_flooded_frames_total", &[]);
    let learned = || -> Result<bool> { Ok(net.agents[1].fdb()?.iter().any(|entry| entry.mac == mac(2))) };
    for _ in 0..rounds {
        net.b.unplug()?;
        wait_until("the address to be forgotten", SOON, || Ok(!learned()?))?;
        net.b.plug(&net.hosts[1], 1500)?;
        let before = flooded()?;
        wait_until("the flow to be flooded", SOON, || Ok(flooded()? > before + 100.0))?;
        // Its own frames teach where it is.
        net.b.set_address(ip(2))?;
        ping::once(&net.b.ns, ip(1), 56, SOON)?;
        ensure!(learned()?, "nobody has learned the address");
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Numbered datagrams in small bursts, as fast as a socket does them.
fn send(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..16 {
            number += 1;
            // Refused while there is no way: it counts as sent.
            let _ = socket.send_to(&number.to_be_bytes(), SocketAddrV4::new(ip(2), 7000));
        }
        thread::sleep(Duration::from_micros(300));
    }
    Ok(number)
}

/// Whoever captures on the NIC has every packet, too, and the kernel then copies it for programs that write: a copy has no note of XDP.
#[test]
fn tcp_reaches_a_vm_while_somebody_captures_on_the_nic() {
    lab::run("order::tcp_reaches_a_vm_while_somebody_captures_on_the_nic", &[Need::Wavnet], |lab| {
        let net = Both::start(lab, Shape::default())?;
        let before = net.agents[1].metric("wavnet_underlay_passed_frames_total", &[])?;
        let capture = RawSocket::open(&net.hosts[1].ns, Host::NIC)?;
        stream::bulk(&net.b.ns, ip(2), &net.a.ns, 5_000_000)?;
        ensure!(
            !capture.drain(|frame| frame.len() > 1000)?.is_empty(),
            "nothing was captured: the test proves nothing"
        );
        let passed = net.agents[1].metric("wavnet_underlay_passed_frames_total", &[])? - before;
        ensure!(passed < 20.0, "{passed} frames were taken for somebody else's");
        Ok(())
    });
}
