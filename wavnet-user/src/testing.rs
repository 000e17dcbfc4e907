//! Network namespaces for tests that need the real kernel.

#![cfg(test)]

use std::{
    process::Command,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread in it that does what it is told.
pub(crate) struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) tid: nix::unistd::Pid,
}

impl Namespace {
    /// `None` without the privilege, which the test then says.
    pub(crate) fn new() -> Option<Namespace> {
        let (jobs, todo): (Sender<Job>, Receiver<Job>) = channel();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            let entered = unshare(CloneFlags::CLONE_NEWNET);
            tell.send(entered.map(|()| nix::unistd::gettid())).unwrap();
            if entered.is_ok() {
                todo.into_iter().for_each(|job| job());
            }
        });
        match told.recv().unwrap() {
            Ok(tid) => Some(Namespace { jobs: Some(jobs), thread: Some(thread), tid }),
            Err(e) => skip(&format!("no network namespace without root ({e})")),
        }
    }

    /// Does something in the namespace and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || drop(tell.send(job()));
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        told.recv().expect("the job panicked")
    }

    /// Starts a thread in the namespace.
    pub(crate) fn spawn<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let netns = self.run(|| std::fs::File::open("/proc/thread-self/ns/net").unwrap());
        std::thread::spawn(move || {
            nix::sched::setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            job()
        })
    }

    pub(crate) fn ip(&self, args: &str) {
        let args = args.to_owned();
        self.run(move || ip(&args));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Says that a test is skipped, which where everything is required is a failure.
pub(crate) fn skip<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("WAVNET_REQUIRE_KERNEL").is_none(), "required, but {why}");
    println!("SKIP: {why}");
    None
}

/// Runs `ip` in the namespace of this thread.
pub(crate) fn ip(args: &str) {
    let status = Command::new("ip").args(args.split_whitespace()).status().expect("ip of iproute2");
    assert!(status.success(), "ip {args}");
}
