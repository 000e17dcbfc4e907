//! RFC 4787 section 4.2: which port a mapping gets.

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    Reason,
    nat::{
        Behaviour::{AddressAndPortDependent, EndpointIndependent},
        NatConfig, NextPort, Ports,
    },
};

use crate::lab::{Site, TO_Y1, TO_Y2, TO_Z, at, nat};

fn with(ports: Ports, base: NatConfig) -> NatConfig {
    NatConfig { ports, ..base }
}

/// "Port preservation": the internal port is kept, unless another internal endpoint has it.
#[test]
fn ports_are_kept_while_they_are_free() {
    let mut site = Site::new(NatConfig::port_restricted_cone());
    assert_eq!(site.out(TO_Y1), at("198.51.100.1:4789"));
    let lan = site.lab.lan(site.router);
    let other = site.lab.host(lan, &["192.168.1.3"]);
    let second = site.lab.mapped(other, at(TO_Y1));
    assert_ne!(second.port(), 4789);
    assert_eq!(site.lab.mapped(other, at(TO_Z)), second, "and the same towards its next destination");
    site.lab.open(other, Socket::Extra(0), 7000);
    assert_eq!(site.lab.send(other, Socket::Extra(0), at(TO_Y1)).unwrap().from, at("198.51.100.1:7000"));
}

/// A symmetric NAT that keeps ports can do so for one endpoint outside alone.
#[test]
fn a_symmetric_nat_keeps_a_port_once() {
    let ports = Ports { preserve: true, next: NextPort::Sequential { step: 1 }, range: 1024..=65535 };
    let mut site = Site::new(with(ports, NatConfig::symmetric()));
    let seen: Vec<_> = [TO_Y1, TO_Y2, TO_Z].map(|to| site.out(to).port()).into();
    assert_eq!(seen, [4789, 1024, 1025]);
}

#[test]
fn sequential_ports_go_up_by_their_step_whoever_asks() {
    for step in [1, 2, 7] {
        let ports = Ports { preserve: false, next: NextPort::Sequential { step }, range: 30000..=40000 };
        let mut site = Site::new(with(ports, NatConfig::symmetric()));
        let lan = site.lab.lan(site.router);
        let other = site.lab.host(lan, &["192.168.1.3"]);
        let first = site.out(TO_Y1).port();
        let between = site.lab.mapped(other, at(TO_Y1)).port();
        let third = site.out(TO_Y2).port();
        assert_eq!([first, between, third], [30000, 30000 + step, 30000 + 2 * step]);
    }
}

#[test]
fn random_ports_are_of_the_range_and_no_sequence() {
    let ports = Ports { preserve: false, next: NextPort::Random, range: 50000..=50999 };
    let mut site = Site::new(with(ports, NatConfig::symmetric()));
    let seen: Vec<u16> = (0..200u16)
        .map(|n| {
            site.lab.open(site.x, Socket::Extra(n), 10000 + n);
            site.lab.send(site.x, Socket::Extra(n), at(TO_Y1)).unwrap().from.port()
        })
        .collect();
    assert!(seen.iter().all(|port| (50000..=50999).contains(port)), "{seen:?}");
    let mut distinct = seen.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), seen.len());
    let rising = seen.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((60..140).contains(&rising), "{rising} of 199 go up");
    assert!(distinct[0] < 50100 && distinct[199] > 50900, "{distinct:?}");
}

#[test]
fn a_range_that_is_used_up_is_said_to_be() {
    for next in [NextPort::Random, NextPort::Sequential { step: 3 }] {
        let ports = Ports { preserve: true, next, range: 4000..=4002 };
        let mut site = Site::new(with(ports, nat(AddressAndPortDependent, EndpointIndependent)));
        let mut seen: Vec<_> = (0..2u16)
            .map(|n| {
                site.lab.open(site.x, Socket::Extra(n), 5000 + n);
                site.lab.send(site.x, Socket::Extra(n), at(TO_Y1)).unwrap().from.port()
            })
            .collect();
        seen.push(site.out(TO_Y1).port());
        seen.sort_unstable();
        assert_eq!(seen, [4000, 4001, 4002]);
        assert_eq!(site.lab.send(site.x, Socket::Main, at(TO_Z)), Err(Reason::NoPort));
        assert_eq!(site.lab.router_stats(site.router).dropped.of(Reason::NoPort), 1);
    }
}
