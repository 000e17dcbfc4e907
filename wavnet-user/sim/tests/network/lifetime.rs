//! RFC 4787 section 4.3: how long mappings and flows live, and what keeps them alive.

use std::time::Duration;

use wavnet_proto::transmit::Socket;
use wavnet_sim::{
    Reason,
    nat::{
        Behaviour::{AddressAndPortDependent, EndpointIndependent},
        NatConfig, Timeouts,
    },
};

use crate::lab::{Site, TO_Y1, TO_Z, millis, nat, seconds};

const MOMENT: Duration = Duration::from_nanos(1);

/// A NAT whose mappings can be told apart, as ports count up.
fn cone(timeouts: Timeouts) -> NatConfig {
    NatConfig { timeouts, ..nat(EndpointIndependent, AddressAndPortDependent) }
}

/// Whether Y still gets in when so long nothing was sent either way.
fn is_open_after(site: &mut Site, wait: Duration) -> bool {
    site.lab.run_for(wait);
    let (y, mapped) = (site.y, site.lab.mappings(site.router).next().map(|mapping| mapping.external));
    mapped.is_some_and(|mapped| site.comes_in(y, Socket::Main, mapped).is_ok())
}

#[test]
fn what_nobody_answers_lives_for_thirty_seconds() {
    for (wait, open) in [(seconds(30) - MOMENT, true), (seconds(30), false)] {
        let mut site = Site::new(cone(Timeouts::LINUX));
        site.out(TO_Y1);
        assert_eq!(is_open_after(&mut site, wait), open, "{wait:?}");
    }
}

#[test]
fn a_stream_lives_for_two_minutes() {
    for (wait, open) in [(seconds(120) - MOMENT, true), (seconds(120), false)] {
        let mut site = Site::new(cone(Timeouts::LINUX));
        let (y, mapped) = (site.y, site.out(TO_Y1));
        site.comes_in(y, Socket::Main, mapped).unwrap();
        site.lab.run_for(seconds(3));
        site.out(TO_Y1);
        assert_eq!(is_open_after(&mut site, wait), open, "{wait:?}");
    }
}

/// One question and one answer are no stream yet.
#[test]
fn what_was_answered_once_lives_for_thirty_seconds() {
    for (wait, open) in [(seconds(30) - MOMENT, true), (seconds(30), false)] {
        let mut site = Site::new(cone(Timeouts::LINUX));
        let (y, mapped) = (site.y, site.out(TO_Y1));
        site.lab.run_for(seconds(2));
        site.comes_in(y, Socket::Main, mapped).unwrap();
        assert_eq!(is_open_after(&mut site, wait), open, "{wait:?}");
    }
}

/// REQ-6: "The NAT mapping Refresh Direction MUST have a 'NAT Outbound refresh behavior' of 'True'." Inbound refresh may be either.
#[test]
fn what_goes_out_keeps_a_mapping_alive_and_what_comes_in_may() {
    for inbound_refreshes in [true, false] {
        let timeouts = Timeouts { inbound_refreshes, ..Timeouts::fixed(seconds(60)) };
        let mut site = Site::new(cone(timeouts));
        let mapped = site.out(TO_Y1);
        for _ in 0..5 {
            site.lab.run_for(seconds(40));
            assert_eq!(site.out(TO_Y1), mapped, "what goes out does");
        }
        let y = site.y;
        site.lab.run_for(seconds(40));
        assert_eq!(site.comes_in(y, Socket::Main, mapped), Ok(()));
        site.lab.run_for(seconds(40));
        let later = site.comes_in(y, Socket::Main, mapped);
        assert_eq!(later, if inbound_refreshes { Ok(()) } else { Err(Reason::NoMapping) });
        assert_eq!(site.out(TO_Y1) == mapped, inbound_refreshes, "a new mapping has the next port");
    }
}

/// A full cone's mapping is not kept alive by strangers, unless what comes in refreshes it.
#[test]
fn strangers_keep_a_full_cone_open_only_if_inbound_refreshes() {
    for inbound_refreshes in [true, false] {
        let timeouts = Timeouts { inbound_refreshes, ..Timeouts::fixed(seconds(60)) };
        let mut site = Site::new(NatConfig { timeouts, ..nat(EndpointIndependent, EndpointIndependent) });
        let (z, mapped) = (site.z, site.out(TO_Y1));
        site.lab.run_for(seconds(40));
        assert_eq!(site.comes_in(z, Socket::Main, mapped), Ok(()));
        site.lab.run_for(seconds(40));
        let later = site.comes_in(z, Socket::Main, mapped);
        assert_eq!(later, if inbound_refreshes { Ok(()) } else { Err(Reason::NoMapping) });
    }
}

/// Each flow has its own time: the mapping lives on by one, and the filter closes for the other.
#[test]
fn a_quiet_endpoint_is_filtered_while_its_mapping_lives() {
    let mut site = Site::new(cone(Timeouts::LINUX));
    let mapped = site.out(TO_Y1);
    assert_eq!(site.out(TO_Z), mapped);
    for _ in 0..4 {
        site.lab.run_for(seconds(10));
        assert_eq!(site.out(TO_Z), mapped);
    }
    let (y, z) = (site.y, site.z);
    assert_eq!(site.comes_in(y, Socket::Main, mapped), Err(Reason::Filtered));
    assert_eq!(site.comes_in(z, Socket::Main, mapped), Ok(()));
    let stats = site.lab.router_stats(site.router);
    assert_eq!((stats.mappings.now, stats.flows.now, stats.flows.peak), (1, 1, 2));
    // Y opens again with the same mapping.
    assert_eq!(site.out(TO_Y1), mapped);
}

/// Counters say what is there now, what was at most, and what ever was.
#[test]
fn entries_are_counted_as_they_come_and_go() {
    let mut site = Site::new(nat(AddressAndPortDependent, AddressAndPortDependent));
    for round in 1..=3 {
        for n in 0..100u16 {
            site.lab.open(site.x, Socket::Extra(n), 10000 + n);
            site.lab.send(site.x, Socket::Extra(n), crate::lab::at(TO_Y1)).unwrap();
        }
        let stats = site.lab.router_stats(site.router);
        for entries in [stats.mappings, stats.flows] {
            assert_eq!((entries.now, entries.peak, entries.created), (100, 100, 100 * round));
        }
        site.lab.run_for(seconds(30));
        let stats = site.lab.router_stats(site.router);
        assert_eq!((stats.mappings.now, stats.flows.now), (0, 0));
    }
}

/// One flow after the other, each a second before the one before goes: nothing is left over.
#[test]
fn nothing_lives_longer_than_it_should() {
    let mut site = Site::new(cone(Timeouts::fixed(seconds(30))));
    for _ in 0..200 {
        site.out(TO_Y1);
        site.lab.run_for(seconds(31) - millis(1));
    }
    let stats = site.lab.router_stats(site.router);
    assert_eq!((stats.mappings.created, stats.mappings.peak, stats.flows.peak), (200, 1, 1));
}
