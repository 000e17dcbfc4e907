//! A thread that sends copies of a frame, without a pause, from a CPU of its own.

use std::{
    os::fd::AsFd,
    sync::{Once, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use aya::programs::ProgramFd;
use nix::sys::{
    pthread::{Pthread, pthread_kill, pthread_self},
    signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

use super::affinity::{Side, pin};
use crate::{lab::netns::Netns, test_run::send_until_signal};

/// What ends the test run. It does nothing else.
const WAKE: Signal = Signal::SIGUSR2;

/// What to send: copies of a frame, out of an interface of a namespace.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) ns: Netns,
    pub(super) ifindex: u32,
    pub(super) frame: Vec<u8>,
    /// How many at once.
    pub(super) batch: u32,
}

/// Sends until it is stopped or dropped.
pub(super) struct Sender {
    thread: Option<JoinHandle<Result<()>>>,
    id: Pthread,
    stop: mpsc::Sender<()>,
}

impl Sender {
    /// Begins to send as from a NIC's ring, on the CPU of a side. The program may change each frame.
    pub(super) fn start(stream: &Stream, program: &ProgramFd, side: Side) -> Result<Sender> {
        let Stream { ns, ifindex, frame, batch } = stream.clone();
        let program = program.try_clone()?;
        interruptible()?;
        let (id, told) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let send = move || -> Result<()> {
            id.send(pthread_self()).context("telling the thread")?;
            pin(side)?;
            // A signal may come before the call: not only the call's end counts.
            while stopped.try_recv().is_err() {
                send_until_signal(program.as_fd(), ifindex, &frame, batch).context("sending frames by test run")?;
            }
            Ok(())
        };
        let thread = thread::spawn(move || ns.enter(send));
        match told.recv() {
            Ok(id) => Ok(Sender { thread: Some(thread), id, stop }),
            // It ended before it could tell.
            Err(_) => Err(joined(thread).err().context("the sender told nothing")?),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// It could not send, or ended before.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        // It may have ended in failure, which the thread's result says.
        let _ = self.stop.send(());
        while !thread.is_finished() {
            pthread_kill(self.id, WAKE).context("waking the sender")?;
            thread::sleep(Duration::from_millis(1));
        }
        joined(thread)
    }
}

fn joined(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().map_err(|_| anyhow!("the sender panicked"))?
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Has [`WAKE`] interrupt system calls instead of ending the process.
fn interruptible() -> Result<()> {
    static ONCE: Once = Once::new();
    extern "C" fn nothing(_: libc::c_int) {}
    let mut done = Ok(());
    ONCE.call_once(|| {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        done = unsafe { sigaction(WAKE, &action) }.map(drop);
    });
    done.context("setting a signal's handler")
}
