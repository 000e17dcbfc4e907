//! A host finds out how long its NAT remembers, by itself, and pulses are as frequent as that wants them.

use std::time::Duration;

use wavnet_proto::{
    mesh::{PathKind, Settings},
    nat::NatSummary,
};
use wavnet_sim::{
    Seed,
    nat::{NatConfig, Timeouts},
};

use crate::{
    classified::{classified, last_report},
    world::{Site, World, cone, pair},
};

const DELAY: Duration = Duration::from_millis(10);

/// Pulses that frames' path has had so far.
fn pulses(world: &World, from: Site, to: Site) -> u64 {
    let peer = world.agent(from).mesh.peer(&to.key).expect("a peer");
    peer.selected().expect("a path").pulses.0
}

#[test]
fn the_measured_lifetime_of_a_mapping_decides_how_often_both_sides_send_pulses() {
    Seed::each(4, |seed| {
        for timeout in [6, 9, 30] {
            let mut world = World::new(seed, DELAY);
            let timeouts = Timeouts::fixed(Duration::from_secs(timeout));
            let a = classified(&mut world, "a", Some(NatConfig { timeouts, ..NatConfig::port_restricted_cone() }));
            let b = world.behind("b", NatConfig::port_restricted_cone(), cone());
            let direct = world.until_paths(a, b, Duration::from_secs(2), |kind| kind == PathKind::Direct);
            assert!(direct.is_some(), "{}", world.net.trace());
            world.net.run_for(Duration::from_secs(150));
            let report = last_report(&world, a);
            let lifetime = report.map_or(0, |report| u64::from(report.lifetime));
            assert!((timeout * 3 / 4..timeout).contains(&lifetime), "{timeout} s: {report:?}");
            // Twice within that time, and not less often than by default.
            let period = (Duration::from_secs(lifetime) * 2 / 5).min(Settings::PULSE);
            let (since, before) = (world.net.now(), [pulses(&world, a, b), pulses(&world, b, a)]);
            world.net.run_for(Duration::from_secs(300));
            for (before, (from, to)) in before.into_iter().zip([(a, b), (b, a)]) {
                let (sent, want) = (pulses(&world, from, to) - before, 300.0 / period.as_secs_f64());
                assert!(
                    (sent as f64 / want - 1.0).abs() < 0.1,
                    "{timeout} s, {lifetime} s measured: {sent} pulses, not {want}"
                );
                assert_eq!(world.path_changes(from, since), 0, "{:?}", world.agent(from).events);
            }
        }
    });
}

/// The one that is due next was put off while nothing was known of the NAT: it comes in time all the same.
#[test]
fn the_first_pulse_after_the_lifetime_is_known_comes_in_time() {
    Seed::each(4, |seed| {
        for offset in 0..10 {
            let (mut world, a, b) = pair(seed, DELAY);
            world.net.run_for(Duration::from_secs(20) + Duration::from_millis(500) * offset);
            let before = [pulses(&world, a, b), pulses(&world, b, a)];
            world.net.act(a.host, |node, now| {
                let agent = node.agent_mut();
                agent.mesh.set_nat(now, NatSummary { lifetime: 5, ..cone() });
                agent.settle(now);
            });
            // Two fifths of it, and what CANDIDATES take.
            world.net.run_for(Duration::from_millis(2100));
            let after = [pulses(&world, a, b), pulses(&world, b, a)];
            assert!(before.iter().zip(&after).all(|(before, after)| after > before), "{offset}: {before:?}, {after:?}");
        }
    });
}
