//! RFC 4787 section 4.1: what an outer endpoint depends on.

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    Reason, RouterConfig,
    nat::{
        Behaviour::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent},
        NatConfig, Pooling, Scope,
    },
};

use crate::lab::{EXTERNAL, INTERNET, Lab, Site, TO_Y1, TO_Y2, TO_Z, at, ip, nat, prefix, seconds};

/// "The NAT reuses the port mapping for subsequent packets sent from the same internal IP address and port" to any external address and
/// port; to the same external address, regardless of the port; to the same address and port.
#[test]
fn a_mapping_is_reused_as_its_behaviour_says() {
    for filtering in Behaviour::ALL {
        for mapping in Behaviour::ALL {
            let mut site = Site::new(nat(mapping, filtering));
            let (y1, y2, z) = (site.out(TO_Y1), site.out(TO_Y2), site.out(TO_Z));
            assert!([y1, y2, z].iter().all(|addr| addr.ip() == ip(EXTERNAL)));
            let same = (y1 == y2, y1 == z, y2 == z);
            let (expected, mappings) = match mapping {
                EndpointIndependent => ((true, true, true), 1),
                AddressDependent => ((true, false, false), 2),
                AddressAndPortDependent => ((false, false, false), 3),
            };
            assert_eq!(same, expected, "{mapping:?} {y1} {y2} {z}");
            // And once more.
            assert_eq!((site.out(TO_Y1), site.out(TO_Y2), site.out(TO_Z)), (y1, y2, z), "{mapping:?}");
            let stats = site.lab.router_stats(site.router);
            assert_eq!((stats.mappings.now, stats.mappings.created), (mappings, mappings as u64));
            assert_eq!((stats.flows.now, stats.flows.created), (3, 3), "one for each endpoint outside");
            assert_eq!(stats.outbound, 6);
        }
    }
}

#[test]
fn another_socket_or_host_has_another_mapping() {
    for mapping in Behaviour::ALL {
        let mut site = Site::new(nat(mapping, EndpointIndependent));
        let first = site.out(TO_Y1);
        let lan = site.lab.lan(site.router);
        let other = site.lab.host(lan, &["192.168.1.3"]);
        let second = site.lab.mapped(other, at(TO_Y1));
        site.lab.open(site.x, Socket::Extra(1), 5000);
        let third = site.lab.send(site.x, Socket::Extra(1), at(TO_Y1)).unwrap().from;
        assert!(first != second && second != third && first != third, "{first} {second} {third}");
        // Each leads back to its own.
        let back = |site: &mut Site, to| site.lab.send(site.y, Socket::Main, to).unwrap();
        let (a, b, c) = (back(&mut site, first), back(&mut site, second), back(&mut site, third));
        assert_eq!((a.host, b.host, c.host), (site.x, other, site.x));
        assert_eq!((a.socket, b.socket, c.socket), (Socket::Main, Socket::Main, Socket::Extra(1)));
    }
}

#[test]
fn mappings_can_be_looked_at() {
    let mut site = Site::new(nat(AddressDependent, AddressDependent));
    let (y, z) = (site.out(TO_Y1), site.out(TO_Z));
    let mappings: Vec<_> = site.lab.mappings(site.router).map(|m| (m.internal, m.external, m.scope)).collect();
    let x = at("192.168.1.2:4789");
    assert_eq!(mappings, [(x, y, Scope::Address(ip("192.0.2.1"))), (x, z, Scope::Address(ip("192.0.2.2")))]);
    site.lab.run_for(seconds(31));
    assert_eq!(site.lab.mappings(site.router).count(), 0);
}

/// REQ-2: "A NAT is RECOMMENDED to have an IP address pooling behavior of Paired."
#[test]
fn a_pool_is_paired_or_arbitrary() {
    let pool = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
    let addresses_of = |pooling| {
        let nat = NatConfig { pooling, ..nat(AddressAndPortDependent, AddressAndPortDependent) };
        let mut lab = Lab::new();
        let outside: Vec<_> = (1..=20).map(|n| lab.host(INTERNET, &[&format!("192.0.2.{n}")])).collect();
        let config = RouterConfig {
            external: pool.map(ip).to_vec(),
            ..RouterConfig::nat(ip(pool[0]), prefix("10.0.0.0/8"), nat)
        };
        let router = lab.add_router(INTERNET, config);
        let lan = lab.lan(router);
        let inside: Vec<_> = (2..=5).map(|n| lab.host(lan, &[&format!("10.0.0.{n}")])).collect();
        let mut used = Vec::new();
        for host in inside {
            let mut of_host: Vec<_> = Vec::new();
            for other in &outside {
                let to = lab.main_address(*other);
                let seen = lab.mapped(host, to);
                assert!(lab.send(*other, Socket::Main, seen).is_ok_and(|back| back.host == host));
                of_host.push(seen.ip());
            }
            of_host.sort();
            of_host.dedup();
            used.push(of_host);
        }
        used
    };
    let paired = addresses_of(Pooling::Paired);
    assert_eq!(paired, [vec![ip(pool[0])], vec![ip(pool[1])], vec![ip(pool[2])], vec![ip(pool[0])]]);
    let arbitrary = addresses_of(Pooling::Arbitrary);
    assert_eq!(arbitrary, vec![pool.map(ip).to_vec(); 4]);
}

/// A host that was paired with an address which the router has no more gets one that it has.
#[test]
fn a_smaller_pool_pairs_anew() {
    let mut lab = Lab::new();
    lab.host(INTERNET, &["192.0.2.1"]);
    let config = RouterConfig {
        external: ["198.51.100.1", "198.51.100.2"].map(ip).to_vec(),
        ..RouterConfig::nat(ip("198.51.100.1"), prefix("10.0.0.0/8"), NatConfig::symmetric())
    };
    let router = lab.add_router(INTERNET, config);
    let lan = lab.lan(router);
    let hosts = [lab.host(lan, &["10.0.0.2"]), lab.host(lan, &["10.0.0.3"])];
    assert_eq!(hosts.map(|host| lab.mapped(host, at(TO_Y1)).ip()), ["198.51.100.1", "198.51.100.2"].map(ip));
    lab.renumber(router, &[ip("198.51.100.3")]);
    assert_eq!(hosts.map(|host| lab.mapped(host, at(TO_Y1)).ip()), ["198.51.100.3", "198.51.100.3"].map(ip));
}

#[test]
fn a_nat_has_no_more_mappings_and_flows_than_it_may() {
    let limited = |max_mappings, max_flows| {
        let nat = NatConfig { max_mappings, max_flows, ..nat(AddressDependent, AddressDependent) };
        let mut site = Site::new(nat);
        let results: Vec<_> = [TO_Y1, TO_Y2, TO_Z, TO_Y1].map(|to| site.lab.send(site.x, Socket::Main, at(to))).into();
        let outcome: Vec<_> = results.into_iter().map(|result| result.map(|_| ())).collect();
        let stats = site.lab.router_stats(site.router);
        assert_eq!(stats.dropped.of(Reason::TableFull), outcome.iter().filter(|r| r.is_err()).count() as u64);
        // Room comes with time.
        site.lab.run_for(seconds(31));
        assert!(site.lab.send(site.x, Socket::Main, at(TO_Z)).is_ok());
        let after = site.lab.router_stats(site.router);
        (outcome, stats.mappings.peak, stats.flows.peak, after.mappings.now, after.mappings.peak)
    };
    let full = Err(Reason::TableFull);
    assert_eq!(limited(1, 10), (vec![Ok(()), Ok(()), full, Ok(())], 1, 2, 1, 1));
    assert_eq!(limited(10, 1), (vec![Ok(()), full, full, Ok(())], 1, 1, 1, 1));
    assert_eq!(limited(2, 3), (vec![Ok(()); 4], 2, 3, 1, 2));
}
