//! Round trips: a UDP request, a response, real sockets that block or are polled without a pause.

use std::{
    io::ErrorKind,
    net::{SocketAddrV4, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::{
    TOO_LATE,
    affinity::{Side, pin},
    rig::{Rig, vm_addr},
};
use crate::lab::netns::Netns;

const PORT: u16 = 7;
const SIZE: usize = 64;
/// A lost request is sent again after this.
const PATIENCE: Duration = Duration::from_millis(200);

/// How both sides wait for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Asleep: waking up is part of the round trip.
    Blocking,
    /// Asking again and again, each side on a CPU of its own.
    Polling,
}

/// Where the distribution's curve has its points.
pub(super) const PERCENTILES: [f64; 11] = [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9];

/// Exchanges requests and responses for a while: median and 99th percentile in nanoseconds, and behind them [`PERCENTILES`].
pub(super) fn measure(rig: &Rig, wait: Wait, time: Duration) -> Result<Vec<f64>> {
    let enough = WARM_UP + FEWEST;
    let mut times = exchange(rig, wait, |count, elapsed| count >= enough && elapsed >= time)?.split_off(WARM_UP);
    times.sort_unstable();
    let at = |percentile: f64| times[((times.len() - 1) as f64 * percentile / 100.0) as usize].as_nanos() as f64;
    Ok([50.0, 99.0].into_iter().chain(PERCENTILES).map(at).collect())
}

/// Round trips before the first that counts.
const WARM_UP: usize = 200;
/// Round trips that percentiles are of at least, however long they take on a busy machine.
const FEWEST: usize = 100;

/// Sees that the VMs reach each other, and lets everybody on the way learn where they are.
pub(super) fn prime(rig: &Rig) -> Result<()> {
    exchange(rig, Wait::Blocking, |count, _| count >= 20).map(drop)
}

fn exchange(rig: &Rig, wait: Wait, done: impl Fn(usize, Duration) -> bool + Send) -> Result<Vec<Duration>> {
    let [a, b] = &rig.wired.vms;
    let server = socket(&b.ns, wait, SocketAddrV4::new(vm_addr(1), PORT))?;
    let client = socket(&a.ns, wait, SocketAddrV4::new(vm_addr(0), 0))?;
    client.connect(SocketAddrV4::new(vm_addr(1), PORT))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&server, &stop));
        let asking = scope.spawn(|| {
            let times = ask(&client, done);
            stop.store(true, Ordering::Relaxed);
            times
        });
        let times = asking.join().map_err(|_| anyhow!("the client panicked"))?;
        answering.join().map_err(|_| anyhow!("the server panicked"))??;
        times.with_context(|| format!("round trips of {}", rig.contender))
    })
}

fn socket(ns: &Netns, wait: Wait, at: SocketAddrV4) -> Result<UdpSocket> {
    let socket = ns.enter(|| UdpSocket::bind(at).with_context(|| format!("binding {at}")))?;
    match wait {
        Wait::Blocking => socket.set_read_timeout(Some(PATIENCE))?,
        Wait::Polling => socket.set_nonblocking(true)?,
    }
    Ok(socket)
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    pin(Side::Receiver)?;
    let mut buffer = [0; SIZE];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => drop(socket.send_to(&buffer[..length], from)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("receiving a request"),
        }
    }
    Ok(())
}

fn ask(socket: &UdpSocket, done: impl Fn(usize, Duration) -> bool) -> Result<Vec<Duration>> {
    pin(Side::Sender)?;
    let (start, mut last) = (Instant::now(), Instant::now());
    let mut times = Vec::with_capacity(1 << 17);
    let mut number = 0u64;
    while !done(times.len(), start.elapsed()) {
        number += 1;
        let mut buffer = [0; SIZE];
        buffer[..8].copy_from_slice(&number.to_ne_bytes());
        let request = buffer;
        let sent = Instant::now();
        socket.send(&request).context("sending a request")?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(SIZE) if buffer == request => {
                    times.push(sent.elapsed());
                    last = Instant::now();
                    break;
                }
                // The late response to a request that was given up.
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock && sent.elapsed() < PATIENCE => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e).context("receiving a response"),
            }
        }
        ensure!(last.elapsed() < TOO_LATE, "no response for {TOO_LATE:?}: the VMs do not reach each other");
    }
    Ok(times)
}
