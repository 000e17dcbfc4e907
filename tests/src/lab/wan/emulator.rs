//! The thread that carries frames between two interfaces, as a WAN would.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
    unistd::pipe2,
};

use super::{
    impairment::Impairment,
    line::{Dropped, Line},
    packet::{BATCH, Buffer, Port, Received},
};

/// A direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the first end, the site, to the second one, the internet.
    Up,
    /// Back.
    Down,
}

impl Way {
    /// Both.
    pub const BOTH: [Way; 2] = [Way::Up, Way::Down];
}

/// What became of the frames of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that came.
    pub came: u64,
    /// Frames that got out.
    pub out: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames dropped by the queue before the rate.
    pub queue_full: u64,
    /// Frames dropped because too many were on their way: more than a link of that rate and delay should have.
    pub overflow: u64,
    /// Frames longer than the MTU, dropped: an offload is on that must be off.
    pub too_long: u64,
    /// Frames that came while nobody took them, dropped by the kernel: the machine is too slow. They are not among those that came.
    pub missed: u64,
    /// Frames that the interface refused: the other end is down, or does not keep up.
    pub refused: u64,
}

impl Counts {
    /// Frames dropped for other reasons than a WAN has: more than none, and the link is not what it was asked to be.
    pub fn faults(&self) -> u64 {
        self.overflow + self.too_long + self.missed + self.refused
    }
}

#[derive(Debug, Default)]
struct Counters {
    came: AtomicU64,
    out: AtomicU64,
    lost: AtomicU64,
    queue_full: AtomicU64,
    overflow: AtomicU64,
    too_long: AtomicU64,
    missed: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    wanted: Mutex<[Impairment; 2]>,
    changes: AtomicU32,
    counters: [Counters; 2],
}

/// A running emulator; it ends with this.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    /// Its closing ends the thread.
    alive: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Emulator {
    /// Frames on their way in one direction at most: 50 MiB at an MTU of 1500, or 390 ms of a gigabit per second. Another one is dropped.
    pub const MOST: usize = 32_768;

    /// Carries frames between two ports from now on.
    pub(super) fn start(ports: [Port; 2], mtu: u32, ways: [Impairment; 2], seed: u64) -> Result<Emulator> {
        ways.iter().try_for_each(Impairment::check)?;
        let (closed, alive) = pipe2(OFlag::O_CLOEXEC).context("making a pipe for the end of a WAN link")?;
        let shared = Arc::new(Shared {
            wanted: Mutex::new(ways),
            changes: AtomicU32::new(0),
            counters: [Counters::default(), Counters::default()],
        });
        let lines = [Line::new(ways[0], seed), Line::new(ways[1], !seed.rotate_left(32))];
        let carrier = Carrier {
            ports,
            lines,
            shared: shared.clone(),
            seen: 0,
            free: Vec::new(),
            batch: Vec::with_capacity(BATCH),
            outcome: Vec::with_capacity(BATCH),
            start: Instant::now(),
            mtu,
        };
        let thread = thread::Builder::new()
            .name("lab-wan".into())
            .spawn(move || carrier.run(&closed))
            .context("starting the thread of a WAN link")?;
        Ok(Emulator { shared, alive: Some(alive), thread: Some(thread) })
    }

    /// Changes a direction, for all frames sent from now on.
    ///
    /// # Errors
    /// It makes no sense: see [`Impairment::check`].
    pub fn set(&self, way: Way, impairment: Impairment) -> Result<()> {
        impairment.check()?;
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)[way as usize] = impairment;
        self.shared.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// What a direction is now.
    pub fn get(&self, way: Way) -> Impairment {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)[way as usize]
    }

    /// What became of a direction's frames so far.
    ///
    /// # Errors
    /// The emulator has ended, which is a mistake of its own.
    pub fn counts(&self, way: Way) -> Result<Counts> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(anyhow!("the WAN emulator has ended"));
        }
        let counters = &self.shared.counters[way as usize];
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Counts {
            came: get(&counters.came),
            out: get(&counters.out),
            lost: get(&counters.lost),
            queue_full: get(&counters.queue_full),
            overflow: get(&counters.overflow),
            too_long: get(&counters.too_long),
            missed: get(&counters.missed),
            refused: get(&counters.refused),
        })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Carrier {
    ports: [Port; 2],
    lines: [Line<Buffer>; 2],
    shared: Arc<Shared>,
    /// Of how many changes it knows.
    seen: u32,
    /// Buffers without a frame.
    free: Vec<Buffer>,
    /// Those that frames are received into.
    batch: Vec<Buffer>,
    outcome: Vec<Received>,
    start: Instant,
    mtu: u32,
}

impl Carrier {
    fn run(mut self, closed: &OwnedFd) {
        hurry();
        loop {
            let mut idle = true;
            for way in Way::BOTH {
                idle &= self.send(way) == 0;
                idle &= self.receive(way) == 0;
            }
            if self.wait(closed, idle) {
                return;
            }
        }
    }

    /// Waits for a frame or for the time of one, unless there is something to do; true at the end.
    fn wait(&self, closed: &OwnedFd, idle: bool) -> bool {
        let next = self.lines.iter().filter_map(Line::next_out).min();
        let timeout = match next {
            _ if !idle => Some(Duration::ZERO),
            Some(next) => Some(next.saturating_sub(self.start.elapsed())),
            None => None,
        };
        let mut fds = [
            PollFd::new(self.ports[0].as_fd(), PollFlags::POLLIN),
            PollFd::new(self.ports[1].as_fd(), PollFlags::POLLIN),
            PollFd::new(closed.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut fds, timeout.map(TimeSpec::from_duration), None) {
            Ok(_) | Err(Errno::EINTR) => fds[2].any().unwrap_or(false),
            // Nothing that waiting would mend: counts() tells that the thread has ended.
            Err(_) => true,
        }
    }

    /// Receives a batch of a direction's frames and puts them on their way; how many.
    fn receive(&mut self, way: Way) -> usize {
        let (free, mtu) = (&mut self.free, self.mtu);
        self.batch.resize_with(BATCH, || free.pop().unwrap_or_else(|| Buffer::new(mtu)));
        // An error is that of a link that went down, and is told once.
        if self.ports[way as usize].receive(&mut self.batch, &mut self.outcome).is_err() {
            return 0;
        }
        if self.outcome.is_empty() {
            return 0;
        }
        // After the frames: those sent after a change meet the change.
        self.follow();
        let now = self.start.elapsed();
        let counters = &self.shared.counters[way as usize];
        let line = &mut self.lines[way as usize];
        let count = self.outcome.len();
        add(&counters.came, count as u64);
        for (buffer, outcome) in self.batch.drain(..count).zip(&self.outcome) {
            let (counter, buffer) = if *outcome == Received::Cut {
                (&counters.too_long, buffer)
            } else if line.len() >= Emulator::MOST {
                (&counters.overflow, buffer)
            } else {
                let bytes = buffer.frame().len();
                match line.offer(now, bytes, buffer) {
                    Ok(()) => continue,
                    Err((Dropped::Lost, buffer)) => (&counters.lost, buffer),
                    Err((Dropped::QueueFull, buffer)) => (&counters.queue_full, buffer),
                }
            };
            add(counter, 1);
            self.free.push(buffer);
        }
        if count == BATCH {
            // Only one who is late finds so many.
            add(&counters.missed, self.ports[way as usize].overruns().unwrap_or(0));
        }
        count
    }

    /// Sends a direction's frames whose time has come, a batch at most; how many.
    fn send(&mut self, way: Way) -> usize {
        let line = &mut self.lines[way as usize];
        let now = self.start.elapsed();
        let mut due: Vec<Buffer> = Vec::new();
        while due.len() < BATCH
            && let Some(buffer) = line.take(now)
        {
            due.push(buffer);
        }
        let to = &self.ports[1 - way as usize];
        let counters = &self.shared.counters[way as usize];
        let (count, mut done) = (due.len(), 0);
        while done < count {
            match to.send(&due[done..]) {
                Ok(sent) if sent > 0 => {
                    add(&counters.out, sent as u64);
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    add(&counters.refused, 1);
                    done += 1;
                }
            }
        }
        self.free.append(&mut due);
        count
    }

    /// Takes over what was changed.
    fn follow(&mut self) {
        let changes = self.shared.changes.load(Ordering::Acquire);
        if changes == self.seen {
            return;
        }
        self.seen = changes;
        let wanted = *self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        for (line, impairment) in self.lines.iter_mut().zip(wanted) {
            line.set(impairment);
        }
    }
}

/// Has this thread run as soon as it has something to do, before the hosts whose network it is: on a busy machine frames are some
/// milliseconds late otherwise. Where that is not allowed it does without.
fn hurry() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: a plain system call about this thread, with a structure that lives across it.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
