//! Datagrams that carry their number, to see whether they keep their order.

use std::{
    net::UdpSocket,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, ensure};

/// Receives datagrams of eight bytes, a number each, until the sender has been stopped and nothing comes for the socket's timeout.
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
