//! The interface that the kernel's programs send frames to which are to wait: a tap, which goes with this process.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::io::{Interest, unix::AsyncFd};

/// Frames that wait in the device while the loop is busy elsewhere; more are lost there, which is counted.
const QUEUE: libc::c_int = 16_384;
/// The longest frame that a tap takes: what fits the underlay fits it.
const MTU: libc::c_int = 65_521;
/// Room for a frame of that length.
const BUFFER: usize = 65_536;
/// The kernel puts a number in place of the last two characters.
const NAME: &str = "wavhold%d";

/// The interface.
#[derive(Debug)]
pub(super) struct Device {
    file: AsyncFd<File>,
    ifindex: u32,
    buffer: Box<[u8]>,
}

impl Device {
    /// Makes it, in the network namespace of this thread.
    ///
    /// # Errors
    /// There is no `/dev/net/tun`, or this process may not make interfaces.
    pub(super) fn open() -> io::Result<Device> {
        let tun = File::options().read(true).write(true).open("/dev/net/tun")?;
        let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let mut request = request(NAME);
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes a struct ifreq, which outlives the call.
        ioctl(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        for (command, value) in [(libc::SIOCSIFMTU, MTU), (libc::SIOCSIFTXQLEN, QUEUE)] {
            request.ifr_ifru.ifru_mtu = value;
            ask(&control, command, &mut request)?;
        }
        ask(&control, libc::SIOCGIFINDEX, &mut request)?;
        // SAFETY: SIOCGIFINDEX has written this member.
        let ifindex = unsafe { request.ifr_ifru.ifru_ifindex };
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as libc::c_short;
        ask(&control, libc::SIOCSIFFLAGS, &mut request)?;
        // SAFETY: F_SETFL takes flags, and changes nothing but those of this descriptor.
        ioctl(unsafe { libc::fcntl(tun.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        // SAFETY: the file owns its descriptor, and nobody else closes it.
        let file = unsafe { AsyncFd::register_with_interest(tun, Interest::READABLE) }?;
        let ifindex = u32::try_from(ifindex).map_err(io::Error::other)?;
        Ok(Device { file, ifindex, buffer: vec![0; BUFFER].into() })
    }

    /// Its number, for the programs.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Waits until there is a frame to be read, or seems to be.
    pub(super) async fn readable(&self) {
        match self.file.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    /// The next frame; `None`: there is none now.
    pub(super) fn read(&mut self) -> Option<&[u8]> {
        let Device { file, buffer, .. } = self;
        // The runtime may not have heard yet that there is one. It only says so when nothing was there to be read before.
        let read = file.try_io(Interest::READABLE, |mut file| file.read(buffer));
        let len = read.or_else(|_| file.get_ref().read(buffer)).ok()?;
        buffer.get(..len)
    }
}

/// A request for the interface of this name.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: all zeros are a valid ifreq, a struct of integers, arrays and a union of such.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn ask(control: &OwnedFd, command: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: these commands read and write a struct ifreq, which outlives the call.
    ioctl(unsafe { libc::ioctl(control.as_raw_fd(), command, &raw mut *request) })
}

fn ioctl(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
