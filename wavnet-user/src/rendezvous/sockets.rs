//! The server's UDP sockets: for each address that it listens at, its port, and for STUN the other port and the other address.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only, RcvBuf, ReusePort, SndBuf},
};
use wavnet_proto::{stun, transmit::Socket};

use crate::config::RendezvousConfig;

/// Bytes that wait in the kernel while a thread is busy: a tenth of a second of the most that it takes.
const BUFFER: usize = 4 << 20;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody else has the port.
    #[error("UDP port {} of {} is in use", .0.port(), .0.ip())]
    InUse(SocketAddr),
    /// The address is not one of the host's.
    #[error("{0} is not an address of this host")]
    NotOurs(IpAddr),
    /// The port needs privileges.
    #[error("port {} needs CAP_NET_BIND_SERVICE or root", .0.port())]
    Denied(SocketAddr),
    /// What STUN is to be answered at cannot be.
    #[error(transparent)]
    Stun(#[from] stun::server::BadAddresses),
    /// The system refused.
    #[error("cannot listen at {addr}")]
    Io {
        /// Where.
        addr: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl SocketError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            SocketError::InUse(_) => {
                "`ss -lunp` shows who has it: another server, an agent, or the kernel's own VXLAN; stop it, or listen at another port"
            }
            SocketError::NotOurs(_) => "`ip addr` lists the addresses of this host; behind a NAT give the inner one",
            SocketError::Denied(_) => "run it as root or by the systemd unit, or choose a port from 1024 on",
            SocketError::Stun(_) => "see docs/rendezvous.md about the second address and port",
            SocketError::Io { .. } => "see docs/rendezvous.md",
        }
    }
}

/// One bound socket.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: UdpSocket,
    /// Which of its family it is.
    pub(super) which: Socket,
    /// Listens at all addresses, and is told of each datagram which one it came to.
    pub(super) is_wildcard: bool,
}

/// All sockets of one address family.
#[derive(Debug)]
pub(super) struct Family {
    /// As many main sockets as there are threads, and one of each other kind.
    pub(super) sockets: Vec<Bound>,
    pub(super) main: SocketAddr,
    pub(super) other_port: Option<u16>,
    pub(super) other_ip: Option<IpAddr>,
}

impl Family {
    /// Answers for who asks at one of the host's addresses: at that which it listens at, or at the one given if it listens at all of them.
    pub(super) fn responder(
        &self,
        local: Option<IpAddr>,
    ) -> Result<stun::server::Responder, stun::server::BadAddresses> {
        let ip = local.filter(|_| self.main.ip().is_unspecified()).unwrap_or(self.main.ip());
        stun::server::Responder::new(SocketAddr::new(ip, self.main.port()), self.other_port, self.other_ip)
    }

    /// Addresses beside the main one that answer STUN, for agents to know.
    pub(super) fn others(&self) -> Vec<SocketAddr> {
        let Ok(responder) = self.responder(None) else {
            return Vec::new();
        };
        (1..=3).filter_map(|n| responder.origin(Socket::Other(n))).collect()
    }
}

/// Opens all of them.
///
/// # Errors
/// Says which one cannot be had, and why.
pub(super) fn open(config: &RendezvousConfig) -> Result<Vec<Family>, SocketError> {
    config.listen.iter().map(|main| open_family(*main, config)).collect()
}

/// The family of a main address, without sockets yet.
pub(super) fn family(main: SocketAddr, config: &RendezvousConfig) -> Family {
    let is_same = |ip: &&IpAddr| ip.is_ipv4() == main.is_ipv4();
    let other_ip = config.other_address.iter().find(is_same).copied();
    Family { sockets: Vec::new(), main, other_port: config.other_port, other_ip }
}

fn open_family(main: SocketAddr, config: &RendezvousConfig) -> Result<Family, SocketError> {
    let family = family(main, config);
    let (other_port, other_ip) = (family.other_port, family.other_ip);
    let mut wanted: BTreeMap<Socket, SocketAddr> = BTreeMap::from([(Socket::Main, main)]);
    wanted.extend(other_port.map(|port| (Socket::Other(1), SocketAddr::new(main.ip(), port))));
    wanted.extend(other_ip.map(|ip| (Socket::Other(2), SocketAddr::new(ip, main.port()))));
    wanted.extend(other_ip.zip(other_port).map(|(ip, port)| (Socket::Other(3), SocketAddr::new(ip, port))));
    if !main.ip().is_unspecified() {
        family.responder(None)?;
    }
    let mut sockets = Vec::new();
    for (which, addr) in wanted {
        let threads = if which == Socket::Main { config.threads } else { 1 };
        if threads > 1 {
            // With SO_REUSEPORT a second server of the same user would share the port unnoticed.
            drop(open_one(addr, false)?);
        }
        for _ in 0..threads {
            let is_wildcard = addr.ip().is_unspecified();
            sockets.push(Bound { socket: open_one(addr, threads > 1)?, which, is_wildcard });
        }
    }
    Ok(Family { sockets, ..family })
}

fn open_one(addr: SocketAddr, share: bool) -> Result<UdpSocket, SocketError> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let made = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).and_then(|fd| {
        if addr.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true)?;
        }
        if addr.ip().is_unspecified() {
            match family {
                AddressFamily::Inet => setsockopt(&fd, Ipv4PacketInfo, &true)?,
                _ => setsockopt(&fd, Ipv6RecvPacketInfo, &true)?,
            }
        }
        if share {
            setsockopt(&fd, ReusePort, &true)?;
        }
        // As much of it as the host allows.
        setsockopt(&fd, RcvBuf, &BUFFER)?;
        setsockopt(&fd, SndBuf, &BUFFER)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
        Ok(fd)
    });
    made.map(|fd: OwnedFd| UdpSocket::from(fd)).map_err(|e| match e {
        nix::Error::EADDRINUSE => SocketError::InUse(addr),
        nix::Error::EADDRNOTAVAIL => SocketError::NotOurs(addr.ip()),
        nix::Error::EACCES | nix::Error::EPERM => SocketError::Denied(addr),
        e => SocketError::Io { addr, source: e.into() },
    })
}
