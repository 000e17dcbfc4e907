//! When pulses leave.

use std::{collections::BTreeSet, time::Duration};

use wavnet_sim::{Captured, Direction, Place, Seed, SegmentId};

use crate::world::{Site, World, cone};

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
