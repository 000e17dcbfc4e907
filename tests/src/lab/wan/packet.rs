//! Many frames with one system call, from and to an interface.

use std::{
    io,
    mem::zeroed,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::{netns::Netns, raw};

/// Frames moved by one system call at most.
pub(super) const BATCH: usize = 64;
/// Bytes of a VLAN tag, which the kernel takes out of a frame and which is put back.
const TAG: usize = 4;
/// Room for a frame's two addresses, its EtherType, and a tag that the kernel leaves in.
const HEADER: usize = 14 + TAG;
/// Bytes that a socket holds while its reader is busy.
const SOCKET_BUFFER: usize = 32 << 20;

/// Memory for one frame.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// For frames of interfaces with this MTU.
    pub(super) fn new(mtu: u32) -> Buffer {
        Buffer { bytes: vec![0; TAG + HEADER + mtu as usize].into(), start: TAG, end: TAG }
    }

    /// The frame in it.
    pub(super) fn frame(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Puts a tag back where it was: behind the addresses.
    fn tag(&mut self, tpid: u16, tci: u16) {
        if self.end < TAG + 12 {
            return;
        }
        self.bytes.copy_within(TAG..TAG + 12, 0);
        self.bytes[12..14].copy_from_slice(&tpid.to_be_bytes());
        self.bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        self.start = 0;
    }
}

/// What came of one frame received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// It is in its buffer.
    Whole,
    /// It was longer than the buffer: an offload is on that makes longer frames than the MTU.
    Cut,
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct Port(OwnedFd);

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Port {
    /// Opens an interface of a namespace. It queues from now on.
    pub(super) fn open(ns: &Netns, interface: &str) -> Result<Port> {
        let index = ns.ifindex(interface)?;
        let on = || format!("a socket on {interface} of {}", ns.short_name());
        let fd = ns.enter(|| Ok(raw::packet_socket(index)?)).with_context(on)?;
        setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER).context("SO_RCVBUFFORCE")?;
        setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER).context("SO_SNDBUFFORCE")?;
        Ok(Port(fd))
    }

    /// Receives as many frames as there are, at most one for each buffer (and [`BATCH`]); says what came of each.
    pub(super) fn receive(&self, buffers: &mut [Buffer], outcome: &mut Vec<Received>) -> io::Result<()> {
        outcome.clear();
        let count = buffers.len().min(BATCH);
        // SAFETY: all-zero structures of these kinds are valid.
        let (mut messages, mut vectors) =
            unsafe { (zeroed::<[libc::mmsghdr; BATCH]>(), zeroed::<[libc::iovec; BATCH]>()) };
        let mut controls = [[0_u64; 8]; BATCH];
        for (i, buffer) in buffers.iter_mut().take(count).enumerate() {
            let room = &mut buffer.bytes[TAG..];
            vectors[i] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut messages[i].msg_hdr;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = controls[i].as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&controls[i]);
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `count` headers point to vectors, control buffers and frames that live until the call returns.
        let n =
            unsafe { libc::recvmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count as u32, flags, ptr::null_mut()) };
        if n < 0 {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(()) } else { Err(error) };
        }
        for (buffer, message) in buffers.iter_mut().zip(&messages[..n as usize]) {
            buffer.start = TAG;
            buffer.end = (TAG + message.msg_len as usize).min(buffer.bytes.len());
            if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                outcome.push(Received::Cut);
                continue;
            }
            // SAFETY: recvmmsg filled it in, and `controls` lives.
            if let Some((tpid, tci)) = unsafe { raw::tag_beside(&message.msg_hdr) } {
                buffer.tag(tpid, tci);
            }
            outcome.push(Received::Whole);
        }
        Ok(())
    }

    /// Sends frames, at most [`BATCH`] of them; how many were taken. An error is the first one's.
    pub(super) fn send(&self, frames: &[Buffer]) -> io::Result<usize> {
        let count = frames.len().min(BATCH);
        // SAFETY: all-zero structures of these kinds are valid.
        let (mut messages, mut vectors) =
            unsafe { (zeroed::<[libc::mmsghdr; BATCH]>(), zeroed::<[libc::iovec; BATCH]>()) };
        for (i, buffer) in frames.iter().take(count).enumerate() {
            let frame = buffer.frame();
            vectors[i] = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            messages[i].msg_hdr.msg_iov = &raw mut vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: `count` headers point to vectors and frames that live until the call returns; the kernel only reads these.
        let n = unsafe { libc::sendmmsg(self.0.as_raw_fd(), messages.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT) };
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    }

    /// Frames that the kernel dropped since the last call because nobody took them in time.
    pub(super) fn overruns(&self) -> io::Result<u64> {
        // SAFETY: an all-zero structure of this kind is valid.
        let mut statistics = unsafe { zeroed::<libc::tpacket_stats>() };
        let mut length = size_of_val(&statistics) as u32;
        let at = (&raw mut statistics).cast();
        // SAFETY: the structure and its length belong together and live across the call.
        let result = unsafe {
            libc::getsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, at, &raw mut length)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(statistics.tp_drops.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::{VLAN, tagged};

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let mut buffer = Buffer::new(100);
        assert_eq!(buffer.frame(), [0; 0]);
        let frame: Vec<u8> = (0..60).collect();
        buffer.bytes[TAG..TAG + 60].copy_from_slice(&frame);
        buffer.end = TAG + 60;
        assert_eq!(buffer.frame(), frame);
        buffer.tag(VLAN, 42);
        assert_eq!(buffer.frame(), tagged(&frame, VLAN, 42));
    }

    #[test]
    fn what_has_no_addresses_gets_no_tag() {
        let mut buffer = Buffer::new(100);
        buffer.end = TAG + 11;
        buffer.tag(VLAN, 42);
        assert_eq!(buffer.frame().len(), 11);
    }
}
