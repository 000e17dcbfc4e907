//! Tap devices, and the stand-in for a hypervisor process (QEMU) that reads and writes them.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};

use super::netns::Netns;

/// An open tap device without vnet header; the device goes when this and its clones are dropped.
#[derive(Debug)]
pub struct Tap {
    pub(super) file: File,
}

impl Tap {
    /// Makes a tap device in a namespace and sets it up.
    ///
    /// # Errors
    /// No `/dev/net/tun`, or the name is taken.
    pub fn create(netns: &Netns, name: &str, mtu: u32) -> Result<Tap> {
        Tap::with_flags(netns, name, mtu, 0)
    }

    pub(super) fn with_flags(netns: &Netns, name: &str, mtu: u32, flags: libc::c_int) -> Result<Tap> {
        let tap = Tap::open(netns, name, flags)?;
        netns.ip(&format!("link set dev {name} mtu {mtu} up"))?;
        Ok(tap)
    }

    /// The device of this name, made if it is not there.
    pub(super) fn open(netns: &Netns, name: &str, flags: libc::c_int) -> Result<Tap> {
        let file = netns.enter(|| open(name, flags).with_context(|| format!("opening tap {name}")))?;
        Ok(Tap { file })
    }

    /// Another handle of the same device.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn try_clone(&self) -> Result<Tap> {
        Ok(Tap { file: self.file.try_clone().context("duplicating a tap's descriptor")? })
    }

    /// Sends a frame into the device: the host receives it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        (&self.file).write_all(frame).context("writing to a tap")
    }

    /// The next frame that the host sent out of the device, if any is queued.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recv(&self) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65_536];
        match (&self.file).read(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                Ok(Some(buffer))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("reading a tap"),
        }
    }
}

fn open(name: &str, flags: libc::c_int) -> io::Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: an all-zero ifreq is valid; it lives across the ioctl, which reads a name that ends in zero.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | flags) as i16;
        if libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
    Ok(file)
}

/// Moves frames between two taps as QEMU, without vhost, moves them between a tap and a guest's virtio NIC: one thread, which reads
/// as much as there is whenever it is woken. Ends, and deletes both devices, when dropped.
#[derive(Debug)]
pub struct Pump {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    moved: AtomicU64,
    swallowing: AtomicBool,
    swallowed: AtomicU64,
}

impl Pump {
    /// Starts moving between the hypervisor's tap and the machine's.
    ///
    /// # Errors
    /// No more threads or descriptors.
    pub fn start(near: Tap, far: Tap) -> Result<Pump> {
        Pump::start_with(near, far, || Ok(()))
    }

    /// The same in a thread that does something else first: it chooses its CPU, say.
    ///
    /// # Errors
    /// No more threads or descriptors, or what `first` says.
    pub fn start_with(near: Tap, far: Tap, first: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Pump> {
        let (stopped, stop) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let shared = Arc::new(Shared::default());
        let (ready, began) = mpsc::channel();
        let pump = shared.clone();
        let thread = thread::Builder::new().name("lab-pump".into()).spawn(move || {
            let done = first();
            let failed = done.is_err();
            if ready.send(done).is_err() || failed {
                return;
            }
            let mut buffer = vec![0; LONGEST];
            while wait_readable(&stopped, &near, &far) {
                pump.forward(&near, &far, &mut buffer);
                pump.moved.fetch_add(forward(&far, &near, &mut buffer), Ordering::Relaxed);
            }
        })?;
        began.recv().context("the pump's thread ended")??;
        Ok(Pump { stop: Some(stop), thread: Some(thread), shared })
    }

    /// How many frames were moved, both ways.
    pub fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// From now on reads frames for the machine and counts them, but does not hand them over; or does so again.
    pub fn swallow(&self, swallow: bool) {
        self.shared.swallowing.store(swallow, Ordering::Relaxed);
    }

    /// How many frames were read and not handed over.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn forward(&self, near: &Tap, far: &Tap, buffer: &mut [u8]) {
        if self.swallowing.load(Ordering::Relaxed) {
            let read = (0..BURST).take_while(|_| (&near.file).read(buffer).is_ok()).count();
            self.swallowed.fetch_add(read as u64, Ordering::Relaxed);
        } else {
            self.moved.fetch_add(forward(near, far, buffer), Ordering::Relaxed);
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // The pipe's other end sees a hang-up.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A super-packet with its vnet header.
const LONGEST: usize = 65_536 + 64;
/// Frames from one tap before the other one's turn.
const BURST: u64 = 64;

/// Waits until a tap has a frame; false when it is time to end.
fn wait_readable(stopped: &OwnedFd, a: &Tap, b: &Tap) -> bool {
    let mut fds = [
        PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        PollFd::new(a.file.as_fd(), PollFlags::POLLIN),
        PollFd::new(b.file.as_fd(), PollFlags::POLLIN),
    ];
    let _ = poll(&mut fds, PollTimeout::NONE);
    fds[0].revents().is_none_or(|r| r.is_empty())
}

/// Moves up to a burst of frames and says how many. A frame that the other side cannot take now is lost, as on a NIC.
fn forward(from: &Tap, to: &Tap, buffer: &mut [u8]) -> u64 {
    for n in 0..BURST {
        match (&from.file).read(buffer) {
            Ok(length) => drop((&to.file).write(&buffer[..length])),
            Err(_) => return n,
        }
    }
    BURST
}
