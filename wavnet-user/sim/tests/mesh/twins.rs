//! Two hosts that have the same key.

use std::time::Duration;

use wavnet_proto::mesh::{Event, PathKind, ServerTrouble};
use wavnet_sim::{Seed, SegmentId, nat::NatConfig};

use crate::world::{Site, World, cone};

const DELAY: Duration = Duration::from_millis(10);

fn direct(world: &mut World, a: Site, b: Site) {
    let direct = world.until_paths(a, b, Duration::from_secs(5), |kind| kind == PathKind::Direct);
    assert!(direct.is_some(), "{}", world.net.trace());
}

#[test]
fn two_hosts_with_one_key_are_told_of_and_harm_no_third() {
    Seed::each(5, |seed| {
        let mut world = World::new(seed, DELAY);
        let a = world.behind("a", NatConfig::port_restricted_cone(), cone());
        let c = world.behind("c", NatConfig::port_restricted_cone(), cone());
        direct(&mut world, a, c);
        let (secret, settings) = (world.secret(a), world.settings("a"));
        let addr = world.net.vacant_v4(SegmentId::INTERNET);
        let twin = world.add_agent_as(SegmentId::INTERNET, &[addr], settings, secret, cone());
        let d = world.behind("d", NatConfig::port_restricted_cone(), cone());
        direct(&mut world, c, d);
        world.net.run_for(Duration::from_secs(1));
        let since = world.net.now();
        let troubles = |world: &World| [a, twin].map(|site| world.agent(site).mesh.servers()[0].trouble);
        // They take turns, of which each is two minutes at the most.
        for round in 0..10 {
            world.net.run_for(Duration::from_secs(120));
            assert_eq!(troubles(&world), [Some(ServerTrouble::Replaced); 2], "round {round}");
        }
        for site in [a, twin] {
            let count = |is: fn(&Event) -> bool| world.agent(site).events.iter().filter(|(_, e)| is(e)).count();
            let told = count(|e| matches!(e, Event::ServerLost { why: ServerTrouble::Replaced, .. }));
            assert_eq!(told, 1, "{:?}", world.agent(site).events);
            let others = count(|e| matches!(e, Event::Registered { .. } | Event::ServerLost { .. })) - told;
            assert!(others <= 1, "{:?}", world.agent(site).events);
        }
        for (one, other) in [(c, d), (d, c)] {
            let of_other = |(at, e): &&(_, Event)| {
                *at >= since && matches!(e, Event::Path { peer, .. } | Event::Gone { peer } if *peer == other.key)
            };
            assert_eq!(world.agent(one).events.iter().find(of_other), None);
            assert_eq!(world.path(one, other), Some(PathKind::Direct));
        }
        // One of them gets a key of its own: it takes a while until that is believed.
        world.net.kill(twin.host);
        world.net.run_for(Duration::from_secs(900));
        assert_eq!(world.agent(a).mesh.servers()[0].trouble, None);
        assert!(world.agent(a).mesh.servers()[0].registered);
    });
}
