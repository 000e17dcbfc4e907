//! Datagrams that carry their number, to see whether they keep their order.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::netns::Netns;

/// Where they arrive.
const PORT: u16 = 7000;
/// Of as many datagrams one is large, so that frames of all lengths are on their way.
const LARGE_ONE: u64 = 8;
/// Octets in a large one: about what a VM's MTU leaves.
const LARGE: usize = 1400;

/// Numbered datagrams from one namespace to another, all the time.
#[derive(Debug)]
pub struct Numbered {
    stop: Arc<AtomicBool>,
    /// Who sends, and who receives; each counts. Empty once they have been waited for.
    threads: Vec<JoinHandle<Result<u64>>>,
}

/// What became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// So many were sent,
    pub sent: u64,
    /// and so many of them arrived, each after those that were sent before it.
    pub arrived: u64,
}

impl Numbered {
    /// Sends bursts of so many, about a thousand bursts in a second.
    ///
    /// # Errors
    /// The sockets cannot be had.
    pub fn start(from: (&Netns, Ipv4Addr), to: (&Netns, Ipv4Addr), burst: u64) -> Result<Numbered> {
        let target = SocketAddrV4::new(to.1, PORT);
        let receiver = to.0.enter(|| Ok(UdpSocket::bind(target)?))?;
        setsockopt(&receiver, sockopt::RcvBufForce, &(64 << 20))?;
        receiver.set_read_timeout(Some(Duration::from_millis(500)))?;
        let sender = from.0.enter(|| Ok(UdpSocket::bind((from.1, 0))?))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (to_send, to_receive) = (stop.clone(), stop.clone());
        let sending = thread::spawn(move || send(&sender, target, burst, &to_send));
        let receiving = thread::spawn(move || ascending(&receiver, &to_receive));
        Ok(Numbered { stop, threads: vec![sending, receiving] })
    }

    /// Sends no more, and waits until nothing comes for half a second.
    ///
    /// # Errors
    /// One overtook another, or what a socket says.
    pub fn finish(mut self) -> Result<Tally> {
        let counts = self.end().into_iter().collect::<Result<Vec<_>>>()?;
        let [sent, arrived] = counts[..] else { bail!("it has ended before") };
        Ok(Tally { sent, arrived })
    }

    fn end(&mut self) -> Vec<Result<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let panicked = |_| Err(anyhow!("a thread of numbered datagrams panicked"));
        self.threads.drain(..).map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends numbered datagrams in bursts of so many, about a thousand bursts in a second, until it is told to stop; how many. One in eight is large.
fn send(socket: &UdpSocket, to: SocketAddrV4, burst: u64, stop: &AtomicBool) -> Result<u64> {
    let mut number = 0u64;
    let mut bytes = [0; LARGE];
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..burst {
            number += 1;
            let len = if number.is_multiple_of(LARGE_ONE) { LARGE } else { size_of_val(&number) };
            bytes[..size_of_val(&number)].copy_from_slice(&number.to_be_bytes());
            socket.send_to(&bytes[..len], to)?;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(number)
}

/// Receives datagrams that begin with eight bytes of a number each, until the sender has been stopped and nothing comes for the socket's timeout.
/// Gives how many came.
///
/// # Errors
/// One came after another that has a greater number, or the same.
pub fn ascending(socket: &UdpSocket, stop: &AtomicBool) -> Result<u64> {
    let (mut next, mut count) = (0, 0);
    let mut buffer = [0; 8];
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        if socket.recv(&mut buffer).is_ok() {
            let number = u64::from_be_bytes(buffer);
            ensure!(number >= next, "{number} came after {}", next - 1);
            (next, count) = (number + 1, count + 1);
        } else if stopped {
            return Ok(count);
        }
    }
}
