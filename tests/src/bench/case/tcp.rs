//! Bulk TCP: as much as goes through so many streams.

use std::{
    ffi::OsString,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt::TcpCongestion};

use crate::{
    bench::{
        TOO_LATE,
        affinity::{Side, pin},
        rig::{Rig, vm_addr},
    },
    lab::netns::Netns,
};

/// Where receivers listen.
pub(in crate::bench) const PORT: u16 = 5201;
const BUFFER: usize = 128 << 10;
/// The congestion window opens before counting begins.
pub(in crate::bench) const WARM_UP: Duration = Duration::from_millis(500);
/// Senders go by what the path carried, not by the frames that a link's short queue lost: those are the link's affair, and vary. The
/// same on every machine, whatever its default.
const CONGESTION_CONTROL: &str = "bbr";
/// How often a thread that cannot go on looks whether it is time to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// What to say of senders if this kernel lacks the congestion control that they are to have.
pub(in crate::bench) fn note() -> Option<String> {
    let probe = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    set_congestion_control(&probe).err().map(|error| {
        format!("tcp_*: congestion control is the system's default: no {CONGESTION_CONTROL} here ({error}; modprobe tcp_{CONGESTION_CONTROL})")
    })
}

fn set_congestion_control(socket: &impl AsFd) -> nix::Result<()> {
    setsockopt(socket, TcpCongestion, &OsString::from(CONGESTION_CONTROL))
}

/// Where streams begin, and where they end.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Ends<'a> {
    /// Who sends.
    pub(in crate::bench) from: &'a Netns,
    /// Who receives.
    pub(in crate::bench) to: &'a Netns,
    /// Where the receiver listens.
    pub(in crate::bench) listen: Ipv4Addr,
    /// Where the sender finds it: a NAT may be in between.
    pub(in crate::bench) at: Ipv4Addr,
    /// Bits per second that the sender's NIC takes at the most, if it is not as fast as the machine.
    pub(in crate::bench) nic: Option<u64>,
}

/// Sends through so many streams for a while; bits per second that arrived.
pub(in crate::bench) fn measure(rig: &Rig, streams: usize, time: Duration) -> Result<f64> {
    let [a, b] = &rig.wired.vms;
    let ends = Ends { from: &a.ns, to: &b.ns, listen: vm_addr(1), at: vm_addr(1), nic: None };
    carry(ends, streams, WARM_UP, time).with_context(|| format!("TCP of {}", rig.contender))
}

/// The same between any two ends, counting after so long.
pub(in crate::bench) fn carry(ends: Ends<'_>, streams: usize, warm_up: Duration, time: Duration) -> Result<f64> {
    let pairs = connect(ends, streams)?;
    let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
    let (bytes, took) = thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter()
            .flat_map(|(from, to)| {
                let (stop, received) = (&stop, &received);
                [scope.spawn(move || send(from, stop)), scope.spawn(move || receive(to, stop, received))]
            })
            .collect();
        thread::sleep(warm_up);
        let (before, start) = (received.load(Ordering::Relaxed), Instant::now());
        // On a busy machine nobody may have had a CPU.
        let counted = loop {
            thread::sleep(time);
            let counted = (received.load(Ordering::Relaxed) - before, start.elapsed());
            if counted.0 > 0 || counted.1 > time + TOO_LATE {
                break counted;
            }
        };
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a TCP thread panicked"))??;
        }
        anyhow::Ok(counted)
    })?;
    ensure!(bytes > 0, "nothing arrived by TCP");
    Ok(bytes as f64 * 8.0 / took.as_secs_f64())
}

fn connect(ends: Ends<'_>, streams: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let [listen, at] = [ends.listen, ends.at].map(|address| SocketAddrV4::new(address, PORT));
    let listener = ends.to.enter(|| TcpListener::bind(listen).with_context(|| format!("listening on {listen}")))?;
    (0..streams)
        .map(|_| {
            let connect = || TcpStream::connect_timeout(&at.into(), Duration::from_secs(5)).context("connecting");
            let from = ends.from.enter(connect)?;
            // Where it is lacking, a note tells.
            let _ = set_congestion_control(&from);
            if let Some(rate) = ends.nic {
                pace(&from, rate / 8).context("SO_MAX_PACING_RATE")?;
            }
            let (to, _) = listener.accept().context("accepting")?;
            from.set_write_timeout(Some(PATIENCE))?;
            to.set_read_timeout(Some(PATIENCE))?;
            Ok((from, to))
        })
        .collect()
}

/// Has a stream send no more than so many bytes a second, evenly.
fn pace(stream: &TcpStream, rate: u64) -> std::io::Result<()> {
    /// From Linux's `asm-generic/socket.h`.
    const SO_MAX_PACING_RATE: libc::c_int = 47;
    let (at, length) = ((&raw const rate).cast(), size_of_val(&rate) as libc::socklen_t);
    // SAFETY: the value and its length belong together and live across the call, which only reads them.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, SO_MAX_PACING_RATE, at, length) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> Result<()> {
    pin(Side::Sender)?;
    let buffer = vec![0x5a; BUFFER];
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&buffer) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            // The other side has ended first.
            Err(_) if stop.load(Ordering::Relaxed) => {}
            Err(e) => return Err(e).context("sending by TCP"),
        }
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, stop: &AtomicBool, received: &AtomicU64) -> Result<()> {
    pin(Side::Receiver)?;
    let mut buffer = vec![0; BUFFER];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(length) => drop(received.fetch_add(length as u64, Ordering::Relaxed)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e).context("receiving by TCP"),
        }
    }
    Ok(())
}
