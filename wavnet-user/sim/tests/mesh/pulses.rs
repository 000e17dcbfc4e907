//! When pulses leave.

use std::{collections::BTreeSet, time::Duration};

use wavnet_sim::{Captured, Direction, Place, Seed, SegmentId, nat::NatConfig};

use crate::world::{Site, World, cone, direct_within};

/// An agent with a thousand idle paths is not to wake a thousand times.
#[test]
fn pulses_of_idle_paths_leave_together() {
    let mut world = World::new(Seed::from_env_or(1), Duration::from_millis(10));
    let sites: Vec<Site> = (0..8).map(|n| world.add_agent(SegmentId::INTERNET, &n.to_string(), cone())).collect();
    world.net.run_for(Duration::from_secs(60));
    let (server, mut phases) = (world.net.main_address(world.servers[0]), BTreeSet::new());
    for site in sites {
        let tap = world.net.tap(Place::Link(site.host.into(), Direction::Up), 100_000);
        world.net.run_for(Duration::from_secs(20));
        let asked = |c: &&Captured| matches!(c.datagram.payload[..], [first, _] if first < 0x80);
        let pulses: Vec<_> = world.net.captured(tap).filter(asked).filter(|c| c.datagram.to != server).collect();
        assert!(pulses.len() >= 7 * 4, "{} pulses", pulses.len());
        let beats: BTreeSet<u64> = pulses.iter().map(|c| c.at.as_nanos() % 250_000_000).collect();
        assert_eq!(beats.len(), 1, "{beats:?}");
        phases.extend(beats);
    }
    assert_eq!(phases.len(), 8, "no two hosts keep step");
}

/// The next pulse of a path that frames begin to take would have been due long ago. That is no sign that the host slept, and no reason to ask all peers.
#[test]
fn frames_that_begin_to_flow_to_one_peer_cost_the_others_nothing() {
    Seed::each(6, |seed| {
        let mut world = World::new(seed, Duration::from_millis(10));
        let [a, b, c] = ["a", "b", "c"].map(|name| world.behind(name, NatConfig::port_restricted_cone(), cone()));
        for (one, other) in [(a, b), (a, c), (b, c)] {
            direct_within(&mut world, one, other, 5);
        }
        world.net.run_for(Duration::from_secs(10));
        let (tap, to) = (
            world.net.tap(Place::Link(a.host.into(), Direction::Up), 100_000),
            world.net.main_address(world.servers[0]),
        );
        for _ in 0..10 {
            world.net.run_for(Duration::from_millis(4900));
            world.set_busy(a, b);
            world.net.run_for(Duration::from_millis(100));
            world.rest(a, b);
        }
        let is_probe = |c: &&Captured| c.datagram.to != to && c.datagram.payload.len() > 16;
        let probes = world.net.captured(tap).filter(is_probe).count();
        // Each peer is asked for, and says so, once a minute.
        assert!(probes <= 2 * 3, "{probes} in 50 seconds");
    });
}
