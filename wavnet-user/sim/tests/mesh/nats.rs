//! NATs that do what is not in the grid: several in a row, several hosts behind one, short memories, other addresses.

use std::time::Duration;

use wavnet_proto::{
    mesh::{ENTRIES, PathKind},
    nat::{NatSummary, Ports},
};
use wavnet_sim::{Attached, RouterConfig, Seed, nat::NatConfig, nat::Timeouts};

use crate::{
    grid::Kind,
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(10);

fn direct_within(world: &mut World, a: Site, b: Site, seconds: u64) {
    let direct = world.until_paths(a, b, Duration::from_secs(seconds), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
}

/// A router without an input filter keeps what comes too early for itself, and its hosts leave by another port then.
#[test]
fn a_router_whose_own_answer_moves_the_mapping_is_passed() {
    Seed::each(20, |seed| {
        let open = NatConfig { open_input: true, ..NatConfig::port_restricted_cone() };
        for (x, y) in [(open.clone(), NatConfig::port_restricted_cone()), (open.clone(), open)] {
            let mut world = World::new(seed, DELAY);
            let (a, b) = (world.behind("a", x, cone()), world.behind("b", y, cone()));
            let any = world.until_paths(a, b, Duration::from_secs(2), |_| true);
            assert!(any.is_some(), "{}", world.net.trace());
            direct_within(&mut world, a, b, 60);
        }
    });
}

/// What comes too early spoils a mapping for as long as somebody sends. Both sides' next try leaves at the same moment, after a rest.
#[test]
fn two_routers_that_spoil_mappings_are_passed_again_when_they_restart() {
    Seed::each(20, |seed| {
        let open = NatConfig { open_input: true, ..NatConfig::port_restricted_cone() };
        let mut world = World::new(seed, DELAY);
        let (a, b) = (world.behind("a", open.clone(), cone()), world.behind("b", open, cone()));
        direct_within(&mut world, a, b, 60);
        for site in [a, b] {
            world.net.reboot(site.router.expect("a NAT"));
        }
        // Both sides have noticed by then.
        world.net.run_for(Duration::from_secs(15));
        direct_within(&mut world, a, b, 90);
        world.net.run_for(Duration::from_secs(15));
        direct_within(&mut world, a, b, 1);
    });
}

#[test]
fn two_nats_in_a_row_are_passed() {
    Seed::each(10, |seed| {
        let mut world = World::new(seed, DELAY);
        let outer = world.add_router(NatConfig::port_restricted_cone());
        let segment = world.net.lan(outer);
        let external = world.net.vacant_v4(segment);
        let inside = "192.168.7.0/24".parse().expect("a prefix");
        let inner =
            world.net.add_router(segment, RouterConfig::nat(external, inside, NatConfig::port_restricted_cone()));
        let lan = world.net.lan(inner);
        let a = world.add_agent(lan, "a", cone());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 1);
    });
}

/// Two sites behind one carrier's NAT, which hairpins or does not.
#[test]
fn two_sites_behind_one_carriers_nat_meet_if_it_hairpins() {
    Seed::each(10, |seed| {
        for hairpin in [true, false] {
            let mut world = World::new(seed, DELAY);
            let carrier = world.add_router(NatConfig { hairpin, ..NatConfig::full_cone() });
            let segment = world.net.lan(carrier);
            let mut sites = Vec::new();
            for n in [1, 2] {
                let external = world.net.vacant_v4(segment);
                let inside = format!("192.168.{n}.0/24").parse().expect("a prefix");
                let nat = RouterConfig::nat(external, inside, NatConfig::port_restricted_cone());
                let router = world.net.add_router(segment, nat);
                let lan = world.net.lan(router);
                sites.push(world.add_agent(lan, "site", cone()));
            }
            let [a, b] = sites[..] else { panic!("two") };
            let any = world.until_paths(a, b, Duration::from_secs(2), |_| true);
            assert!(any.is_some(), "{}", world.net.trace());
            let direct = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
            assert_eq!(direct.is_some(), hairpin, "{}", world.net.trace());
        }
    });
}

#[test]
fn several_hosts_behind_one_nat_each_have_paths_of_their_own() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, DELAY);
        let router = world.add_router(NatConfig::port_restricted_cone());
        let lan = world.net.lan(router);
        let inside: Vec<Site> = (0..6).map(|n| world.add_agent(lan, &format!("in-{n}"), cone())).collect();
        let outside: Vec<Site> =
            (0..3).map(|n| world.behind(&format!("out-{n}"), NatConfig::port_restricted_cone(), cone())).collect();
        for a in &inside {
            for b in &outside {
                direct_within(&mut world, *a, *b, 2);
            }
        }
        for (i, a) in inside.iter().enumerate() {
            for b in inside.iter().skip(i + 1) {
                let lan = world.until_paths(*a, *b, Duration::from_secs(2), |kind| kind == PathKind::Lan);
                assert!(lan.is_some(), "{}", world.net.trace());
            }
        }
        assert!(world.net.router_stats(router).flows.peak <= usize::from(ENTRIES));
    });
}

/// For an hour nothing but pulses goes over the path.
#[test]
fn pulses_keep_mappings_of_thirty_seconds_alive() {
    Seed::each(5, |seed| {
        for timeouts in [Timeouts::fixed(Duration::from_secs(30)), Timeouts::LINUX] {
            let nat = NatConfig { timeouts, ..NatConfig::port_restricted_cone() };
            let mut world = World::new(seed, DELAY);
            let (a, b) = (world.behind("a", nat.clone(), cone()), world.behind("b", nat, cone()));
            direct_within(&mut world, a, b, 1);
            world.net.run_for(Duration::from_secs(2));
            let since = world.net.now();
            world.net.run_for(Duration::from_secs(3600));
            assert_eq!(world.path_changes(a, since) + world.path_changes(b, since), 0, "{:?}", world.agent(a).events);
        }
    });
}

/// A NAT that forgets within four seconds, which its classification says.
#[test]
fn pulses_are_as_frequent_as_a_short_lifetime_wants_them() {
    Seed::each(5, |seed| {
        let timeouts = Timeouts::fixed(Duration::from_secs(4));
        let nat = NatConfig { timeouts, ..NatConfig::port_restricted_cone() };
        let mut world = World::new(seed, DELAY);
        let summary = wavnet_proto::nat::NatSummary { lifetime: 4, ..cone() };
        let a = world.behind("a", nat, summary);
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 2);
        world.net.run_for(Duration::from_secs(2));
        let since = world.net.now();
        world.net.run_for(Duration::from_secs(600));
        assert_eq!(world.path_changes(a, since) + world.path_changes(b, since), 0, "{:?}", world.agent(a).events);
    });
}

/// The mapping that servers and relays know is kept alive as well: were it forgotten, the next one would have another port.
#[test]
fn a_server_sees_one_mapping_though_it_is_short_lived() {
    Seed::each(5, |seed| {
        for lifetime in [2u16, 4] {
            let timeouts = Timeouts::fixed(Duration::from_secs(lifetime.into()));
            let nat = NatConfig { timeouts, ..NatConfig::symmetric() };
            let mut world = World::new(seed, DELAY);
            let summary = NatSummary { lifetime, ..Kind::Symmetric.summary() };
            let a = world.behind("a", nat, summary);
            world.net.run_for(Duration::from_secs(3));
            let mapped = |world: &World| world.agent(a).mesh.servers().first().and_then(|s| s.mapped);
            let before = mapped(&world);
            assert!(before.is_some(), "{}", world.net.trace());
            for _ in 0..120 {
                world.net.run_for(Duration::from_secs(1));
                assert_eq!(mapped(&world), before, "{}", world.net.trace());
            }
        }
    });
}

#[test]
fn a_nat_that_gets_another_address_is_passed_again_within_a_second() {
    Seed::each(10, |seed| {
        let (mut world, a, b) = pair(seed, DELAY);
        let router = a.router.expect("a NAT");
        let other = world.net.vacant_v4(wavnet_sim::SegmentId::INTERNET);
        let at = world.net.now() + Duration::from_secs(2);
        world.net.at(at, move |net| net.renumber(router, &[other]));
        let gap = world.longest_gap(a, b, Duration::from_millis(1), at + Duration::from_secs(4));
        assert!(gap < Duration::from_secs(1), "{gap:?}\n{}", world.net.trace());
        direct_within(&mut world, a, b, 10);
    });
}

/// A LAN's switch keeps two neighbours apart at first: they meet by the NAT that hairpins, and on the LAN later.
#[test]
fn the_lan_takes_over_when_it_works() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, DELAY);
        let router = world.add_router(NatConfig { hairpin: true, ..NatConfig::full_cone() });
        let lan = world.net.lan(router);
        let (a, b) =
            (world.add_agent(lan, "a", Kind::FullCone.summary()), world.add_agent(lan, "b", Kind::FullCone.summary()));
        let (ones, others): ([Attached; 1], [Attached; 1]) = ([a.host.into()], [b.host.into()]);
        world.net.set_partition(&ones, &others, true);
        direct_within(&mut world, a, b, 2);
        world.net.run_for(Duration::from_secs(20));
        world.net.set_partition(&ones, &others, false);
        let mut sent = 0;
        let end = world.net.now() + Duration::from_secs(150);
        while world.net.now() < end {
            sent += u64::from(world.send(a, b, sent));
            world.net.run_for(Duration::from_millis(10));
        }
        assert_eq!(world.path(a, b), Some(PathKind::Lan), "{}", world.net.trace());
        let came: Vec<u64> = world.agent(b).frames.iter().map(|f| f.number).collect();
        assert_eq!(came, (0..sent).collect::<Vec<u64>>());
    });
}

/// What a classification finds of a symmetric NAT that counts.
fn counting(step: i16) -> NatSummary {
    NatSummary { ports: Ports::Sequential(step), ..Kind::Symmetric.summary() }
}

/// Neither side's NAT has seen what a search among all ports would leave there.
#[test]
fn a_symmetric_nat_that_counts_is_passed_by_prediction() {
    Seed::each(20, |seed| {
        for step in [1, 2, 7] {
            let mut world = World::new(seed, DELAY);
            let a = world.behind("a", NatConfig::symmetric_sequential(step), counting(step.cast_signed()));
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            direct_within(&mut world, a, b, 4);
            for site in [a, b] {
                let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
                assert!(peak <= 80, "{peak}");
            }
        }
    });
}

/// Others behind the same NAT take ports in between.
#[test]
fn a_prediction_bears_some_others_behind_the_same_nat() {
    let mut by_prediction = 0;
    Seed::each(20, |seed| {
        let mut world = World::new(seed, DELAY);
        let router = world.add_router(NatConfig::symmetric_sequential(1));
        let lan = world.net.lan(router);
        let a = Site { router: Some(router), ..world.add_agent(lan, "a", counting(1)) };
        let noise = world.add_agent(lan, "noise", counting(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        let sink = world.net.vacant_v4(wavnet_sim::SegmentId::INTERNET);
        let mut rng = seed.rng();
        let start = world.net.now();
        let met = loop {
            world.net.run_for(Duration::from_millis(5));
            if rng.below(5) == 0 {
                // Another destination, another mapping.
                let to = std::net::SocketAddr::new(sink, 1 + rng.below(60_000) as u16);
                let from = world.net.main_address(noise.host);
                world.net.inject(lan, wavnet_sim::Datagram { from, to, payload: vec![0] });
            }
            if world.path(a, b) == Some(PathKind::Direct) && world.path(b, a) == Some(PathKind::Direct) {
                break world.net.now().since(start);
            }
            assert!(world.net.now().since(start) < Duration::from_secs(90), "{}", world.net.trace());
        };
        by_prediction += u32::from(met < Duration::from_secs(5));
    });
    assert!(by_prediction >= 15 || std::env::var_os("WAVNET_SEED").is_some(), "{by_prediction} of 20");
}

#[test]
fn two_symmetric_nats_that_both_count_are_passed() {
    Seed::each(20, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric_sequential(1), counting(1));
        let b = world.behind("b", NatConfig::symmetric_sequential(2), counting(2));
        direct_within(&mut world, a, b, 15);
    });
}

/// One side begins to find out what its NAT is like when the other one has done so. A guess in between would be made for a cone.
#[test]
fn two_nats_that_count_are_passed_as_soon_as_both_sides_know_them() {
    Seed::each(20, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric_sequential(1), counting(1));
        let b = world.behind("b", NatConfig::symmetric_sequential(1), NatSummary::default());
        world.net.run_for(Duration::from_secs(3));
        world.net.act(b.host, |node, now| node.agent_mut().mesh.set_nat(now, counting(1)));
        direct_within(&mut world, a, b, 3);
        for site in [a, b] {
            let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
            assert!(peak <= 30, "seed {seed}: {peak}");
        }
    });
}

/// A classification that is wrong about the NAT costs some attempts, and the search is there still.
#[test]
fn a_nat_that_only_seems_to_count_is_searched() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), counting(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 120);
        for site in [a, b] {
            let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
            assert!(peak <= usize::from(ENTRIES), "{peak}");
        }
    });
}

/// A search that has found something was not in vain: the next one does not have to wait for longer.
#[test]
fn a_nat_that_restarts_time_and_again_is_searched_as_soon_each_time() {
    Seed::each(3, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        direct_within(&mut world, a, b, 60);
        for _ in 0..5 {
            world.net.run_for(Duration::from_secs(100));
            world.net.reboot(a.router.expect("a NAT"));
            // Both sides have noticed by then.
            world.net.run_for(Duration::from_secs(20));
            direct_within(&mut world, a, b, 40);
        }
    });
}

/// Such a router makes an entry for whatever comes, so it has those of both sides.
#[test]
fn a_search_is_no_attack_on_a_router_without_an_input_filter() {
    Seed::each(6, |seed| {
        let open = NatConfig { open_input: true, ..NatConfig::port_restricted_cone() };
        let mut world = World::new(seed, DELAY);
        world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
        let b = world.behind("b", open, Kind::PortRestricted.summary());
        world.net.run_for(Duration::from_secs(60));
        let peak = world.net.router_stats(b.router.expect("a NAT")).flows.peak;
        assert!((100..=usize::from(ENTRIES)).contains(&peak), "{peak}");
    });
}

/// Several peers want a search of one host at once: one after the other gets it, and what flows on the relay goes on flowing.
#[test]
fn several_peers_that_need_a_search_get_it_one_after_the_other() {
    Seed::each(3, |seed| {
        let mut world = World::new(seed, DELAY);
        let hub = world.behind("hub", NatConfig::port_restricted_cone(), cone());
        let symmetric = Kind::Symmetric.summary();
        let others: Vec<Site> =
            (0..5).map(|n| world.behind(&format!("s{n}"), NatConfig::symmetric(), symmetric)).collect();
        for other in &others {
            assert!(
                world.until_paths(hub, *other, Duration::from_secs(3), |_| true).is_some(),
                "{}",
                world.net.trace()
            );
        }
        let (start, mut sent, mut fastest) = (world.net.now(), 0, 0);
        let link = hub.router.expect("a NAT");
        let mut before = world.net.link_stats(link, wavnet_sim::Direction::Up).carried;
        let directs = |world: &World| others.iter().filter(|o| world.path(hub, **o) == Some(PathKind::Direct)).count();
        while directs(&world) < 5 && world.net.now().since(start) < Duration::from_secs(900) {
            for _ in 0..100 {
                sent += u64::from(world.send(hub, others[0], sent));
                world.net.run_for(Duration::from_millis(10));
            }
            let carried = world.net.link_stats(link, wavnet_sim::Direction::Up).carried;
            fastest = fastest.max(carried - std::mem::replace(&mut before, carried));
        }
        assert_eq!(directs(&world), 5);
        world.net.run_for(Duration::from_secs(1));
        let came: Vec<u64> = world.agent(others[0]).frames.iter().map(|f| f.number).collect();
        assert_eq!(came, (0..sent).collect::<Vec<u64>>());
        // A hundred of them are frames.
        assert!(fastest < 1500, "{fastest} datagrams in a second");
        for site in others.iter().chain([&hub]) {
            let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
            assert!(peak <= usize::from(ENTRIES), "{peak}");
        }
    });
}
