//! Routers that filter and do not translate: IPv6, and IPv4 sites with addresses of their own.

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    HostId, Ipv4, Reason, RouterConfig, RouterId,
    nat::{
        Behaviour::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent},
        FirewallConfig, NatConfig,
    },
};

use crate::lab::{INTERNET, Lab, at, ip, prefix, seconds};

/// X behind a router, Y with two ports and Z outside; both families.
fn site(v4: Ipv4, v6: Option<FirewallConfig>) -> (Lab, RouterId, [HostId; 3]) {
    let mut lab = Lab::new();
    let y = lab.host(INTERNET, &["192.0.2.1", "2001:db8:f::1"]);
    let z = lab.host(INTERNET, &["192.0.2.2", "2001:db8:f::2"]);
    lab.bind(y, Socket::Other(1), at("[2001:db8:f::1]:4790"));
    lab.bind(y, Socket::Other(1), at("192.0.2.1:4790"));
    let config = RouterConfig {
        external: vec![ip("198.51.100.1")],
        inside: vec![prefix("203.0.113.0/24"), prefix("2001:db8:1::/48")],
        v4,
        v6,
    };
    let router = lab.add_router(INTERNET, config);
    let lan = lab.lan(router);
    let x = lab.host(lan, &["203.0.113.2", "2001:db8:1::2"]);
    (lab, router, [x, y, z])
}

const OUTSIDE: [(&str, &str); 2] =
    [("192.0.2.1:4789", "203.0.113.2:4789"), ("[2001:db8:f::1]:4789", "[2001:db8:1::2]:4789")];

#[test]
fn a_firewall_translates_nothing_and_filters_as_it_says() {
    for filtering in Behaviour::ALL {
        let firewall = FirewallConfig { filtering, ..FirewallConfig::default() };
        for (to, own) in OUTSIDE {
            let (mut lab, router, [x, y, z]) = site(Ipv4::Routed(Some(firewall.clone())), Some(firewall.clone()));
            let own = at(own);
            assert_eq!(lab.send(y, Socket::Main, own), Err(Reason::Filtered), "X has sent nothing");
            assert_eq!(lab.mapped(x, at(to)), own);
            let mut allowed = |from, socket| match lab.send(from, socket, own) {
                Ok(seen) => seen.host == x,
                Err(reason) => {
                    assert_eq!(reason, Reason::Filtered);
                    false
                }
            };
            let seen = (allowed(y, Socket::Main), allowed(y, Socket::Other(1)), allowed(z, Socket::Main));
            let expected = match filtering {
                EndpointIndependent => (true, true, true),
                AddressDependent => (true, true, false),
                AddressAndPortDependent => (true, false, false),
            };
            assert_eq!(seen, expected, "{filtering:?} {to}");
            let stats = lab.router_stats(router);
            assert_eq!(stats.mappings.created, 0);
            assert_eq!(stats.flows.now, [true, seen.1, seen.2].iter().filter(|passed| **passed).count());
            lab.run_for(seconds(31));
            assert_eq!(lab.send(y, Socket::Main, own), Err(Reason::Filtered), "it forgets");
            assert_eq!(lab.router_stats(router).flows.now, 0);
        }
    }
}

#[test]
fn a_firewall_reboots_and_has_a_limit() {
    let firewall = FirewallConfig { max_flows: 1, ..FirewallConfig::default() };
    for (to, own) in OUTSIDE {
        let (mut lab, router, [x, y, _]) = site(Ipv4::Routed(Some(firewall.clone())), Some(firewall.clone()));
        assert!(lab.send(x, Socket::Main, at(to)).is_ok());
        let second = if at(to).is_ipv4() { "192.0.2.2:4789" } else { "[2001:db8:f::2]:4789" };
        assert_eq!(lab.send(x, Socket::Main, at(second)), Err(Reason::TableFull));
        lab.reboot(router);
        assert_eq!(lab.send(y, Socket::Main, at(own)), Err(Reason::Filtered));
        assert!(lab.send(x, Socket::Main, at(second)).is_ok());
    }
}

#[test]
fn a_router_without_firewall_lets_everything_through() {
    for (_, own) in OUTSIDE {
        let (mut lab, router, [x, y, _]) = site(Ipv4::Routed(None), None);
        assert_eq!(lab.send(y, Socket::Main, at(own)).unwrap().host, x);
        assert_eq!(lab.router_stats(router).inbound, 1);
        // Its own address, from both sides.
        assert_eq!(lab.send(y, Socket::Main, at("198.51.100.1:4789")), Err(Reason::ForRouter));
        assert_eq!(lab.send(x, Socket::Main, at("198.51.100.1:4789")), Err(Reason::ForRouter));
        // Of its prefixes, what nobody has.
        let nobody = if at(own).is_ipv4() { "203.0.113.77:4789" } else { "[2001:db8:1:1::7]:4789" };
        assert_eq!(lab.send(y, Socket::Main, at(nobody)), Err(Reason::NoRoute));
    }
}

/// The usual home: IPv4 is translated, IPv6 only filtered; each with a table of its own.
#[test]
fn a_host_has_both_families() {
    let mut lab = Lab::new();
    let y = lab.host(INTERNET, &["192.0.2.1", "2001:db8:f::1"]);
    let mut config = RouterConfig::nat(ip("198.51.100.1"), prefix("192.168.1.0/24"), NatConfig::symmetric());
    config.inside.push(prefix("2001:db8:1::/64"));
    let router = lab.add_router(INTERNET, config);
    let lan = lab.lan(router);
    let x = lab.host(lan, &["192.168.1.2", "2001:db8:1::2"]);
    let v4 = lab.mapped(x, at("192.0.2.1:4789"));
    let v6 = lab.mapped(x, at("[2001:db8:f::1]:4789"));
    assert_eq!((v4.ip(), v6), (ip("198.51.100.1"), at("[2001:db8:1::2]:4789")));
    for (to, local) in [(v4, "192.168.1.2:4789"), (v6, "[2001:db8:1::2]:4789")] {
        let seen = lab.send(y, Socket::Main, to).unwrap();
        assert_eq!((seen.host, seen.socket, seen.local), (x, Socket::Main, at(local)));
    }
    let stats = lab.router_stats(router);
    assert_eq!((stats.mappings.now, stats.flows.now), (1, 2));
}

/// A prefix that a router got from the one outside it is reached through both.
#[test]
fn prefixes_are_delegated() {
    let mut lab = Lab::new();
    let y = lab.host(INTERNET, &["2001:db8:f::1"]);
    let only_v6 = |inside: &str| RouterConfig {
        external: Vec::new(),
        inside: vec![prefix(inside)],
        v4: Ipv4::Routed(None),
        v6: Some(FirewallConfig::default()),
    };
    let outer = lab.add_router(INTERNET, only_v6("2001:db8:1::/48"));
    let between = lab.lan(outer);
    let inner = lab.add_router(between, only_v6("2001:db8:1:5::/64"));
    let lan = lab.lan(inner);
    let x = lab.host(lan, &["2001:db8:1:5::2"]);
    let w = lab.host(between, &["2001:db8:1::9"]);
    assert_eq!(lab.mapped(x, at("[2001:db8:f::1]:4789")), at("[2001:db8:1:5::2]:4789"));
    assert_eq!(lab.send(y, Socket::Main, at("[2001:db8:1:5::2]:4789")).unwrap().host, x);
    // A neighbour of the inner router is outside for it alone.
    assert_eq!(lab.send(w, Socket::Main, at("[2001:db8:1:5::2]:4789")), Err(Reason::Filtered));
    assert_eq!(lab.mapped(x, at("[2001:db8:1::9]:4789")), at("[2001:db8:1:5::2]:4789"));
    assert_eq!(lab.send(w, Socket::Main, at("[2001:db8:1:5::2]:4789")).unwrap().host, x);
}
