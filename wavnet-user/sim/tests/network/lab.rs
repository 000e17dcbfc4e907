//! A network of puppets, and sending single datagrams through it.

use std::{
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
    time::Duration,
};

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    HostId, Network, Prefix, Reason, RouterConfig, RouterId, Seed, SegmentId,
    nat::{Behaviour, NatConfig, NextPort, Ports},
};

use crate::nodes::Puppet;

pub(crate) const INTERNET: SegmentId = SegmentId::INTERNET;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

pub(crate) const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A NAT of these behaviours. Its ports count up from 20000.
pub(crate) fn nat(mapping: Behaviour, filtering: Behaviour) -> NatConfig {
    let ports = Ports { preserve: false, next: NextPort::Sequential { step: 1 }, range: 20000..=65535 };
    NatConfig { mapping, filtering, ports, ..NatConfig::default() }
}

/// Where a datagram came to, and from where as it was seen there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) host: HostId,
    pub(crate) socket: Socket,
    pub(crate) from: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// A network whose datagrams are numbered.
pub(crate) struct Lab {
    net: Network<Puppet>,
    sent: u32,
}

impl Deref for Lab {
    type Target = Network<Puppet>;

    fn deref(&self) -> &Network<Puppet> {
        &self.net
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Network<Puppet> {
        &mut self.net
    }
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::seeded(Seed::from_env_or(9))
    }

    pub(crate) fn seeded(seed: Seed) -> Lab {
        let mut net = Network::new(seed);
        net.keep_trace(100);
        Lab { net, sent: 0 }
    }

    pub(crate) fn host(&mut self, segment: SegmentId, addresses: &[&str]) -> HostId {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
        self.net.add_host(segment, &addresses, Puppet::default())
    }

    pub(crate) fn router(&mut self, outside: SegmentId, external: &str, inside: &str, nat: NatConfig) -> RouterId {
        self.net.add_router(outside, RouterConfig::nat(ip(external), prefix(inside), nat))
    }

    /// Sends a datagram and waits until nothing is on its way any more. Says who got it, or why nobody did.
    pub(crate) fn send(&mut self, host: HostId, from: Socket, to: SocketAddr) -> Result<Seen, Reason> {
        let before = self.host_stats(host).lost.clone();
        let number = self.launch(host, from, to);
        while self.totals().in_flight > 0 {
            assert!(self.net.step());
        }
        let seen = self.find(number);
        match seen.first() {
            Some(seen) => Ok(*seen),
            None => {
                let lost = &self.host_stats(host).lost;
                let reason = Reason::ALL.iter().find(|reason| lost.of(**reason) > before.of(**reason));
                Err(*reason.expect("what was not delivered was dropped"))
            }
        }
    }

    /// Sends a datagram with a number, which is returned.
    pub(crate) fn launch(&mut self, host: HostId, from: Socket, to: SocketAddr) -> u32 {
        self.sent += 1;
        let number = self.sent;
        self.net.act(host, |puppet, _| puppet.send(from, to, &number.to_be_bytes()));
        number
    }

    /// Where the datagram of this number was received.
    pub(crate) fn find(&self, number: u32) -> Vec<Seen> {
        let mut seen = Vec::new();
        for host in self.net.hosts().filter(|host| self.net.is_running(*host)) {
            let received = self.net.node(host).received.iter().filter(|r| r.payload == number.to_be_bytes());
            seen.extend(received.map(|r| Seen { host, socket: r.socket, from: r.from, local: r.local }));
        }
        seen
    }

    /// Sends from the main socket and says from where it was seen to come.
    pub(crate) fn mapped(&mut self, host: HostId, to: SocketAddr) -> SocketAddr {
        self.send(host, Socket::Main, to).unwrap().from
    }
}

/// A host X behind a router, and Y and Z on the internet. Y has two ports.
pub(crate) struct Site {
    pub(crate) lab: Lab,
    pub(crate) router: RouterId,
    pub(crate) x: HostId,
    pub(crate) y: HostId,
    pub(crate) z: HostId,
}

pub(crate) const EXTERNAL: &str = "198.51.100.1";

/// Y's second port.
pub(crate) const Y2: Socket = Socket::Other(1);

impl Site {
    pub(crate) fn new(nat: NatConfig) -> Site {
        let mut lab = Lab::new();
        let y = lab.host(INTERNET, &["192.0.2.1"]);
        let z = lab.host(INTERNET, &["192.0.2.2"]);
        lab.bind(y, Y2, at("192.0.2.1:4790"));
        let router = lab.router(INTERNET, EXTERNAL, "192.168.1.0/24", nat);
        let lan = lab.lan(router);
        let x = lab.host(lan, &["192.168.1.2"]);
        Site { lab, router, x, y, z }
    }

    /// X sends there; how it is seen.
    pub(crate) fn out(&mut self, to: &str) -> SocketAddr {
        let Site { lab, x, .. } = self;
        lab.mapped(*x, at(to))
    }

    /// Somebody outside sends there; whether X gets it.
    pub(crate) fn comes_in(&mut self, from: HostId, socket: Socket, to: SocketAddr) -> Result<(), Reason> {
        let seen = self.lab.send(from, socket, to)?;
        assert_eq!((seen.host, seen.socket, seen.local), (self.x, Socket::Main, at("192.168.1.2:4789")));
        Ok(())
    }
}

pub(crate) const TO_Y1: &str = "192.0.2.1:4789";
pub(crate) const TO_Y2: &str = "192.0.2.1:4790";
pub(crate) const TO_Z: &str = "192.0.2.2:4789";
