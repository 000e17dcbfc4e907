//! Many hosts at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use wavnet_common::addr::Vni;
use wavnet_proto::mesh::PathKind;
use wavnet_sim::{Direction, Place, Seed, SegmentId};

use crate::{
    grid::{KINDS, Kind, site_in},
    world::{Site, World},
};

/// Which paths there are among those who should have one.
fn count(world: &World, groups: &[Vec<(Kind, Site)>]) -> BTreeMap<Option<PathKind>, usize> {
    let mut kinds = BTreeMap::new();
    for group in groups {
        for (i, (_, a)) in group.iter().enumerate() {
            for (j, (_, b)) in group.iter().enumerate() {
                if i != j {
                    *kinds.entry(world.path(*a, *b)).or_default() += 1;
                }
            }
        }
    }
    kinds
}

fn vni(n: u32) -> BTreeSet<Vni> {
    BTreeSet::from([Vni::new(n).expect("a VNI")])
}

/// A thousand hosts of a hundred tenants, ten hosts each, behind NATs of all types.
#[test]
fn a_thousand_hosts_in_one_network() {
    let seed = Seed::from_env_or(1);
    let mut world = World::new(seed, Duration::from_millis(10));
    let mut groups = Vec::new();
    for tenant in 0..100 {
        let mut group = Vec::new();
        for i in 0..10 {
            let kind = KINDS[(tenant + i) % KINDS.len()];
            let name = format!("host-{tenant}-{i}");
            group.push((kind, site_in(&mut world, &name, kind, vni(1 + tenant as u32))));
        }
        groups.push(group);
    }
    world.net.run_for(Duration::from_secs(10));
    let kinds = count(&world, &groups);
    assert_eq!(kinds.get(&None), None, "{seed}: everybody reaches everybody of its tenant: {kinds:?}");
    for group in &groups {
        for (kind, a) in group {
            let peers = world.agent(*a).mesh.peers().count();
            assert_eq!(peers, group.len() - 1, "{seed}: nobody but its own tenant's hosts");
            for (other, b) in group.iter().filter(|(_, b)| b.key != a.key) {
                let needs_more = kind.defeats(*other) || kind.needs_search(*other);
                let direct = world.path(*a, *b) == Some(PathKind::Direct);
                assert!(direct || needs_more, "{seed}: {kind:?} and {other:?} have no direct path");
            }
        }
    }
}

#[test]
fn one_agent_has_a_thousand_peers() {
    let seed = Seed::from_env_or(1);
    let mut world = World::new(seed, Duration::from_millis(5));
    let hub = site_in(&mut world, "hub", Kind::PortRestricted, (1..=1000).flat_map(|n| vni(n % 250 + 1)).collect());
    let spokes: Vec<Site> = (0..1000)
        .map(|i| {
            let nat =
                world.add_agent_in(SegmentId::INTERNET, &format!("spoke-{i}"), Kind::Open.summary(), vni(i % 250 + 1));
            world.net.run_for(Duration::from_millis(1));
            nat
        })
        .collect();
    let tap = world.net.tap(Place::Link(hub.host.into(), Direction::Down), 100_000);
    world.net.run_for(Duration::from_secs(20));
    let control = world.net.captured(tap).filter(|c| c.datagram.payload.first() == Some(&b'W')).count();
    assert!(control < 8 * 1000, "{seed}: {control} control datagrams");
    let direct = spokes.iter().filter(|s| world.path(hub, **s) == Some(PathKind::Direct)).count();
    assert_eq!(direct, 1000, "{seed}");
    let back = spokes.iter().filter(|s| world.path(**s, hub) == Some(PathKind::Direct)).count();
    assert_eq!(back, 1000, "{seed}");
}
