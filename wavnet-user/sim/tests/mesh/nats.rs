//! NATs that do what is not in the grid: several in a row, several hosts behind one, short memories, other addresses.

use std::time::Duration;

use wavnet_proto::{
    mesh::{ENTRIES, PathKind},
    nat::NatSummary,
};
use wavnet_sim::{Attached, RouterConfig, Seed, nat::NatConfig, nat::Timeouts};

use crate::{
    grid::Kind,
    world::{Site, World, cone, direct_within, pair},
};

const DELAY: Duration = Duration::from_millis(10);

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
