//! Routers in a row, beside each other, and when they change: LANs, double NAT, hairpins, reboots, other addresses.

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    Reason, RouterConfig,
    nat::{Behaviour::EndpointIndependent, NatConfig},
};

use crate::lab::{INTERNET, Lab, Site, TO_Y1, TO_Z, at, ip, nat, prefix};

const CONE: fn() -> NatConfig = NatConfig::port_restricted_cone;

#[test]
fn hosts_on_a_lan_reach_each_other_without_their_router() {
    let mut site = Site::new(CONE());
    let lan = site.lab.lan(site.router);
    let other = site.lab.host(lan, &["192.168.1.3"]);
    site.lab.set_up(site.router, false);
    let seen = site.lab.send(site.x, Socket::Main, at("192.168.1.3:4789")).unwrap();
    assert_eq!((seen.host, seen.from), (other, at("192.168.1.2:4789")));
    assert_eq!(site.lab.send(site.x, Socket::Main, at(TO_Y1)), Err(Reason::LinkDown));
    assert_eq!(site.lab.send(site.x, Socket::Main, at("192.168.1.99:4789")), Err(Reason::NoRoute));
}

#[test]
fn private_addresses_lead_nowhere_outside() {
    let mut site = Site::new(CONE());
    let y = site.y;
    assert_eq!(site.lab.send(y, Socket::Main, at("192.168.1.2:4789")), Err(Reason::NoRoute));
    // X's router translates even what goes to another LAN's prefix, and nobody has it.
    assert_eq!(site.lab.send(site.x, Socket::Main, at("10.0.0.7:4789")), Err(Reason::NoRoute));
    assert_eq!(site.lab.router_stats(site.router).flows.now, 1);
}

/// Two LANs of one prefix: an address means a neighbour on each, never the host on the other.
#[test]
fn two_lans_may_have_the_same_prefix() {
    let mut lab = Lab::new();
    let mut sites = ["198.51.100.1", "198.51.100.2"].map(|external| {
        let router = lab.router(INTERNET, external, "192.168.1.0/24", NatConfig::full_cone());
        let lan = lab.lan(router);
        [lab.host(lan, &["192.168.1.2"]), lab.host(lan, &["192.168.1.3"])]
    });
    for [a, b] in &mut sites {
        assert_eq!(lab.send(*a, Socket::Main, at("192.168.1.3:4789")).unwrap().host, *b);
    }
    let y = lab.host(INTERNET, &["192.0.2.1"]);
    assert_eq!(lab.mapped(sites[1][0], at(TO_Y1)), at("198.51.100.2:4789"));
    let seen = lab.send(sites[0][0], Socket::Main, at("198.51.100.2:4789")).unwrap();
    assert_eq!((seen.host, seen.from), (sites[1][0], at("198.51.100.1:4789")));
    assert!(lab.node(y).received.len() == 1);
}

/// REQ-9: "A NAT MUST support 'Hairpinning'", with "External source IP address and port".
#[test]
fn a_hairpin_is_seen_from_outside() {
    for hairpin in [true, false] {
        let mut site = Site::new(NatConfig { hairpin, ..nat(EndpointIndependent, EndpointIndependent) });
        let lan = site.lab.lan(site.router);
        let other = site.lab.host(lan, &["192.168.1.3"]);
        let mapped = site.out(TO_Y1);
        let sent = site.lab.send(other, Socket::Main, mapped);
        if !hairpin {
            assert_eq!(sent, Err(Reason::NoHairpin));
            continue;
        }
        let seen = sent.unwrap();
        assert_eq!((seen.host, seen.local), (site.x, at("192.168.1.2:4789")));
        assert_eq!(seen.from, site.lab.mapped(other, at(TO_Y1)), "the mapping that all see");
        // And back, and to itself.
        let back = site.lab.send(site.x, Socket::Main, seen.from).unwrap();
        assert_eq!((back.host, back.from), (other, mapped));
        let own = site.lab.send(site.x, Socket::Main, mapped).unwrap();
        assert_eq!((own.host, own.from), (site.x, mapped));
        assert_eq!(site.lab.router_stats(site.router).hairpinned, 3);
        assert_eq!(site.lab.link_stats(site.router, wavnet_sim::Direction::Up).carried, 2, "nothing of it went out");
    }
}

/// A hairpin is filtered as what comes from outside is.
#[test]
fn a_hairpin_is_filtered_as_others_are() {
    let mut site = Site::new(NatConfig { hairpin: true, ..CONE() });
    let lan = site.lab.lan(site.router);
    let other = site.lab.host(lan, &["192.168.1.3"]);
    let (x_mapped, other_mapped) = (site.out(TO_Y1), site.lab.mapped(other, at(TO_Y1)));
    assert_eq!(site.lab.send(other, Socket::Main, x_mapped), Err(Reason::Filtered));
    assert_eq!(site.lab.send(site.x, Socket::Main, other_mapped).unwrap().host, other);
    assert_eq!(site.lab.send(other, Socket::Main, x_mapped).unwrap().host, site.x);
    assert_eq!(site.lab.send(other, Socket::Main, at("198.51.100.1:9")), Err(Reason::NoMapping));
}

/// Behind a carrier's NAT: an address of the shared address space (RFC 6598) between the two.
#[test]
fn two_nats_in_a_row_translate_both() {
    let mut lab = Lab::new();
    let y = lab.host(INTERNET, &["192.0.2.1"]);
    let carrier = NatConfig { hairpin: true, ..nat(EndpointIndependent, EndpointIndependent) };
    let cgn = lab.router(INTERNET, "198.51.100.1", "100.64.0.0/10", carrier);
    let shared = lab.lan(cgn);
    let homes = ["100.64.0.2", "100.64.0.3"].map(|external| {
        let router = lab.router(shared, external, "192.168.1.0/24", CONE());
        let lan = lab.lan(router);
        (router, lab.host(lan, &["192.168.1.2"]))
    });
    let [(first, a), (second, b)] = homes;
    let (a_mapped, b_mapped) = (lab.mapped(a, at(TO_Y1)), lab.mapped(b, at(TO_Y1)));
    assert_eq!((a_mapped, b_mapped), (at("198.51.100.1:20000"), at("198.51.100.1:20001")));
    assert_eq!(lab.mappings(first).next().unwrap().external, at("100.64.0.2:4789"));
    assert_eq!(lab.mappings(cgn).next().unwrap().internal, at("100.64.0.2:4789"));
    assert_eq!(lab.send(y, Socket::Main, a_mapped).unwrap().host, a);
    // Neighbours of one carrier reach each other by what the world sees of them, if it hairpins; both homes filter.
    assert_eq!(lab.send(a, Socket::Main, b_mapped), Err(Reason::Filtered));
    let seen = lab.send(b, Socket::Main, a_mapped).unwrap();
    assert_eq!((seen.host, seen.from), (a, b_mapped));
    // And by what the carrier sees of them, without hairpin.
    assert_eq!(lab.send(a, Socket::Main, at("100.64.0.3:4789")), Err(Reason::Filtered));
    let seen = lab.send(b, Socket::Main, at("100.64.0.2:4789")).unwrap();
    assert_eq!((seen.host, seen.from), (a, at("100.64.0.3:4789")));
    let hairpinned = [first, second, cgn].map(|router| lab.router_stats(router).hairpinned);
    assert_eq!(hairpinned, [0, 0, 2]);
    // The trace shows the way.
    let line = "192.168.1.2:4789 → r2 100.64.0.3:4789 → r0 198.51.100.1:20001 → 198.51.100.1:20000 → r0 100.64.0.2:4789 → \
                r1 192.168.1.2:4789  4 bytes  delivered to h1";
    assert!(lab.trace().contains(line), "{}", lab.trace());
}

#[test]
fn a_reboot_forgets_everything() {
    let mut site = Site::new(nat(EndpointIndependent, EndpointIndependent));
    let (y, first) = (site.y, site.out(TO_Y1));
    assert_eq!(site.comes_in(y, Socket::Main, first), Ok(()));
    let lan = site.lab.lan(site.router);
    let other = site.lab.host(lan, &["192.168.1.3"]);
    let second = site.lab.mapped(other, at(TO_Y1));
    site.lab.reboot(site.router);
    assert_eq!(site.comes_in(y, Socket::Main, first), Err(Reason::NoMapping));
    let stats = site.lab.router_stats(site.router);
    assert_eq!((stats.mappings.now, stats.mappings.created, stats.flows.now, stats.flows.peak), (0, 2, 0, 2));
    // Ports count from the start again, and whoever comes first has the first.
    assert_eq!(site.lab.mapped(other, at(TO_Y1)), first);
    assert_eq!(site.out(TO_Y1), second);
}

#[test]
fn a_router_gets_another_address() {
    let mut site = Site::new(CONE());
    let (y, old) = (site.y, site.out(TO_Y1));
    site.lab.renumber(site.router, &[ip("203.0.113.9")]);
    assert_eq!(site.comes_in(y, Socket::Main, old), Err(Reason::NoRoute));
    let new = site.out(TO_Y1);
    assert_eq!(new, at("203.0.113.9:4789"));
    assert_eq!(site.comes_in(y, Socket::Main, new), Ok(()));
    // The old one may be somebody else's.
    let heir = site.lab.host(INTERNET, &["198.51.100.1"]);
    assert_eq!(site.lab.send(y, Socket::Main, old).unwrap().host, heir);
}

/// A host that roams has a mapping on each router that it was behind, and is reached by the last.
#[test]
fn a_host_roams_from_one_nat_to_another() {
    let mut site = Site::new(CONE());
    let lab = &mut site.lab;
    let other = lab.router(INTERNET, "203.0.113.1", "192.168.1.0/24", CONE());
    let (x, y) = (site.x, site.y);
    let old = lab.mapped(x, at(TO_Y1));
    let lan = lab.lan(other);
    lab.move_host(x, lan, &[ip("192.168.1.2")]);
    assert_eq!(lab.node(x).sockets, [(Socket::Main, at("192.168.1.2:4789"))]);
    // It has the same private address on the other LAN, and is not found on the old one.
    assert_eq!(lab.send(y, Socket::Main, old), Err(Reason::NoRoute));
    let new = lab.mapped(x, at(TO_Y1));
    assert_eq!(new, at("203.0.113.1:4789"));
    assert_eq!(lab.send(y, Socket::Main, new).unwrap().host, x);
    // To the open internet, and back home with another address.
    lab.move_host(x, INTERNET, &[ip("192.0.2.77")]);
    assert_eq!(lab.mapped(x, at(TO_Y1)), at("192.0.2.77:4789"));
    assert_eq!(lab.send(y, Socket::Main, at("192.0.2.77:4789")).unwrap().local, at("192.0.2.77:4789"));
    let home = lab.lan(site.router);
    lab.move_host(x, home, &[ip("192.168.1.5")]);
    let again = lab.mapped(x, at(TO_Z));
    assert_ne!(again, old, "the mapping that it had is another address's");
}

#[test]
fn vacant_addresses_are_nobodys() {
    let mut lab = Lab::new();
    let mut config = RouterConfig::nat(ip("198.18.0.2"), prefix("192.168.1.0/29"), CONE());
    config.inside.push(prefix("2001:db8:1::/64"));
    let router = lab.add_router(INTERNET, config);
    let lan = lab.lan(router);
    lab.host(lan, &["192.168.1.3"]);
    let addresses = [lab.vacant_v4(INTERNET), lab.vacant_v4(INTERNET), lab.vacant_v4(lan), lab.vacant_v4(lan)];
    assert_eq!(addresses, ["198.18.0.1", "198.18.0.3", "192.168.1.2", "192.168.1.4"].map(ip));
    assert!(prefix("2001:2::/48").contains(lab.vacant_v6(INTERNET)));
    assert!(prefix("2001:db8:1::/64").contains(lab.vacant_v6(lan)));
}

/// What goes round in circles ends: an adversary on a LAN that claims the router's own address, and a NAT that believes it.
#[test]
fn nothing_goes_round_for_ever() {
    let mut site = Site::new(NatConfig { hairpin: true, ..nat(EndpointIndependent, EndpointIndependent) });
    let lan = site.lab.lan(site.router);
    let mapped = at("198.51.100.1:20000");
    let datagram = wavnet_sim::Datagram { from: mapped, to: at(TO_Y1), payload: vec![1] };
    site.lab.inject(lan, datagram);
    assert!(site.comes_in(site.y, Socket::Main, mapped).is_err());
    assert_eq!(site.lab.totals().dropped.of(Reason::HopLimit), 1);
    assert_eq!(site.lab.router_stats(site.router).dropped.of(Reason::HopLimit), 1);
}
