//! IPv4 and IPv6: hosts that have one of them or both, and firewalls that filter IPv6 and translate nothing.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use wavnet_proto::{
    mesh::{self, PathKind, ServerTrouble, Settings},
    nat::{Filtering, Mapping, NatSummary, Situation},
    trust::SecretKey,
};
use wavnet_sim::{
    Datagram, Direction, Fate, Ipv4, LinkConfig, Network, Place, Reason, RouterConfig, Seed, SegmentId,
    nat::{Behaviour, FirewallConfig, NatConfig},
};

use crate::{
    grid::Kind,
    node::Host,
    searches::counting,
    world::{Site, World, cone, direct_within},
};

const DELAY: Duration = Duration::from_millis(20);
const FRAMES: Duration = Duration::from_millis(1);

/// One whose agents look for its server at both of its addresses.
fn world_of_both(seed: Seed) -> World {
    let mut world = World::new(seed, DELAY);
    let server = world.servers[0];
    world.server_addrs = Some(world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect());
    world
}

fn dual(world: &mut World, name: &str, v4: bool, v6: bool) -> Site {
    let internet = SegmentId::INTERNET;
    let addrs: Vec<_> = [v4.then(|| world.net.vacant_v4(internet)), v6.then(|| world.net.vacant_v6(internet))]
        .into_iter()
        .flatten()
        .collect();
    let secret = SecretKey::generate(&mut world.rng);
    let settings = world.settings(name);
    world.add_agent_as(internet, &addrs, settings, secret, Kind::Open.summary())
}

#[test]
fn hosts_with_one_family_or_two_meet_where_they_share_one_and_by_the_relay_where_not() {
    Seed::each(5, |seed| {
        for (a, b) in [((true, true), (true, true)), ((false, true), (true, true)), ((true, false), (false, true))] {
            let mut world = world_of_both(seed);
            let (x, y) = (dual(&mut world, "x", a.0, a.1), dual(&mut world, "y", b.0, b.1));
            let shared = a.0 && b.0 || a.1 && b.1;
            let wanted = if shared { PathKind::Direct } else { PathKind::Relayed };
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == wanted);
            assert!(met.is_some(), "{a:?} {b:?}\n{}", world.net.trace());
        }
    });
}

#[test]
fn a_family_that_vanishes_is_made_up_for_by_the_other_one() {
    Seed::each(6, |seed| {
        for v4_goes in [true, false] {
            let mut world = world_of_both(seed);
            let (x, y) = (dual(&mut world, "x", true, true), dual(&mut world, "y", true, true));
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == PathKind::Direct);
            assert!(met.is_some(), "{}", world.net.trace());
            world.net.run_for(Duration::from_secs(5));
            let left: Vec<_> = world.net.addresses(x.host).iter().copied().filter(|a| a.is_ipv6() == v4_goes).collect();
            let at = world.net.now() + Duration::from_secs(1);
            world.net.at(at, move |net: &mut Network<Host>| net.move_host(x.host, SegmentId::INTERNET, &left));
            let gap = world.longest_gap(x, y, FRAMES, at + Duration::from_secs(4));
            assert!(gap < Duration::from_secs(1), "{v4_goes} {gap:?}\n{}", world.net.trace());
            world.net.run_for(Duration::from_secs(60));
            assert!(world.agent(x).mesh.servers().iter().any(|server| server.registered), "{v4_goes}");
        }
    });
}

/// A host with IPv6 alone behind a firewall of its own.
fn behind_firewall(world: &mut World, n: u16, name: &str, filtering: Behaviour) -> Site {
    let config = RouterConfig {
        external: Vec::new(),
        inside: vec![format!("2001:db8:{n}::/64").parse().expect("a prefix")],
        v4: Ipv4::Routed(None),
        v6: Some(FirewallConfig { filtering, ..FirewallConfig::default() }),
    };
    let router = world.net.add_router(SegmentId::INTERNET, config);
    world.net.set_link(router, &LinkConfig::delayed(DELAY));
    let lan = world.net.lan(router);
    let addr = world.net.vacant_v6(lan);
    let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings(name));
    let filtering = match filtering {
        Behaviour::EndpointIndependent => Filtering::EndpointIndependent,
        Behaviour::AddressDependent => Filtering::AddressDependent,
        Behaviour::AddressAndPortDependent => Filtering::AddressAndPortDependent,
    };
    let (situation, mapping) = (Situation::Direct, Mapping::EndpointIndependent);
    let summary = NatSummary { situation, mapping, filtering, ..NatSummary::default() };
    Site { router: Some(router), ..world.add_agent_as(lan, &[addr], settings, secret, summary) }
}

/// Nobody gets in who was not sent to. One of the firewalls then forgets whom its host has sent to.
#[test]
fn two_firewalls_for_ipv6_are_passed_within_a_second_and_again_after_a_restart() {
    use Behaviour::{AddressAndPortDependent, AddressDependent};
    Seed::each(10, |seed| {
        for [one, other] in [[AddressAndPortDependent; 2], [AddressDependent, AddressAndPortDependent]] {
            let mut world = world_of_both(seed);
            let (x, y) = (behind_firewall(&mut world, 1, "x", one), behind_firewall(&mut world, 2, "y", other));
            let direct = world.until_paths(x, y, Duration::from_secs(1), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{one:?} {other:?}\n{}", world.net.trace());
            // There is something to be passed.
            let router = x.router.expect("a firewall");
            let stranger = SocketAddr::new(world.net.vacant_v6(SegmentId::INTERNET), 4789);
            let filtered = |world: &World| world.net.router_stats(router).dropped.of(Reason::Filtered);
            let (before, to) = (filtered(&world), world.net.main_address(x.host));
            world.net.inject(SegmentId::INTERNET, Datagram { from: stranger, to, payload: vec![0] });
            world.net.run_for(Duration::from_millis(100));
            assert_eq!(filtered(&world), before + 1, "{to}");

            let at = world.net.now() + Duration::from_secs(2);
            world.net.at(at, move |net: &mut Network<Host>| net.reboot(router));
            let gap = world.longest_gap(x, y, FRAMES, at + Duration::from_secs(4));
            assert!(gap < Duration::from_secs(1), "{one:?} {other:?}: {gap:?}\n{}", world.net.trace());
            assert_eq!([world.path(x, y), world.path(y, x)], [Some(PathKind::Direct); 2], "{}", world.net.trace());
        }
    });
}

/// Two direct ways, of which the one that frames take becomes slow: the other one takes over, and no frame is lost or overtaken.
#[test]
fn the_faster_of_two_families_takes_over() {
    Seed::each(6, |seed| {
        for slow_is_v4 in [true, false] {
            let mut world = world_of_both(seed);
            let (x, y) = (dual(&mut world, "x", true, true), dual(&mut world, "y", true, true));
            let met = world.until_paths(x, y, Duration::from_secs(3), |kind| kind == PathKind::Direct);
            assert!(met.is_some(), "{}", world.net.trace());
            let hosts = [x, y].map(|site| world.net.addresses(site.host).to_vec());
            let slow = |world: &mut World, v4: bool| {
                let hosts = hosts.clone();
                let between = move |from: IpAddr, to: IpAddr| {
                    from.is_ipv4() == v4
                        && hosts[0].iter().chain(&hosts[1]).filter(|ip| [from, to].contains(ip)).count() == 2
                };
                world.net.filter(Place::Segment(SegmentId::INTERNET), move |passing| {
                    let (from, to) = (passing.datagram.from.ip(), passing.datagram.to.ip());
                    if between(from, to) { Fate::Delay(Duration::from_millis(60)) } else { Fate::Pass }
                })
            };
            let (mut sent, mut number) = ([Vec::new(), Vec::new()], 0);
            let mut flow = |world: &mut World, seconds: u64| {
                let end = world.net.now() + Duration::from_secs(seconds);
                world.set_busy(x, y);
                world.set_busy(y, x);
                while world.net.now() < end {
                    number += 1;
                    for (sent, (from, to)) in sent.iter_mut().zip([(x, y), (y, x)]) {
                        sent.extend(world.send(from, to, number).then_some(number));
                    }
                    world.net.run_for(Duration::from_millis(5));
                }
            };
            let is_v4 = |world: &World| {
                [(x, y), (y, x)].map(|(from, to)| world.agent(from).way_to(to.key).map(|way| way.remote.is_ipv4()))
            };
            // First it is made sure which one it is, and then that the other one takes over.
            let first = slow(&mut world, !slow_is_v4);
            flow(&mut world, 30);
            assert_eq!(is_v4(&world), [Some(slow_is_v4); 2], "{}", world.net.trace());
            world.net.remove_filter(first);
            flow(&mut world, 5);
            let holds = world.agent(x).holds;
            slow(&mut world, slow_is_v4);
            flow(&mut world, 30);
            world.net.run_for(Duration::from_secs(1));
            assert_eq!(is_v4(&world), [Some(!slow_is_v4); 2], "{}", world.net.trace());
            assert!(world.agent(x).holds > holds, "frames had nothing to wait for");
            for (sent, to) in sent.iter().zip([y, x]) {
                let came: Vec<u64> = world.agent(to).frames.iter().map(|f| f.number).collect();
                assert!(came == *sent, "{} of {} came, in order: {}", came.len(), sent.len(), came.is_sorted());
            }
        }
    });
}

/// While it had IPv6 alone, its server saw it there. Who has IPv4 alone needs to know where its NAT has it.
#[test]
fn a_family_that_is_back_leads_through_the_nat_again() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let server = world.servers[0];
        let of = |world: &World| world.net.sockets(server).into_iter().map(|(_, addr)| addr).collect::<Vec<_>>();
        let inside = ["192.168.1.0/24", "2001:db8:1::/64"].map(|text| text.parse().expect("a prefix")).to_vec();
        let external = world.net.vacant_v4(SegmentId::INTERNET);
        let nat = RouterConfig::nat(external, inside[0], NatConfig::port_restricted_cone());
        let router = world.net.add_router(SegmentId::INTERNET, RouterConfig { inside, ..nat });
        let lan = world.net.lan(router);
        let addrs = [world.net.vacant_v4(lan), world.net.vacant_v6(lan)];
        let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings("y"));
        let servers = of(&world).into_iter().map(|addr| mesh::Server { addr, key: None }).collect();
        let y = world.add_agent_as(lan, &addrs, Settings { servers, ..settings }, secret, cone());
        let x = world.behind("x", NatConfig::port_restricted_cone(), cone());
        for has in [&addrs[..], &addrs[1..], &addrs[..]] {
            world.net.move_host(y.host, lan, has);
            let wanted = if has.len() == 2 { PathKind::Direct } else { PathKind::Relayed };
            let met = world.until_paths(x, y, Duration::from_secs(60), |kind| kind == wanted);
            assert!(met.is_some(), "{has:?}\n{}", world.net.trace());
            world.net.run_for(Duration::from_secs(30));
        }
        // It is one server, and is not told of two hosts in turn.
        let (since, view) = (world.net.now(), |world: &World| world.agent(y).events.len());
        let before = view(&world);
        world.net.run_for(Duration::from_secs(300));
        assert_eq!(view(&world), before, "since {since:?}: {:?}", world.agent(y).events);
    });
}

/// A session by one address takes the place of that by the other one: no other host has its key.
#[test]
fn a_server_with_two_addresses_takes_no_host_for_its_own_twin() {
    Seed::each(6, |seed| {
        let mut world = world_of_both(seed);
        let x = dual(&mut world, "x", true, true);
        world.net.run_for(Duration::from_secs(5));
        for v4 in [true, false, true] {
            let lost = Rc::new(Cell::new(true));
            let is_lost = Rc::clone(&lost);
            let filter = world.net.filter(Place::Link(x.host.into(), Direction::Up), move |passing| {
                if is_lost.get() && passing.datagram.to.is_ipv4() == v4 { Fate::Drop } else { Fate::Pass }
            });
            for step in 0..600 {
                lost.set(step < 100);
                world.net.run_for(Duration::from_millis(200));
                let troubles: Vec<_> = world.agent(x).mesh.servers().iter().map(|server| server.trouble).collect();
                assert!(!troubles.contains(&Some(ServerTrouble::Replaced)), "{v4} {troubles:?}\n{}", world.net.trace());
            }
            assert!(world.agent(x).mesh.servers().iter().any(|server| server.registered), "{v4}");
            world.net.remove_filter(filter);
        }
    });
}

/// A host with both families behind a router that translates IPv4.
fn dual_behind(world: &mut World, n: u16, name: &str, nat: NatConfig, summary: NatSummary) -> Site {
    let (external, v6) = (world.net.vacant_v4(SegmentId::INTERNET), format!("2001:db8:{n}::/64"));
    let mut config = RouterConfig::nat(external, format!("10.9.{n}.0/24").parse().expect("a prefix"), nat);
    config.inside.push(v6.parse().expect("a prefix"));
    let router = world.net.add_router(SegmentId::INTERNET, config);
    world.net.set_link(router, &LinkConfig::delayed(DELAY));
    let lan = world.net.lan(router);
    let addrs = [world.net.vacant_v4(lan), world.net.vacant_v6(lan)];
    let (secret, settings) = (SecretKey::generate(&mut world.rng), world.settings(name));
    Site { router: Some(router), ..world.add_agent_as(lan, &addrs, settings, secret, summary) }
}

/// What a family that vanishes has carried is sought by the other one at once, and not when better paths are looked for.
#[test]
fn a_family_that_vanishes_is_made_up_for_though_that_takes_a_search() {
    Seed::each(6, |seed| {
        let mut world = world_of_both(seed);
        let x = dual_behind(&mut world, 1, "x", NatConfig::symmetric(), Kind::Symmetric.summary());
        let y = dual_behind(&mut world, 2, "y", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, x, y, 3);
        world.net.run_for(Duration::from_secs(100));
        let left: Vec<_> = world.net.addresses(x.host).iter().copied().filter(IpAddr::is_ipv4).collect();
        world.net.move_host(x.host, world.net.lan(x.router.expect("a router")), &left);
        world.net.run_for(Duration::from_secs(1));
        direct_within(&mut world, x, y, 15);
    });
}

/// Where the server is asked by IPv6 first: what it says of that tells nothing of IPv4's ports.
#[test]
fn ports_are_predicted_by_ipv4_though_the_first_server_is_reached_by_ipv6() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        world.add_server();
        let addrs = world.servers.iter().zip([true, false]).map(|(server, v6)| {
            let mut sockets = world.net.sockets(*server).into_iter().map(|(_, addr)| addr);
            sockets.find(|addr| addr.is_ipv6() == v6).expect("both families")
        });
        world.server_addrs = Some(addrs.collect());
        let x = dual_behind(&mut world, 1, "x", NatConfig::symmetric_sequential(1), counting(1));
        let y = world.behind("y", NatConfig::symmetric_sequential(1), counting(1));
        direct_within(&mut world, x, y, 10);
    });
}
