//! RFC 4787 section 5: who gets in.

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    HostId, Reason,
    nat::{
        Behaviour::{self, AddressAndPortDependent, AddressDependent, EndpointIndependent},
        NatConfig,
    },
};

use crate::lab::{EXTERNAL, Site, TO_Y1, TO_Y2, TO_Z, at, ip, nat, seconds};

/// "The NAT filters out packets … for the internal endpoint": none that are for it; those from an address that it has not sent to; those from an
/// address and port that it has not sent to.
#[test]
fn a_filter_lets_in_what_its_behaviour_says() {
    for mapping in Behaviour::ALL {
        for filtering in Behaviour::ALL {
            let mut site = Site::new(nat(mapping, filtering));
            let (y, z) = (site.y, site.z);
            let guess = at(&format!("{EXTERNAL}:20000"));
            for (from, socket) in [(y, Socket::Main), (z, Socket::Main)] {
                assert_eq!(site.comes_in(from, socket, guess), Err(Reason::NoMapping), "before X sent anything");
            }
            let mapped = site.out(TO_Y1);
            assert_eq!(mapped, guess);
            let mut allowed = |from: HostId, socket| match site.comes_in(from, socket, mapped) {
                Ok(()) => true,
                Err(Reason::Filtered) => false,
                Err(other) => panic!("dropped: {other}"),
            };
            let seen = (allowed(y, Socket::Main), allowed(y, Socket::Other(1)), allowed(z, Socket::Main));
            let expected = match filtering {
                EndpointIndependent => (true, true, true),
                AddressDependent => (true, true, false),
                AddressAndPortDependent => (true, false, false),
            };
            assert_eq!(seen, expected, "{mapping:?} {filtering:?}");
            // Another port of the NAT has nobody behind it.
            assert_eq!(site.comes_in(y, Socket::Main, at(&format!("{EXTERNAL}:30000"))), Err(Reason::NoMapping));
            let filtered = site.lab.router_stats(site.router).dropped.of(Reason::Filtered);
            assert_eq!(filtered, [seen.0, seen.1, seen.2].iter().filter(|passed| !**passed).count() as u64);
        }
    }
}

/// What comes from outside opens nothing: only what X sends does.
#[test]
fn a_datagram_that_was_filtered_changes_nothing() {
    for filtering in [AddressDependent, AddressAndPortDependent] {
        let mut site = Site::new(nat(EndpointIndependent, filtering));
        let mapped = site.out(TO_Y1);
        let (z, before) = (site.z, site.lab.router_stats(site.router));
        for _ in 0..3 {
            assert_eq!(site.comes_in(z, Socket::Main, mapped), Err(Reason::Filtered));
        }
        let after = site.lab.router_stats(site.router);
        assert_eq!((after.mappings, after.flows), (before.mappings, before.flows));
        assert_eq!(site.out(TO_Z), mapped);
        assert_eq!(site.comes_in(z, Socket::Main, mapped), Ok(()));
    }
}

/// An endpoint that got in may be answered by the mapping that it came in by.
#[test]
fn an_answer_leaves_by_the_mapping_that_the_question_came_by() {
    let mut site = Site::new(nat(AddressAndPortDependent, EndpointIndependent));
    let to_y = site.out(TO_Y1);
    let z = site.z;
    assert_eq!(site.comes_in(z, Socket::Main, to_y), Ok(()));
    assert_eq!(site.out(TO_Z), to_y);
    assert_ne!(site.out(TO_Y2), to_y);
}

/// As Linux does it: X has sent to Y, but not from there.
#[test]
fn a_symmetric_nats_filter_is_that_of_the_mapping() {
    let mut site = Site::new(nat(AddressAndPortDependent, AddressAndPortDependent));
    let (_, to_z) = (site.out(TO_Y1), site.out(TO_Z));
    let y = site.y;
    assert_eq!(site.comes_in(y, Socket::Main, to_z), Err(Reason::Filtered));
}

/// Two hosts behind such NATs reach each other once both have sent, whoever is first; and what came too early is lost.
#[test]
fn both_sides_open_two_port_restricted_cones() {
    let mut site = Site::new(NatConfig::port_restricted_cone());
    let lab = &mut site.lab;
    let other = lab.router(crate::lab::INTERNET, "203.0.113.1", "192.168.1.0/24", NatConfig::port_restricted_cone());
    let lan = lab.lan(other);
    // The same private prefix, and the same address in it.
    let w = lab.host(lan, &["192.168.1.2"]);
    let (x_mapped, w_mapped) = (lab.mapped(site.x, at(TO_Y1)), lab.mapped(w, at(TO_Y1)));
    assert_eq!((x_mapped, w_mapped), (at("198.51.100.1:4789"), at("203.0.113.1:4789")));
    assert_eq!(lab.send(site.x, Socket::Main, w_mapped), Err(Reason::Filtered));
    let seen = lab.send(w, Socket::Main, x_mapped).unwrap();
    assert_eq!((seen.host, seen.from), (site.x, w_mapped));
    let seen = lab.send(site.x, Socket::Main, w_mapped).unwrap();
    assert_eq!((seen.host, seen.from), (w, x_mapped));
}

/// A router without an input filter takes for itself what nobody inside is to have, and the host's own datagram then leaves by another port.
#[test]
fn a_router_that_answers_itself_moves_the_mapping() {
    let run = |open_input| {
        let mut site = Site::new(NatConfig { open_input, ..NatConfig::port_restricted_cone() });
        let mapped = site.out(TO_Y1);
        assert_eq!(mapped, at("198.51.100.1:4789"), "ports are kept");
        let z = site.z;
        let early = site.comes_in(z, Socket::Main, mapped);
        let moved = site.out(TO_Z);
        (site, mapped, moved, early)
    };
    let (mut site, mapped, moved, early) = run(false);
    assert_eq!((moved, early), (mapped, Err(Reason::Filtered)));
    assert_eq!(site.lab.router_stats(site.router).flows.now, 2);
    let z = site.z;
    assert_eq!(site.comes_in(z, Socket::Main, mapped), Ok(()));

    let (mut site, mapped, moved, early) = run(true);
    assert_eq!(early, Err(Reason::ForRouter));
    assert_ne!(moved, mapped);
    assert_eq!(moved.ip(), ip(EXTERNAL));
    // The router's own entry is one, too.
    assert_eq!(site.lab.router_stats(site.router).flows.now, 3);
    let (y, z) = (site.y, site.z);
    // Z knows the mapping that the server saw, and that stays the router's; Z gets in by the other one alone.
    assert_eq!(site.comes_in(z, Socket::Main, mapped), Err(Reason::ForRouter));
    assert_eq!(site.comes_in(z, Socket::Main, moved), Ok(()));
    assert_eq!(site.out(TO_Z), moved);
    // Towards everybody else nothing has changed.
    assert_eq!(site.out(TO_Y1), mapped);
    assert_eq!(site.comes_in(y, Socket::Main, mapped), Ok(()));
    assert_eq!(site.out(TO_Y2), mapped);
    // When it has been quiet for long enough, the port is free again.
    site.lab.run_for(seconds(200));
    assert_eq!(site.out(TO_Z), mapped);
}

/// The same before the host has sent anything: then all its datagrams leave by the other port.
#[test]
fn a_port_that_the_router_has_first_is_not_kept() {
    let mut site = Site::new(NatConfig { open_input: true, ..NatConfig::port_restricted_cone() });
    let (z, kept) = (site.z, at("198.51.100.1:4789"));
    assert_eq!(site.comes_in(z, Socket::Main, kept), Err(Reason::ForRouter));
    let moved = site.out(TO_Z);
    assert_ne!(moved, kept);
    assert_eq!(site.out(TO_Y1), moved);
    // It is Z's port that is taken, not everybody's.
    let mut site = Site::new(NatConfig { open_input: true, ..NatConfig::port_restricted_cone() });
    let z = site.z;
    assert_eq!(site.comes_in(z, Socket::Main, kept), Err(Reason::ForRouter));
    assert_eq!(site.out(TO_Y1), kept);
    assert_ne!(site.out(TO_Z), kept);
}

/// A full cone has no such trouble: it gives the host what comes.
#[test]
fn a_full_cone_moves_nothing() {
    let mut site = Site::new(NatConfig { open_input: true, ..NatConfig::full_cone() });
    let mapped = site.out(TO_Y1);
    let z = site.z;
    assert_eq!(site.comes_in(z, Socket::Main, mapped), Ok(()));
    assert_eq!(site.out(TO_Z), mapped);
}
