//! Spoofing, capturing, replaying, dropping, changing, holding back.

use std::{cell::Cell, rc::Rc};

use wavnet_proto::transmit::Socket;
use wavnet_sim::{Datagram, Direction, Fate, LinkConfig, Passing, Place, Reason, nat::NatConfig};

use crate::lab::{EXTERNAL, INTERNET, Site, TO_Y1, at, ip, millis, seconds};

fn site() -> Site {
    Site::new(NatConfig::port_restricted_cone())
}

#[test]
fn a_spoofed_source_passes_a_filter_that_it_fits() {
    let mut site = site();
    let mapped = site.out(TO_Y1);
    let spoof = |site: &mut Site, from: &str| {
        site.lab.inject(INTERNET, Datagram { from: at(from), to: mapped, payload: b"spoofed".to_vec() });
        site.lab.run_for(seconds(1));
        site.lab.node(site.x).received.len()
    };
    assert_eq!(spoof(&mut site, "192.0.2.66:1"), 0);
    assert_eq!(spoof(&mut site, TO_Y1), 1);
    let received = &site.lab.node(site.x).received[0];
    assert_eq!((received.from, &received.payload[..]), (at(TO_Y1), &b"spoofed"[..]));
    let totals = site.lab.totals();
    assert_eq!((totals.injected, totals.dropped.of(Reason::Filtered)), (2, 1));
}

#[test]
fn what_a_tap_saw_can_be_replayed() {
    let mut site = site();
    let taps = [
        Place::Segment(INTERNET),
        Place::Segment(site.lab.lan(site.router)),
        Place::Link(site.x.into(), Direction::Up),
        Place::Link(site.router.into(), Direction::Down),
        Place::Everywhere,
    ]
    .map(|place| site.lab.tap(place, 100));
    let mapped = site.out(TO_Y1);
    let y = site.y;
    site.comes_in(y, Socket::Main, mapped).unwrap();
    let seen = taps.map(|tap| site.lab.captured(tap).map(|c| (c.datagram.from, c.datagram.to)).collect::<Vec<_>>());
    let (x, y) = (at("192.168.1.2:4789"), at(TO_Y1));
    assert_eq!(seen[0], [(mapped, y), (y, mapped)]);
    assert_eq!(seen[1], [(x, y), (y, x)]);
    assert_eq!(seen[2], [(x, y)]);
    assert_eq!(seen[3], [(y, mapped)]);
    assert_eq!(seen[4], [(x, y), (mapped, y), (y, mapped), (y, x)]);
    let old = site.lab.captured(taps[0]).next().unwrap().datagram.clone();
    site.lab.inject(INTERNET, old.clone());
    site.lab.run_for(seconds(1));
    let received = &site.lab.node(site.y).received;
    assert_eq!((received.len(), &received[1].payload), (2, &old.payload));
}

#[test]
fn a_tap_keeps_the_last() {
    let mut site = site();
    let tap = site.lab.tap(Place::Segment(INTERNET), 3);
    for _ in 0..5 {
        site.out(TO_Y1);
    }
    let kept: Vec<_> = site.lab.captured(tap).map(|captured| captured.datagram.payload[3]).collect();
    assert_eq!(kept, [3, 4, 5]);
}

#[test]
fn a_filter_drops_changes_duplicates_and_holds_back() {
    let mut site = site();
    let (x, y, link) = (site.x, site.y, Place::Link(site.router.into(), Direction::Up));
    let came = |site: &mut Site| {
        let before = site.lab.node(y).received.len();
        let start = site.lab.now();
        let number = site.lab.launch(x, Socket::Main, at(TO_Y1));
        site.lab.run_for(seconds(1));
        let received = &site.lab.node(y).received[before..];
        let times: Vec<_> = received.iter().map(|r| r.at.since(start)).collect();
        (times, received.iter().all(|r| r.payload == number.to_be_bytes()))
    };
    let dropping = site.lab.filter(link, |_| Fate::Drop);
    assert_eq!(came(&mut site), (vec![], true));
    assert_eq!(site.lab.host_stats(x).lost.of(Reason::Adversary), 1);
    site.lab.remove_filter(dropping);
    assert_eq!(came(&mut site), (vec![millis(0)], true));
    let late = site.lab.filter(link, |_| Fate::Delay(millis(70)));
    assert_eq!(came(&mut site), (vec![millis(70)], true));
    site.lab.remove_filter(late);
    let twice = site.lab.filter(link, |_| Fate::Duplicate(millis(30)));
    assert_eq!(came(&mut site), (vec![millis(0), millis(30)], true));
    site.lab.remove_filter(twice);
    site.lab.filter(link, |passing: Passing<'_>| {
        passing.datagram.payload.reverse();
        Fate::Pass
    });
    assert!(!came(&mut site).1);
    assert_eq!(site.lab.totals().duplicated, 1);
}

#[test]
fn a_filter_sees_addresses_as_they_are_where_it_stands() {
    let mut site = site();
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    // Y's answers go to Z instead.
    site.lab.filter(Place::Segment(INTERNET), move |passing| {
        count.set(count.get() + 1);
        assert_eq!(passing.place, Place::Segment(INTERNET));
        if passing.datagram.to.ip() == ip(EXTERNAL) {
            passing.datagram.to = at("192.0.2.2:4789");
        }
        Fate::Pass
    });
    let mapped = site.out(TO_Y1);
    let seen_by = site.lab.send(site.y, Socket::Main, mapped).unwrap();
    assert_eq!((seen_by.host, seen.get()), (site.z, 2));
}

/// An adversary on the LAN who claims to be X has X's mapping, and one that is nobody gets no answer.
#[test]
fn an_adversary_on_a_lan() {
    let mut site = site();
    let (lan, mapped) = (site.lab.lan(site.router), site.out(TO_Y1));
    let spoofed = Datagram { from: at("192.168.1.2:4789"), to: at(TO_Y1), payload: vec![7] };
    site.lab.inject(lan, spoofed);
    let nobody = Datagram { from: at("192.168.1.66:1"), to: at(TO_Y1), payload: vec![8] };
    site.lab.inject(lan, nobody);
    site.lab.run_for(seconds(1));
    let from: Vec<_> = site.lab.node(site.y).received[1..].iter().map(|r| r.from).collect();
    assert_eq!(from[0], mapped);
    assert_eq!(site.lab.send(site.y, Socket::Main, from[1]), Err(Reason::NoRoute));
}

/// Filters on links with delay: what is changed on the way is what arrives, and what is held back is seen once.
#[test]
fn a_delayed_datagram_is_filtered_once() {
    let mut site = site();
    site.lab.set_link(site.router, &LinkConfig::delayed(millis(10)));
    let seen = Rc::new(Cell::new(0));
    let count = Rc::clone(&seen);
    site.lab.filter(Place::Segment(INTERNET), move |_| {
        count.set(count.get() + 1);
        Fate::Delay(millis(5))
    });
    let start = site.lab.now();
    site.out(TO_Y1);
    assert_eq!((site.lab.now().since(start), seen.get()), (millis(15), 1));
}
