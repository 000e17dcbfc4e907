//! Why a classification cannot begin, and what to do about it.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
};

/// A family of addresses. Each has NATs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both of them.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Why a classification cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// A server's name leads nowhere.
    #[error("the name {name} does not resolve")]
    Unresolved {
        /// The name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// No server can be asked.
    #[error("no server has an address of the family that is asked for ({0})")]
    NoServer(&'static str),
    /// The interface is not there.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The interface has no address that servers could answer to.
    #[error("the interface {interface} has no {family} address")]
    NoAddress {
        /// The interface.
        interface: String,
        /// Of the servers.
        family: Family,
    },
    /// The system knows no way to a server.
    #[error("there is no route to {server}")]
    Unreachable {
        /// The server.
        server: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else has the port.
    #[error("UDP port {} of {} is in use", .0.port(), .0.ip())]
    InUse(SocketAddr),
    /// The address is not one of the host's.
    #[error("{0} is not an address of this host")]
    NotOurs(IpAddr),
    /// The port needs privileges.
    #[error("port {} needs CAP_NET_BIND_SERVICE or root", .0.port())]
    Denied(SocketAddr),
    /// The system refused a socket.
    #[error("cannot open a UDP socket at {local}")]
    Io {
        /// Where.
        local: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl NatError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            NatError::Unresolved { .. } => {
                "correct the name, or give the server's address; `getent ahosts NAME` asks as this does"
            }
            NatError::NoServer(_) => "name a server that has one, or leave out -4, -6 and --listen",
            NatError::NoInterface(_) => "`ip link` lists the interfaces of this host",
            NatError::NoAddress { .. } => {
                "give it one, or name another interface; `ip addr` lists the addresses of this host"
            }
            NatError::Unreachable { .. } => {
                "give this host a route there (`ip route get ADDRESS` shows what it has), or name a server or an interface from where there is one"
            }
            NatError::InUse(_) => {
                "`ss -lunp` shows who has it, the agent perhaps; choose another port, or leave out --listen: any port tells the same"
            }
            NatError::NotOurs(_) => "`ip addr` lists the addresses of this host; behind a NAT give the inner one",
            NatError::Denied(_) => "choose a port from 1024 on, or leave out --listen",
            NatError::Io { .. } => "choose another address or interface",
        }
    }
}
