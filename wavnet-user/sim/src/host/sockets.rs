//! A host's addresses and sockets.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use wavnet_proto::transmit::Socket;

use crate::Rng;

/// What an open socket is bound to: one of the host's addresses of a family, by its place among them. Where there is none, the socket has
/// no address of that family, until there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Binding {
    socket: Socket,
    v6: bool,
    place: usize,
    port: u16,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    addresses: Vec<IpAddr>,
    bindings: Vec<Binding>,
    /// By socket and whether it is IPv6.
    by_socket: BTreeMap<(Socket, bool), SocketAddr>,
    by_address: BTreeMap<SocketAddr, Socket>,
}

impl Sockets {
    /// Linux's default for `ip_local_port_range`.
    const EPHEMERAL: std::ops::RangeInclusive<u16> = 32768..=60999;

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The host has these addresses from now on.
    pub(crate) fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.addresses = addresses.to_vec();
        self.by_socket.clear();
        self.by_address.clear();
        for binding in std::mem::take(&mut self.bindings) {
            self.bind_to(binding);
        }
    }

    /// Opens a socket on the first address of each family.
    pub(crate) fn open(&mut self, socket: Socket, port: u16) -> bool {
        self.close(socket);
        if self.is_taken(port, 0) {
            return false;
        }
        for v6 in [false, true] {
            self.bind_to(Binding { socket, v6, place: 0, port });
        }
        true
    }

    /// Opens a socket on one of the host's addresses, beside what it has in the other family.
    pub(crate) fn bind(&mut self, socket: Socket, local: SocketAddr) -> bool {
        let v6 = local.is_ipv6();
        let same_family = self.addresses.iter().filter(|addr| addr.is_ipv6() == v6);
        let Some(place) = same_family.clone().position(|addr| *addr == local.ip()) else { return false };
        if self.by_address.get(&local).is_some_and(|other| *other != socket) {
            return false;
        }
        if let Some(old) = self.by_socket.remove(&(socket, v6)) {
            self.by_address.remove(&old);
        }
        self.bindings.retain(|binding| (binding.socket, binding.v6) != (socket, v6));
        self.bind_to(Binding { socket, v6, place, port: local.port() });
        true
    }

    pub(crate) fn close(&mut self, socket: Socket) {
        self.bindings.retain(|binding| binding.socket != socket);
        for v6 in [false, true] {
            if let Some(local) = self.by_socket.remove(&(socket, v6)) {
                self.by_address.remove(&local);
            }
        }
    }

    /// Closes those that a node opened beside what the scenario gave it.
    pub(crate) fn close_extra(&mut self) {
        let extra: Vec<Socket> =
            self.bindings.iter().map(|b| b.socket).filter(|s| matches!(s, Socket::Extra(_))).collect();
        extra.into_iter().for_each(|socket| self.close(socket));
    }

    /// A port that no socket has; `None` if there is none.
    pub(crate) fn ephemeral(&self, rng: &mut Rng) -> Option<u16> {
        let (first, last) = (*Sockets::EPHEMERAL.start(), *Sockets::EPHEMERAL.end());
        let count = u64::from(last - first) + 1;
        let from = rng.below(count);
        let ports = (0..count).map(|turn| first + ((from + turn) % count) as u16);
        ports.into_iter().find(|port| !self.bindings.iter().any(|binding| binding.port == *port))
    }

    /// Where a socket sends from to this family.
    pub(crate) fn source(&self, socket: Socket, v6: bool) -> Option<SocketAddr> {
        self.by_socket.get(&(socket, v6)).copied()
    }

    /// Which socket has this address and port.
    pub(crate) fn at(&self, local: SocketAddr) -> Option<Socket> {
        self.by_address.get(&local).copied()
    }

    /// One line per socket and family.
    pub(crate) fn list(&self) -> Vec<(Socket, SocketAddr)> {
        self.by_socket.iter().map(|((socket, _), local)| (*socket, *local)).collect()
    }

    /// Whether another socket has the port on the address of this place of either family.
    fn is_taken(&self, port: u16, place: usize) -> bool {
        self.bindings.iter().any(|binding| (binding.port, binding.place) == (port, place))
    }

    fn bind_to(&mut self, binding: Binding) {
        self.bindings.push(binding);
        let mut family = self.addresses.iter().filter(|addr| addr.is_ipv6() == binding.v6);
        if let Some(addr) = family.nth(binding.place) {
            let local = SocketAddr::new(*addr, binding.port);
            self.by_socket.insert((binding.socket, binding.v6), local);
            self.by_address.insert(local, binding.socket);
        }
    }
}

/// What a datagram comes from that no socket sends.
pub(crate) const fn nowhere(v6: bool) -> SocketAddr {
    let addr = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    SocketAddr::new(addr, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn locals(sockets: &Sockets) -> Vec<String> {
        sockets.list().into_iter().map(|(socket, local)| format!("{socket:?} {local}")).collect()
    }

    #[test]
    fn sockets_follow_their_host_to_other_addresses() {
        let mut s = Sockets::default();
        s.set_addresses(&addrs(&["192.0.2.1", "192.0.2.2", "2001:db8::1"]));
        assert!(s.open(Socket::Main, 4789));
        assert!(s.bind(Socket::Other(2), "192.0.2.2:4789".parse().unwrap()));
        assert_eq!(locals(&s), ["Main 192.0.2.1:4789", "Main [2001:db8::1]:4789", "Other(2) 192.0.2.2:4789"]);
        s.set_addresses(&addrs(&["2001:db8::9"]));
        assert_eq!(locals(&s), ["Main [2001:db8::9]:4789"]);
        assert_eq!(s.source(Socket::Main, false), None);
        s.set_addresses(&addrs(&["198.51.100.1", "198.51.100.2"]));
        assert_eq!(locals(&s), ["Main 198.51.100.1:4789", "Other(2) 198.51.100.2:4789"]);
        assert_eq!(s.at("198.51.100.2:4789".parse().unwrap()), Some(Socket::Other(2)));
        assert_eq!(s.at("192.0.2.1:4789".parse().unwrap()), None);
    }

    #[test]
    fn no_two_sockets_have_one_port() {
        let mut s = Sockets::default();
        s.set_addresses(&addrs(&["192.0.2.1"]));
        assert!(s.open(Socket::Main, 4789));
        assert!(!s.open(Socket::Extra(1), 4789));
        assert!(!s.bind(Socket::Extra(1), "192.0.2.1:4789".parse().unwrap()));
        assert!(!s.bind(Socket::Extra(1), "192.0.2.9:5000".parse().unwrap()));
        let mut rng = Rng::new(1);
        let port = s.ephemeral(&mut rng).unwrap();
        assert!(s.open(Socket::Extra(1), port));
        assert_ne!(s.ephemeral(&mut Rng::new(1)), Some(port));
        assert!(s.open(Socket::Extra(1), 5001), "one that is open is closed before");
        assert_eq!(locals(&s), ["Main 192.0.2.1:4789", "Extra(1) 192.0.2.1:5001"]);
        s.close_extra();
        assert_eq!(locals(&s), ["Main 192.0.2.1:4789"]);
    }
}
