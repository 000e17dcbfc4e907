//! Many datagrams by one system call: recvmmsg(2) and sendmmsg(2).

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// Datagrams of one call.
pub(super) const BATCH: usize = 64;
/// Longest payload that is taken: more than a packet of the internet carries. Short, so that a batch stays in the CPU's caches.
const LONGEST: usize = 2048;
/// Room for one control message with an address.
const CONTROL: usize = 64;

/// Memory that control messages may stand in.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

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

/// The destination address of a datagram, from its control message.
fn local_address(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has filled the header and its control messages in, and the header's buffers are alive.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(cmsg) = message.as_ref() {
            let data = libc::CMSG_DATA(cmsg);
            match (cmsg.cmsg_level, cmsg.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                _ => message = libc::CMSG_NXTHDR(header, cmsg),
            }
        }
    }
    None
}

/// Datagrams to go out, a batch at the most.
pub(super) struct Outgoing {
    bytes: Box<[u8]>,
    /// Bytes that are used.
    used: usize,
    names: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    /// Of each: where it begins, its bytes, the length of its name, and from which of the host's addresses it goes.
    ends: Vec<(usize, usize, libc::socklen_t, Option<IpAddr>)>,
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
        let place = (self.bytes.get_mut(start..start + room), self.names.get_mut(self.ends.len()));
        let (Some(buffer), Some(name)) = place else { return false };
        let Some((len, to)) = write(buffer) else { return false };
        let len = len.min(room);
        self.ends.push((start, len, write_name(name, to), from));
        self.used += len;
        true
    }

    /// Sends all of them and forgets them; how many were not sent. Does not wait for room.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let mut parts = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|_| no_header());
        let memory = self.names.iter_mut().zip(&mut self.controls).zip(&self.ends);
        for ((header, part), ((name, control), (start, len, name_len, from))) in
            headers.iter_mut().zip(&mut parts).zip(memory)
        {
            let bytes = self.bytes.get_mut(*start..start + len).unwrap_or_default();
            *part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = *name_len;
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            if let Some(from) = from {
                write_source(&mut header.msg_hdr, control, *from);
            }
        }
        let (count, mut done, mut lost) = (self.ends.len(), 0, 0);
        while let Some(left) = headers.get_mut(done..count).filter(|left| !left.is_empty()) {
            // SAFETY: the headers point to as many buffers of the lengths that they say, all of which outlive the call.
            let sent =
                unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), left.len() as u32, libc::MSG_DONTWAIT) };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                // The first of those that are left cannot be sent: there is no room or no route. The others may be.
                _ => (done, lost) = (done + 1, lost + 1),
            }
        }
        self.ends.clear();
        self.used = 0;
        lost
    }
}

fn no_name() -> libc::sockaddr_storage {
    // SAFETY: plain numbers, of which zero is a value.
    unsafe { mem::zeroed() }
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: numbers and pointers that may be null.
    unsafe { mem::zeroed() }
}

/// Has a datagram go from one of the host's addresses.
fn write_source(header: &mut libc::msghdr, control: &mut Control, from: IpAddr) {
    fn put<T>(header: &mut libc::msghdr, control: &mut Control, level: i32, kind: i32, info: T) {
        let len = mem::size_of::<T>() as u32;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: only computes lengths.
        let (space, whole) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
        header.msg_controllen = space as usize;
        // SAFETY: the buffer is aligned for the header and longer than the message, 24 bytes with `in_pktinfo`, 40 with `in6_pktinfo`.
        unsafe {
            if let Some(cmsg) = libc::CMSG_FIRSTHDR(header).as_mut() {
                cmsg.cmsg_level = level;
                cmsg.cmsg_type = kind;
                cmsg.cmsg_len = whole as usize;
                ptr::write_unaligned(libc::CMSG_DATA(cmsg).cast(), info);
            }
        }
    }
    match from {
        IpAddr::V4(ip) => {
            let none = libc::in_addr { s_addr: 0 };
            let source = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: none };
            put(header, control, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            put(header, control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
}

/// IPv4 and IPv6 addresses; anything else is nobody's.
fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: `sockaddr_storage` is as long and as aligned as any address, and its family says which one it is.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET => {
                let name = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                let name = &*name.cast::<libc::sockaddr_in6>();
                let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
                // A link-local address is one only with its scope.
                Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// Its length.
fn write_name(name: &mut libc::sockaddr_storage, addr: SocketAddr) -> libc::socklen_t {
    let name = ptr::from_mut(name);
    match addr {
        SocketAddr::V4(addr) => {
            // SAFETY: `sockaddr_storage` is as long and as aligned as any address.
            let name = unsafe { &mut *name.cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as libc::sa_family_t;
            name.sin_port = addr.port().to_be();
            name.sin_addr.s_addr = u32::from(*addr.ip()).to_be();
            mem::size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(addr) => {
            // SAFETY: as above.
            let name = unsafe { &mut *name.cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            name.sin6_port = addr.port().to_be();
            name.sin6_addr.s6_addr = addr.ip().octets();
            name.sin6_scope_id = addr.scope_id();
            mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use super::*;

    /// Sends some by one call and takes them by another.
    fn there_and_back(at: &str, from: Option<IpAddr>) {
        let Ok(receiver) = UdpSocket::bind(at) else { return };
        receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let sender = UdpSocket::bind(at).unwrap();
        let mut outgoing = Outgoing::new();
        for n in 0..10u8 {
            let to = receiver.local_addr().unwrap();
            let write = |room: &mut [u8]| {
                room[..usize::from(n)].fill(n);
                Some((usize::from(n), to))
            };
            assert!(outgoing.push(50, from, write));
        }
        assert!(!outgoing.push(50, None, |_| None));
        assert_eq!((outgoing.len(), outgoing.send(sender.as_fd()), outgoing.len()), (10, 0, 0));
        let (mut incoming, mut next) = (Incoming::new(), 0u8);
        while next < 10 {
            assert!(incoming.receive(receiver.as_fd()).unwrap() > 0);
            for one in incoming.iter() {
                let (from, _, payload) = one.unwrap();
                assert_eq!((from, payload), (sender.local_addr().unwrap(), &vec![next; usize::from(next)][..]));
                next += 1;
            }
        }
    }

    #[test]
    fn many_at_once_in_both_families() {
        there_and_back("127.0.0.1:0", None);
        there_and_back("127.0.0.1:0", Some(Ipv4Addr::LOCALHOST.into()));
        there_and_back("[::1]:0", None);
        there_and_back("[::1]:0", Some(Ipv6Addr::LOCALHOST.into()));
    }

    #[test]
    fn what_cannot_be_sent_does_not_hold_up_the_rest() {
        let [receiver, sender] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut outgoing = Outgoing::new();
        let good = receiver.local_addr().unwrap();
        for to in [good, "[2001:db8::1]:1".parse().unwrap(), good, SocketAddr::new(good.ip(), 0), good] {
            outgoing.push(8, None, |_| Some((8, to)));
        }
        assert_eq!(outgoing.send(sender.as_fd()), 2);
        let mut incoming = Incoming::new();
        let mut got = 0;
        while got < 3 {
            got += incoming.receive(receiver.as_fd()).unwrap();
        }
        assert_eq!(got, 3);
    }

    #[test]
    fn what_is_too_long_is_known() {
        let [receiver, sender] = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        sender.send_to(&vec![1; LONGEST + 1], receiver.local_addr().unwrap()).unwrap();
        let mut incoming = Incoming::new();
        assert_eq!(incoming.receive(receiver.as_fd()).unwrap(), 1);
        assert!(incoming.iter().eq([None]));
    }
}
