//! Raw frames: AF_PACKET sockets inside namespaces.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use super::netns::Netns;

/// Sends and receives whole Ethernet frames on one interface. Frames that the host itself sends are not received; tags
/// that the kernel keeps beside a frame are put back into it.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    on: String,
}

impl RawSocket {
    /// A socket on an interface of a namespace. It queues from now on.
    ///
    /// # Errors
    /// No such interface, or no permission.
    pub fn open(netns: &Netns, interface: &str) -> Result<RawSocket> {
        let on = format!("{}/{interface}", netns.short_name());
        let index = netns.ifindex(interface)?;
        let fd = netns.enter(|| Ok(packet_socket(index)?)).with_context(|| format!("raw socket on {on}"))?;
        setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20)).context("SO_RCVBUFFORCE")?;
        Ok(RawSocket { fd, on })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// What the kernel says: the link is down, or the frame longer than its MTU allows.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the buffer and its length belong together.
        let n = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if n < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("sending {} B on {}", frame.len(), self.on));
        }
        Ok(())
    }

    /// The next frame, if one comes within `timeout`.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn recv(&self, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            let millis = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, millis) {
                Ok(0) => return Ok(None),
                Ok(_) => return receive(&self.fd).map(Some).with_context(|| format!("receiving on {}", self.on)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
        }
    }

    /// The first frame that `wanted` accepts; others are skipped.
    ///
    /// # Errors
    /// None within `timeout`: says what was expected and what came instead.
    pub fn expect(&self, what: &str, timeout: Duration, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<u8>> {
        let end = Instant::now() + timeout;
        let mut others = Vec::new();
        loop {
            match self.recv(end.saturating_duration_since(Instant::now()))? {
                Some(frame) if wanted(&frame) => return Ok(frame),
                Some(frame) => others.push(hex(&frame[..frame.len().min(48)])),
                None => {
                    others.truncate(8);
                    bail!("{what} did not arrive on {} within {timeout:?}; frames that did: {others:#?}", self.on)
                }
            }
        }
    }

    /// Everything that `wanted` accepts among the frames queued so far.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn drain(&self, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.recv(Duration::ZERO)? {
            if wanted(&frame) {
                frames.push(frame);
            }
        }
        Ok(frames)
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A socket that receives from and sends to one interface of this thread's namespace.
pub(super) fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let check = |r: i32| if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) };
    // SAFETY: plain system calls with structures that live across them; the descriptor is owned at once.
    unsafe {
        // Protocol zero: nothing is queued until bind says from where.
        let fd = check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
        let fd = OwnedFd::from_raw_fd(fd);
        let on: libc::c_int = 1;
        for option in [libc::PACKET_IGNORE_OUTGOING, libc::PACKET_AUXDATA] {
            let size = size_of_val(&on) as u32;
            check(libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), size))?;
        }
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = ifindex as i32;
        check(libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32))?;
        Ok(fd)
    }
}

/// The tag that the kernel took out of a frame and says beside it, if it did: its TPID and TCI.
///
/// # Safety
/// `recvmsg` or the like must have filled in the message, and its control buffer must still live.
pub(super) unsafe fn tag_beside(message: &libc::msghdr) -> Option<(u16, u16)> {
    const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
    const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
    let mut aux = None;
    // SAFETY: the kernel wrote the control messages and their lengths.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                aux = Some(libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    let aux = aux.filter(|aux| aux.tp_status & TP_STATUS_VLAN_VALID != 0)?;
    let known = aux.tp_status & TP_STATUS_VLAN_TPID_VALID != 0;
    Some((if known { aux.tp_vlan_tpid } else { super::frame::VLAN }, aux.tp_vlan_tci))
}

fn receive(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut frame = vec![0u8; 70_000];
    let mut control = [0u64; 16];
    let mut iov = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: an all-zero msghdr is valid, and the buffers it is given live until the last use of it.
    let (n, tag) = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        let n = libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0);
        (n, if n < 0 { None } else { tag_beside(&message) })
    };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    frame.truncate(n as usize);
    if let Some((tpid, tci)) = tag.filter(|_| frame.len() >= 12) {
        return Ok(super::frame::tagged(&frame, tpid, tci));
    }
    Ok(frame)
}
