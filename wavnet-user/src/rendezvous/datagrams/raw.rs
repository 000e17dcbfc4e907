//! What the kernel's calls take and give: addresses and control messages as C has them.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
};

/// Room for control messages: an address (24 or 40 bytes) and the length of segments (24).
pub(super) const CONTROL: usize = 64;
/// Memory that control messages may stand in.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL]);

pub(super) fn no_name() -> libc::sockaddr_storage {
    // SAFETY: plain numbers, of which zero is a value.
    unsafe { mem::zeroed() }
}

pub(super) fn no_header() -> libc::mmsghdr {
    // SAFETY: numbers and pointers that may be null.
    unsafe { mem::zeroed() }
}

/// Has a datagram go from one of the host's addresses, and be parted into segments.
pub(super) fn write_controls(
    header: &mut libc::msghdr,
    control: &mut Control,
    from: Option<IpAddr>,
    segment: Option<u16>,
) {
    let mut used = 0;
    match from {
        None => {}
        Some(IpAddr::V4(ip)) => {
            let none = libc::in_addr { s_addr: 0 };
            let source = libc::in_addr { s_addr: u32::from(ip).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: none };
            put(control, &mut used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(ip)) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            put(control, &mut used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
    }
    if let Some(segment) = segment {
        put(control, &mut used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    if used > 0 {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = used;
    }
}

/// Appends a control message.
fn put<T>(control: &mut Control, used: &mut usize, level: i32, kind: i32, info: T) {
    let len = mem::size_of::<T>() as u32;
    // SAFETY: only computes lengths.
    let (space, whole) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len) as usize) };
    let head = libc::cmsghdr { cmsg_len: whole, cmsg_level: level, cmsg_type: kind };
    let Some(place) = control.0.get_mut(*used..*used + space) else { return };
    *used += space;
    let place = place.as_mut_ptr();
    // SAFETY: there is room for both; spaces keep the alignment that the buffer begins with, and writing needs none.
    unsafe {
        ptr::write_unaligned(place.cast(), head);
        ptr::write_unaligned(libc::CMSG_DATA(place.cast()).cast(), info);
    }
}

/// IPv4 and IPv6 addresses; anything else is nobody's.
pub(super) fn read_name(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
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
pub(super) fn write_name(name: &mut libc::sockaddr_storage, addr: SocketAddr) -> libc::socklen_t {
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

/// The destination address of a datagram, from its control message.
pub(super) fn local_address(header: &libc::msghdr) -> Option<IpAddr> {
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
