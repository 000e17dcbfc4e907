//! As many frames as one host can send by a relay, and how many of them arrive.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

use super::{Pair, cpu_seconds};
use crate::lab::{cpu, netns::Netns};

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that arrived at the other host's interface.
    pub arrived: u64,
    /// How long it took.
    pub wall: Duration,
    /// What the server's process used of CPUs meanwhile, seconds.
    pub server: f64,
    /// The same of who sends, in whose time the kernel carries frames over the lab's links.
    pub sender: f64,
}

/// The first of a pair sends frames of so many bytes to the second one, whose machine and interface are `to`, as fast as one CPU can.
///
/// # Errors
/// Sockets, or no such process or interface.
pub fn flood(pair: &mut Pair, to: (&Netns, &str), pid: u32, bytes: usize, time: Duration) -> Result<Flood> {
    const AT_ONCE: u64 = 64;
    let frame = pair.frame(pair.labels[0], bytes);
    let socket = &pair.hosts[0].socket;
    let (before, used, start) = (arrived(to)?, cpu_seconds(pid)?, Instant::now());
    let (sent, sender) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            cpu::pin(0)?;
            let mut sent = 0;
            while start.elapsed() < time {
                for _ in 0..AT_ONCE {
                    socket.send(&frame).context("sending a frame")?;
                }
                sent += AT_ONCE;
            }
            let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            Ok::<_, anyhow::Error>((sent, Duration::from(used).as_secs_f64()))
        });
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let (wall, server) = (start.elapsed(), cpu_seconds(pid)? - used);
    Ok(Flood { sent, arrived: arrived(to)? - before, wall, server, sender })
}

fn arrived((ns, interface): (&Netns, &str)) -> Result<u64> {
    let links: serde_json::Value = serde_json::from_str(&ns.ip(&format!("-j -s link show dev {interface}"))?)?;
    links[0]["stats64"]["rx"]["packets"].as_u64().context("no count of packets in the output of ip -j -s")
}
