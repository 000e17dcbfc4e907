//! Frames that leave and enter interfaces of a namespace.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket},
};

/// Frames that were seen: interface, bytes.
#[derive(Debug, Default)]
pub struct Frames {
    /// Those that interfaces sent.
    pub sent: Vec<(u32, Vec<u8>)>,
    /// Those that came in.
    pub received: Vec<(u32, Vec<u8>)>,
}

/// Sees every frame that any interface of the calling thread's namespace sends or receives.
#[derive(Debug)]
pub struct Capture(OwnedFd);

impl Capture {
    /// Begins.
    ///
    /// # Errors
    /// No packet socket.
    pub fn start() -> Result<Capture> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
            .map(Capture)
            .context("opening a packet socket")
    }

    /// What was seen since the last call.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub fn drain(&self) -> Result<Frames> {
        let mut frames = Frames::default();
        let mut buffer = vec![0; 65_536];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((len, Some(from))) => {
                    let outgoing = from.pkttype() == nix::libc::PACKET_OUTGOING;
                    let frames = if outgoing { &mut frames.sent } else { &mut frames.received };
                    frames.push((from.ifindex() as u32, buffer[..len].to_vec()));
                }
                Ok((_, None)) => {}
                Err(Errno::EAGAIN) => return Ok(frames),
                Err(e) => return Err(e).context("reading a packet socket"),
            }
        }
    }
}
