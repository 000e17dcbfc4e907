//! Round trips of ICMP echoes, which the other side's kernel answers: one at a time, over several ways by turns.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::lab::{frame::checksum, netns::Netns};

/// A request that is not answered for so long is lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two requests, so that nothing of the last one is under way any more.
const PAUSE: Duration = Duration::from_millis(5);

/// One way's requests.
pub(super) struct Echo {
    socket: UdpSocket,
    id: u16,
    sequence: u16,
}

impl Echo {
    /// From a namespace to an address.
    pub(super) fn open(from: &Netns, to: Ipv4Addr) -> Result<Echo> {
        static NEXT: AtomicU16 = AtomicU16::new(0x4000);
        let socket = from.enter(|| {
            let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
            // std's type serves any socket that sends and receives datagrams.
            let socket = UdpSocket::from(fd);
            socket.connect((to, 0))?;
            Ok(socket)
        });
        let socket = socket.with_context(|| format!("pinging {to} from {}", from.short_name()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Echo { socket, id: NEXT.fetch_add(1, Ordering::Relaxed), sequence: 0 })
    }

    /// One round trip; `None` if no answer came.
    pub(super) fn trip(&mut self) -> Result<Option<Duration>> {
        self.sequence = self.sequence.wrapping_add(1);
        let tag = [self.id.to_be_bytes(), self.sequence.to_be_bytes()].concat();
        let mut packet = [&[8, 0, 0, 0][..], &tag, &[0x5a; 48]].concat();
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        let sent = Instant::now();
        self.socket.send(&packet).context("sending an echo request")?;
        let mut buffer = [0; 2048];
        while sent.elapsed() < PATIENCE {
            let Ok(length) = self.socket.recv(&mut buffer) else { return Ok(None) };
            let took = sent.elapsed();
            let header = usize::from(buffer[0] & 15) * 4;
            let icmp = buffer.get(header..length).unwrap_or_default();
            if icmp.first() == Some(&0) && icmp.get(4..8) == Some(&tag) {
                return Ok(Some(took));
            }
        }
        Ok(None)
    }
}

/// So many round trips of each way, by turns, in milliseconds.
pub(super) fn by_turns(ways: &mut [Echo], count: usize) -> Result<Vec<Vec<f64>>> {
    let mut all = vec![Vec::with_capacity(count); ways.len()];
    for _ in 0..count {
        for (way, times) in ways.iter_mut().zip(&mut all) {
            std::thread::sleep(PAUSE);
            times.extend(way.trip()?.map(|time| time.as_secs_f64() * 1e3));
        }
    }
    for times in &all {
        ensure!(2 * times.len() > count, "{} of {count} echo requests were answered", times.len());
    }
    Ok(all)
}
