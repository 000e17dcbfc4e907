//! Pings with statistics.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

use super::{frame::checksum, netns::Netns, poll_until};

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Echo requests at a steady pace in the background, each of them accounted for.
#[derive(Debug)]
pub struct Ping {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    interval: Duration,
    what: String,
}

#[derive(Debug, Default)]
struct Shared {
    stop_sending: AtomicBool,
    stop: AtomicBool,
    /// When each request was sent.
    sent: Mutex<Vec<Instant>>,
    answered: Mutex<HashSet<u16>>,
    first_answer: OnceLock<Instant>,
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answered(&self) -> MutexGuard<'_, HashSet<u16>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Requests sent.
    pub sent: u64,
    /// Distinct answers received.
    pub received: u64,
}

impl Loss {
    /// Requests without an answer.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

impl Ping {
    /// Starts pinging, once per `interval`, until [`Ping::stop`].
    ///
    /// # Errors
    /// No raw socket.
    pub fn start(from: &Netns, target: Ipv4Addr, interval: Duration) -> Result<Ping> {
        static NEXT_ID: AtomicU16 = AtomicU16::new(1);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let what = format!("ping {} -> {target}", from.short_name());
        let open = || {
            let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
            // Answers that wait until they are counted are not lost.
            setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20)).context("SO_RCVBUFFORCE")?;
            // std's type serves any socket that sends and receives datagrams.
            let socket = UdpSocket::from(fd);
            socket.connect((target, 0))?;
            Ok(socket)
        };
        let socket = from.enter(open).with_context(|| what.clone())?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let shared = Arc::new(Shared::default());
        let (receiver, a, b) = (socket.try_clone()?, shared.clone(), shared.clone());
        let threads = vec![
            thread::spawn(move || request(&socket, id, interval, &a)),
            thread::spawn(move || count(&receiver, id, &b)),
        ];
        Ok(Ping { shared, threads, interval, what })
    }

    /// How many were sent and answered so far.
    pub fn so_far(&self) -> Loss {
        let received = self.shared.answered().len() as u64;
        Loss { sent: self.shared.sent().len() as u64, received }
    }

    /// How many of those sent so far are not answered, though there was time for it.
    pub fn lost(&self) -> u64 {
        let sent = self.so_far().sent;
        let missing = || {
            let answered = self.shared.answered();
            (0..sent).filter(|n| !answered.contains(&(*n as u16))).count() as u64
        };
        let end = Instant::now() + PATIENCE;
        loop {
            match missing() {
                missing if missing == 0 || Instant::now() >= end => return missing,
                _ => thread::sleep(self.interval),
            }
        }
    }

    /// When the first answer came.
    pub fn first_answer(&self) -> Option<Instant> {
        self.shared.first_answer.get().copied()
    }

    /// For how long requests were not answered, from the `from`-th on up to the last answer: the pauses behind them, altogether. A pause in which
    /// the sender itself was kept waiting counts as two ordinary ones.
    pub fn unanswered_for(&self, from: u64) -> Duration {
        let answered = self.shared.answered();
        let sent = self.shared.sent();
        unanswered(&sent, |n| answered.contains(&(n as u16)), from as usize, self.interval * 2)
    }

    /// Waits until `n` more are sent.
    ///
    /// # Errors
    /// They were not within a minute.
    pub fn wait_sent(&self, n: u64) -> Result<()> {
        let goal = self.so_far().sent + n;
        poll_until(&format!("{} to send {n} more", self.what), Duration::from_secs(60), || {
            let now = self.so_far().sent;
            ensure!(now >= goal, "{now} of {goal}");
            Ok(())
        })
    }

    /// Waits until `n` more are answered.
    ///
    /// # Errors
    /// They were not within `timeout`.
    pub fn wait_answered(&self, n: u64, timeout: Duration) -> Result<()> {
        let goal = self.so_far().received + n;
        poll_until(&format!("{} to get {n} answers", self.what), timeout, || {
            let now = self.so_far().received;
            ensure!(now >= goal, "{now} of {goal}");
            Ok(())
        })
    }

    /// Sends no more, waits for answers on their way, and counts.
    pub fn stop(self) -> Loss {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        let all = || {
            let loss = self.so_far();
            ensure!(loss.lost() == 0, "{loss:?}");
            Ok(())
        };
        // Those that do not come are what the caller asks about.
        let _ = poll_until("answers", PATIENCE, all);
        self.so_far()
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn request(socket: &UdpSocket, id: u16, interval: Duration, shared: &Shared) {
    let mut sequence = 0u16;
    while !shared.stop_sending.load(Ordering::Relaxed) {
        let mut packet = [&[8, 0, 0, 0][..], &id.to_be_bytes(), &sequence.to_be_bytes(), &[0x5a; 48]].concat();
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        shared.sent().push(Instant::now());
        // What the host itself refuses gets no answer either, and is counted so.
        let _ = socket.send(&packet);
        sequence = sequence.wrapping_add(1);
        thread::sleep(interval);
    }
}

fn count(socket: &UdpSocket, id: u16, shared: &Shared) {
    let mut packet = [0; 2048];
    while !shared.stop.load(Ordering::Relaxed) {
        let n = match socket.recv(&mut packet) {
            Ok(n) => n,
            // A timeout, or an error that ICMP reports: what is missing is counted anyway.
            Err(_) => continue,
        };
        let header = usize::from(packet[0] & 15) * 4;
        let icmp = packet.get(header..n).unwrap_or_default();
        if icmp.len() >= 8 && icmp[0] == 0 && icmp[4..6] == id.to_be_bytes() {
            let sequence = u16::from_be_bytes([icmp[6], icmp[7]]);
            shared.first_answer.get_or_init(Instant::now);
            shared.answered().insert(sequence);
        }
    }
}

fn unanswered(sent: &[Instant], is_answered: impl Fn(usize) -> bool, from: usize, longest_pause: Duration) -> Duration {
    let Some(last) = (from..sent.len()).rev().find(|n| is_answered(*n)) else { return Duration::ZERO };
    let lost = (from..last).filter(|n| !is_answered(*n));
    lost.map(|n| sent[n + 1].duration_since(sent[n]).min(longest_pause)).sum()
}

fn parse(log: &str) -> Result<Loss> {
    let line = log.lines().rfind(|l| l.contains("packets transmitted")).context("ping printed no statistics")?;
    let mut numbers = line.split(',').filter_map(|part| part.trim().split(' ').next()?.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(sent), Some(received)) => Ok(Loss { sent, received }),
        _ => bail!("ping said: {line}"),
    }
}

/// One ping within `timeout`.
///
/// # Errors
/// No answer: what `ping` says.
pub fn once(from: &Netns, target: Ipv4Addr, size: u32, timeout: Duration) -> Result<()> {
    let what = format!("{} to reach {target}", from.short_name());
    let (target, size) = (target.to_string(), size.to_string());
    poll_until(&what, timeout, || {
        from.run("ping", &["-n", "-q", "-c", "1", "-W", "1", "-M", "do", "-s", &size, &target]).map(drop)
    })
}

/// Checks that nothing answers: three requests, 20 ms apart, and a second for answers.
///
/// # Errors
/// Something answered.
pub fn unreachable(from: &Netns, target: Ipv4Addr) -> Result<()> {
    let target = target.to_string();
    let mut command = from.command("ping");
    let out = command.args(["-n", "-q", "-c", "3", "-i", "0.02", "-W", "1", &target]).output()?;
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let loss = parse(&said)?;
    ensure!(loss.received == 0, "{} reaches {target}, which it must not: {said}", from.short_name());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_was_kept_waiting_is_no_outage() {
        let (ms, start) = (Duration::from_millis, Instant::now());
        let sent: Vec<Instant> = [0, 10, 20, 30, 530, 540, 550].map(|at| start + ms(at)).to_vec();
        let of = |lost: &[usize], from| unanswered(&sent, |n| !lost.contains(&n), from, ms(20));
        assert_eq!(of(&[], 0), ms(0));
        assert_eq!(of(&[1, 2], 0), ms(20));
        assert_eq!(of(&[1, 2], 2), ms(10), "from the third one on");
        assert_eq!(of(&[3], 0), ms(20), "half a second, in which nothing was sent");
        assert_eq!(of(&[2, 5, 6], 0), ms(10), "the last ones are on their way");
    }

    #[test]
    fn reads_statistics_with_and_without_errors() {
        let plain =
            "--- 10.0.0.1 ping statistics ---\n1000 packets transmitted, 999 received, 0.1% packet loss, time 9s\n";
        assert_eq!(parse(plain).unwrap(), Loss { sent: 1000, received: 999 });
        let errors = "3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 40ms\n";
        assert_eq!(parse(errors).unwrap().lost(), 3);
        assert!(parse("ping: unknown host").is_err());
    }
}
