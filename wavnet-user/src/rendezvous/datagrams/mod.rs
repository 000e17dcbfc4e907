//! Many datagrams by one system call: recvmmsg(2) and sendmmsg(2).

mod raw;

#[cfg(test)]
mod tests;

use std::{
    io, mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use raw::{CONTROL, Control, local_address, no_header, no_name, read_name, write_controls, write_name};

/// Datagrams of one call.
pub(super) const BATCH: usize = 64;
/// Longest payload that is taken: more than a packet of the internet carries. Short, so that a batch stays in the CPU's caches.
const LONGEST: usize = 2048;
/// Bytes that go through the kernel as one at the most: of UDP's longest payload, what leaves room for headers.
const MERGED: usize = 60_000;

/// Datagrams that came in.
pub(super) struct Incoming {
    bytes: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    /// Of each: bytes, and whether it was longer than that.
    lens: [(usize, bool); BATCH],
    /// Where each was sent to, if the socket tells.
    locals: [Option<IpAddr>; BATCH],
    count: usize,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming {
            bytes: vec![0; BATCH * LONGEST].into(),
            names: vec![no_name(); BATCH].into(),
            controls: vec![Control([0; CONTROL]); BATCH].into(),
            lens: [(0, false); BATCH],
            locals: [None; BATCH],
            count: 0,
        }
    }

    /// Waits for one, and takes those that are there with it.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.count = 0;
        let mut parts: [libc::iovec; BATCH] = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| no_header());
        let buffers = self.bytes.chunks_exact_mut(LONGEST).zip(&mut self.names).zip(&mut self.controls);
        for (((header, part), ((bytes, name), control)), _) in
            headers.iter_mut().zip(&mut parts).zip(buffers).zip(0..BATCH)
        {
            *part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL;
        }
        // SAFETY: the headers point to as many buffers of the lengths that they say, all of which outlive the call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let filled = self.lens.iter_mut().zip(&mut self.locals).zip(&headers).take(got);
        for ((len, local), header) in filled {
            *len = (header.msg_len as usize, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0);
            *local = local_address(&header.msg_hdr);
        }
        self.count = got;
        Ok(got)
    }

    /// What came: from where, to which of the host's addresses if the socket tells, and the payload; `None` for what was too long.
    pub(super) fn iter(&self) -> impl Iterator<Item = Option<(SocketAddr, Option<IpAddr>, &[u8])>> {
        let all = self.bytes.chunks_exact(LONGEST).zip(&self.names).zip(&self.lens).zip(&self.locals);
        all.take(self.count).map(|(((bytes, name), (len, is_cut)), local)| {
            let from = read_name(name)?;
            bytes.get(..*len).filter(|_| !is_cut).map(|payload| (from, *local, payload))
        })
    }
}

/// Datagrams to go out, a batch at the most.
pub(super) struct Outgoing {
    bytes: Box<[u8]>,
    /// Bytes that are used.
    used: usize,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    ends: Vec<End>,
    /// The kernel parts what was merged.
    merges: bool,
}

/// One datagram of [`Outgoing`].
#[derive(Clone, Copy, Debug)]
struct End {
    /// Where it begins.
    start: usize,
    /// Its bytes.
    len: usize,
    to: SocketAddr,
    /// From which of the host's addresses.
    from: Option<IpAddr>,
}

impl Outgoing {
    /// Room for all together, bytes.
    pub(super) const ROOM: usize = BATCH * LONGEST;

    pub(super) fn new() -> Outgoing {
        Outgoing {
            bytes: vec![0; Outgoing::ROOM].into(),
            used: 0,
            names: vec![no_name(); BATCH].into(),
            controls: vec![Control([0; CONTROL]); BATCH].into(),
            ends: Vec::with_capacity(BATCH),
            merges: true,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if another one of so many bytes has no place.
    pub(super) fn is_full(&self, room: usize) -> bool {
        self.ends.len() == BATCH || Outgoing::ROOM - self.used < room
    }

    /// Adds one that `write` makes in a buffer of `room` bytes, to go from one of the host's addresses, or from whichever the kernel
    /// chooses. False if it makes none, or there is no place.
    pub(super) fn push(
        &mut self,
        room: usize,
        from: Option<IpAddr>,
        write: impl FnOnce(&mut [u8]) -> Option<(usize, SocketAddr)>,
    ) -> bool {
        let start = self.used;
        let Some(buffer) = self.bytes.get_mut(start..start + room).filter(|_| self.ends.len() < BATCH) else {
            return false;
        };
        let Some((len, to)) = write(buffer) else { return false };
        let len = len.min(room);
        self.ends.push(End { start, len, to, from });
        self.used += len;
        true
    }

    /// Sends all of them and forgets them; how many were not sent. Does not wait for room.
    ///
    /// Those that follow each other to one address, and are of one length, go through the kernel as one (UDP GSO, Linux 4.18), as frames of a
    /// relayed flow and answers to one who asks often do.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let groups = self.groups();
        let mut lost = 0;
        let mut apart = Vec::new();
        for (group, error) in self.send_groups(socket, &groups) {
            match error.raw_os_error() {
                // The device cannot part them, or not these.
                Some(libc::EIO | libc::EOPNOTSUPP | libc::EINVAL | libc::EMSGSIZE) if group.len() > 1 => {
                    self.merges &= !matches!(error.raw_os_error(), Some(libc::EIO | libc::EOPNOTSUPP));
                    apart.extend(group.map(|n| n..n + 1));
                }
                _ => lost += group.len(),
            }
        }
        if !apart.is_empty() {
            lost += self.send_groups(socket, &apart).len();
        }
        self.ends.clear();
        self.used = 0;
        lost
    }

    /// Which may go as one.
    fn groups(&self) -> Vec<Range<usize>> {
        let mut groups: Vec<Range<usize>> = Vec::with_capacity(self.ends.len());
        for (n, end) in self.ends.iter().enumerate() {
            let last = groups.last_mut().filter(|_| self.merges && end.len > 0);
            let joins = last.filter(|group| {
                let first = self.ends.get(group.start);
                let bytes = (group.len() + 1) * end.len;
                bytes <= MERGED
                    && first.is_some_and(|first| (first.to, first.from, first.len) == (end.to, end.from, end.len))
            });
            match joins {
                Some(group) => group.end = n + 1,
                None => groups.push(n..n + 1),
            }
        }
        groups
    }

    /// Those that were not sent, and why.
    fn send_groups(&mut self, socket: BorrowedFd<'_>, groups: &[Range<usize>]) -> Vec<(Range<usize>, io::Error)> {
        let mut parts = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| no_header());
        let memory = self.names.iter_mut().zip(&mut self.controls).zip(groups);
        for ((header, part), ((name, control), group)) in headers.iter_mut().zip(&mut parts).zip(memory) {
            let Some(first) = self.ends.get(group.start) else { continue };
            // They lie one behind the other.
            let bytes = self.bytes.get_mut(first.start..first.start + first.len * group.len()).unwrap_or_default();
            *part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_namelen = write_name(name, first.to);
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            let segment = u16::try_from(first.len).ok().filter(|_| group.len() > 1);
            write_controls(&mut header.msg_hdr, control, first.from, segment);
        }
        let (count, mut done, mut lost) = (groups.len().min(BATCH), 0, Vec::new());
        while let Some(left) = headers.get_mut(done..count).filter(|left| !left.is_empty()) {
            // SAFETY: the headers point to as many buffers of the lengths that they say, all of which outlive the call.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, libc::MSG_DONTWAIT) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                // The first of those that are left cannot be sent: there is no room or no route. The others may be.
                _ => {
                    let error = io::Error::last_os_error();
                    lost.extend(groups.get(done).map(|group| (group.clone(), error)));
                    done += 1;
                }
            }
        }
        lost
    }
}
