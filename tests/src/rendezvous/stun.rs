//! STUN: one question, and as many as a server can answer.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use wavnet_proto::stun::{AttributeType, Message};

use crate::lab::{cpu, netns::Netns};

/// Who asks: so many sockets, each with so many questions that wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Sockets, each with a port of its own.
    pub sockets: usize,
    /// Questions of each under way.
    pub outstanding: usize,
}

impl Load {
    /// Many that ask once, as hosts do that look what is in front of them.
    pub const MANY: Load = Load { sockets: 512, outstanding: 1 };
    /// Few that ask often, as programs do that measure servers.
    pub const FEW: Load = Load { sockets: 32, outstanding: 16 };
}

fn request(n: u32) -> [u8; 20] {
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    request[8..12].copy_from_slice(&n.to_be_bytes());
    request
}

/// Asks a server where it sees a socket at this address; gives that, and the address of which the server says that it answered from.
///
/// # Errors
/// No answer, or none that makes sense.
pub fn ask(
    ns: &Netns,
    from: SocketAddr,
    server: SocketAddr,
) -> Result<(SocketAddr, Option<SocketAddr>, Option<SocketAddr>)> {
    let socket = ns.enter(|| UdpSocket::bind(from).with_context(|| format!("binding {from}")))?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut buffer = [0; 2048];
    for n in 0..5 {
        socket.send_to(&request(n), server)?;
        let Ok((len, origin)) = socket.recv_from(&mut buffer) else { continue };
        ensure!(origin == server, "{server} was asked, and {origin} answers");
        let message = Message::parse(&buffer[..len]).map_err(|e| anyhow::anyhow!("{e}"))?;
        let mapped = message.mapped_address().context("no mapped address")?;
        let other = message.address(AttributeType::OTHER_ADDRESS);
        return Ok((mapped, message.address(AttributeType::RESPONSE_ORIGIN), other));
    }
    bail!("no answer of {server}")
}

/// What a server did in a time.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Answers that came.
    pub answers: u64,
    /// How long it took.
    pub wall: Duration,
    /// What the server's processes and threads of the kernel used of CPUs, seconds.
    pub cpu: f64,
}

impl Rate {
    /// Answers for a second of a CPU.
    pub fn per_core(&self) -> f64 {
        self.answers as f64 / self.cpu.max(0.01)
    }

    /// The share of one CPU that was used. Far below 1, who asks was the limit, and not the server.
    pub fn busy(&self) -> f64 {
        self.cpu / self.wall.as_secs_f64()
    }
}

/// Asks as fast as the server answers: there are always some waiting. `work` are the processes, and threads of the kernel, that answer.
///
/// # Errors
/// The server does not answer at all.
pub fn measure(ns: &Netns, server: SocketAddr, work: &[u32], load: Load, time: Duration) -> Result<Rate> {
    let used = || work.iter().map(|pid| cpu_seconds(*pid)).sum::<Result<f64>>();
    ns.enter(|| {
        let any = SocketAddr::new(
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() },
            0,
        );
        let sockets: Vec<UdpSocket> = (0..load.sockets)
            .map(|_| {
                let socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            })
            .collect::<Result<_>>()?;
        cpu::pin(0)?;
        // Warm.
        answers_in(&sockets, load.outstanding, Duration::from_millis(200))?;
        let (before, start) = (used()?, Instant::now());
        let answers = answers_in(&sockets, load.outstanding, time)?;
        ensure!(answers > 0, "no answer of {server}");
        Ok(Rate { answers, wall: start.elapsed(), cpu: used()? - before })
    })
}

fn answers_in(sockets: &[UdpSocket], outstanding: usize, time: Duration) -> Result<u64> {
    let (end, mut answers, mut waiting) = (Instant::now() + time, 0, vec![0; sockets.len()]);
    let (mut buffer, mut last) = ([0; 2048], Instant::now());
    loop {
        let before = answers;
        for (socket, waiting) in sockets.iter().zip(&mut waiting) {
            while *waiting > 0 && socket.recv(&mut buffer).is_ok() {
                (answers, *waiting) = (answers + 1, *waiting - 1);
            }
            while *waiting < outstanding && socket.send(&request(answers as u32)).is_ok() {
                *waiting += 1;
            }
        }
        if Instant::now() >= end {
            return Ok(answers);
        }
        if answers > before {
            last = Instant::now();
        } else if last.elapsed() > Duration::from_millis(50) {
            // What is missing was lost.
            waiting.fill(0);
            last = Instant::now();
        } else {
            // The server may share our CPU.
            std::thread::yield_now();
        }
    }
}

/// Keeps all threads of a process on the CPU of this number among those that we may use, as [`cpu::pin`] counts.
///
/// # Errors
/// There is no such process.
pub fn keep_on(pid: u32, number: usize) -> Result<usize> {
    let cpus = cpu::usable()?;
    let cpu = cpus[number % cpus.len()];
    let mut set = CpuSet::new();
    set.set(cpu)?;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread: i32 = task?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(thread), &set)?;
    }
    Ok(cpu)
}

/// Seconds of CPUs that a process has used, in user space and in the kernel.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name in stat")?.1.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<f64>().ok()).context("too short a stat");
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no CLK_TCK")?;
    // The 14th and 15th field; the first two are gone with the name.
    Ok((ticks(11)? + ticks(12)?) / per_second as f64)
}
