//! Symmetric NATs: their next ports are predicted, or one among all is searched for.

use std::time::Duration;

use wavnet_proto::{
    mesh::{ENTRIES, PathKind},
    nat::{NatSummary, Ports},
};
use wavnet_sim::{
    Attached, Chance, Direction, Fate, LinkConfig, Network, Order, Place, Seed, SegmentId, nat::NatConfig,
};

use crate::{
    classified::classified,
    grid::Kind,
    node::Host,
    relays::{cut, routers},
    world::{Site, World, cone, direct_within},
};

const DELAY: Duration = Duration::from_millis(10);

/// What a classification finds of a symmetric NAT that counts.
pub(crate) fn counting(step: i16) -> NatSummary {
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
            // Attempts that were not in vain do not count.
            for _ in 0..5 {
                world.net.run_for(Duration::from_secs(70));
                let external = world.net.vacant_v4(SegmentId::INTERNET);
                world.net.renumber(a.router.expect("a NAT"), &[external]);
                world.net.run_for(Duration::from_secs(25));
                direct_within(&mut world, a, b, 10);
            }
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

/// A host that classifies its NAT by itself takes ports of it for that. A cone is told as such after four seconds, when silence has shown its filter.
#[test]
fn nats_that_count_are_recognised_and_passed_by_prediction() {
    Seed::each(6, |seed| {
        for step in [1, 3] {
            for nat in [NatConfig::port_restricted_cone(), NatConfig::symmetric_sequential(1)] {
                let mut world = World::new(seed, DELAY);
                world.add_other_addresses();
                let a = classified(&mut world, "a", Some(NatConfig::symmetric_sequential(step)));
                let b = classified(&mut world, "b", Some(nat));
                direct_within(&mut world, a, b, 8);
                assert_eq!(world.agent(a).mesh.nat().ports, Ports::Sequential(step.cast_signed()));
                for site in [a, b] {
                    let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
                    assert!(peak <= 100, "{peak}: no search among all ports");
                }
            }
        }
    });
}

/// A classification that is wrong about the NAT costs some attempts, and the search is there still.
#[test]
fn a_nat_that_only_seems_to_count_is_searched() {
    let mut soon = 0;
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), counting(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        // Before the second search, if the first one is not in vain.
        let first = world.until_paths(a, b, Duration::from_secs(50), |kind| kind == PathKind::Direct);
        soon += u32::from(first.is_some());
        direct_within(&mut world, a, b, 150);
        for site in [a, b] {
            let peak = world.net.router_stats(site.router.expect("a NAT")).flows.peak;
            assert!(peak <= usize::from(ENTRIES), "{peak}");
        }
    });
    assert!(soon >= 4 || std::env::var_os("WAVNET_SEED").is_some(), "{soon} of 6");
}

/// A search that has found something was not in vain: the next one does not have to wait for longer. Far away, one side's is over before it has.
#[test]
fn a_nat_that_restarts_time_and_again_is_searched_as_soon_each_time() {
    Seed::each(3, |seed| {
        for (delay, seconds) in [(DELAY, 40), (Duration::from_millis(300), 60)] {
            let mut world = World::new(seed, delay);
            let a = world.behind("a", NatConfig::symmetric(), Kind::Symmetric.summary());
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            direct_within(&mut world, a, b, 90);
            for _ in 0..8 {
                world.net.run_for(Duration::from_secs(100));
                world.net.reboot(a.router.expect("a NAT"));
                // Both sides have noticed by then.
                world.net.run_for(Duration::from_secs(20));
                direct_within(&mut world, a, b, seconds);
            }
        }
    });
}

/// Such a router makes an entry for whatever comes, so it has those of both sides; and of predictions beside them, if the other one seems to count.
#[test]
fn a_search_is_no_attack_on_a_router_without_an_input_filter() {
    Seed::each(6, |seed| {
        for summary in [Kind::Symmetric.summary(), counting(1)] {
            let open = NatConfig { open_input: true, ..NatConfig::port_restricted_cone() };
            let mut world = World::new(seed, DELAY);
            let a = world.behind("a", NatConfig::symmetric(), summary);
            let b = world.behind("b", open, Kind::PortRestricted.summary());
            // Nothing but the server's word gets back through the other one, so all is in vain.
            let (server, link) = (world.net.main_address(world.servers[0]), a.router.expect("a NAT").into());
            world.net.filter(Place::Link(link, Direction::Down), move |passing| {
                if passing.datagram.from == server { Fate::Pass } else { Fate::Drop }
            });
            world.net.run_for(Duration::from_secs(200));
            let peak = world.net.router_stats(b.router.expect("a NAT")).flows.peak;
            assert!((100..=usize::from(ENTRIES)).contains(&peak), "{peak}");
        }
    });
}

/// Several peers want a search of one host at once: one after the other gets it, and what flows on the relay goes on flowing.
#[test]
fn several_peers_that_need_a_search_get_it_one_after_the_other() {
    Seed::each(4, |seed| {
        let mut world = World::new(seed, DELAY);
        // A router without an input filter makes an entry for whatever comes.
        let nat = NatConfig { open_input: seed.0 % 2 == 1, ..NatConfig::port_restricted_cone() };
        let hub = world.behind("hub", nat, cone());
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

/// A server tells us once that the peer has moved. If that is lost, nothing is aimed at where the peer says that it is until a server was asked.
#[test]
fn a_peer_that_moves_while_our_nat_restarts_is_searched_for_where_it_is() {
    Seed::each(10, |seed| {
        for (nat, summary, seconds) in [
            (NatConfig::symmetric_sequential(1), counting(1), 30),
            (NatConfig::symmetric(), Kind::Symmetric.summary(), 120),
        ] {
            let mut world = World::new(seed, DELAY);
            let a = world.behind("a", nat, summary);
            let b = world.add_agent(SegmentId::INTERNET, "b", cone());
            direct_within(&mut world, a, b, 2);
            world.net.run_for(Duration::from_secs(1));
            let router = world.add_router(NatConfig::port_restricted_cone());
            let lan = world.net.lan(router);
            let addr = world.net.vacant_v4(lan);
            world.net.reboot(a.router.expect("a NAT"));
            world.net.move_host(b.host, lan, &[addr]);
            world.net.run_for(Duration::from_secs(2));
            direct_within(&mut world, a, b, seconds);
        }
    });
}

/// There is one prediction at a time. One for a host that answers nothing any more would be under way whenever the other one asks for its own.
#[test]
fn who_has_gone_holds_up_no_prediction_for_another_one() {
    Seed::each(20, |seed| {
        let mut world = World::new(seed, DELAY);
        let hub = world.behind("hub", NatConfig::symmetric_sequential(1), counting(1));
        let gone = ["s", "t", "u", "v", "w", "x"]
            .map(|name| world.behind(name, NatConfig::symmetric_sequential(1), counting(1)));
        for site in gone {
            let met = world.until_paths(hub, site, Duration::from_secs(2), |_| true);
            assert!(met.is_some(), "{}", world.net.trace());
        }
        gone.into_iter().for_each(|site| drop(world.net.kill(site.host)));
        let other = world.behind("other", NatConfig::symmetric_sequential(1), counting(1));
        direct_within(&mut world, hub, other, 30);
    });
}

/// Each is busy with one that it cannot reach whenever the other one asks: who asked in vain is called when it is over.
#[test]
fn predictions_in_vain_in_step_hold_up_none_for_each_other() {
    Seed::each(40, |seed| {
        let mut world = World::new(seed, DELAY);
        let all =
            ["a", "b", "c", "d", "e"].map(|name| world.behind(name, NatConfig::symmetric_sequential(1), counting(1)));
        let [a, b, others @ ..] = all;
        let at = |site: Site| Attached::from(site.router.expect("a NAT"));
        for (i, one) in others.into_iter().enumerate() {
            let rest: Vec<Attached> = all[..i + 2].iter().copied().map(at).collect();
            world.net.set_partition(&[at(one)], &rest, true);
        }
        direct_within(&mut world, a, b, 40);
    });
}

/// One that makes way for another one's question asks again later. That must not use up its peer's attempts, time and again: one pair of three hosts
/// can never meet, and another one cannot for a while.
#[test]
fn who_makes_way_for_one_in_vain_meets_the_other_one_all_the_same() {
    Seed::each(60, |seed| {
        let mut world = World::new(seed, DELAY);
        let mut sites = ["x", "y", "z"].map(|name| world.behind(name, NatConfig::symmetric_sequential(1), counting(1)));
        // Who asks whom is by the keys.
        sites.sort_by_key(|site| site.key);
        let [x, y, z] = sites;
        world.net.set_link(z.router.expect("a NAT"), &LinkConfig::delayed(DELAY * 3));
        cut(&mut world.net, routers(x, y), true);
        cut(&mut world.net, routers(y, z), true);
        world.net.run_for(Duration::from_secs(20));
        cut(&mut world.net, routers(y, z), false);
        direct_within(&mut world, y, z, 60);
    });
}

/// Where nothing is relayed, they hear of each other by way of servers alone, and seldom.
#[test]
fn two_nats_that_count_are_passed_late_where_nothing_is_relayed() {
    Seed::each(20, |seed| {
        let mut world = World::new(seed, DELAY);
        world.relays(false);
        let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::symmetric_sequential(1), counting(1)));
        cut(&mut world.net, routers(a, b), true);
        world.net.run_for(Duration::from_secs(200));
        assert_eq!(world.path(a, b), None);
        cut(&mut world.net, routers(a, b), false);
        // Both sides try at the longest pause, some more often than others.
        direct_within(&mut world, a, b, 400);
    });
}

/// Two that could not reach each other for long: the search goes on beside predictions in vain, though these come more often than it in the end.
#[test]
fn a_nat_that_only_seems_to_count_is_searched_after_a_long_cut() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), counting(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        cut(&mut world.net, routers(a, b), true);
        world.net.run_for(Duration::from_secs(3600));
        cut(&mut world.net, routers(a, b), false);
        direct_within(&mut world, a, b, 45 * 60);
    });
}

/// Over satellites: what a prediction finds has the time to show where it leads.
#[test]
fn two_symmetric_nats_that_both_count_are_passed_over_long_ways() {
    Seed::each(10, |seed| {
        let mut world = World::new(seed, Duration::from_millis(150));
        let a = world.behind("a", NatConfig::symmetric_sequential(1), counting(1));
        let b = world.behind("b", NatConfig::symmetric_sequential(1), counting(1));
        direct_within(&mut world, a, b, 30);
    });
}

/// One is left for another network: what was tried in vain before says nothing there.
#[test]
fn a_host_that_moves_behind_a_nat_that_counts_is_met_by_prediction_whatever_was_in_vain_before() {
    Seed::each(10, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::symmetric(), counting(1));
        let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
        cut(&mut world.net, routers(a, b), true);
        world.net.run_for(Duration::from_secs(1800));
        let router = world.add_router(NatConfig::symmetric_sequential(1));
        let lan = world.net.lan(router);
        let addr = world.net.vacant_v4(lan);
        world.net.move_host(a.host, lan, &[addr]);
        direct_within(&mut world, a, b, 20);
        let peak = world.net.router_stats(router).flows.peak;
        assert!(peak <= 100, "{peak}: no search among all ports");
    });
}

/// Eight mappings of each meet, and each side takes frames from two of them at the most: they are to have one in common.
#[test]
fn two_symmetric_nats_that_both_count_are_passed_though_much_is_lost() {
    Seed::each(200, |seed| {
        let mut world = World::new(seed, DELAY);
        world.add_server();
        let a = world.behind("a", NatConfig::symmetric_sequential(1), counting(1));
        let b = world.behind("b", NatConfig::symmetric_sequential(1), counting(1));
        let trouble = |net: &mut Network<Host>, chance| {
            for site in [a, b] {
                let link = net.link_mut(site.router.expect("a NAT"), Direction::Up);
                (link.loss, link.duplication) = (chance, chance);
                link.order = Order::HeldBack { chance, by: Duration::from_millis(30) };
            }
        };
        world.net.run_for(Duration::from_millis(500));
        trouble(&mut world.net, Chance::percent(45));
        world.net.run_for(Duration::from_secs(2));
        trouble(&mut world.net, Chance::NEVER);
        direct_within(&mut world, a, b, 15);
    });
}
