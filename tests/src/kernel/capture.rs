//! Frames that leave interfaces of a namespace.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket},
};

/// Sees every frame that any interface of the calling thread's namespace sends.
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

    /// What was sent since the last call: interface, bytes.
    ///
    /// # Errors
    /// Those of recvfrom(2).
    pub fn drain(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 65_536];
        loop {
            match recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer) {
                Ok((len, Some(from))) if from.pkttype() == nix::libc::PACKET_OUTGOING => {
                    frames.push((from.ifindex() as u32, buffer[..len].to_vec()));
                }
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(frames),
                Err(e) => return Err(e).context("reading a packet socket"),
            }
        }
    }
}
