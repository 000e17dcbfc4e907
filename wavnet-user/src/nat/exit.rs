//! Where the datagrams of a classification leave this host: UDP sockets at an address, and on an interface if one is asked for.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    task::{Context, Poll, ready},
};

use nix::{
    ifaddrs::getifaddrs,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, sendto, setsockopt, socket,
        sockopt::{BindToDevice, Ipv6V6Only},
    },
};
use tokio::io::ReadBuf;

use super::{Family, NatError};

/// Where the main socket is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitChoice {
    /// Its address and port; an unspecified address: that which the route to the server has; port 0: any.
    pub listen: Option<SocketAddr>,
    /// The only interface that is used.
    pub interface: Option<String>,
    /// The IPv4 address to use; `None`: that which the route to the server has.
    pub address: Option<Ipv4Addr>,
}

impl ExitChoice {
    /// True if servers of a family can be asked from there.
    pub fn allows(&self, family: Family) -> bool {
        self.listen.is_none_or(|listen| Family::of(listen.ip()) == family)
    }

    /// Opens the main socket, at an address that datagrams to a server leave from.
    ///
    /// # Errors
    /// There is no such interface, address or route, or the port cannot be had.
    pub fn towards(&self, server: SocketAddr) -> Result<(UdpSocket, Exit), NatError> {
        let family = Family::of(server.ip());
        if let Some(interface) = &self.interface {
            check(interface, family)?;
        }
        let any: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = self.address.filter(|_| family == Family::V4).map_or(any, IpAddr::V4);
        let listen = self.listen.unwrap_or(SocketAddr::new(own, 0));
        let device = self.interface.clone();
        let mut local = listen;
        if listen.ip().is_unspecified() {
            let exit = Exit { local: SocketAddr::new(any, 0), device: device.clone() };
            let probe = exit.open(0).map_err(|source| error(exit.local, source))?;
            // Sends nothing: the kernel looks up the route and the address that goes with it.
            let routed = probe.connect(server).and_then(|()| probe.local_addr());
            local = routed.map_err(|source| NatError::Unreachable { server, source })?;
            local.set_port(listen.port());
        }
        let mut exit = Exit { local, device };
        let opened = exit.open(local.port()).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (local, socket) = opened.map_err(|source| error(exit.local, source))?;
        exit.local = local;
        Ok((socket, exit))
    }
}

/// Where the sockets of a classification are: what the main one is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Address and port of the main socket, not unspecified ones.
    pub local: SocketAddr,
    /// The interface that all are bound to; `None`: routes decide.
    pub device: Option<String>,
}

impl Exit {
    /// Opens a socket that does not block, at this address with another port; 0: one of the kernel's choice.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn open(&self, port: u16) -> io::Result<UdpSocket> {
        let mut at = self.local;
        at.set_port(port);
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd: OwnedFd = socket(family, SockType::Datagram, flags, None)?;
        if at.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true)?;
        }
        if let Some(device) = &self.device {
            setsockopt(&fd, BindToDevice, &OsString::from(device))?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
        Ok(fd.into())
    }
}

fn error(local: SocketAddr, source: io::Error) -> NatError {
    match source.kind() {
        io::ErrorKind::AddrInUse => NatError::InUse(local),
        io::ErrorKind::AddrNotAvailable => NatError::NotOurs(local.ip()),
        io::ErrorKind::PermissionDenied => NatError::Denied(local),
        _ => NatError::Io { local, source },
    }
}

/// That an interface is there, and has an address of a family.
fn check(interface: &str, family: Family) -> Result<(), NatError> {
    // Where the system does not tell, the socket will.
    let Ok(all) = getifaddrs() else { return Ok(()) };
    let mut there = false;
    for one in all.filter(|one| one.interface_name == interface) {
        there = true;
        let of_family = one.address.and_then(|address| match family {
            Family::V4 => address.as_sockaddr_in().map(drop),
            Family::V6 => address.as_sockaddr_in6().map(drop),
        });
        if of_family.is_some() {
            return Ok(());
        }
    }
    let interface = interface.to_owned();
    Err(if there { NatError::NoAddress { interface, family } } else { NatError::NoInterface(interface) })
}

/// A socket that can be waited for.
#[derive(Debug)]
pub(super) struct Udp(tokio::net::UdpSocket);

impl Udp {
    /// Takes a socket that does not block into the runtime of this thread.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Udp> {
        tokio::net::UdpSocket::from_std(socket).map(Udp)
    }

    /// Sends at once, or not at all.
    pub(super) fn send(&self, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        // tokio would not try before it was told that the socket can be written to, which a new one was not.
        sendto(self.0.as_raw_fd(), payload, &SockaddrStorage::from(to), MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// The next datagram: its source and length.
    pub(super) fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<(SocketAddr, usize)> {
        let mut buffer = ReadBuf::new(buffer);
        match ready!(self.0.poll_recv_from(cx, &mut buffer)) {
            Ok(from) => Poll::Ready((from, buffer.filled().len())),
            // It is looked at again after the next timeout at the latest.
            Err(_) => Poll::Pending,
        }
    }
}
