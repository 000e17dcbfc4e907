//! Hosts: clocks, sleep, restarts, sockets and addresses.

use wavnet_proto::{time::Time, transmit::Socket};
use wavnet_sim::{Asleep, LinkConfig, Network, Node, OneOf, Reason, Seed, SocketRequest};

use crate::{
    lab::{INTERNET, Lab, at, ip, millis, seconds},
    nodes::{Echo, Pinger, Puppet},
};

const START: Time = Network::<Puppet>::START;

#[test]
fn a_node_is_woken_at_the_time_that_it_names() {
    let mut lab = Lab::new();
    let a = lab.host(INTERNET, &["192.0.2.1"]);
    for wait in [millis(5), millis(1), millis(30)] {
        let due = lab.act(a, |puppet, now| {
            puppet.timeout = Some(now + wait);
            now + wait
        });
        lab.run_for(seconds(1));
        assert_eq!(lab.node(a).woken.last(), Some(&due));
    }
    // One that changes its mind is woken at the new time alone, be it earlier or later.
    let now = lab.now();
    for wait in [30, 10, 20] {
        lab.act(a, |puppet, _| puppet.timeout = Some(now + millis(wait)));
    }
    lab.run_for(seconds(1));
    lab.act(a, |puppet, _| puppet.timeout = None);
    assert_eq!(lab.node(a).woken[3..], [now + millis(20)]);
    // What is over is due at once.
    lab.act(a, |puppet, now| puppet.timeout = Some(now - seconds(5)));
    assert!(lab.step());
    assert_eq!(lab.node(a).woken.len(), 5);
    assert_eq!(lab.next_event(), None, "nothing is left to wake it for");
}

#[test]
fn each_host_has_its_own_clock() {
    let mut lab = Lab::new();
    let (a, b) = (lab.host(INTERNET, &["192.0.2.1"]), lab.host(INTERNET, &["192.0.2.2"]));
    lab.clock_forward(a, seconds(100));
    lab.clock_back(b, seconds(100));
    assert_eq!((lab.local_time(a), lab.local_time(b)), (START + seconds(100), START - seconds(100)));
    lab.send(a, Socket::Main, at("192.0.2.2:4789")).unwrap();
    lab.send(b, Socket::Main, at("192.0.2.1:4789")).unwrap();
    assert_eq!(lab.node(a).received[0].at, START + seconds(100));
    assert_eq!(lab.node(b).received[0].at, START - seconds(100));
    for host in [a, b] {
        lab.act(host, |puppet, now| puppet.timeout = Some(now + seconds(1)));
    }
    lab.run_for(seconds(1));
    assert_eq!(lab.node(a).woken, [START + seconds(101)]);
    assert_eq!(lab.node(b).woken, [START - seconds(99)]);
}

#[test]
fn a_clock_that_jumps_makes_timeouts_earlier_or_later() {
    let mut lab = Lab::new();
    let a = lab.host(INTERNET, &["192.0.2.1"]);
    lab.act(a, |puppet, now| puppet.timeout = Some(now + seconds(10)));
    lab.run_for(seconds(1));
    // It jumps past the time at which it was to be woken.
    lab.clock_forward(a, seconds(60));
    lab.run_for(seconds(0));
    assert_eq!(lab.node(a).woken, [START + seconds(61)]);
    lab.act(a, |puppet, now| puppet.timeout = Some(now + seconds(10)));
    lab.clock_back(a, seconds(60));
    lab.run_for(seconds(69));
    assert_eq!(lab.node(a).woken.len(), 1);
    lab.run_for(seconds(1));
    assert_eq!(lab.node(a).woken[1..], [START + seconds(71)]);
    assert_eq!(lab.now(), START + seconds(71));
    // It stands still at zero.
    lab.clock_back(a, seconds(100_000));
    assert_eq!(lab.local_time(a), Time::ZERO);
    lab.run_for(seconds(10));
    assert_eq!(lab.local_time(a), Time::ZERO);
}

#[test]
fn what_comes_for_a_sleeping_host_is_lost_and_it_wakes_late() {
    for (asleep, slept) in [(Asleep::Counts, seconds(100)), (Asleep::StandsStill, seconds(0))] {
        let mut lab = Lab::new();
        let (a, b) = (lab.host(INTERNET, &["192.0.2.1"]), lab.host(INTERNET, &["192.0.2.2"]));
        lab.act(a, |puppet, now| puppet.timeout = Some(now + seconds(10)));
        lab.run_for(seconds(1));
        lab.suspend(a);
        lab.run_for(seconds(50));
        assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:4789")), Err(Reason::Suspended));
        lab.run_for(seconds(50));
        assert_eq!(lab.node(a).woken, []);
        lab.resume(a, asleep);
        assert_eq!(lab.local_time(a), START + seconds(1) + slept);
        lab.run_for(seconds(0));
        // If its clock went on, it is woken at once; else when it says so.
        assert_eq!(lab.node(a).woken.len(), usize::from(asleep == Asleep::Counts));
        lab.run_for(seconds(9));
        assert_eq!(lab.node(a).woken, [START + seconds(10).max(seconds(1) + slept)]);
        assert!(lab.send(b, Socket::Main, at("192.0.2.1:4789")).is_ok());
    }
}

#[test]
fn a_killed_node_hears_nothing_and_the_next_begins_anew() {
    let mut lab = Lab::new();
    let (a, b) = (lab.host(INTERNET, &["192.0.2.1"]), lab.host(INTERNET, &["192.0.2.2"]));
    lab.set_link(b, &LinkConfig::delayed(millis(10)));
    lab.act(a, |puppet, now| {
        puppet.requests.push_back(SocketRequest::Open { socket: Socket::Extra(1), port: Some(5000) });
        puppet.timeout = Some(now + seconds(5));
    });
    assert!(lab.send(b, Socket::Extra(0), at("192.0.2.1:5000")).is_err_and(|reason| reason == Reason::NoSource));
    assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:5000")).unwrap().socket, Socket::Extra(1));
    let old = lab.kill(a).unwrap();
    assert_eq!(old.received.len(), 1);
    assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:4789")), Err(Reason::Stopped));
    let under_way = lab.launch(b, Socket::Main, at("192.0.2.1:4789"));
    assert!(lab.restart(a, Puppet::default()).is_none());
    lab.run_for(seconds(10));
    // What was under way is the new one's; the old one's timeout and socket are nobody's.
    assert_eq!(lab.find(under_way).len(), 1);
    assert_eq!((lab.node(a).woken.len(), lab.node(a).told), (0, 1));
    assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:5000")), Err(Reason::NoSocket));
    assert!(lab.restart(a, Puppet::default()).is_some_and(|old| old.received.len() == 1));
}

#[test]
fn a_node_opens_sockets_of_its_own() {
    let mut lab = Lab::new();
    let (a, b) = (lab.host(INTERNET, &["192.0.2.1", "2001:db8::1"]), lab.host(INTERNET, &["192.0.2.2"]));
    lab.run_for(seconds(0));
    assert_eq!(lab.node(a).sockets, [(Socket::Main, at("192.0.2.1:4789")), (Socket::Main, at("[2001:db8::1]:4789"))]);
    // 256 at once, and it sends by each in the same breath.
    lab.act(a, |puppet, _| {
        for n in 0..256 {
            puppet.requests.push_back(SocketRequest::Open { socket: Socket::Extra(n), port: None });
            puppet.send(Socket::Extra(n), at("192.0.2.2:4789"), &[]);
        }
    });
    lab.run_for(seconds(0));
    assert_eq!((lab.node(a).sockets.len(), lab.node(a).told), (2 * 257, 2));
    let mut ports: Vec<u16> = lab.node(b).received.iter().map(|r| r.from.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 256);
    assert!(ports[0] >= 32768 && ports[255] <= 60999);
    let back = lab.node(b).received[17].from;
    assert_eq!(lab.send(b, Socket::Main, back).unwrap().socket, Socket::Extra(17));
    // It closes one, and asks for a port that it has already.
    lab.act(a, |puppet, _| {
        puppet.requests.push_back(SocketRequest::Close(Socket::Extra(17)));
        puppet.requests.push_back(SocketRequest::Open { socket: Socket::Extra(18), port: Some(4789) });
    });
    assert_eq!(lab.send(b, Socket::Main, back), Err(Reason::NoSocket));
    assert!(lab.node(a).sockets.iter().all(|(socket, _)| ![Socket::Extra(17), Socket::Extra(18)].contains(socket)));
    assert_eq!(lab.send(a, Socket::Extra(17), at("192.0.2.2:4789")), Err(Reason::NoSource));
}

/// A rendezvous server for behaviour discovery: two addresses, two ports.
#[test]
fn a_server_has_four_sockets() {
    let mut lab = Lab::new();
    let server = lab.host(INTERNET, &["192.0.2.1", "192.0.2.9"]);
    let client = lab.host(INTERNET, &["192.0.2.2"]);
    let locals = ["192.0.2.1:4789", "192.0.2.1:4790", "192.0.2.9:4789", "192.0.2.9:4790"];
    for (n, local) in (1..).zip(&locals[1..]) {
        lab.bind(server, Socket::Other(n), at(local));
    }
    for (n, local) in (0..).zip(locals) {
        let socket = if n == 0 { Socket::Main } else { Socket::Other(n) };
        let seen = lab.send(client, Socket::Main, at(local)).unwrap();
        assert_eq!((seen.socket, seen.local), (socket, at(local)));
        let seen = lab.send(server, socket, at("192.0.2.2:4789")).unwrap();
        assert_eq!(seen.from, at(local));
    }
    assert_eq!(lab.node(server).sockets.len(), 4);
}

#[test]
fn a_family_vanishes_and_comes_back() {
    let mut lab = Lab::new();
    let a = lab.host(INTERNET, &["192.0.2.1", "2001:db8::1"]);
    let b = lab.host(INTERNET, &["192.0.2.2", "2001:db8::2"]);
    let both = [at("192.0.2.2:4789"), at("[2001:db8::2]:4789")];
    let reached = |lab: &mut Lab| both.map(|to| lab.send(a, Socket::Main, to).map(|seen| seen.host));
    assert_eq!(reached(&mut lab), [Ok(b), Ok(b)]);
    lab.move_host(a, INTERNET, &[ip("192.0.2.1")]);
    assert_eq!(reached(&mut lab), [Ok(b), Err(Reason::NoSource)]);
    assert_eq!(lab.node(a).sockets, [(Socket::Main, at("192.0.2.1:4789"))]);
    lab.move_host(a, INTERNET, &[]);
    assert_eq!(reached(&mut lab), [Err(Reason::NoSource); 2]);
    lab.move_host(a, INTERNET, &[ip("2001:db8::7")]);
    assert_eq!(reached(&mut lab), [Err(Reason::NoSource), Ok(b)]);
    assert_eq!(lab.send(b, Socket::Main, at("192.0.2.1:4789")), Err(Reason::NoRoute));
    assert_eq!(lab.send(b, Socket::Main, at("[2001:db8::7]:4789")).unwrap().host, a);
}

/// What is on its way to a host when it moves is lost, even if it has the same address where it is then.
#[test]
fn what_was_under_way_does_not_follow_a_host() {
    for wait in [millis(5), millis(15)] {
        let mut lab = Lab::new();
        let routers = ["198.51.100.1", "198.51.100.2"]
            .map(|external| lab.router(INTERNET, external, "10.0.0.0/8", wavnet_sim::nat::NatConfig::full_cone()));
        let [home, away] = routers.map(|router| lab.lan(router));
        let a = lab.host(home, &["10.0.0.2"]);
        let b = lab.host(home, &["10.0.0.3"]);
        lab.set_link(a, &LinkConfig::delayed(millis(10)));
        lab.set_link(b, &LinkConfig::delayed(millis(10)));
        let number = lab.launch(b, Socket::Main, at("10.0.0.2:4789"));
        lab.run_for(wait);
        lab.move_host(a, away, &[ip("10.0.0.2")]);
        lab.run_for(seconds(1));
        assert_eq!(lab.find(number), []);
        assert_eq!(lab.host_stats(b).lost.of(Reason::NoRoute), 1);
    }
}

#[test]
fn a_scenario_does_things_at_their_time() {
    let mut lab = Lab::new();
    let (a, b) = (lab.host(INTERNET, &["192.0.2.1"]), lab.host(INTERNET, &["192.0.2.2"]));
    let start = lab.now();
    for n in 1..=3 {
        lab.after(seconds(n), move |net| {
            net.act(a, |puppet, _| puppet.send(Socket::Main, at("192.0.2.2:4789"), &[]));
        });
    }
    lab.at(start + millis(2500), move |net| net.set_up(b, false));
    let second = lab.run_until_met(start + seconds(60), |net| net.node(b).received.len() == 2);
    assert_eq!(second, Some(start + seconds(2)));
    let third = lab.run_until_met(start + seconds(60), |net| net.node(b).received.len() == 3);
    assert_eq!((third, lab.now()), (None, start + seconds(60)));
    assert_eq!(lab.host_stats(a).lost.of(Reason::LinkDown), 1);
    assert_eq!(lab.run_until_met(start, |_| true), Some(lab.now()), "what holds already holds");
}

/// Where nobody looks into the nodes, they may be of any types.
struct Boxed(Box<dyn Node>);

impl OneOf for Boxed {
    fn node(&mut self) -> &mut dyn Node {
        &mut *self.0
    }
}

#[test]
fn nodes_may_be_boxes() {
    let mut net = Network::new(Seed(1));
    let echo = net.add_host(INTERNET, &[ip("192.0.2.1")], Boxed(Box::new(Echo::default())));
    let pinger = Pinger::new(vec![net.main_address(echo)], seconds(1));
    let pinger = net.add_host(INTERNET, &[ip("192.0.2.2")], Boxed(Box::new(pinger)));
    net.run_for(seconds(10));
    assert_eq!((net.host_stats(echo).received, net.host_stats(pinger).received), (10, 10));
}

#[test]
#[should_panic(expected = "h0 never comes to rest")]
fn a_node_that_never_rests_is_found_out() {
    struct Restless;
    impl Node for Restless {
        fn handle_input(&mut self, _: Time, _: Socket, _: std::net::SocketAddr, _: std::net::SocketAddr, _: &[u8]) {}
        fn handle_timeout(&mut self, _: Time) {}
        fn poll_timeout(&mut self) -> Option<Time> {
            Some(Time::ZERO)
        }
        fn poll_transmit(&mut self) -> Option<wavnet_proto::transmit::Transmit> {
            None
        }
    }
    let mut net = Network::new(Seed(1));
    net.add_host(INTERNET, &[ip("192.0.2.1")], Restless);
    net.run_for(seconds(1));
}
