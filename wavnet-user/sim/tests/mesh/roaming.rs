//! NATs that reboot and hosts that move, of pairs that need the relay or a search: frames flow all the time, and are back soon.

use std::time::Duration;

use wavnet_proto::{
    mesh::{Event, PathKind},
    nat::NatSummary,
};
use wavnet_sim::{Network, Seed, nat::NatConfig};

use crate::{
    grid::Kind,
    node::Host,
    searches::counting,
    world::{Site, World, cone, direct_within},
};

const DELAY: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);

/// What is wrong, with whom: the first host, which is behind a symmetric NAT, or the second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Its NAT reboots, and gives it another port.
    Reboots(usize),
    /// It moves, and is behind another NAT of the same kind.
    Moves(usize),
}

/// A symmetric NAT, which counts its ports or draws them, and what a classification finds of it.
fn hard(counts: bool) -> (NatConfig, NatSummary) {
    match counts {
        true => (NatConfig::symmetric_sequential(1), counting(1)),
        false => (NatConfig::symmetric(), Kind::Symmetric.summary()),
    }
}

/// A cone that gives a host any port: after it has rebooted, it is another one.
fn drawing() -> NatConfig {
    let mut nat = NatConfig::port_restricted_cone();
    nat.ports.preserve = false;
    nat
}

/// Frames flow, and then there is trouble: for how long none came, and whether servers see the host elsewhere now. `nat` is what it is behind when it
/// has moved.
fn gap(world: &mut World, sites: [Site; 2], nat: NatConfig, trouble: Trouble, seed: Seed) -> (Duration, bool) {
    let [a, b] = sites;
    // No timer is always due then.
    let at = world.net.now() + 2 * SECOND + Duration::from_millis(370) * seed.0 as u32;
    let flowing = world.longest_gap(a, b, Duration::from_millis(10), at - Duration::from_millis(100));
    assert!(flowing < Duration::from_millis(200), "{trouble:?}: {flowing:?}\n{}", world.net.trace());
    let mapped =
        |world: &World| sites.map(|site| world.agent(site).mesh.servers()[0].mapped.expect("it is registered"));
    let before = mapped(world);
    let troubled = match trouble {
        Trouble::Reboots(n) => {
            let router = sites[n].router.expect("a NAT");
            world.net.at(at, move |net: &mut Network<Host>| net.reboot(router));
            n
        }
        Trouble::Moves(n) => {
            let (host, router) = (sites[n].host, world.add_router(nat));
            let lan = world.net.lan(router);
            let addr = world.net.vacant_v4(lan);
            world.net.at(at, move |net: &mut Network<Host>| net.move_host(host, lan, &[addr]));
            n
        }
    };
    let gap = world.longest_gap(a, b, Duration::from_millis(5), at + 2 * SECOND);
    (gap, mapped(world)[troubled] != before[troubled])
}

#[test]
fn a_relayed_pair_is_back_within_half_a_second() {
    Seed::each(10, |seed| {
        for trouble in [Trouble::Reboots(0), Trouble::Moves(0)] {
            let mut world = World::new(seed, DELAY);
            let [a, b] = ["a", "b"].map(|name| world.behind(name, NatConfig::symmetric(), Kind::Symmetric.summary()));
            assert!(world.until_paths(a, b, 3 * SECOND, |_| true).is_some(), "{}", world.net.trace());
            let (gap, elsewhere) = gap(&mut world, [a, b], NatConfig::symmetric(), trouble, seed);
            assert!(elsewhere && gap < SECOND / 2, "{trouble:?}: {gap:?}\n{}", world.net.trace());
            assert_eq!([world.path(a, b), world.path(b, a)], [Some(PathKind::Relayed); 2], "{trouble:?}");
        }
    });
}

/// All direct paths that a search has found, or a prediction, end at once. Frames take the relay, which is ready, and not one of these after the other.
#[test]
fn a_pair_that_a_search_or_a_prediction_has_brought_together_is_back_within_a_second() {
    Seed::each(24, |seed| {
        for counts in [false, true] {
            for trouble in [Trouble::Reboots(0), Trouble::Moves(0), Trouble::Reboots(1)] {
                let mut world = World::new(seed, DELAY);
                let (nat, summary) = hard(counts);
                let a = world.behind("a", nat.clone(), summary);
                let b = world.behind("b", drawing(), cone());
                direct_within(&mut world, a, b, 120);
                let since = world.net.now();
                let (gap, elsewhere) = gap(&mut world, [a, b], nat, trouble, seed);
                assert!(elsewhere && gap < SECOND, "counts {counts}, {trouble:?}: {gap:?}\n{}", world.net.trace());
                for site in [a, b] {
                    let relayed = |(at, event): &(_, Event)| {
                        *at > since && matches!(event, Event::Path { kind: Some(PathKind::Relayed), .. })
                    };
                    // A NAT that counts begins anew when it reboots, and may give a port that the other side has sent to.
                    let events = &world.agent(site).events;
                    assert!(counts || events.iter().any(relayed), "{trouble:?} {events:?}");
                }
            }
        }
    });
}

/// Frames have flowed for as long as it takes until a relay is wanted, and it is on its way: none is asked for.
#[test]
fn a_nat_that_reboots_while_the_relay_is_being_set_up_is_passed_within_a_second() {
    Seed::each(20, |seed| {
        for symmetric in [None, Some(false), Some(true)] {
            let mut world = World::new(seed, DELAY);
            let (nat, summary) = symmetric.map_or_else(|| (drawing(), cone()), hard);
            let a = world.behind("a", nat, summary);
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            direct_within(&mut world, a, b, 120);
            world.rest(a, b);
            world.net.run_for(300 * SECOND);
            let end = world.net.now() + Duration::from_millis(5050 + 10 * seed.0);
            world.longest_gap(a, b, Duration::from_millis(10), end);
            world.net.reboot(a.router.expect("a NAT"));
            let end = world.net.now() + 2 * SECOND;
            let gap = world.longest_gap(a, b, Duration::from_millis(5), end);
            assert!(gap < SECOND, "{symmetric:?}: {gap:?}\n{}", world.net.trace());
        }
    });
}

/// The next frame opens it for the path that this side's frames take. Those of the other side may come by another one, which stays shut.
#[test]
fn a_cone_that_reboots_and_keeps_ports_is_passed_again_without_the_relay() {
    Seed::each(24, |seed| {
        for counts in [false, true] {
            let mut world = World::new(seed, DELAY);
            let (nat, summary) = hard(counts);
            let a = world.behind("a", nat.clone(), summary);
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            direct_within(&mut world, a, b, 120);
            let (gap, elsewhere) = gap(&mut world, [a, b], nat, Trouble::Reboots(1), seed);
            assert!(!elsewhere && gap < SECOND, "counts {counts}: {gap:?}\n{}", world.net.trace());
            assert_eq!([world.path(a, b), world.path(b, a)], [Some(PathKind::Direct); 2], "counts {counts}");
        }
    });
}

/// Two servers saw a host where it was, and the one that is left sees it where it is now. A search is aimed there, and so is a prediction.
#[test]
fn a_host_that_is_elsewhere_while_a_server_is_gone_is_sought_there() {
    let troubles = [Trouble::Moves(0), Trouble::Moves(1), Trouble::Reboots(1)];
    Seed::each(12, |seed| {
        for (counts, trouble) in [true, false].into_iter().flat_map(|counts| troubles.map(|trouble| (counts, trouble)))
        {
            for silence in [Duration::from_millis(50), 40 * SECOND] {
                let mut world = World::new(seed, DELAY);
                world.add_server();
                let (nat, summary) = hard(true);
                let other = if counts { (nat.clone(), summary) } else { (drawing(), cone()) };
                let places = [("a", nat, summary), ("b", other.0, other.1)];
                let [a, b] = places.clone().map(|(name, nat, summary)| world.behind(name, nat, summary));
                direct_within(&mut world, a, b, 120);
                world.net.kill(world.servers[0]);
                world.net.run_for(silence);
                let troubled = match trouble {
                    Trouble::Moves(n) => {
                        let router = world.add_router(places[n].1.clone());
                        let lan = world.net.lan(router);
                        let addr = world.net.vacant_v4(lan);
                        world.net.move_host([a, b][n].host, lan, &[addr]);
                        [a, b][n]
                    }
                    Trouble::Reboots(n) => {
                        world.net.reboot([a, b][n].router.expect("a NAT"));
                        [a, b][n]
                    }
                };
                // Direct paths of before are found to be dead.
                world.net.run_for(10 * SECOND);
                direct_within(&mut world, a, b, 60);
                let views = world.agent(troubled).mesh.servers();
                // What has rebooted and gives each destination a port of its own is at the same address.
                let outdated = !counts || matches!(trouble, Trouble::Moves(_));
                let mapped = [views[0].mapped.is_some(), views[1].mapped.is_some()];
                assert_eq!(mapped, [!outdated, true], "counts {counts} {trouble:?} {silence:?}: {views:?}");
            }
        }
    });
}
